"""Small run folders of both loops, written record by record with the storage functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfreward.judging.pointwise import get_pointwise_rubric, render_pointwise
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.judging.selection import select_preferences, select_sft
from selfreward.layout import Layout, join
from selfreward.records import (
    AnsweredInstruction,
    DroppedRow,
    DropReason,
    Instruction,
    Judgment,
    Message,
    ModelRef,
    Outcome,
    Position,
    Preference,
    Response,
    ResponsePair,
    TrainingExample,
    Verdict,
    content_id,
)
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.records_self_rewarding import (
    CreatedInstruction,
    CreationPrompt,
    RatingPair,
    SampledInstruction,
)
from selfreward.storage import files
from selfreward.storage.manifest import Manifest, complete, open_stage
from selfreward.storage.shards import ShardSummary, shard_name, write_records

SEED_MODEL = ModelRef(name="tiny", iteration=0, fingerprint="aaaa1111")
M1 = ModelRef(name="tiny after iteration 1", iteration=1, fingerprint="bbbb2222")
PEOPLE = ModelRef(name="human", iteration=0, fingerprint="human")
PAIRWISE = "pairwise_verdict_only"
ADDITIVE = "pointwise_additive"


def new_run(root: str, loop: str, iterations: int) -> Layout:
    layout = Layout(root)
    files.write_json(layout.run_json, {"id": "run-1", "loop": loop, "iterations": iterations})
    return layout


def write_stage(
    folder: str,
    stage: str,
    records: Sequence[Any],
    recipe: dict[str, Any] | None = None,
    drops: Sequence[DroppedRow] = (),
    record_type: type | None = None,
    shard_size: int = 100,
    is_complete: bool = True,
) -> Manifest:
    """Writes a stage's folder; its fingerprint depends on the folder unless a recipe is given."""
    manifest = open_stage(folder, stage, recipe or {"made_in": folder})
    kind = record_type or type(records[0])
    shards = [records[i : i + shard_size] for i in range(0, len(records), shard_size)] or [[]]
    for index, rows in enumerate(shards):
        write_records(join(folder, shard_name(index)), rows, kind)
    write_records(join(folder, "dropped", shard_name(0)), drops, DroppedRow)
    if not is_complete:
        return manifest
    summary = ShardSummary(
        index=0, num_inputs=len(records), num_records=len(records), drops={}, ledger={}
    )
    return complete(folder, manifest, [summary], 1.0)


def write_training(layout: Layout, iteration: int, *read: Manifest) -> None:
    folder = layout.training(iteration)
    inputs = [m.fingerprint for m in read]
    manifest = open_stage(folder, "train", {"input": inputs if len(inputs) > 1 else inputs[0]})
    complete(folder, manifest, [], 1.0)


def write_checkpoint(layout: Layout, iteration: int, lora: bool = False) -> None:
    """Files that stand for a model; nothing here loads them."""
    folder = layout.checkpoint(iteration)
    files.write_bytes(join(folder, "config.json"), b"{}")
    files.write_bytes(join(folder, "model.safetensors"), f"weights {iteration}".encode())
    files.write_bytes(join(folder, "additional_chat_templates", "tools.jinja"), b"{}")
    if lora:
        files.write_bytes(join(folder, "adapter", "adapter_config.json"), b'{"r": 4}')
        files.write_bytes(join(folder, "adapter", "adapter_model.safetensors"), b"low rank")
    files.write_bytes(join(folder, "COMPLETE"), b"{}")


def ask(text: str, **more: Any) -> Instruction:
    message = Message(role="user", content=text)
    return Instruction.new(messages=(message,), source="pool.jsonl", **more)


def answer(instruction: Instruction, text: str, model: ModelRef, draw: int = 0) -> Response:
    return Response.new(
        instruction_id=instruction.id,
        text=text,
        model=model,
        draw=draw,
        finish_reason="stop",
        num_tokens=len(text.split()),
    )


def answered(instruction: Instruction, response: Response) -> AnsweredInstruction:
    ident = content_id("ans", instruction.id, response.id)
    return AnsweredInstruction(id=ident, instruction=instruction, response=response)


def judgment(pair_id: str, judge: ModelRef, position: Position, draw: int, text: str) -> Judgment:
    """`text` is A, B, or something that is no verdict."""
    choice = {"A": "first", "B": "second"}.get(text)
    outcome = Outcome.CHOICE if choice else Outcome.UNPARSED
    return Judgment.new(
        pair_id=pair_id,
        judge=judge,
        rubric_id=PAIRWISE,
        position=position,
        draw=draw,
        text=text,
        finish_reason="stop",
        num_tokens=1,
        num_prompt_tokens=300,
        verdict=Verdict(outcome=outcome, choice=choice),  # type: ignore[arg-type]
    )


def rating(response_id: str, judge: ModelRef, draw: int, score: float | None) -> Rating:
    outcome = Outcome.TRUNCATED if score is None else Outcome.SCORE
    return Rating.new(
        response_id=response_id,
        judge=judge,
        rubric_id=ADDITIVE,
        draw=draw,
        text=f"Reading {draw}." if score is None else f"Reading {draw}.\nScore: {score:g}",
        finish_reason="length" if score is None else "stop",
        num_tokens=5,
        num_prompt_tokens=280,
        verdict=Verdict(outcome=outcome, score=score),
    )


def dropped(row_id: str, stage: str, reason: DropReason, detail: str = "") -> DroppedRow:
    return DroppedRow(row_id=row_id, stage=stage, reason=reason, detail=detail)


@dataclass(frozen=True, kw_only=True)
class SelfTaught:
    layout: Layout
    instruction: Instruction
    duplicate: Instruction
    pair: ResponsePair
    other_pair: ResponsePair
    judgments: list[Judgment]
    example: TrainingExample
    unbalanced: TrainingExample


def self_taught_run(root: str) -> SelfTaught:
    """Two instructions, a pair of each, judged by M0; M1 is trained on one row.

    Of the first pair, shown first the chosen one: B, A, A; the rejected one: A, A, and no verdict.
    """
    layout = new_run(root, "self_taught", 1)
    sky = ask("Why is the sky blue?", category="open_qa")
    sea, copy = ask("Why is the sea salty?"), ask("Why is the sky so blue?")
    drops = [dropped(copy.id, "pool", DropReason.NEAR_DUPLICATE, f"of {sky.id}")]
    write_stage(layout.pool, "pool", [sky, sea], drops=drops)
    answers = [
        answered(sky, answer(sky, "Short waves scatter more. " + "Really. " * 60, SEED_MODEL)),
        answered(sea, answer(sea, "Rivers carry salt.", SEED_MODEL)),
    ]
    sampling = {"respond.sampling.temperature": 0.7, "engine.kind": "vllm", "model": "aaaa1111"}
    write_stage(layout.responses(1), "respond", answers, recipe=sampling)
    pairs = [
        ResponsePair.new(
            instruction_id=row.instruction.id,
            messages=row.instruction.messages,
            chosen=row.response.text,
            rejected=worse,
            corruption="modified_instruction",
            modified_instruction="Why is the sky red at dusk?",
            chosen_id=row.response.id,
            rejected_id=answer(row.instruction, worse, SEED_MODEL).id,
        )
        for row, worse in zip(answers, ("The way is long then.", "It is not."), strict=True)
    ]
    write_stage(layout.pairs(1), "corrupt", pairs, shard_size=1)
    first, second = Position.CHOSEN_FIRST, Position.REJECTED_FIRST
    of_first = [
        *(judgment(pairs[0].id, SEED_MODEL, first, i, t) for i, t in enumerate("BAA")),
        *(judgment(pairs[0].id, SEED_MODEL, second, i, t) for i, t in enumerate(["A", "A", "?"])),
    ]
    of_second = [judgment(pairs[1].id, SEED_MODEL, first, 0, "A")]
    write_stage(layout.judgments(1), "judge", [*of_first, *of_second], shard_size=6)
    rubric = get_pairwise_rubric(PAIRWISE)
    (example,), no_right = select_sft(pairs[0], of_first, rubric, 0)
    (unbalanced,), _ = select_sft(pairs[1], of_second, rubric, 0)
    write_stage(layout.selected(1), "select", [example, unbalanced], drops=no_right)
    surplus = dropped(unbalanced.id, "balance", DropReason.LABEL_BALANCE)
    rows = write_stage(layout.examples(1), "balance", [example], drops=[surplus])
    write_training(layout, 1, rows)
    return SelfTaught(
        layout=layout,
        instruction=sky,
        duplicate=copy,
        pair=pairs[0],
        other_pair=pairs[1],
        judgments=of_first,
        example=example,
        unbalanced=unbalanced,
    )


def dpo_rows(run: SelfTaught) -> list[Preference]:
    """Preferences of the run's judgments, as the self-taught loop makes them for DPO."""
    rubric = get_pairwise_rubric(PAIRWISE)
    return select_preferences(run.pair, run.judgments, rubric, 0, per_example=1)[0]


@dataclass(frozen=True, kw_only=True)
class SelfRewarding:
    layout: Layout
    seed: Instruction
    ift_example: TrainingExample
    eft_example: TrainingExample
    eft_ratings: list[Rating]
    creation: CreationPrompt
    created: Instruction
    too_similar: Instruction
    responses: list[Response]
    ratings: list[Rating]
    preference: Preference
    compared: RatingPair
    meta_preference: Preference


def self_rewarding_run(root: str) -> SelfRewarding:
    """M1 from two seeds, then one round: of two created instructions one is kept; its three
    candidates score 4 and 5, 3 and a reading that was cut off, 1 and 2."""
    layout = new_run(root, "self_rewarding", 2)
    river, sum_ = ask("Name a river."), ask("Add 2 and 3.")
    seeds = [
        answered(q, answer(q, text, PEOPLE)) for q, text in ((river, "The Nile."), (sum_, "5"))
    ]
    write_stage(join(root, "seeds", "ift"), "seeds", seeds)
    ift = [
        TrainingExample(
            id=content_id("exa", "ift", row.id),
            messages=row.instruction.messages,
            target=row.response.text,
            pair_id=row.instruction.id,
            judgment_id=None,
        )
        for row in seeds
    ]
    trained = [write_stage(layout.examples(1), "ift", ift)]
    prompt = (Message(role="user", content="Name a colour."),)
    ranked = [
        ScoredResponse.new(messages=prompt, response=t, score=s, low=1, high=5)
        for t, s in (("Red.", 5.0), ("Seven.", 1.0))
    ]
    write_stage(join(root, "seeds", "ranked"), "seeds", ranked)
    eft_ratings = [rating(r.id, SEED_MODEL, 0, s) for r, s in zip(ranked, (4, 1), strict=True)]
    write_stage(layout.stage(1, "eft_ratings"), "rate", eft_ratings)
    additive = get_pointwise_rubric(ADDITIVE)
    eft = TrainingExample(
        id=content_id("exa", "eft", eft_ratings[0].id),
        messages=render_pointwise(additive, prompt, ranked[0].response),
        target=eft_ratings[0].text,
        pair_id=ranked[0].group,
        judgment_id=eft_ratings[0].id,
    )
    trained.append(write_stage(layout.stage(1, "eft"), "eft", [eft]))
    write_training(layout, 1, *trained)

    shots = (river.id, sum_.id)
    creation = CreationPrompt(
        id="cre-" + "7" * 20, round=0, shot_ids=shots, shots=("Name a river.", "Add 2 and 3.")
    )
    write_stage(layout.stage(2, "prompts/00"), "prompts", [creation])
    new = [
        CreatedInstruction(
            id=q.id,
            instruction=q,
            shot_ids=shots,
            model=SEED_MODEL,
            round=0,
            draw=0,
            text=" Name a lake.\nTask: Name a big river.",
            part=part,
        )
        for part, q in enumerate((ask("Name a lake."), ask("Name a big river.")))
    ]
    write_stage(layout.stage(2, "created/00"), "create", new)
    similar = DropReason.SIMILAR_INSTRUCTION
    drop = dropped(new[1].id, "filter", similar, f"ROUGE-L 0.86 with {river.id}")
    write_stage(layout.stage(2, "kept/00"), "filter", new[:1], drops=[drop])
    lake = new[0].instruction
    texts = ("Lake Geneva, in the Alps.", "A lake.", "Blue.")
    responses = [answer(lake, text, M1, draw) for draw, text in enumerate(texts)]
    sampled = SampledInstruction(id=lake.id, instruction=lake, responses=tuple(responses))
    write_stage(layout.responses(2), "sample", [sampled], recipe={"candidates.temperature": 0.7})
    scores: tuple[tuple[float | None, ...], ...] = ((4, 5), (3, None), (1, 2))
    ratings = [
        rating(response.id, M1, draw, score)
        for response, given in zip(responses, scores, strict=True)
        for draw, score in enumerate(given)
    ]
    write_stage(layout.stage(2, "ratings"), "rate", ratings)
    preference = Preference(
        id=content_id("pre", lake.id),
        messages=lake.messages,
        chosen=responses[0].text,
        rejected=responses[2].text,
        pair_id=lake.id,
        chosen_id=responses[0].id,
        rejected_id=responses[2].id,
        chosen_score=4.5,
        rejected_score=1.5,
        label_confidence=0.75,
    )
    read = [write_stage(layout.preferences(2), "prefer", [preference])]
    scored = ScoredResponse.new(
        messages=lake.messages, response=texts[0], score=4.5, low=0, high=5, group=lake.id
    )
    scored = replace(scored, id=responses[0].id)
    compared = RatingPair.new(response=scored, first=ratings[0], second=ratings[1])
    write_stage(layout.stage(2, "meta_pairs"), "meta_pairs", [compared])
    verdicts = [
        replace(judgment(compared.id, M1, position, 0, text), rubric_id="meta_verdict_only")
        for position, text in ((Position.CHOSEN_FIRST, "A"), (Position.REJECTED_FIRST, "B"))
    ]
    write_stage(layout.stage(2, "meta_judgments"), "meta_judge", verdicts)
    meta = Preference(
        id=content_id("pre", "meta", lake.id),
        messages=render_pointwise(additive, lake.messages, texts[0]),
        chosen=ratings[0].text,
        rejected=ratings[1].text,
        pair_id=lake.id,
        chosen_id=ratings[0].id,
        rejected_id=ratings[1].id,
        chosen_score=4,
        rejected_score=5,
    )
    read.append(write_stage(layout.stage(2, "meta_preferences"), "meta_prefer", [meta]))
    write_training(layout, 2, *read)
    return SelfRewarding(
        layout=layout,
        seed=river,
        ift_example=ift[0],
        eft_example=eft,
        eft_ratings=eft_ratings,
        creation=creation,
        created=lake,
        too_similar=new[1].instruction,
        responses=responses,
        ratings=ratings,
        preference=preference,
        compared=compared,
        meta_preference=meta,
    )
