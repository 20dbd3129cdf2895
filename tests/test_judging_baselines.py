import math

import pytest
from scipy.special import expit

from selfreward.judging.baselines import BASELINES, verdict_of_scores
from selfreward.metrics.pairwise import PairOutcome, pairwise_report
from selfreward.records import Message, Outcome, Position, ResponsePair, Verdict


def pair(chosen: str, rejected: str, question: str = "Q") -> ResponsePair:
    return ResponsePair.new(
        instruction_id="ins-1",
        messages=(Message(role="user", content=question),),
        chosen=chosen,
        rejected=rejected,
        corruption="rewrite",
    )


def choices(name: str, one: ResponsePair, seed: int = 0) -> tuple[str | None, str | None]:
    """What the baseline chooses with the chosen response shown first, then second."""
    verdicts = [BASELINES[name](one, position, seed) for position in Position]
    assert all(v.outcome is Outcome.CHOICE and v.probability_first is None for v in verdicts)
    return verdicts[0].choice, verdicts[1].choice


def test_the_baselines_are_these() -> None:
    assert list(BASELINES) == ["longest", "shortest", "first", "random"]


@pytest.mark.parametrize(
    ("name", "chosen", "rejected", "expected"),
    [
        ("longest", "four", "4", ("first", "second")),
        ("longest", "4", "four", ("second", "first")),
        ("shortest", "four", "4", ("second", "first")),
        ("shortest", "4", "four", ("first", "second")),
        # Characters, not bytes: both are of length one.
        ("longest", "\u00e9", "e", ("first", "first")),
        # Equal lengths name the first position in each order.
        ("longest", "four", "five", ("first", "first")),
        ("shortest", "four", "five", ("first", "first")),
        ("first", "4", "four", ("first", "first")),
    ],
)
def test_what_they_choose(name: str, chosen: str, rejected: str, expected: tuple[str, str]) -> None:
    assert choices(name, pair(chosen, rejected)) == expected


def test_a_guess_on_equal_lengths_counts_half() -> None:
    # Longer chosen, longer rejected, equal: (1 + 0 + .5) / 3 = .5
    pairs = [pair("four", "4"), pair("4", "four"), pair("four", "five")]
    outcomes = [
        PairOutcome(
            pair_id=p.id,
            subset="all",
            chosen_first=BASELINES["longest"](p, Position.CHOSEN_FIRST, 0),
            rejected_first=BASELINES["longest"](p, Position.REJECTED_FIRST, 0),
        )
        for p in pairs
    ]
    assert pairwise_report(outcomes).accuracy == pytest.approx(0.5)


def test_the_coin_is_fair_and_depends_on_pair_order_and_seed() -> None:
    pairs = [pair("x", "y", question=f"Q{n}") for n in range(2000)]
    first_order = [choices("random", p)[0] for p in pairs]
    other_order = [choices("random", p)[1] for p in pairs]
    other_seed = [choices("random", p, seed=1)[0] for p in pairs]
    assert first_order == [choices("random", p)[0] for p in pairs]
    # 2000 fair tosses: a standard deviation is 22.4, so 100 is beyond 4 of them.
    assert abs(first_order.count("first") - 1000) < 100
    for other in (other_order, other_seed):
        equal = sum(a == b for a, b in zip(first_order, other, strict=True))
        assert abs(equal - 1000) < 100


@pytest.mark.parametrize(
    ("chosen_score", "rejected_score", "expected"),
    [
        (2.0, 1.0, ("first", "second")),
        (1.0, 2.0, ("second", "first")),
        (1.5, 1.5, ("first", "first")),
        (-math.inf, -math.inf, ("first", "first")),
    ],
)
def test_the_higher_score_is_chosen_and_of_equal_ones_the_first_is_guessed(
    chosen_score: float, rejected_score: float, expected: tuple[str, str]
) -> None:
    verdicts = [verdict_of_scores(chosen_score, rejected_score, p, guesses=True) for p in Position]
    assert (verdicts[0].choice, verdicts[1].choice) == expected
    assert [v.probability_first for v in verdicts] == [None, None]


@pytest.mark.parametrize("score", [1.5, -math.inf])
def test_equal_scores_are_a_tie_in_both_orders(score: float) -> None:
    verdicts = [verdict_of_scores(score, score, p) for p in Position]
    assert verdicts == [Verdict(outcome=Outcome.TIE)] * 2
    outcome = PairOutcome(
        pair_id="p", subset="s", chosen_first=verdicts[0], rejected_first=verdicts[1]
    )
    found = pairwise_report([outcome])
    assert (found.accuracy, found.tie_rate) == (0.0, 1.0), "a tie is not right, nor half right"


@pytest.mark.parametrize("difference", [0.0, 1.5, -3.0, 50.0, -50.0, 1000.0, -1000.0])
def test_the_probability_is_the_sigmoid_of_the_difference(difference: float) -> None:
    first = verdict_of_scores(difference, 0.0, Position.CHOSEN_FIRST, with_probability=True)
    second = verdict_of_scores(difference, 0.0, Position.REJECTED_FIRST, with_probability=True)
    assert first.probability_first == pytest.approx(float(expit(difference)))
    assert second.probability_first == pytest.approx(float(expit(-difference)))


def test_the_probability_at_its_edges() -> None:
    # log 3: odds of 3 to 1.
    verdict = verdict_of_scores(math.log(3), 0, Position.CHOSEN_FIRST, with_probability=True)
    assert verdict.probability_first == pytest.approx(0.75)
    equal = verdict_of_scores(math.inf, math.inf, Position.REJECTED_FIRST, with_probability=True)
    assert equal == Verdict(outcome=Outcome.TIE, probability_first=0.5)
    with pytest.raises(ValueError, match="nan"):
        verdict_of_scores(math.nan, 0.0, Position.CHOSEN_FIRST)
