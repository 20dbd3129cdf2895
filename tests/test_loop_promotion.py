"""The self-taught loop's figures and its decisions, after what they are of has changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import DataError
from selfreward.layout import join
from selfreward.loops import scoring
from selfreward.loops.pools import PlacedModel
from selfreward.loops.promotion import promote, promote_seed
from selfreward.loops.scoring import check_heldout, evaluate_model
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.records import DropReason, ModelRef, Position, ResponsePair
from selfreward.storage import files
from selfreward.storage.checkpoints import read_current, read_pointers
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary
from tests.run_folders import ask, judgment, write_stage
from tests.step_tools import run_in

MODELS = {
    i: PlacedModel(ref=ModelRef(name=f"m{i}", iteration=i, fingerprint=f"f{i}"), location=f"at/{i}")
    for i in range(3)
}
NUM_PAIRS = 12


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set has been judged: what the tests write is what would have been read."""
    monkeypatch.setattr(scoring, "run_step", lambda *_: [])


def run_of(tmp_path: Path, **more: Any) -> Run:
    return run_in(tmp_path, {"evaluation": {"bootstrap_samples": 100}} | more)


def told(run: Run) -> list[str]:
    display: Any = run.display
    lines: list[str] = display.lines
    return lines


def judge(
    run: Run, name: str, readings: dict[int, str], writers: tuple[str, str] | None = None
) -> Source:
    """Twelve pairs that each model reads with the same two letters, one an order; with four, the
    first two are of every other pair. The better answers of these are by the first of `writers`,
    and those of the others by the second."""
    pairs = [
        ResponsePair.new(
            instruction_id=f"ins-{n}",
            messages=ask(f"Task {n} of {name}").messages,
            chosen=f"good {n}",
            rejected=f"bad {n}",
            corruption="labelled",
            meta=(
                json.dumps({"chosen_model": writers[n % 2], "rejected_model": writers[1 - n % 2]})
                if writers
                else None
            ),
        )
        for n in range(NUM_PAIRS)
    ]
    folder = join(run.layout.root, "pairs-of", name)
    manifest = write_stage(folder, "labelled", pairs)
    for iteration, letters in readings.items():
        rows = [
            judgment(pair.id, MODELS[iteration].ref, position, 0, letter)
            for n, pair in enumerate(pairs)
            for position, letter in zip(Position, (letters * 2)[n % 2 * 2 :][:2], strict=True)
        ]
        write_stage(join(run.layout.evaluation(iteration), name), "judge", rows)
    return Source.of(folder, manifest)


def reports(run: Run, iteration: int) -> dict[str, Any]:
    found: dict[str, Any] = files.read_json(
        join(run.layout.evaluation(iteration), "evaluation.json")
    )
    return found


def test_a_set_that_was_added_is_in_the_report(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    sets = {"heldout": judge(run, "heldout", {0: "AB"})}
    evaluate_model(run, MODELS[0], sets)
    sets["mine"] = judge(run, "mine", {0: "BA"})
    assert evaluate_model(run, MODELS[0], sets) == reports(run, 0)
    accuracies = {name: report["accuracy"] for name, report in reports(run, 0).items()}
    assert accuracies == {"heldout": 1.0, "mine": 0.0}


def test_a_report_is_of_the_confidence_asked_for_and_is_told_once(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    # Every other pair is read right: the interval has a width.
    sets = {"heldout": judge(run, "heldout", {0: "ABBA"})}
    evaluate_model(run, MODELS[0], sets)
    before = reports(run, 0)
    evaluate_model(run, MODELS[0], sets)
    assert len(told(run)) == 1
    other = run_of(tmp_path, evaluation={"bootstrap_samples": 200, "confidence": 0.5})
    evaluate_model(other, MODELS[0], sets)
    assert reports(other, 0) != before


def current(run: Run) -> int:
    found = read_current(run.layout)
    assert found is not None
    return found.iteration


@pytest.fixture
def promoted(tmp_path: Path) -> tuple[Run, dict[str, Source]]:
    """M1 reads the held-out pairs right and the seed reads them wrong."""
    run = run_of(tmp_path)
    sets = {"heldout": judge(run, "heldout", {0: "BA", 1: "AB", 2: "AB"})}
    evaluate_model(run, MODELS[0], sets)
    promote_seed(run, MODELS[0])
    assert promote(run, MODELS, 1, sets, 0) == 1
    assert promote(run, MODELS, 2, sets, 1) == 1
    return run, sets


def test_a_judge_that_is_right_by_position_is_not_promoted(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    # From never right to right in one order: better, and now it always names the first.
    sets = {"heldout": judge(run, "heldout", {0: "BA", 1: "AA"})}
    promote_seed_of(run, sets)
    assert promote(run, MODELS, 1, sets, 0) == 0
    assert current(run) == 0
    assert "position bias |first position rate - 0.5| rose from 0.000 to 0.500" in told(run)[-1]


@pytest.mark.parametrize(
    ("writers", "promoted"),
    [(("{seed}", "another"), False), (("another", "{seed}"), False), (("x", "another"), True)],
)
def test_a_judge_that_has_come_to_favour_its_own_answers_is_not_promoted(
    tmp_path: Path, writers: tuple[str, str], promoted: bool
) -> None:
    run = run_of(tmp_path)
    seed = run.config.model.name
    names = tuple(name.replace("{seed}", seed) for name in writers)
    # M0 is wrong of every pair: it names its own answers in half of them. M1 has come to be right
    # of every other: those whose better answer is by the first writer.
    readings = {0: "BA", 1: "ABBA" if writers[0] != "another" else "BAAB"}
    sets = {
        "heldout": judge(run, "heldout", {0: "BA"}),
        "mine": judge(run, "mine", readings, writers=(names[0], names[1])),
    }
    promote_seed_of(run, sets)
    assert promote(run, MODELS, 1, sets, 0) == (1 if promoted else 0)
    is_named = "self-preference |own named rate - share own better| rose from 0.000 to 0.500"
    assert (is_named in told(run)[-1]) is not promoted


def promote_seed_of(run: Run, sets: dict[str, Source]) -> None:
    evaluate_model(run, MODELS[0], sets)
    promote_seed(run, MODELS[0])


def test_a_decision_stays_while_what_it_was_made_on_stays(
    promoted: tuple[Run, dict[str, Source]],
) -> None:
    run, sets = promoted
    assert current(run) == 1
    lines, pointers = list(told(run)), read_pointers(run.layout)
    assert promote(run, MODELS, 1, sets, 0) == 1
    assert promote(run, MODELS, 2, sets, 1) == 1
    assert told(run) == lines
    assert read_pointers(run.layout) == pointers


def test_pairs_that_people_labelled_decide_anew_where_they_were_added(
    promoted: tuple[Run, dict[str, Source]],
) -> None:
    run, sets = promoted
    # On them M1 is worse than the seed, and M2 better.
    sets["mine"] = judge(run, "mine", {0: "AA", 1: "BA", 2: "AB"})
    assert promote(run, MODELS, 1, sets, 0) == 0
    assert current(run) == 0, "the promotion is taken back"
    found = read_current(run.layout)
    assert found is not None
    assert found.checkpoint == "m0"
    assert found.reason.startswith("M1 not promoted: accuracy 0.000 against 0.500 on 12 pairs")
    assert promote(run, MODELS, 2, sets, 0) == 2
    assert current(run) == 2
    decision = files.read_json(join(run.layout.iteration(2), "promotion.json"))
    assert (decision["on"], decision["compared_with"]) == (["mine"], 0)


def test_other_thresholds_decide_anew(
    promoted: tuple[Run, dict[str, Source]], tmp_path: Path
) -> None:
    _, sets = promoted
    # 12 pairs of 12 turn, of which chance does one in 4096.
    strict = run_of(tmp_path, promotion={"max_p_value": 0.0001})
    assert promote(strict, MODELS, 1, sets, 0) == 0
    assert current(strict) == 0


def test_no_heldout_pair_is_said_with_what_dropped_them(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    empty = Source(folder=run.layout.split("heldout", "pairs"), fingerprint="x", num_records=0)
    for stage, reason, count in (
        ("responses", DropReason.TRUNCATED_RESPONSE, 61),
        ("pairs", DropReason.SAME_RESPONSE, 3),
    ):
        folder = run.layout.split("heldout", stage)
        summary = ShardSummary(
            index=0, num_inputs=count, num_records=0, drops={reason.value: count}, ledger={}
        )
        complete(folder, open_stage(folder, stage, {}), [summary], 1.0)
    with pytest.raises(DataError) as wrong:
        check_heldout(run, {"heldout": empty})
    text = str(wrong.value)
    assert text.startswith(
        "none of 64 held-out instructions became a pair (dropped: truncated_response 61,"
        " same_response 3); loosen what drops them (respond.keep_truncated=true,"
    )
    assert "\n" not in text
    check_heldout(run, {"heldout": judge(run, "heldout", {})})
