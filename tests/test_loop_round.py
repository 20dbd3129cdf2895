"""A self-rewarding round before its model is trained: its watch, and what it is trained on."""

from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import NothingToLearnError
from selfreward.layout import Layout, join
from selfreward.loops import round as round_module
from selfreward.loops import round_figures
from selfreward.loops.pools import PlacedModel
from selfreward.loops.round import Models, Round
from selfreward.loops.round_figures import check_round
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.records import ModelRef, Preference
from selfreward.storage import files
from selfreward.storage.manifest import complete, open_stage, read_manifest
from selfreward.storage.shards import ShardSummary
from tests.run_folders import M1, rating, self_rewarding_run, write_stage
from tests.stage_tools import sampled
from tests.step_tools import run_in

MODELS = [
    PlacedModel(ref=ModelRef(name=f"m{i}", iteration=i, fingerprint=f"f{i}"), location=f"at/{i}")
    for i in range(3)
]
SCALE = (0.0, 5.0)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_figures, "on_cluster", lambda run, function, *args: function(*args))


def run_of(tmp_path: Path, **sections: Any) -> Run:
    sections = {"self_instruct": {"enabled": False}} | sections
    return run_in(tmp_path, {"loop": {"kind": "self_rewarding"}, **sections})


def scored(layout: Layout, *scores: tuple[float, float]) -> None:
    """Two candidates to each instruction, with these scores, and no pair of them."""
    rows = [sampled(f"Task {n}", "one", "two") for n in range(len(scores))]
    write_stage(layout.responses(2), "sample", rows)
    ratings = [
        rating(response.id, M1, 0, score)
        for row, pair in zip(rows, scores, strict=True)
        for response, score in zip(row.responses, pair, strict=True)
    ]
    write_stage(layout.stage(2, "ratings"), "rate", ratings)
    write_stage(layout.preferences(2), "prefer", [], record_type=Preference)


def test_a_round_of_ties_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    scored(run.layout, (4, 4), (3, 3))
    line = (
        "collapse.max_tie_rate: at 1 of the instructions all candidates got the same score, a tie"
        " (limit 0.98)"
    )
    with pytest.raises(NothingToLearnError) as caught:
        check_round(run, 2, SCALE)
    assert str(caught.value) == line
    written = files.read_json(join(run.layout.iteration(2), "round.json"))
    assert written["collapse"]["reasons"] == [line]
    assert written["collapse"]["limits"]["tie_rate"] == {"side": "max", "limit": 0.98}
    assert written["candidates"]["histogram"]["4"] == 2


@pytest.mark.parametrize("expected", [False, True])
def test_expected_scores_that_are_hardly_apart_are_ties(tmp_path: Path, expected: bool) -> None:
    run = run_of(tmp_path, rating={"expected": expected, "num_draws": 1})
    scored(run.layout, (2.31, 2.3), (2.5, 2.519))
    if not expected:
        check_round(run, 2, SCALE)
        return
    with pytest.raises(NothingToLearnError, match=r"collapse\.max_tie_rate: at 1 of"):
        check_round(run, 2, SCALE)
    # 0.019 apart is no tie where only 0.01 is.
    check_round(run_of(tmp_path, collapse={"tie_spread": 0.01}), 2, SCALE)


def test_instructions_that_repeat_each_other_end_the_round_too(tmp_path: Path) -> None:
    run = run_of(tmp_path, self_instruct={"rounds": 1}, collapse={"max_near_duplicates": 0.5})
    # Of two instructions one is kept; the run's folder counts the other as similar.
    folder = self_rewarding_run(run.layout.root).layout.stage(2, "kept/00")
    files.remove(run.layout.training(2))
    kept = read_manifest(folder)
    assert kept is not None
    summary = ShardSummary(
        index=0, num_inputs=4, num_records=1, drops={"exact_duplicate": 2}, ledger={}
    )
    complete(folder, kept, [summary], 1.0)
    # Two of the two that were written.
    with pytest.raises(NothingToLearnError, match=r"^collapse\.max_near_duplicates: 1 of the new"):
        check_round(run, 2, SCALE)


def test_what_is_trained_already_is_left_to_its_examination(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    scored(run.layout, (4, 4))
    complete(run.layout.training(2), open_stage(run.layout.training(2), "train", {"x": 1}), [], 1.0)
    check_round(run, 2, SCALE)
    assert not files.exists(join(run.layout.iteration(2), "round.json"))


@pytest.mark.parametrize("with_seeds", [False, True])
def test_positives_are_learnt_alone_or_with_the_seeds_from_the_first_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_seeds: bool
) -> None:
    section = {"kind": "positive_only", "positives_with_seeds": with_seeds}
    run = run_of(tmp_path, preferences=section, training={"objective": "sft"})
    layout = self_rewarding_run(run.layout.root).layout
    asked: list[tuple[PlacedModel, list[str]]] = []

    def train(_run: Run, start: PlacedModel, wanted: Any) -> None:
        asked.append((start, [rows.folder for rows in wanted.rows]))

    monkeypatch.setattr(round_module, "train_model", train)
    monkeypatch.setattr(round_module, "run_model", lambda *_: MODELS[2])
    models = Models(first=MODELS[0], before=MODELS[0], now=MODELS[1])
    made = Round(run, 2, models, load_pointwise_rubric("pointwise_additive"))
    positives = Source(folder=layout.examples(2), fingerprint="p", num_records=3)
    made._train([positives])
    alone = (MODELS[1], [layout.examples(2)])
    mixed = (MODELS[0], [layout.examples(1), layout.stage(1, "eft"), layout.examples(2)])
    assert asked == [mixed if with_seeds else alone]
    if with_seeds:
        # No judgment agreed with people: the answers alone.
        files.remove(layout.stage(1, "eft"))
        made._train([positives])
        assert asked[-1] == (MODELS[0], [layout.examples(1), layout.examples(2)])
