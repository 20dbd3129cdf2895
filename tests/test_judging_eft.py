import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from selfreward.judging.balance import balance_rank
from selfreward.judging.eft import (
    agreeing_draws,
    modal_cutoff,
    modal_limit,
    modal_score,
    order_agreement,
)
from selfreward.records import Message, ModelRef, Outcome, Verdict
from selfreward.records_scores import Rating, ScoredResponse

JUDGE = ModelRef(name="judge", iteration=0, fingerprint="f0")
TASK = (Message(role="user", content="Name a river."),)


def ranked(*scores: float) -> list[ScoredResponse]:
    return [
        ScoredResponse.new(messages=TASK, response=f"River {n}", score=score, low=0, high=5)
        for n, score in enumerate(scores)
    ]


def rated(responses: list[ScoredResponse], draw: int, *scores: float | None) -> list[Rating]:
    return [
        Rating.new(
            response_id=response.id,
            judge=JUDGE,
            rubric_id="pointwise_additive",
            draw=draw,
            text=f"Score: {score}",
            finish_reason="stop",
            num_tokens=3,
            num_prompt_tokens=100,
            verdict=Verdict(
                outcome=Outcome.UNPARSED if score is None else Outcome.SCORE, score=score
            ),
        )
        for response, score in zip(responses, scores, strict=True)
    ]


def test_agreement_by_hand() -> None:
    assert order_agreement((3, 2, 1), (5, 4, 0)) == 1.0
    assert order_agreement((3, 2, 1), (0, 4, 5)) == -1.0
    # One of three pairs turned round: (2 - 1) / 3.
    assert order_agreement((3, 2, 1), (4, 5, 0)) == pytest.approx(1 / 3)
    # Two right, one tied by the judge: 2 / sqrt(3 x 2).
    assert order_agreement((3, 2, 1), (5, 5, 0)) == pytest.approx(2 / math.sqrt(6))
    # People tie on the first two: however the judge orders them, both other pairs are right.
    assert order_agreement((3, 3, 1), (5, 4, 0)) == 1.0
    assert order_agreement((3, 3, 1), (4, 5, 0)) == 1.0
    # Nothing to agree about, and nothing said.
    assert order_agreement((3, 3), (5, 4)) is None
    assert order_agreement((3, 2), (4, 4)) is None
    assert order_agreement((3,), (4,)) is None
    with pytest.raises(ValueError, match="finite"):
        order_agreement((3, 2), (4, math.nan))


@settings(max_examples=60)
@given(st.permutations(range(5)), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_agreement_is_tau_b_where_people_rank_without_ties(
    human: list[int], judge: list[int]
) -> None:
    found = order_agreement(human, judge)
    expected = kendalltau(human, judge).statistic
    if found is None:
        assert len(set(judge)) == 1 and math.isnan(expected)
    else:
        assert found == pytest.approx(expected)


def test_draws_that_order_as_people_are_kept_whole() -> None:
    responses = ranked(5, 3, 1)
    right, turned = rated(responses, 0, 4, 3, 2), rated(responses, 1, 3, 4, 2)
    later = rated(responses, 2, 5, 1, 0)
    found = agreeing_draws(responses, [*later[::-1], *turned, *right], 1.0)
    assert found == [*right, *later]
    # tau of the turned draw is 1/3.
    assert agreeing_draws(responses, turned, 0.33) == turned
    assert agreeing_draws(responses, turned, 0.34) == []


def test_a_tie_of_the_judge_is_a_disagreement_unless_people_tie_too() -> None:
    tie = (4, 4, 0)
    responses = ranked(5, 3, 1)
    assert agreeing_draws(responses, rated(responses, 0, *tie), 1.0) == []
    assert len(agreeing_draws(responses, rated(responses, 0, *tie), 0.8)) == 3
    responses = ranked(5, 5, 1)
    assert len(agreeing_draws(responses, rated(responses, 0, *tie), 1.0)) == 3


def test_a_draw_with_a_failed_or_missing_reading_is_not_kept() -> None:
    responses = ranked(5, 3, 1)
    failed, missing = rated(responses, 0, 4, None, 2), rated(responses, 1, 4, 3, 2)[:2]
    assert agreeing_draws(responses, [*failed, *missing], -1.0) == []


def test_nothing_is_kept_without_an_order_of_people() -> None:
    one, tied = ranked(5), ranked(3, 3)
    assert agreeing_draws(one, rated(one, 0, 4), -1.0) == []
    assert agreeing_draws(tied, rated(tied, 0, 4, 2), -1.0) == []
    assert agreeing_draws([], [], 1.0) == []


def test_what_does_not_belong_together_is_refused() -> None:
    responses = ranked(5, 1)
    readings = rated(responses, 0, 4, 2)
    with pytest.raises(ValueError, match="not of the group"):
        agreeing_draws(responses[:1], readings, 1.0)
    with pytest.raises(ValueError, match="two ratings in draw 0"):
        agreeing_draws(responses, [*readings, readings[0]], 1.0)
    other = ScoredResponse.new(
        messages=TASK, response="Rhine", score=2, low=0, high=5, group="grp-other"
    )
    with pytest.raises(ValueError, match="several groups"):
        agreeing_draws([*responses, other], readings, 1.0)


def test_the_most_common_score() -> None:
    assert modal_score({4.0: 7, 2.0: 3}) == 4.0
    # Judges pile up high scores: of equally common ones the highest is thinned.
    assert modal_score({4.0: 7, 2.0: 7, 1.0: 1}) == 4.0
    assert modal_score({}) is None and modal_score({3.0: 0}) is None


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        # 4 of 10 may stay as they are.
        ({4.0: 4, 3.0: 3, 2.0: 3}, 0.4, None),
        # m / (m + 3) <= 0.4 up to m = 2, exactly, whatever 0.4 x 3 / 0.6 is in floating point.
        ({4.0: 9, 3.0: 2, 2.0: 1}, 0.4, 2),
        # m / (m + 4) <= 0.4 up to m = 2.67.
        ({4.0: 9, 3.0: 4}, 0.4, 2),
        ({4.0: 90, 3.0: 10}, 0.5, 10),
        ({4.0: 9}, 0.4, 0),
        ({4.0: 9, 3.0: 9}, 0.0, 0),
        ({4.0: 9}, 1.0, None),
        ({}, 0.4, None),
    ],
)
def test_the_limit_by_hand(counts: dict[float, int], share: float, expected: int | None) -> None:
    assert modal_limit(counts, share) == expected


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 9))
def test_the_limit_is_the_largest_that_fits(most: int, other: int, tenths: int) -> None:
    other = min(most - 1, other)
    limit = modal_limit({4.0: most, 1.0: other}, tenths / 10)
    if limit is None:
        assert 10 * most <= tenths * (most + other)
    else:
        # In whole numbers: m / (m + other) <= tenths / 10, and no longer for m + 1.
        assert 0 <= limit < most
        assert 10 * limit <= tenths * (limit + other)
        assert 10 * (limit + 1) > tenths * (limit + 1 + other)


def test_a_share_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="max_share"):
        modal_limit({4.0: 1}, 1.1)


def test_rows_of_the_most_common_score_stay_by_rank_of_their_id() -> None:
    ids = [f"rat-{n}" for n in range(20)]
    scores = [4.0] * 14 + [3.0] * 4 + [1.0] * 2
    cutoff = modal_cutoff(scores, [balance_rank(i) for i in ids], 0.4)
    assert cutoff is not None and cutoff.score == 4.0
    kept = [i for i, s in zip(ids, scores, strict=True) if cutoff.keeps(s, i)]
    # m / (m + 6) <= 0.4 up to m = 4: the four of lowest rank, and all others.
    assert kept == sorted(sorted(ids[:14], key=balance_rank)[:4], key=ids.index) + ids[14:]
    # Rows arrive in another order and a score is off by rounding: the same cut-off.
    turned = modal_cutoff(
        [s + 1e-12 for s in scores[::-1]], [balance_rank(i) for i in ids[::-1]], 0.4
    )
    assert turned == cutoff
    assert not cutoff.keeps(4.0 + 1e-12, max(ids[:14], key=balance_rank))


def test_a_cutoff_of_nothing_and_none_at_all() -> None:
    alone = modal_cutoff([4.0, 4.0], [5, 6], 0.4)
    assert alone is not None and not alone.keeps(4.0, "rat-1") and alone.keeps(3.0, "rat-1")
    assert modal_cutoff([4.0, 3.0, 2.0], [1, 2, 3], 0.4) is None
    assert modal_cutoff([], [], 0.4) is None
    with pytest.raises(ValueError, match="unique"):
        modal_cutoff([4.0, 4.0, 1.0], [7, 7, 8], 0.4)
