from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import DataError, StorageError
from selfreward.layout import Layout, join
from selfreward.serving.admin_wire import VersionEntry, VersionHistory
from selfreward.serving.review.history import promotion_history
from selfreward.serving.review_wire import PromotedJudge
from selfreward.serving.wire import JudgeVersion
from selfreward.storage import files
from selfreward.storage.checkpoints import CurrentJudge, write_current
from selfreward.storage.manifest import open_stage
from tests.run_folders import M1, SEED_MODEL, new_run


def point(layout: Layout, iteration: int, accuracy: float | None, reason: str) -> None:
    model = (SEED_MODEL, M1)[iteration]
    write_current(
        layout,
        CurrentJudge(
            iteration=iteration,
            checkpoint=layout.checkpoint(1) if iteration else "tiny",
            fingerprint=model.fingerprint,
            accuracy=accuracy,
            reason=reason,
        ),
    )


def decide(layout: Layout, iteration: int, **more: Any) -> None:
    url = join(layout.iteration(iteration), "promotion.json")
    files.write_json(url, {"promoted": True, "compared_with": iteration - 1} | more)


def served(version: int, iteration: int, fingerprint: str, since: str, by: str) -> VersionEntry:
    judge = JudgeVersion(
        version=version, model=f"M{iteration}", iteration=iteration, fingerprint=fingerprint
    )
    return VersionEntry(judge=judge, since=since, by=by)


def figures(judge: PromotedJudge) -> dict[str, float | None]:
    return {figure.name: figure.value for figure in judge.bias_card}


def test_a_self_taught_run_tells_its_judges_with_the_cards_that_decided(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 1)
    point(layout, 0, 0.5, "the seed model")
    card = {"n": 64, "swap_flip_rate": 0.25, "score_saturation": None}
    decide(layout, 1, accuracy=0.7, card=card, card_of_compared=card | {"swap_flip_rate": 0.5})
    point(layout, 1, 0.7, "promoted: accuracy 0.700 against 0.500")
    new, old = promotion_history(layout).judges
    assert (new.judge.model, new.judge.iteration, new.judge.fingerprint) == ("M1", 1, "bbbb2222")
    assert (new.accuracy, new.reason, new.by) == (
        0.7,
        "promoted: accuracy 0.700 against 0.500",
        "run",
    )
    assert figures(new) == {"n": 64, "swap_flip_rate": 0.25, "score_saturation": None}
    assert (old.judge.model, old.accuracy, old.reason) == ("tiny", 0.5, "the seed model")
    assert figures(old)["swap_flip_rate"] == 0.5
    assert new.since.endswith("Z") and new.judge.version == old.judge.version == 0


def test_without_a_card_the_mean_rates_of_the_labelled_sets_stand_in(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_rewarding", 1)
    point(layout, 1, None, "promoted: 6 wins, 7 ties, 3 losses against M0")
    decide(layout, 1, accuracy=0.6)
    reports = {
        "heldout": {"unparsed_rate": 0.9, "first_position_rate": 0.9},
        "one": {"unparsed_rate": 0.1, "first_position_rate": None},
        "two": {"unparsed_rate": 0.3, "first_position_rate": 0.75},
    }
    files.write_json(join(layout.evaluation(1), "evaluation.json"), reports)
    own = {"entropy_nats": 0.6931471805599453, "saturation": 0.25, "unparsed_rate": 0.5}
    measured = {"own_scores": own, "seed_agreement": {"kendall_tau": float("nan")}}
    files.write_json(join(layout.evaluation(1), "figures.json"), measured)
    (judge,) = promotion_history(layout).judges
    found = figures(judge)
    assert found["unparsed_rate"] == pytest.approx(0.2)
    assert found["first_position_rate"] == 0.75 and found["tie_rate"] is None
    # ln 2 nats are 1 bit; NaN is a measurement that broke.
    assert (found["score_entropy_bits"], found["score_saturation"]) == (pytest.approx(1.0), 0.25)
    assert (found["score_unparsed_rate"], found["seed_agreement"]) == (0.5, None)
    assert judge.accuracy == 0.6


def test_heldout_pairs_stand_in_where_no_labelled_ones_were_measured(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 1)
    point(layout, 0, 0.5, "the seed model")
    reports = {"heldout": {"tie_rate": 0.125}, "validation": {"tie_rate": 1.0}}
    files.write_json(join(layout.evaluation(0), "evaluation.json"), reports)
    (judge,) = promotion_history(layout).judges
    assert figures(judge)["tie_rate"] == 0.125


def test_a_pointer_taken_back_is_a_line_of_its_own(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_rewarding", 1)
    reasons = ["the seed model", "promoted", "M1 not promoted: saturated"]
    for iteration, reason in zip((0, 1, 0), reasons, strict=True):
        point(layout, iteration, None, reason)
    judges = promotion_history(layout).judges
    assert [j.reason for j in judges] == reasons[::-1]


def test_served_versions_are_joined_with_what_the_run_says_of_them(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 1)
    point(layout, 0, 0.5, "the seed model")
    decide(layout, 1, accuracy=0.7, card={"n": 64})
    point(layout, 1, 0.7, "promoted: better")
    history = VersionHistory(
        history=[
            served(1, 1, "bbbb2222", "2999-01-01T00:00:00Z", "start"),
            served(2, 0, "ffff", "2999-01-02T00:00:00+00:00", "promote"),
        ],
        current=served(3, 1, "bbbb2222", "2999-01-02T01:00:00+02:00", "rollback"),
    )
    judges = promotion_history(layout, history).judges
    # 01:00 two hours east of Greenwich is before midnight there. The seed was promoted by the run
    # before the service began; M1 was served since, and is not told twice.
    assert [(j.judge.version, j.by) for j in judges] == [
        (2, "promote"),
        (3, "rollback"),
        (1, "start"),
        (0, "run"),
    ]
    assert [j.reason for j in judges] == [
        None,
        "promoted: better",
        "promoted: better",
        "the seed model",
    ]
    assert [j.accuracy for j in judges] == [None, 0.7, 0.7, 0.5]
    assert figures(judges[1]) == {"n": 64}


def test_figures_of_other_weights_are_not_shown(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 1)
    record = files.read_json(layout.run_json) | {"seed_fingerprint": "aaaa1111"}
    files.write_json(layout.run_json, record)
    decide(layout, 1, accuracy=0.7, card={"n": 64}, card_of_compared={"n": 63})
    # The iteration was trained again since the service took its first weights.
    open_stage(join(layout.evaluation(1), "heldout"), "evaluate", {"model": "bbbb2222"})
    history = VersionHistory(
        history=[
            served(1, 1, "old", "2999-01-01T00:00:00Z", "start"),
            served(2, 1, "bbbb2222", "2999-01-02T00:00:00Z", "promote"),
            served(3, 0, "foreign", "2999-01-03T00:00:00Z", "promote"),
        ],
        current=served(4, 0, "aaaa1111", "2999-01-04T00:00:00Z", "promote"),
    )
    seed, foreign, now, old = promotion_history(layout, history).judges
    assert (figures(now), now.accuracy) == ({"n": 64}, 0.7)
    assert (figures(old), old.accuracy) == ({}, None)
    assert (figures(seed), figures(foreign)) == ({"n": 63}, {})


def test_a_model_without_a_run_has_its_versions_alone() -> None:
    history = VersionHistory(
        history=[served(1, 0, "aaaa", "2026-01-01T00:00:00Z", "start")],
        current=served(2, 0, "bbbb", "2026-01-02T00:00:00Z", "promote"),
    )
    judges = promotion_history(None, history).judges
    assert [j.judge.version for j in judges] == [2, 1]
    assert all(j.bias_card == [] and j.reason is None and j.accuracy is None for j in judges)


def test_a_run_that_has_measured_nothing_has_no_history(tmp_path: Path) -> None:
    assert promotion_history(new_run(str(tmp_path), "self_taught", 1)).judges == []


def test_a_folder_without_a_run_and_a_broken_pointer_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run at .*: it has no run\.json"):
        promotion_history(Layout(str(tmp_path)))
    layout = new_run(str(tmp_path), "self_taught", 1)
    files.write_json(layout.current, {"now": 1})
    with pytest.raises(StorageError, match=r"current\.json is no pointer of this version"):
        promotion_history(layout)
