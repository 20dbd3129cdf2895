"""How sure a measured difference is: bootstrap intervals and paired tests.

Values are one number per pair (of responses) or per row; nothing here knows what they measure.
Values of one group, such as the pairs of one prompt, are not independent: where groups are given,
whole groups are resampled and flipped.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

FloatArray = npt.NDArray[np.float64]
Groups = Sequence[Hashable]
"""For each value what it comes from, such as its prompt."""

# Resamples are drawn in slices of about this many values, so memory stays small for long arrays.
_VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How an interval is drawn.

    Example: `Resampling(confidence=0.9, num_samples=1000, seed=7)`
    """

    confidence: float = 0.95
    num_samples: int = 2000
    """Bootstrap resamples."""
    seed: int = 0


DEFAULT_RESAMPLING = Resampling()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """Whether `after` is better than `before` on the same pairs.

    Example: `PairedTest(difference=0.06, ci=(0.01, 0.11), p_value=0.012)`
    """

    difference: float
    """Mean of after minus before."""
    ci: tuple[float, float]
    """Percentile bootstrap interval of the difference."""
    p_value: float
    """One-sided: small where `after` is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemarTest:
    """Exact McNemar test of two sets of right-or-wrong results on the same pairs.

    It takes the pairs as independent, see `mcnemar_exact`.

    Example: `McNemarTest(gained=9, lost=2, p_value=0.0654)`
    """

    gained: int
    """Wrong before, right after."""
    lost: int
    p_value: float
    """Two-sided."""


def _floats(values: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name} must be a 1-d array of at least one value")
    if not np.isfinite(array).all():
        # A comparison with NaN is false, which would read as the smallest possible p.
        raise ValueError(f"{name} must be finite numbers")
    return array


def in_slices(
    num_values: int,
    num_samples: int,
    draw: Callable[[int], FloatArray],
) -> FloatArray:
    """Returns `num_samples` statistics, asking `draw(count)` for some at a time."""
    at_once = max(1, _VALUES_AT_ONCE // max(1, num_values))
    counts = [min(at_once, num_samples - done) for done in range(0, num_samples, at_once)]
    return np.concatenate([draw(count) for count in counts])


def group_sums(values: FloatArray, groups: Groups | None) -> tuple[FloatArray, FloatArray]:
    """Returns the sum of the values of each group and their number, in the order in which the
    groups first appear; without groups every value is a group of its own.

    Raises ValueError where there is not one group for each value.
    """
    if groups is None:
        return values, np.ones_like(values)
    if len(groups) != len(values):
        raise ValueError(f"there are {len(groups)} groups of {len(values)} values")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(group, len(places)) for group in groups], dtype=np.int64)
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    return sums.astype(np.float64), sizes.astype(np.float64)


def bootstrap_ratios(
    numerators: FloatArray, denominators: FloatArray, num_samples: int, rng: np.random.Generator
) -> FloatArray:
    """Returns bootstrap values of sum(numerators) / sum(denominators), shape (num_samples,).

    Both are 1-d with one entry a group, and whole groups are drawn, so sums and numbers of values
    give the mean over values of a cluster bootstrap (Davison and Hinkley 1997, section 3.8).
    """
    size = len(numerators)
    is_even = bool((denominators == denominators[0]).all())

    def draw(count: int) -> FloatArray:
        drawn = rng.integers(0, size, (count, size))
        below = size * denominators[0] if is_even else denominators[drawn].sum(axis=1)
        ratios: FloatArray = numerators[drawn].sum(axis=1) / below
        return ratios

    return in_slices(size, num_samples, draw)


def _bootstrap_means(
    values: FloatArray, num_samples: int, seed: int, groups: Groups | None = None
) -> FloatArray:
    rng = np.random.default_rng(seed)
    return bootstrap_ratios(*group_sums(values, groups), num_samples, rng)


def percentiles(means: FloatArray, confidence: float) -> tuple[float, float]:
    """The interval that holds the share `confidence` of the statistics, as much left out at each
    end."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_interval(
    values: npt.ArrayLike,
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
    groups: Groups | None = None,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval (low, high) of the mean of 1-d `values`.

    With `groups`, one for each value, whole groups are resampled, since the values of one are not
    independent. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13;
    for groups Davison and Hinkley (1997), section 3.8. Raises ValueError for an empty array and
    groups of another length.
    """
    means = _bootstrap_means(_floats(values, "values"), num_samples, seed, groups)
    return percentiles(means, confidence)


def _differences(before: npt.ArrayLike, after: npt.ArrayLike) -> FloatArray:
    first, second = _floats(before, "before"), _floats(after, "after")
    if len(first) != len(second):
        raise ValueError(
            f"before and after must be of the same pairs, not {len(first)} and {len(second)}"
        )
    return second - first


# Sums of halves are exact, but means of thirds are not: equal statistics must compare as equal.
_ROUNDING = 1e-12


def _share_at_least(statistics: FloatArray, observed: float) -> float:
    """One is added to both counts, so that no p-value is 0 (Davison and Hinkley 1997, 4.2.3)."""
    count = int(np.count_nonzero(statistics >= observed - _ROUNDING))
    return (1 + count) / (1 + len(statistics))


def paired_bootstrap_test(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    num_samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> PairedTest:
    """Tests whether the mean of `after` is above that of `before`; both 1-d, pair by pair.

    The null distribution is the bootstrap of the differences shifted to mean 0 (Efron and
    Tibshirani 1993, section 16.4; used so for paired system scores by Berg-Kirkpatrick, Burkett
    and Klein 2012). It is too optimistic for a few pairs; there prefer `sign_flip_test`. Raises
    ValueError for empty arrays or unequal lengths.
    """
    differences = _differences(before, after)
    observed = float(differences.mean())
    means = _bootstrap_means(differences, num_samples, seed)
    return PairedTest(
        difference=observed,
        ci=percentiles(means, confidence),
        p_value=_share_at_least(means - observed, observed),
    )


def flipped_sums(sums: FloatArray, num_samples: int, rng: np.random.Generator) -> FloatArray:
    """Returns totals of 1-d sums with random signs, shape (num_samples,)."""
    # Zeros add nothing to any flipped total.
    nonzero = sums[sums != 0]

    def draw(count: int) -> FloatArray:
        signs = rng.integers(0, 2, (count, len(nonzero)), dtype=np.int8) * 2.0 - 1.0
        totals: FloatArray = signs @ nonzero
        return totals

    return in_slices(max(1, len(nonzero)), num_samples, draw)


def sign_flip_test(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    num_samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    groups: Groups | None = None,
) -> PairedTest:
    """As `paired_bootstrap_test`, with the p-value of a randomisation test.

    If the two are equally good, each difference is as likely to have the other sign, so random
    sign flips give the null distribution (Fisher's paired randomisation test; Good 2005, section
    3.7). It is valid for any number of pairs: one pair alone can never give p below 0.5. With
    `groups`, one for each pair, all differences of a group have their signs flipped together, and
    the interval is of resampled groups: one group alone can never give p below 0.5, however many
    pairs it has.
    """
    differences = _differences(before, after)
    observed = float(differences.mean())
    sums, _ = group_sums(differences, groups)
    flipped = flipped_sums(sums, num_samples, np.random.default_rng(seed)) / len(differences)
    return PairedTest(
        difference=observed,
        ci=percentiles(_bootstrap_means(differences, num_samples, seed, groups), confidence),
        p_value=_share_at_least(flipped, observed),
    )


def mcnemar_exact(before_right: npt.ArrayLike, after_right: npt.ArrayLike) -> McNemarTest:
    """Returns the exact McNemar test of two 1-d boolean arrays, pair by pair.

    Of the pairs on which the two disagree, under the null half go either way: a binomial test
    (McNemar 1947; Fagerland, Lydersen and Laake 2013). It assumes that the pairs are independent:
    where several are of one prompt its p is too small, and `sign_flip_test` with groups is the
    test to go by. Without disagreement p is 1. Raises ValueError for unequal lengths.
    """
    before, after = np.asarray(before_right, dtype=bool), np.asarray(after_right, dtype=bool)
    if before.shape != after.shape or before.ndim != 1:
        raise ValueError(
            "before_right and after_right must be 1-d and of the same pairs, not"
            f" {before.shape} and {after.shape}"
        )
    gained = int(np.count_nonzero(~before & after))
    lost = int(np.count_nonzero(before & ~after))
    if gained + lost == 0:
        return McNemarTest(gained=0, lost=0, p_value=1.0)
    p_value = float(binomtest(gained, gained + lost, 0.5).pvalue)
    return McNemarTest(gained=gained, lost=lost, p_value=p_value)
