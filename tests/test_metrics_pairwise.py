import json
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from selfreward.metrics.pairwise import PairOutcome, accuracy_per_pair, pairwise_report
from selfreward.records import Outcome, Verdict


def chose(choice: Literal["first", "second"], probability: float | None = None) -> Verdict:
    return Verdict(outcome=Outcome.CHOICE, choice=choice, probability_first=probability)


def failed(outcome: Outcome) -> Verdict:
    return Verdict(outcome=outcome)


def pair(
    ident: str,
    chosen_first: Verdict,
    rejected_first: Verdict,
    subset: str = "all",
    lengths: tuple[int, int] | None = None,
) -> PairOutcome:
    chosen_length, rejected_length = lengths if lengths else (None, None)
    return PairOutcome(
        pair_id=ident,
        subset=subset,
        chosen_first=chosen_first,
        rejected_first=rejected_first,
        chosen_length=chosen_length,
        rejected_length=rejected_length,
    )


# Right in both orders; always first; wrong in both; a failure each.
OUTCOMES = [
    pair("p1", chose("first", 0.9), chose("second", 0.2), "chat", (10, 20)),
    pair("p2", chose("first", 0.6), chose("first", 0.7), "chat", (30, 20)),
    pair("p3", chose("second"), chose("first"), "maths", (5, 5)),
    pair("p4", failed(Outcome.UNPARSED), chose("second"), "maths", (9, 4)),
    pair("p5", chose("first"), failed(Outcome.TIE), "maths"),
    pair("p6", failed(Outcome.TRUNCATED), failed(Outcome.REFUSED), "maths"),
]


def test_accuracy_per_pair_is_the_mean_of_both_orders() -> None:
    assert accuracy_per_pair(OUTCOMES).tolist() == [1.0, 0.5, 0.0, 0.5, 0.5, 0.0]


def test_the_report_by_hand() -> None:
    report = pairwise_report(OUTCOMES)
    assert report.n == 6
    # 2.5 / 6
    assert report.accuracy == pytest.approx(2.5 / 6)
    assert report.accuracy_ci[0] < report.accuracy < report.accuracy_ci[1]
    assert report.position_consistent_accuracy == pytest.approx(1 / 6)
    # Choices: first second | first first | second first | second | first: 5 of 8.
    assert report.first_position_rate == pytest.approx(5 / 8)
    # Of p1, p2, p3 only p2 chose another response when the order changed.
    assert report.swap_flip_rate == pytest.approx(1 / 3)
    # One reading of 12 each.
    assert report.unparsed_rate == pytest.approx(1 / 12)
    assert report.truncated_rate == pytest.approx(1 / 12)
    assert report.tie_rate == pytest.approx(1 / 12)
    assert report.refused_rate == pytest.approx(1 / 12)
    # p1 chose the shorter twice, p2 the longer and the shorter, p3 is of equal length, p4 chose
    # the longer, p5 has no lengths: 2 of 5.
    assert report.longer_chosen_rate == pytest.approx(2 / 5)
    # P(better) is .9, .8, .6, .3: (.01 + .04 + .16 + .49) / 4 = .175
    assert report.brier == pytest.approx(0.175)
    assert report.subsets == {
        "chat": {"n": 2, "accuracy": 0.75},
        "maths": {"n": 4, "accuracy": 0.25},
    }


def test_brier_agrees_with_sklearn() -> None:
    probabilities, better_is_first = [0.9, 0.2, 0.6, 0.7], [1, 0, 1, 0]
    expected = brier_score_loss(better_is_first, probabilities)
    assert pairwise_report(OUTCOMES[:2]).brier == pytest.approx(expected)


def test_the_report_is_json() -> None:
    report = pairwise_report(OUTCOMES)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["accuracy_ci"] == list(report.accuracy_ci)
    assert data["subsets"]["chat"] == {"n": 2, "accuracy": 0.75}
    assert data["brier"] == pytest.approx(0.175)


def test_a_judge_that_always_names_one_position_scores_half() -> None:
    outcomes = [pair(f"p{i}", chose("first"), chose("first")) for i in range(5)]
    report = pairwise_report(outcomes)
    assert (report.accuracy, report.position_consistent_accuracy) == (0.5, 0.0)
    assert (report.first_position_rate, report.swap_flip_rate) == (1.0, 1.0)


def test_what_cannot_be_measured_is_none() -> None:
    unparsed = failed(Outcome.UNPARSED)
    report = pairwise_report([pair("p", unparsed, unparsed, lengths=(1, 2))])
    assert report.accuracy == 0.0 and report.unparsed_rate == 1.0
    assert report.first_position_rate is None
    assert report.swap_flip_rate is None
    assert report.longer_chosen_rate is None
    assert report.brier is None


def test_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        pairwise_report([])
    assert accuracy_per_pair([]).shape == (0,)


_VERDICTS = st.sampled_from(
    [chose("first"), chose("second"), *(failed(o) for o in list(Outcome)[2:])]
)


@given(st.lists(st.tuples(_VERDICTS, _VERDICTS), min_size=1, max_size=20))
def test_mirroring_the_labels_mirrors_the_accuracy(readings: list[tuple[Verdict, Verdict]]) -> None:
    """With chosen and rejected renamed, right and wrong choices change places."""
    outcomes = [pair(str(i), a, b) for i, (a, b) in enumerate(readings)]
    mirrored = [pair(str(i), b, a) for i, (a, b) in enumerate(readings)]
    one = pairwise_report(outcomes, num_samples=100)
    other = pairwise_report(mirrored, num_samples=100)
    failures = one.unparsed_rate + one.truncated_rate + one.tie_rate + one.refused_rate
    assert one.accuracy + other.accuracy + failures == pytest.approx(1.0)
    assert one.first_position_rate == other.first_position_rate
    assert one.swap_flip_rate == other.swap_flip_rate
    assert one.position_consistent_accuracy is not None
    assert one.position_consistent_accuracy <= one.accuracy


def test_intervals_are_over_prompts() -> None:
    right, wrong = (chose("first"), chose("second")), (chose("second"), chose("first"))
    once = [pair("a", *right), pair("b", *wrong)]
    often = [
        replace(pair(f"{name}{i}", *readings), group=name)
        for name, readings in (("a", right), ("b", wrong))
        for i in range(10)
    ]
    report = pairwise_report(often)
    assert (report.n, report.num_prompts, report.accuracy) == (20, 2, 0.5)
    # Ten copies of a pair under one prompt have the interval of that pair alone.
    one = pairwise_report(once)
    assert report.accuracy_ci == one.accuracy_ci == (0.0, 1.0)
    assert report.position_consistent_accuracy_ci == one.position_consistent_accuracy_ci
    apart = pairwise_report([replace(o, group=None) for o in often])
    assert apart.num_prompts == 20
    assert apart.accuracy_ci[0] > 0.2 and apart.accuracy_ci[1] < 0.8


def test_the_position_consistent_accuracy_has_an_interval() -> None:
    # Always the first position: half right, never in both orders.
    report = pairwise_report([pair(f"p{i}", chose("first"), chose("first")) for i in range(5)])
    assert report.position_consistent_accuracy_ci == (0.0, 0.0)
    found = pairwise_report(OUTCOMES)
    assert found.position_consistent_accuracy_ci is not None
    low, high = found.position_consistent_accuracy_ci
    assert low <= 1 / 6 <= high
    assert found.to_dict()["position_consistent_accuracy_ci"] == [low, high]
    read_once = replace(OUTCOMES[0], rejected_first=None)
    assert pairwise_report([read_once]).position_consistent_accuracy_ci is None
