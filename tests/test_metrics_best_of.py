from selfreward.metrics.best_of import BestOfOutcome, best_of_report
from selfreward.records import Outcome
from selfreward.records_scores import SlotVerdict


def said(
    gold: int, slot: int | None, failure: Outcome = Outcome.UNPARSED, subset: str = "s"
) -> BestOfOutcome:
    outcome = failure if slot is None else Outcome.CHOICE
    return BestOfOutcome(
        question_id="q",
        subset=subset,
        gold=gold,
        num_shown=4,
        verdict=SlotVerdict(outcome=outcome, slot=slot),
    )


def test_a_failure_is_neither_right_nor_a_quarter() -> None:
    report = best_of_report(
        [said(2, 2), said(0, 0), said(1, 0), said(3, None), said(0, None, Outcome.TRUNCATED)]
    )
    # Two right of five; of three verdicts two name the first response and one the third.
    assert (report.n, report.accuracy, report.chance) == (5, 0.4, 0.25)
    assert report.slot_rates == (2 / 3, 0.0, 1 / 3, 0.0)
    assert (report.unparsed_rate, report.truncated_rate) == (0.2, 0.2)
    assert (report.refused_rate, report.tie_rate) == (0.0, 0.0)
    assert report.to_dict()["slot_rates"] == [2 / 3, 0.0, 1 / 3, 0.0]


def test_without_questions_there_are_no_rates() -> None:
    report = best_of_report([])
    assert (report.n, report.accuracy, report.chance, report.slot_rates) == (0, None, None, ())
    assert report.unparsed_rate is None
    assert (report.accuracy_ci, report.subsets) == (None, {})


def test_subsets_and_the_interval_are_of_questions() -> None:
    report = best_of_report(
        [said(0, 0, subset="Math"), said(1, 0, subset="Math"), said(2, 2, subset="Focus")]
    )
    assert report.subsets == {
        "Focus": {"n": 1, "accuracy": 1.0},
        "Math": {"n": 2, "accuracy": 0.5},
    }
    # Of 27 resamples of two right and one wrong answer one is all wrong and eight all right.
    assert report.accuracy_ci == (0.0, 1.0)
    assert report.to_dict()["accuracy_ci"] == [0.0, 1.0]
