"""Creation: examples are drawn, completions are split, filters keep what is new."""

from pathlib import Path
from typing import Any

import pytest

from selfreward.config import SamplingConfig
from selfreward.config_self_rewarding import SelfInstructConfig
from selfreward.errors import DataError
from selfreward.judging.self_instruct import render_creation
from selfreward.layout import join
from selfreward.records import AnsweredInstruction, Instruction, Message, ResponsePair
from selfreward.records_self_rewarding import CreatedInstruction, CreationPrompt
from selfreward.stages.create import Create, RoundPlan, build_prompts, filter_round
from selfreward.stages.held_out import NOTHING, HeldOut
from selfreward.storage.shards import ShardSummary, sealed_shards, shard_name, write_records
from tests.run_folders import PEOPLE, answer, answered, ask
from tests.stage_tools import MODEL, Fake, cut, drops_in, reasons, records_in, run

WORDS = ("bread", "chess", "clocks", "kites", "maps", "moss", "rivers", "soap", "trains", "bees")


def seed(instruction: Instruction) -> AnsweredInstruction:
    return answered(instruction, answer(instruction, "An answer.", PEOPLE))


def created(text: str) -> CreatedInstruction:
    instruction = ask(text)
    return CreatedInstruction(
        id=instruction.id,
        instruction=instruction,
        shot_ids=("ins-1",),
        model=MODEL,
        round=0,
        draw=0,
        text=text,
        part=0,
    )


TALK = Instruction.new(
    messages=tuple(
        Message(role=role, content=text)  # type: ignore[arg-type]
        for role, text in (("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"))
    ),
    source="s",
)
SEEDS = [*(seed(ask(f"Write about {w}.")) for w in WORDS), seed(TALK)]
MADE = [created(f"Explain {w} to a child.") for w in ("rain", "snow", "hail", "fog")]


def plan(
    tmp_path: Path,
    seeds: list[AnsweredInstruction],
    kept: list[CreatedInstruction],
    **changes: Any,
) -> RoundPlan:
    urls = []
    for name, rows, kind in (
        ("seeds", seeds, AnsweredInstruction),
        ("earlier", kept, CreatedInstruction),
    ):
        url = join(str(tmp_path), name, shard_name(0))
        write_records(url, rows, kind)
        urls.append(url)
    values: dict[str, Any] = {"iteration": 2, "round": 0, "num_prompts": 5, "seed": 0}
    return RoundPlan(
        seeds=(urls[0],), kept=(urls[1],), **({"held_out": NOTHING} | values | changes)
    )


# --- prompts -------------------------------------------------------------------------------------


def prompts(tmp_path: Path, made: RoundPlan) -> list[CreationPrompt]:
    folder = f"{tmp_path}/prompts"
    summaries = build_prompts(made, SelfInstructConfig(), folder, 2)
    rows = records_in(folder, CreationPrompt)
    assert sum(s.num_records for s in summaries) == len(rows)
    return rows


@pytest.mark.parametrize(("num_made", "generated"), [(4, 2), (1, 1), (0, 0)])
def test_eight_examples_of_which_two_are_new_and_seeds_stand_in(
    tmp_path: Path, num_made: int, generated: int
) -> None:
    rows = prompts(tmp_path, plan(tmp_path, SEEDS, MADE[:num_made]))
    assert len(rows) == len({row.id for row in rows}) == 5
    assert len(sealed_shards(f"{tmp_path}/prompts")) == 3, "5 prompts in shards of 2"
    known = [*(r.instruction for r in SEEDS), *(r.instruction for r in MADE)]
    texts = {i.id: i.messages[0].content for i in known}
    new = {row.id for row in MADE}
    for row in rows:
        assert len(set(row.shot_ids)) == 8
        assert len(new & set(row.shot_ids)) == generated
        assert row.shots == tuple(texts[i] for i in row.shot_ids)
        assert TALK.id not in row.shot_ids, "a conversation is no example of a task"
    # 5 draws of 8 out of 10 and more: all alike is next to impossible.
    assert len({row.shot_ids for row in rows}) > 1


def test_the_same_plan_shows_the_same_and_another_round_others(tmp_path: Path) -> None:
    first = prompts(tmp_path, plan(tmp_path, SEEDS, MADE))
    assert prompts(tmp_path, plan(tmp_path, SEEDS, MADE)) == first
    for changes in ({"round": 1}, {"iteration": 3}, {"seed": 1}):
        other = prompts(tmp_path, plan(tmp_path, SEEDS, MADE, **changes))
        assert [r.shot_ids for r in other] != [r.shot_ids for r in first], changes


def test_few_seeds_are_all_shown(tmp_path: Path) -> None:
    rows = prompts(tmp_path, plan(tmp_path, SEEDS[:3], []))
    assert all(set(r.shot_ids) == {s.instruction.id for s in SEEDS[:3]} for r in rows)


def test_without_a_seed_of_one_turn_there_is_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^seeds\.ift has no row of one user turn"):
        prompts(tmp_path, plan(tmp_path, SEEDS[-1:], MADE))


# --- completions ---------------------------------------------------------------------------------


def prompt(name: str) -> CreationPrompt:
    return CreationPrompt(id=name, round=1, shot_ids=("ins-1", "ins-2"), shots=("Do a.", "Do b."))


COMPLETIONS: dict[str, Any] = {
    "one": " Name a lake.",
    "two": "Name a lake.\nTask 10: Name a sea.",
    "half": cut("Name a lake.\nTask 10: Name the"),
    "torn": cut("Name the deepest"),
    "mute": " \n",
    "long": "x",
}


def complete(several: Any) -> tuple[list[Any], Fake]:
    fake = Fake(lambda r, _: COMPLETIONS[r.id.partition("/")[0]], {"long/": "prompt_too_long"})
    logic = Create(sampling=SamplingConfig(max_tokens=33), several=several, seed=0)
    return run(logic, [prompt(name) for name in COMPLETIONS], fake), fake


def test_completions_are_split_into_instructions() -> None:
    results, _ = complete("split")
    texts = [[r.instruction.messages[0].content for r in result.records] for result in results]
    assert texts == [
        ["Name a lake."],
        ["Name a lake.", "Name a sea."],
        ["Name a lake."],
        [],
        [],
        [],
    ]
    assert reasons(results) == [
        *("truncated_instruction", "truncated_instruction", "empty_instruction", "prompt_too_long")
    ]
    # One of its two tasks was cut: it is counted beside the one that is kept.
    assert [(d.row_id, d.detail) for d in results[2].dropped] == [("half", "Name the")]
    second = results[1].records[1]
    assert (second.part, second.round, second.draw) == (1, 1, 0)
    assert (second.text, second.shot_ids) == (COMPLETIONS["two"], ("ins-1", "ins-2"))
    assert (second.id, second.model) == (second.instruction.id, MODEL)
    assert results[3].dropped[0].detail == "Name the deepest"


def test_completions_with_several_instructions_can_be_dropped_whole() -> None:
    results, _ = complete("drop")
    assert [len(r.records) for r in results] == [1, 0, 0, 0, 0, 0]
    assert reasons(results[1:3]) == ["several_instructions"] * 2


def test_the_request_shows_the_examples_with_a_seed_of_the_prompt() -> None:
    _, fake = complete("split")
    first, second, *_ = fake.asked
    assert (first.purpose, first.sampling.n, first.sampling.max_tokens) == ("create", 1, 33)
    assert first.messages == render_creation(("Do a.", "Do b."))
    assert first.sampling.seed != second.sampling.seed


# --- filters -------------------------------------------------------------------------------------


def kept_of(
    tmp_path: Path,
    texts: list[str],
    seeds: list[str] | None = None,
    earlier: list[str] | None = None,
    **config: Any,
) -> tuple[list[str], dict[str, str], list[ShardSummary]]:
    """The kept texts, reason and detail of each drop by its text, and the summaries."""
    known = plan(
        tmp_path,
        [seed(ask(t)) for t in seeds or ["Name three rivers of Asia."]],
        [created(t) for t in earlier or []],
    )
    url, folder = f"{tmp_path}/created/{shard_name(0)}", f"{tmp_path}/kept"
    write_records(url, [created(t) for t in texts], CreatedInstruction)
    section = SelfInstructConfig.model_validate(config)
    summaries = filter_round(known, section, [url], folder, 2)
    kept = [r.instruction.messages[0].content for r in records_in(folder, CreatedInstruction)]
    by_id = {ask(t).id: t for t in texts}
    drops = {by_id[d.row_id]: f"{d.reason.value}: {d.detail}" for d in drops_in(folder)}
    assert sum(s.num_inputs for s in summaries) == len(texts)
    return kept, drops, summaries


def test_each_filter_names_its_reason(tmp_path: Path) -> None:
    known = ask("Name three rivers of Asia.").id
    good = ["Explain how bread rises in the oven.", "List the phases of the moon.", "Add 2 and 3."]
    bad = {
        "name  three RIVERS of asia.": f"exact_duplicate: of {known}",
        # 5 of 6 and of 5 words in common: 10 / 11.
        "Name three big rivers of Asia.": f"similar_instruction: ROUGE-L 0.91 with {known}",
        # 7 of 8 and of 7, with one that was kept just before: 14 / 15.
        "Explain how bread rises in the hot oven.": (
            f"similar_instruction: ROUGE-L 0.93 with {ask(good[0]).id}"
        ),
        "Sing loudly": "too_short: 2 of at least 3 words",
        "Write a haiku about moss.": "keyword: keyword 'haiku'",
        "Draw a picture of a cat.": "not_answerable: ",
    }
    texts = [good[0], *bad, *good[1:]]
    kept, drops, summaries = kept_of(tmp_path, texts, keywords=["haiku"])
    assert kept == good
    assert drops.keys() == bad.keys()
    assert all(drops[text].startswith(reason) for text, reason in bad.items()), drops
    assert [s.num_records for s in summaries] == [2, 1]
    assert summaries[0].drops == {
        "exact_duplicate": 1,
        "similar_instruction": 2,
        "too_short": 1,
        "keyword": 1,
        "not_answerable": 1,
    }
    assert summaries[1].drops == {}


def test_what_earlier_rounds_kept_counts(tmp_path: Path) -> None:
    # 7 of 8 words in common: 14 / 16.
    new, old = "List all phases of the moon in order.", "List the phases of the moon in order."
    assert kept_of(tmp_path, [new])[0] == [new]
    kept, drops, _ = kept_of(tmp_path, [new], earlier=[old])
    assert kept == []
    assert drops[new] == f"similar_instruction: ROUGE-L 0.88 with {ask(old).id}"
    assert kept_of(tmp_path, [new], earlier=[old], max_rouge_l=0.9)[0] == [new]


def test_near_duplicates_are_caught_where_rouge_lets_them_pass(tmp_path: Path) -> None:
    base = "Sort these: " + " ".join(f"word{i}" for i in range(60))
    # 58 shingles of five words, of which the last word changes one: Jaccard 57 / 59 = 0.97.
    changed = base.replace("word59", "other")
    # A ROUGE-L of 61 / 62 is below 1.
    kept, drops, _ = kept_of(tmp_path, [base, changed], max_rouge_l=1.0)
    assert kept == [base]
    assert drops == {changed: f"near_duplicate: of {ask(base).id}"}
    kept, _, _ = kept_of(tmp_path, [base, changed], max_rouge_l=1.0, near_duplicate_threshold=None)
    assert kept == [base, changed]


def test_nothing_kept_is_an_empty_shard_with_the_drops_counted(tmp_path: Path) -> None:
    kept_of(tmp_path, ["Explain rain.", "Describe how soap is made.", "Compare two rivers."])
    kept, _, (summary,) = kept_of(tmp_path, ["Sing loudly", "Name three rivers of Asia."])
    assert kept == []
    assert summary == ShardSummary(
        index=0,
        num_inputs=2,
        num_records=0,
        drops={"too_short": 1, "exact_duplicate": 1},
        ledger={},
    )
    # The three of the attempt before are gone with their shards.
    assert len(sealed_shards(f"{tmp_path}/kept")) == 1


def test_what_models_are_measured_on_is_not_written_anew(tmp_path: Path) -> None:
    held = "Describe how tides come about at sea."
    url = join(str(tmp_path), "heldout", shard_name(0))
    write_records(url, [ask(held)], Instruction)
    made = plan(tmp_path, SEEDS, [], held_out=HeldOut(instructions=(url,)))
    texts = [held, "Describe how tides come about at home.", "Name two kinds of rope."]
    source = join(str(tmp_path), "written", shard_name(0))
    write_records(source, [created(text) for text in texts], CreatedInstruction)
    folder = join(str(tmp_path), "left")
    filter_round(made, SelfInstructConfig(), [source], folder, 10)
    # The second shares 6 of 7 words with the held-out one: 12 / 14.
    (kept,) = records_in(folder, CreatedInstruction)
    assert kept.instruction.messages[0].content == texts[2]
    (same, similar) = drops_in(folder)
    assert (same.reason.value, similar.reason.value) == ("held_out", "similar_instruction")


def test_prompts_of_labelled_pairs_and_held_out_seeds_are_not_written_anew(tmp_path: Path) -> None:
    asked_of_both = ask("Who built the Eiffel Tower?")
    pair = ResponsePair.new(
        instruction_id=asked_of_both.id,
        messages=asked_of_both.messages,
        chosen="Eiffel",
        rejected="Nobody",
        corruption="labelled",
        source="pairs.jsonl",
    )
    urls = [join(str(tmp_path), name, shard_name(0)) for name in ("pairs", "answered", "written")]
    write_records(urls[0], [pair], ResponsePair)
    write_records(urls[1], [seed(ask("Describe how tides come about."))], AnsweredInstruction)
    texts = ["who built the  EIFFEL tower?", "Describe how tides come about.", "Name two ropes."]
    write_records(urls[2], [created(text) for text in texts], CreatedInstruction)
    made = plan(tmp_path, SEEDS, [], held_out=HeldOut(pairs=urls[:1], answered=urls[1:2]))
    folder = join(str(tmp_path), "left")
    filter_round(made, SelfInstructConfig(), urls[2:], folder, 10)
    (kept,) = records_in(folder, CreatedInstruction)
    assert kept.instruction.messages[0].content == "Name two ropes."
    assert [d.reason.value for d in drops_in(folder)] == ["held_out", "held_out"]
