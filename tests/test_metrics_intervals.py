from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap, permutation_test

from selfreward.metrics import intervals
from selfreward.metrics.intervals import (
    bootstrap_interval,
    mcnemar_exact,
    paired_bootstrap_test,
    sign_flip_test,
)


def test_the_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(5).choice([0.0, 0.5, 1.0], size=80, p=[0.2, 0.3, 0.5])
    low, high = bootstrap_interval(values, 0.9, num_samples=20_000, seed=1)
    expected = bootstrap(
        (values,),
        np.mean,
        confidence_level=0.9,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    # The means lie on a grid of 0.5 / 80 = 0.00625.
    assert low == pytest.approx(expected.low, abs=0.0063)
    assert high == pytest.approx(expected.high, abs=0.0063)


def test_the_interval_of_two_values_by_hand() -> None:
    # Resamples of (0, 1) have means 0, 0.5, 1 with probabilities 1/4, 1/2, 1/4: the middle 95%
    # reaches from 0 to 1, the middle 40% is 0.5 alone.
    assert bootstrap_interval([0.0, 1.0], 0.95) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], 0.4) == (0.5, 0.5)
    assert bootstrap_interval([0.7]) == (0.7, 0.7)


def test_the_seed_decides_the_resamples() -> None:
    values = np.random.default_rng(0).random(30)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_long_arrays_are_resampled_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(50)
    monkeypatch.setattr(intervals, "_VALUES_AT_ONCE", 120)
    low, high = bootstrap_interval(values, num_samples=1001)
    # Standard error of the mean of 50 uniform values: 0.289 / sqrt(50) = 0.041.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.2)


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=20))
def test_an_interval_lies_within_its_values(values: list[float]) -> None:
    low, high = bootstrap_interval(values, num_samples=100)
    assert min(values) <= low <= high <= max(values)


def test_empty_or_misshapen_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="1-d"):
        bootstrap_interval([[1.0]])
    with pytest.raises(ValueError, match="3 and 2"):
        paired_bootstrap_test([1, 0, 1], [1, 0])


def test_the_paired_bootstrap_by_hand() -> None:
    # Differences 1, 1, 0, 0: mean 1/2. A resampled mean exceeds its centre by 1/2 or more only if
    # all four draws are a 1: 1/16 = 0.0625.
    test = paired_bootstrap_test([0, 0, 1, 0], [1, 1, 1, 0], num_samples=20_000)
    assert test.difference == 0.5
    assert test.p_value == pytest.approx(1 / 16, abs=0.006)
    assert test.ci == (0.0, 1.0)


def test_the_sign_flip_test_by_hand() -> None:
    # Of the differences 1, 1, 0, 0 two can flip: 1 of 4 sign patterns reaches the observed mean.
    test = sign_flip_test([0, 0, 1, 0], [1, 1, 1, 0], num_samples=20_000)
    assert test.difference == 0.5
    assert test.p_value == pytest.approx(1 / 4, abs=0.01)


def test_the_sign_flip_test_agrees_with_all_patterns_and_with_scipy() -> None:
    rng = np.random.default_rng(7)
    before = rng.choice([0.0, 0.5, 1.0], size=10)
    after = np.clip(before + rng.choice([-0.5, 0.0, 0.5], size=10, p=[0.1, 0.4, 0.5]), 0, 1)
    differences = after - before
    exact = np.mean(
        [np.dot(s, differences) >= differences.sum() for s in product([-1, 1], repeat=10)]
    )
    reference = permutation_test(
        (after, before),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert exact == pytest.approx(reference.pvalue)
    found = sign_flip_test(before, after, num_samples=20_000)
    assert found.p_value == pytest.approx(exact, abs=0.012)


@pytest.mark.parametrize("test", [paired_bootstrap_test, sign_flip_test])
def test_no_difference_is_no_evidence(test) -> None:  # type: ignore[no-untyped-def]
    same = test([0, 1, 0.5], [0, 1, 0.5])
    assert (same.difference, same.ci, same.p_value) == (0.0, (0.0, 0.0), 1.0)
    worse = test([1, 1, 1, 1], [0, 0, 0, 1])
    assert worse.difference == -0.75 and worse.p_value > 0.9


def test_one_pair_is_never_evidence_by_sign_flips() -> None:
    assert sign_flip_test([0.0], [1.0]).p_value == pytest.approx(0.5, abs=0.05)


def test_p_is_small_where_the_gain_is_steady() -> None:
    before, after = np.zeros(40), np.ones(40)
    assert sign_flip_test(before, after, num_samples=999).p_value == 0.001
    assert paired_bootstrap_test(before, after, num_samples=999).p_value == 0.001


def test_mcnemar_by_hand_and_against_scipy() -> None:
    # 5 gained, 1 lost: 2 x (C(6,0) + C(6,1)) / 2^6 = 14 / 64 = 0.21875.
    before = [False] * 5 + [True] + [True] * 3
    after = [True] * 5 + [False] + [True] * 3
    test = mcnemar_exact(before, after)
    assert (test.gained, test.lost) == (5, 1)
    assert test.p_value == pytest.approx(0.21875)
    assert test.p_value == pytest.approx(binomtest(5, 6).pvalue)
    assert mcnemar_exact(after, before).p_value == pytest.approx(test.p_value)


def test_mcnemar_without_disagreement() -> None:
    assert mcnemar_exact([True, False], [True, False]).p_value == 1.0
    assert mcnemar_exact([], []).p_value == 1.0
    with pytest.raises(ValueError, match="same pairs"):
        mcnemar_exact([True], [True, False])


def test_copies_of_a_pair_say_no_more_than_the_pair() -> None:
    # Two prompts, one right and one wrong, asked ten times each: of prompts the means are 0, 1/2
    # and 1, of 20 independent pairs they would lie near 1/2.
    values, prompts = [1.0] * 10 + [0.0] * 10, ["a"] * 10 + ["b"] * 10
    assert bootstrap_interval(values, groups=prompts) == bootstrap_interval([1.0, 0.0]) == (0, 1)
    low, high = bootstrap_interval(values)
    assert 0.2 < low < high < 0.8
    # One prompt alone has no spread to show.
    assert bootstrap_interval([1.0, 0.0], groups=["a", "a"]) == (0.5, 0.5)


def test_a_prompt_weighs_as_many_pairs_as_it_has() -> None:
    # Three right pairs of a, a wrong one of b: aa is 1, ab is 3/4 in half of the draws, bb is 0.
    values, prompts = [1.0, 0.0, 1.0, 1.0], ["a", "b", "a", "a"]
    assert bootstrap_interval(values, 0.4, groups=prompts) == (0.75, 0.75)
    assert bootstrap_interval(values, 0.95, groups=prompts) == (0.0, 1.0)


def test_the_sign_flip_test_of_prompts_by_hand() -> None:
    # Differences 1/2, 1/2 of a; 1/2, 1/2 of b; -1/2 of c: sums 1, 1, -1/2, in total 3/2. Of the
    # eight patterns of three signs ++- and +++ reach it: 2 of 8. Of the 32 patterns of five signs
    # six do.
    before, after = [0.5, 0.5, 0.0, 0.5, 1.0], [1.0, 1.0, 0.5, 1.0, 0.5]
    prompts = ["a", "b", "a", "b", "c"]
    sums = np.array([1.0, 1.0, -0.5])
    exact = np.mean(np.array(list(product([-1, 1], repeat=3))) @ sums >= 1.5)
    assert exact == 2 / 8
    found = sign_flip_test(before, after, num_samples=20_000, groups=prompts)
    assert found.difference == pytest.approx(0.3)
    assert found.p_value == pytest.approx(exact, abs=0.01)
    plain = sign_flip_test(before, after, num_samples=20_000)
    assert plain.p_value == pytest.approx(6 / 32, abs=0.01)
    # However often one prompt says it, it is one coin.
    many = sign_flip_test(np.zeros(50), np.ones(50), groups=["a"] * 50)
    assert many.p_value == pytest.approx(0.5, abs=0.05)


def test_with_a_prompt_for_every_pair_nothing_changes() -> None:
    rng = np.random.default_rng(6)
    before, after = rng.random(40), rng.random(40)
    own = [f"p{i}" for i in range(40)][::-1]
    assert bootstrap_interval(before, seed=5, groups=own) == bootstrap_interval(before, seed=5)
    assert sign_flip_test(before, after, groups=own) == sign_flip_test(before, after)
    with pytest.raises(ValueError, match="39 groups of 40 values"):
        bootstrap_interval(before, groups=own[1:])
