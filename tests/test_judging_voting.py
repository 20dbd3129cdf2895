import itertools
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.judging.voting import (
    combine_orders,
    majority,
    mean_score,
    verdict_by_probability,
)
from selfreward.records import Outcome, Verdict


def chose(choice: Literal["first", "second"], probability: float | None = None) -> Verdict:
    return Verdict(outcome=Outcome.CHOICE, choice=choice, probability_first=probability)


def scored(score: float) -> Verdict:
    return Verdict(outcome=Outcome.SCORE, score=score)


FIRST, SECOND = chose("first"), chose("second")
TIE = Verdict(outcome=Outcome.TIE)
UNPARSED = Verdict(outcome=Outcome.UNPARSED)
TRUNCATED = Verdict(outcome=Outcome.TRUNCATED)
REFUSED = Verdict(outcome=Outcome.REFUSED)


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ([FIRST], FIRST),
        ([FIRST, SECOND, FIRST], FIRST),
        ([SECOND, SECOND, FIRST], SECOND),
        ([FIRST, SECOND], TIE),
        # Failures and ties have no vote, however many there are.
        ([UNPARSED, UNPARSED, UNPARSED, SECOND], SECOND),
        ([TIE, TIE, FIRST], FIRST),
        ([FIRST, SECOND, UNPARSED], TIE),
        # No vote: the most common failure; of equally common ones never the tie.
        ([TIE, TIE, UNPARSED], TIE),
        ([REFUSED, TRUNCATED, REFUSED], REFUSED),
        ([TIE, REFUSED, TRUNCATED], TRUNCATED),
        ([UNPARSED, TRUNCATED, REFUSED, TIE], UNPARSED),
        ([TIE, REFUSED], REFUSED),
    ],
)
def test_majority_in_any_order_of_the_draws(draws: list[Verdict], expected: Verdict) -> None:
    for shuffled in itertools.permutations(draws):
        assert majority(shuffled) == expected


def test_the_majority_carries_the_mean_probability_of_its_votes() -> None:
    # (.9 + .6 + .3) / 3 = .6
    verdict = majority([chose("first", 0.9), chose("first", 0.6), UNPARSED, chose("second", 0.3)])
    assert verdict.choice == "first"
    assert verdict.probability_first == pytest.approx(0.6)
    # Votes decide, not the mean: (.55 + .55 + .1) / 3 = .4 beside a majority for the first.
    verdict = majority([chose("first", 0.55), chose("first", 0.55), chose("second", 0.1)])
    assert verdict.choice == "first"
    assert verdict.probability_first == pytest.approx(0.4)


def test_a_mean_over_some_of_the_votes_only_is_not_reported() -> None:
    assert majority([chose("first", 0.9), FIRST]).probability_first is None
    assert majority([chose("first", 0.9), chose("second", 0.2)]) == TIE


def test_a_vote_needs_verdicts_of_one_kind() -> None:
    with pytest.raises(ValueError, match="at least one"):
        majority([])
    with pytest.raises(ValueError, match="at least one"):
        mean_score([])
    with pytest.raises(ValueError, match="'score'"):
        majority([FIRST, scored(3)])
    with pytest.raises(ValueError, match="'choice'"):
        mean_score([scored(3), FIRST])
    with pytest.raises(ValueError, match="'score'"):
        combine_orders(scored(3), scored(4))
    with pytest.raises(ValueError, match="'score'"):
        verdict_by_probability(scored(3))


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (chose("first", 0.8), chose("first", 0.8)),
        # Sampled against the odds.
        (chose("first", 0.3), chose("second", 0.3)),
        (chose("first", 0.5), TIE),
        (chose("second", 0.0), chose("second", 0.0)),
        (FIRST, UNPARSED),
        (TRUNCATED, TRUNCATED),
        (TIE, TIE),
    ],
)
def test_the_verdict_by_probability(verdict: Verdict, expected: Verdict) -> None:
    assert verdict_by_probability(verdict) == expected


@pytest.mark.parametrize(
    ("chosen_first", "rejected_first", "expected"),
    [
        # Right twice, wrong twice, and the same position twice.
        (FIRST, SECOND, FIRST),
        (SECOND, FIRST, SECOND),
        (FIRST, FIRST, TIE),
        (SECOND, SECOND, TIE),
        # A pair with a failed reading has failed.
        (FIRST, UNPARSED, UNPARSED),
        (TRUNCATED, SECOND, TRUNCATED),
        (FIRST, TIE, TIE),
        (TIE, TIE, TIE),
        (TIE, REFUSED, REFUSED),
        (REFUSED, TRUNCATED, TRUNCATED),
        # One probability is not enough to average.
        (chose("first", 0.9), FIRST, TIE),
        (chose("first", 0.9), UNPARSED, UNPARSED),
    ],
)
def test_both_orders_by_choice(
    chosen_first: Verdict, rejected_first: Verdict, expected: Verdict
) -> None:
    assert combine_orders(chosen_first, rejected_first) == expected


def test_both_orders_by_probability() -> None:
    # Always the first position, but surer of it when the chosen response stands there:
    # (.9 + (1 - .6)) / 2 = .65
    verdict = combine_orders(chose("first", 0.9), chose("first", 0.6))
    assert verdict.choice == "first"
    assert verdict.probability_first == pytest.approx(0.65)
    # (.6 + (1 - .9)) / 2 = .35
    verdict = combine_orders(chose("first", 0.6), chose("first", 0.9))
    assert verdict.choice == "second"
    assert verdict.probability_first == pytest.approx(0.35)


@given(probability=st.floats(0, 1))
def test_a_judge_that_sees_positions_only_ties_every_pair(probability: float) -> None:
    reading = chose("first" if probability >= 0.5 else "second", probability)
    assert combine_orders(reading, reading) == TIE


def test_the_mean_score_counts_what_it_averages() -> None:
    # (3 + 4.5 + 3) / 3 = 3.5
    vote = mean_score([scored(3), UNPARSED, scored(4.5), scored(3)])
    assert vote.verdict == scored(3.5)
    assert (vote.num_scores, vote.num_draws) == (3, 4)
    vote = mean_score([TRUNCATED, UNPARSED, TRUNCATED])
    assert (vote.verdict, vote.num_scores, vote.num_draws) == (TRUNCATED, 0, 3)
