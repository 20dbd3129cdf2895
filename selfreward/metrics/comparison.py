"""Whether one judge is better than another on the same pairs, on one data set or on several.

Pairs of one prompt are not independent: whole prompts are resampled and have their signs flipped,
and a verdict rests on that.

Over several data sets the figure is the macro average: the mean of the data sets' means, so that a
large one does not drown a small one. Its chance comes from inside the data sets, never between
them: the data sets are the ones that were chosen, not a sample of others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreward.metrics.intervals import (
    Groups,
    McNemarTest,
    PairedTest,
    bootstrap_ratios,
    flipped_sums,
    group_sums,
    mcnemar_exact,
    percentiles,
    sign_flip_test,
)
from selfreward.metrics.pairwise import PairOutcome, accuracy_per_pair, prompts_of

FloatArray = npt.NDArray[np.float64]

# Means of thirds are not exact: equal statistics must compare as equal.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeComparison:
    """Two judges on the same pairs, `after` against `before`.

    Example: `JudgeComparison(n=64, num_prompts=40, num_both_orders=64, accuracy_before=0.625,
    accuracy_after=0.703, accuracy=PairedTest(…), position_consistent_accuracy=PairedTest(…),
    readings=McNemarTest(…), both_orders=McNemarTest(…))`
    """

    n: int
    """Pairs."""
    num_prompts: int
    """Prompts of these pairs: what is resampled."""
    num_both_orders: int
    """Pairs of these that were read in both orders."""
    accuracy_before: float
    accuracy_after: float
    accuracy: PairedTest
    """Difference of the accuracies over the orders read: bootstrap interval and one-sided
    sign-flip p, both over prompts. This is the one to go by."""
    position_consistent_accuracy: PairedTest | None
    """The same for right in both orders; None where no pair was read in both."""
    readings: McNemarTest
    """Right or wrong, reading by reading. The two readings of a pair are not independent, so this
    p is too small where they agree often."""
    both_orders: McNemarTest | None
    """Right in both orders, pair by pair; None where no pair was read in both. Its p is too small
    where prompts have several pairs; that of `position_consistent_accuracy` has no such flaw."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        tests = {
            "accuracy": self.accuracy,
            "position_consistent_accuracy": self.position_consistent_accuracy,
        }
        listed = {k: t and {**asdict(t), "ci": [*t.ci]} for k, t in tests.items()}
        return {**asdict(self), **listed}


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroMean:
    """The mean of the data sets' means.

    Example: `MacroMean(mean=0.81, ci=(0.78, 0.84), data_sets={"judgebench": 0.58, …})`
    """

    mean: float
    ci: tuple[float, float]
    """Percentile bootstrap interval, prompts resampled inside each data set."""
    data_sets: dict[str, float]
    """The mean of each, by name."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return {**asdict(self), "ci": [*self.ci]}


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroComparison:
    """The difference of two macro averages over the same rows, `after` minus `before`.

    Example: `MacroComparison(difference=0.021, ci=(0.004, 0.038), p_value=0.009,
    data_sets={"judgebench": -0.01, "rewardbench": 0.052})`
    """

    difference: float
    ci: tuple[float, float]
    """Percentile bootstrap interval of the difference, prompts resampled inside each data set."""
    p_value: float
    """One-sided: small where `after` is better."""
    data_sets: dict[str, float]
    """The difference on each, by name."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return {**asdict(self), "ci": [*self.ci]}


def compare_judges(
    before: Sequence[PairOutcome],
    after: Sequence[PairOutcome],
    confidence: float = 0.95,
    num_samples: int = 10_000,
    seed: int = 0,
) -> JudgeComparison:
    """Compares two judges on the same labelled pairs, given in the same order.

    A reading without a choice is not right, as in `pairwise_report`. Intervals and sign-flip
    p-values are over prompts; McNemar's tests take pairs as independent. Raises ValueError without
    pairs and where the two sequences are not of the same pairs or a pair was not read in the same
    orders, since that would compare position biases.
    """
    if [o.pair_id for o in before] != [o.pair_id for o in after]:
        raise ValueError("two judges can only be compared on the same pairs in the same order")
    orders = _orders_read(before)
    if (orders != _orders_read(after)).any():
        raise ValueError("two judges can only be compared where they read the same orders")
    if not before:
        raise ValueError("two judges cannot be compared on no pairs")
    old, new = accuracy_per_pair(before), accuracy_per_pair(after)
    twice = orders.all(axis=1)
    prompts = prompts_of(before)
    consistent = old[twice] == 1.0, new[twice] == 1.0
    of_twice = [prompts[i] for i in np.flatnonzero(twice)]
    return JudgeComparison(
        n=len(before),
        num_prompts=len(set(prompts)),
        num_both_orders=int(twice.sum()),
        accuracy_before=float(old.mean()),
        accuracy_after=float(new.mean()),
        accuracy=sign_flip_test(old, new, num_samples, seed, confidence, prompts),
        position_consistent_accuracy=(
            sign_flip_test(*consistent, num_samples, seed, confidence, of_twice)
            if of_twice
            else None
        ),
        readings=mcnemar_exact(_is_right(before)[orders], _is_right(after)[orders]),
        both_orders=mcnemar_exact(*consistent) if of_twice else None,
    )


def _orders_read(outcomes: Sequence[PairOutcome]) -> npt.NDArray[np.bool_]:
    """Shape (pairs, 2): whether there is a reading with the better response first, and second."""
    read = [(o.chosen_first is not None, o.rejected_first is not None) for o in outcomes]
    return np.array(read, dtype=bool).reshape(-1, 2)


def _is_right(outcomes: Sequence[PairOutcome]) -> npt.NDArray[np.bool_]:
    """Shape (pairs, 2), as `_orders_read`."""
    return np.array([[c is True for c in o.choices] for o in outcomes], dtype=bool).reshape(-1, 2)


def _checked(values: Mapping[str, npt.ArrayLike]) -> dict[str, FloatArray]:
    """Returns the arrays by sorted name, so that no figure hangs on the order of a mapping."""
    if not values:
        raise ValueError("a macro average needs at least one data set")
    arrays = {name: np.asarray(values[name], dtype=np.float64) for name in sorted(values)}
    for name, array in arrays.items():
        # A nan would compare as false everywhere and come out as the smallest p there is.
        if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
            raise ValueError(f"{name} must be a 1-d array of at least one finite value")
    return arrays


def _resampled_macro(
    arrays: Mapping[str, FloatArray],
    groups: Mapping[str, Groups],
    num_samples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Bootstrap macro averages, shape (num_samples,): every data set keeps its groups' number."""
    total = np.zeros(num_samples)
    for name, values in arrays.items():
        total += bootstrap_ratios(*group_sums(values, groups.get(name)), num_samples, rng)
    return total / len(arrays)


def _flipped_macro(
    differences: Mapping[str, FloatArray],
    groups: Mapping[str, Groups],
    num_samples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Macro averages of differences with random signs, one a group, shape (num_samples,)."""
    total = np.zeros(num_samples)
    for name, values in differences.items():
        sums, _ = group_sums(values, groups.get(name))
        total += flipped_sums(sums / len(values), num_samples, rng)
    return total / len(differences)


def _means(arrays: Mapping[str, FloatArray]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in arrays.items()}


def macro_interval(
    values: Mapping[str, npt.ArrayLike],
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
    groups: Mapping[str, Groups] | None = None,
) -> MacroMean:
    """Returns the macro average of 1-d values by data set, with its stratified interval.

    Each data set is resampled by itself and weighs the same, whatever its size (stratified
    bootstrap: Davison and Hinkley 1997, section 3.2). `groups` has for each data set what its
    values come from, such as their prompts: whole groups are resampled. A data set of one group
    has no spread, so it adds nothing to the width. Raises ValueError for no or empty data sets,
    values that are not finite and groups of another length.
    """
    arrays = _checked(values)
    means = _means(arrays)
    resampled = _resampled_macro(arrays, groups or {}, num_samples, np.random.default_rng(seed))
    return MacroMean(
        mean=float(np.mean([*means.values()])),
        ci=percentiles(resampled, confidence),
        data_sets=means,
    )


def macro_comparison(
    before: Mapping[str, npt.ArrayLike],
    after: Mapping[str, npt.ArrayLike],
    confidence: float = 0.95,
    num_samples: int = 10_000,
    seed: int = 0,
    groups: Mapping[str, Groups] | None = None,
) -> MacroComparison:
    """Tests whether the macro average of `after` is above that of `before`, row by row.

    Both hold 1-d values by data set, of the same rows in the same order. The interval is that of
    `macro_interval` for the differences. The p-value is of a sign-flip test: if the two are equally
    good, each difference is as likely to have the other sign, whichever data set it is in; those
    of one of the `groups` change theirs together (see `sign_flip_test`). Raises ValueError where
    data sets or lengths differ, and as `macro_interval`.
    """
    old, new = _checked(before), _checked(after)
    if old.keys() != new.keys():
        raise ValueError(f"only one side has the data sets {sorted(old.keys() ^ new.keys())}")
    for name in old:
        if len(old[name]) != len(new[name]):
            raise ValueError(
                f"{name} must have the same rows on both sides, not {len(old[name])} and"
                f" {len(new[name])}"
            )
    differences = {name: new[name] - old[name] for name in old}
    means = _means(differences)
    observed = float(np.mean([*means.values()]))
    resampling, flipping = np.random.default_rng(seed).spawn(2)
    named = groups or {}
    flipped = _flipped_macro(differences, named, num_samples, flipping)
    resampled = _resampled_macro(differences, named, num_samples, resampling)
    count = int(np.count_nonzero(flipped >= observed - _ROUNDING))
    return MacroComparison(
        difference=observed,
        ci=percentiles(resampled, confidence),
        # One is added to both counts, so that no p-value is 0 (Davison and Hinkley 1997, 4.2.3).
        p_value=(1 + count) / (1 + num_samples),
        data_sets=means,
    )
