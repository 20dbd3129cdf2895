"""A file of what is measured, named when a run has begun: the run stays, and measures the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import DataError
from selfreward.loops import seeds
from selfreward.loops.in_training import in_training
from selfreward.loops.labelled import build_scored_sets, held_out_of
from selfreward.loops.pairs import build_instructions, build_labelled_pairs
from selfreward.loops.pools import PlacedModel
from selfreward.loops.seeds import build_seeds
from selfreward.loops.steps import Run
from selfreward.records import AnsweredInstruction, Instruction, Message, ModelRef, ResponsePair
from selfreward.records_scores import ScoredResponse
from selfreward.records_self_rewarding import CreatedInstruction
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary, write_records
from tests.stage_tools import records_in
from tests.step_tools import Told, run_in, without_ray

MODEL = PlacedModel(ref=ModelRef(name="m", iteration=0, fingerprint="f"), location="m")
PAIRS, SCORES = "labelled_pairs", "scored_responses"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_ray(monkeypatch)
    monkeypatch.setattr(seeds, "on_cluster", lambda run, function, *args: function(*args))
    monkeypatch.chdir(tmp_path)
    write("pool", [{"instruction": f"Ask {i}."} for i in range(12)])
    write("seeds", [{"instruction": f"Tell {i}.", "response": "So."} for i in range(4)])
    write("ranked", scores("Judge 0.") + scores("Judge 1."))


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def pair(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": "So.", "rejected": "No."}


def scores(prompt: str) -> list[dict[str, Any]]:
    given = ((1, "No."), (5, "So."))
    return [{"prompt": prompt, "response": r, "score": s, "scale": [1, 5]} for s, r in given]


def run_of(tmp_path: Path, **files: Any) -> Run:
    evaluation = {"heldout_pairs": 2, "validation_pairs": 0, **files}
    pool = {
        "path": "pool.jsonl",
        "shard_size": 8,
        "near_duplicate_threshold": None,
        "shuffle": False,
    }
    learnt = {"ift": ["seeds.jsonl"], "ranked": ["ranked.jsonl"], "ift_heldout": 1}
    loop = {"kind": "self_rewarding"}
    config = {"pool": pool, "evaluation": evaluation, "seeds": learnt, "loop": loop}
    return run_in(tmp_path, config)


def start(run: Run) -> tuple[Any, Any, Any, Any]:
    """What a loop reads before anything else, in its order."""
    labelled, scored = build_labelled_pairs(run), build_scored_sets(run)
    held_out = held_out_of(labelled, scored)
    pools = build_instructions(run, MODEL, held_out)
    return labelled, scored, pools, build_seeds(run, held_out, pools["train"])


def asked(folder: str, record: type) -> list[str]:
    return sorted({row.messages[-1].content for row in records_in(folder, record)})


def told(run: Run) -> list[str]:
    display: Any = run.display
    assert isinstance(display, Told)
    return display.lines


def test_a_file_added_to_a_run_remakes_nothing_and_is_measured_on_the_rest(tmp_path: Path) -> None:
    *_, pools, learnt = start(run_of(tmp_path))
    trained = ["ASK  3.", "Judge 1.", asked_seed(learnt.ift.folder)]
    write("pairs", [pair(prompt) for prompt in (*trained, "Ask 0.", "New?")])
    write("scores", [row for prompt in (*trained, "Newer?") for row in scores(prompt)])
    run = run_of(tmp_path, labelled_pairs=["pairs.jsonl"], scored_responses=["scores.jsonl"])
    labelled, scored, *again = start(run)
    assert again == [pools, learnt]
    # "Ask 0." is of the pool's held-out part.
    assert asked(labelled["pairs"].folder, ResponsePair) == ["Ask 0.", "New?"]
    assert asked(scored["scores"].folder, ScoredResponse) == ["Newer?"]
    why = "left out: the run trains on their prompts"
    assert told(run) == [
        f"pairs: 2 pairs; dropped {{'in_training': 3}}; 3 {why}",
        f"scores: 2 scores; dropped {{'in_training': 6}}; 6 {why}",
    ]
    # Again: what was read stays as it is.
    assert start(run) == (labelled, scored, pools, learnt)
    # A file that is named no more remakes nothing either.
    assert start(run_of(tmp_path))[2:] == (pools, learnt)


def asked_seed(folder: str) -> str:
    row, *_ = records_in(folder, AnsweredInstruction)
    return str(row.instruction.messages[-1].content)


def test_a_file_named_at_the_start_keeps_its_prompts_from_pool_and_seeds(tmp_path: Path) -> None:
    write("pairs", [pair("Ask 3."), pair("Tell 2."), pair("Judge 1.")])
    run = run_of(tmp_path, labelled_pairs=["pairs.jsonl"])
    labelled, _, pools, learnt = start(run)
    assert labelled["pairs"].num_records == 3
    assert "Ask 3." not in asked(pools["train"].folder, Instruction)
    assert (learnt.ift.num_records, learnt.ranked.num_records) == (2, 2)
    assert told(run)[:2] == [
        "pairs: 3 pairs",
        "pool: 9 train, 0 validation, 2 heldout; dropped {'held_out': 1}",
    ]


@pytest.mark.parametrize(
    ("key", "rows", "what"),
    [(PAIRS, [pair("Ask 3.")], "pair"), (SCORES, scores("Ask 3."), "scored response")],
)
def test_a_file_of_nothing_but_trained_prompts_is_one_line(
    tmp_path: Path, key: str, rows: list[dict[str, Any]], what: str
) -> None:
    start(run_of(tmp_path))
    write("mine", rows)
    with pytest.raises(DataError) as wrong:
        start(run_of(tmp_path, **{key: ["mine.jsonl"]}))
    assert str(wrong.value) == (
        f"{tmp_path}/mine.jsonl: no usable {what}; dropped rows: in_training {len(rows)}; the run"
        " trains on the prompts of this file: name another, or use another run_dir"
    )


def test_the_most_of_a_file_is_counted_without_what_is_trained_on(tmp_path: Path) -> None:
    start(run_of(tmp_path))
    write("mine", [pair(prompt) for prompt in ("Ask 3.", "New?", "Newer?")])
    run = run_of(tmp_path, labelled_pairs=["mine.jsonl"], max_labelled_pairs=2)
    assert asked(build_labelled_pairs(run)["mine"].folder, ResponsePair) == ["New?", "Newer?"]


def test_created_instructions_are_trained_on_once_they_are_complete(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    messages = (Message(role="user", content="Name a lake."),)
    made = Instruction.new(messages=messages, source="created")
    row = CreatedInstruction(
        id=made.id,
        instruction=made,
        shot_ids=(),
        model=MODEL.ref,
        round=0,
        draw=0,
        text="Name a lake.",
        part=0,
    )
    write_records(f"{run.layout.iteration(1)}/examples/shard-00000.parquet", [made], Instruction)
    folder = f"{run.layout.stage(2, 'kept')}/00"
    manifest = open_stage(folder, "filter", {})
    write_records(f"{folder}/shard-00000.parquet", [row], CreatedInstruction)
    assert in_training(run).keys() == frozenset(), "what is not complete is filtered anew"
    summary = ShardSummary(index=0, num_inputs=1, num_records=1, drops={}, ledger={})
    complete(folder, manifest, [summary], 0.0)
    write("mine", [pair("name a LAKE."), pair("New?")])
    run = run_of(tmp_path, labelled_pairs=["mine.jsonl"])
    assert asked(build_labelled_pairs(run)["mine"].folder, ResponsePair) == ["New?"]
