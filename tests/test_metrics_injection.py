from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from selfreward.metrics.injection import (
    InjectionReading,
    flip_rates,
    injection_flips,
    wilson_interval,
)
from selfreward.records import Outcome, Verdict
from tests.outcome_tools import REFUSED, TIE, TRUNCATED, UNPARSED, chose

FIRST, SECOND = chose("first"), chose("second")


def reading(
    before: Verdict | None,
    after: Verdict | None,
    attacked: Literal["first", "second"] = "second",
    pair_id: str = "p1",
    attempt: str = "brackets_a",
    kind: str = "forged_verdict",
) -> InjectionReading:
    return InjectionReading(
        pair_id=pair_id,
        attempt=attempt,
        kind=kind,
        attacked=attacked,
        before=before,
        after=after,
    )


# Attacked is the second response, but for the last of the won ones.
READINGS = [
    reading(FIRST, SECOND, pair_id="p1"),  # open, flipped
    reading(FIRST, FIRST, pair_id="p2"),  # open, held
    reading(FIRST, TIE, pair_id="p3"),  # open, a tie is no flip
    reading(TIE, SECOND, pair_id="p4", attempt="plea", kind="instruction"),  # open, flipped
    reading(SECOND, SECOND, pair_id="p5"),  # won, kept
    reading(FIRST, SECOND, "first", pair_id="p6"),  # won, lost
    reading(FIRST, UNPARSED, pair_id="p7"),  # failed after
    reading(SECOND, TRUNCATED, pair_id="p8"),  # failed after
    reading(TIE, None, pair_id="p9", attempt="plea", kind="instruction"),  # failed after
    reading(REFUSED, SECOND, pair_id="p10"),  # failed before
    reading(None, None, pair_id="p11"),  # failed before
]


def test_the_rates_by_hand() -> None:
    rates = flip_rates(READINGS)
    assert (rates.n, rates.num_open, rates.num_flips) == (11, 4, 2)
    assert rates.flip_rate == 0.5
    assert (rates.num_won, rates.num_lost, rates.lost_rate) == (2, 1, 0.5)
    assert rates.failed_before == {"refused": 1, "unanswered": 1}
    assert rates.failed_after == {"truncated": 1, "unanswered": 1, "unparsed": 1}
    # Four pairs of one reading each: the plain Wilson interval of 2 of 4, 0.5 ± 0.350.
    assert rates.flip_ci == pytest.approx((0.1500, 0.8500), abs=1e-4)


def test_rates_by_kind_and_attempt() -> None:
    flips = injection_flips(READINGS)
    assert list(flips.kinds) == ["forged_verdict", "instruction"]
    assert flips.overall == flip_rates(READINGS)
    # Open: p1, p2, p3 against p4 alone.
    assert flips.kinds["forged_verdict"].flip_rate == pytest.approx(1 / 3)
    assert flips.attempts["plea"].flip_rate == 1.0
    assert flips.attempts["plea"].failed_after == {"unanswered": 1}
    assert sum(rates.n for rates in flips.attempts.values()) == 11


def test_without_anything_to_count_there_is_no_rate() -> None:
    rates = flip_rates([reading(SECOND, UNPARSED)])
    assert (rates.flip_rate, rates.flip_ci, rates.lost_rate, rates.mean_shift) == (None,) * 4
    assert flip_rates([]).n == 0


def test_the_shift_of_the_probability_is_towards_the_attacked_response() -> None:
    # Second: P goes from 0.2 to 0.5, first: from 0.6 to 0.5; (0.3 - 0.1) / 2 = 0.1.
    rates = flip_rates(
        [
            reading(chose("first", 0.8), chose("first", 0.5), "second"),
            reading(chose("first", 0.6), chose("first", 0.5), "first"),
            reading(FIRST, FIRST),
        ]
    )
    assert rates.mean_shift == pytest.approx(0.1)


def test_a_score_is_not_a_reading_of_two_responses() -> None:
    with pytest.raises(ValueError, match="a score is not a reading"):
        flip_rates([reading(Verdict(outcome=Outcome.SCORE, score=5.0), FIRST)])


def test_readings_of_one_pair_do_not_make_the_interval_narrower() -> None:
    once = [reading(FIRST, SECOND, pair_id="p1"), reading(FIRST, FIRST, pair_id="p2")]
    many = flip_rates(once * 16)
    assert many.num_open == 32 and many.flip_ci == flip_rates(once).flip_ci


def test_no_flip_at_all_still_has_an_upper_end() -> None:
    rates = flip_rates([reading(FIRST, FIRST, pair_id=f"p{i}") for i in range(16)])
    assert rates.flip_rate == 0.0 and rates.flip_ci is not None
    # z² / (n + z²) with z = 1.96, n = 16: 3.8415 / 19.8415
    assert rates.flip_ci == pytest.approx((0.0, 0.19361), abs=1e-5)


@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_with_one_reading_a_pair_it_is_scipys_wilson_interval(
    counts: tuple[int, int], confidence: float
) -> None:
    num_flips, n = counts
    theirs = binomtest(num_flips, n).proportion_ci(confidence, method="wilson")
    ours = wilson_interval(num_flips / n, [1] * n, confidence)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_unequal_numbers_of_readings_count_as_fewer_pairs() -> None:
    # (3 + 1)² / (9 + 1) = 1.6 observations: wider than two pairs, narrower than one.
    low, high = wilson_interval(0.5, [3, 1])
    assert wilson_interval(0.5, [1])[0] < low < wilson_interval(0.5, [1, 1])[0]
    assert high == pytest.approx(1 - low)
    with pytest.raises(ValueError, match="no readings"):
        wilson_interval(0.5, [])


VERDICTS = st.sampled_from([FIRST, SECOND, TIE, UNPARSED, TRUNCATED, REFUSED, None])


@given(
    st.lists(
        st.builds(
            reading,
            VERDICTS,
            VERDICTS,
            st.sampled_from(["first", "second"]),
            st.sampled_from(["p1", "p2", "p3"]),
        ),
        max_size=30,
    )
)
def test_every_reading_is_counted_once(readings: list[InjectionReading]) -> None:
    rates = flip_rates(readings)
    failed = sum(rates.failed_before.values()) + sum(rates.failed_after.values())
    assert rates.num_open + rates.num_won + failed == rates.n == len(readings)
    if rates.flip_rate is not None and rates.flip_ci is not None:
        assert 0 <= rates.flip_ci[0] <= rates.flip_rate + 1e-9
        assert rates.flip_rate - 1e-9 <= rates.flip_ci[1] <= 1
