import numpy as np
import pytest
from scipy.stats import bootstrap, spearmanr
from sklearn.metrics import cohen_kappa_score

from selfreward.metrics.intervals import Resampling
from selfreward.metrics.score_agreement import (
    agreement_intervals,
    pointwise_agreement,
    quadratic_weighted_kappa,
)


def test_kappa_by_hand() -> None:
    # Differences 0, 1, 2 with squares 0, 1, 4: mean 5/3. By chance: 1, 2, 3 against 1, 3, 5 gives
    # var 2/3 + var 8/3 + (2 - 3)^2 = 13/3. Kappa = 1 - 5/13.
    assert quadratic_weighted_kappa([1, 2, 3], [1, 3, 5]) == pytest.approx(8 / 13)
    assert quadratic_weighted_kappa([0, 1], [1, 0]) == pytest.approx(-1.0)
    assert quadratic_weighted_kappa([2, 2], [2, 2]) is None
    with pytest.raises(ValueError, match="equal length"):
        quadratic_weighted_kappa([1], [1, 2])
    with pytest.raises(ValueError, match="not empty"):
        quadratic_weighted_kappa([], [])


def test_kappa_agrees_with_sklearn() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 6, 200)
    second = np.clip(first + rng.integers(-2, 3, 200), 0, 5)
    second[second == 3] = 4
    # Scikit-learn weighs by the place among the labels, so a level that nobody used must be named.
    expected = cohen_kappa_score(first, second, weights="quadratic", labels=list(range(6)))
    assert quadratic_weighted_kappa(first, second) == pytest.approx(expected)


def test_pointwise_agreement_by_hand() -> None:
    # 0-10 onto 1-5 is x * 0.4 + 1: the judge says 1, 3, 4.2, 5.
    agreement = pointwise_agreement(
        [1.0, 2.0, 4.0, 5.0, 3.0], [0.0, 5.0, 8.0, 10.0, None], (1, 5), (0, 10)
    )
    assert (agreement.n, agreement.num_failed) == (4, 1)
    # (0 + 1 + 0.2 + 0) / 4
    assert agreement.mean_absolute_error == pytest.approx(0.3)
    # Rounded 1, 3, 4, 5.
    assert agreement.exact_agreement == 0.75
    assert agreement.spearman == pytest.approx(1.0)
    assert agreement.kendall_tau == pytest.approx(1.0)
    expected = np.corrcoef([1, 2, 4, 5], [0, 5, 8, 10])[0, 1]
    assert agreement.pearson == pytest.approx(expected)
    kappa = cohen_kappa_score([1, 2, 4, 5], [1, 3, 4, 5], weights="quadratic", labels=[*range(6)])
    assert agreement.quadratic_weighted_kappa == pytest.approx(kappa)


def test_halves_are_rounded_up() -> None:
    # Half to even would take 2.5 to 2 and 3.5 to 4.
    agreement = pointwise_agreement([3.0, 4.0], [2.5, 3.5], (0, 5), (0, 5))
    assert agreement.exact_agreement == 1.0


def test_scores_without_spread_correlate_with_nothing() -> None:
    agreement = pointwise_agreement([1.0, 2.0], [4.0, 4.0], (0, 5), (0, 5))
    assert agreement.spearman is None and agreement.kendall_tau is None
    assert agreement.pearson is None
    assert agreement.mean_absolute_error == 2.5
    failed = pointwise_agreement([1.0, 2.0], [None, None], (0, 5), (0, 5))
    assert (failed.n, failed.num_failed) == (0, 2)
    assert failed.mean_absolute_error is None and failed.exact_agreement is None
    assert failed.quadratic_weighted_kappa is None


def test_bad_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="same responses, not 1 and 2"):
        pointwise_agreement([1.0], [1.0, 2.0], (0, 5), (0, 5))
    with pytest.raises(ValueError, match="judge score lies outside its scale from 0 to 5"):
        pointwise_agreement([1.0], [6.0], (0, 5), (0, 5))
    with pytest.raises(ValueError, match="human score lies outside"):
        pointwise_agreement([float("nan")], [1.0], (0, 5), (0, 5))
    with pytest.raises(ValueError, match="from low to high"):
        pointwise_agreement([1.0], [1.0], (0, 5), (5, 5))


def test_an_interval_is_over_prompts() -> None:
    # Errors 0, 0 of one prompt and 1, 1 of the other: a resample of two prompts has a mean of 0 in
    # a quarter of the cases, so the lowest tenth is 0; of four prompts in a sixteenth, and then
    # the lowest tenth is 1/4.
    scores = ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 5.0], (0.0, 5.0), (0.0, 5.0))
    asked = Resampling(confidence=0.8, num_samples=4000)
    of_two = agreement_intervals(*scores, groups=["p", "p", "q", "q"], resampling=asked)
    assert of_two["mean_absolute_error"] == (0.0, 1.0)
    of_four = agreement_intervals(*scores, groups=[*range(4)], resampling=asked)
    assert of_four["mean_absolute_error"] == (0.25, 0.75)
    assert set(of_two) == {
        *("spearman", "kendall_tau", "pearson", "mean_absolute_error", "exact_agreement"),
        "quadratic_weighted_kappa",
    }


def test_an_interval_agrees_with_scipy() -> None:
    rng = np.random.default_rng(5)
    human = rng.integers(0, 6, 80).astype(float)
    judge = np.clip(human + rng.normal(0, 2, 80), 0, 5)
    found = agreement_intervals(
        human.tolist(), judge.tolist(), (0, 5), (0, 5), groups=[*range(80)]
    )["spearman"]
    expected = bootstrap(
        (human, judge),
        lambda a, b: spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=7,
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.03)


def test_what_does_not_exist_has_no_interval() -> None:
    flat = agreement_intervals([1.0, 2.0], [4.0, 4.0], (0, 5), (0, 5), groups=["p", "q"])
    assert flat["spearman"] is None
    assert flat["mean_absolute_error"] == (2.0, 3.0)
    failed = agreement_intervals([1.0, 2.0], [None, None], (0, 5), (0, 5), groups=["p", "q"])
    assert set(failed.values()) == {None}
    with pytest.raises(ValueError, match="1 groups of 2 scores"):
        agreement_intervals([1.0, 2.0], [1.0, 2.0], (0, 5), (0, 5), groups=["p"])
