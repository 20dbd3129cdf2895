"""Interval of a benchmark's headline figure, whatever the benchmark makes of its rates.

A benchmark turns readings into rates (of its subsets, domains or cells) and the rates into one
figure. Here prompts are resampled inside each subset, the rates are taken anew, and the benchmark's
own scorer turns them into the figure again.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfreward.metrics.intervals import DEFAULT_RESAMPLING, Resampling, in_slices, percentiles

FloatArray = npt.NDArray[np.float64]
Headline = Callable[[Mapping[str, float]], float | None]
"""A benchmark's figure of its rates by name; None where rates are missing for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """What one reading adds to one rate: the rate is the sum of values over the sum of counts.

    Example: `RateRow(stratum="donotanswer", prompt="ins-4b…", rate="donotanswer", value=0.5)`
    """

    stratum: str
    """The subset inside which its prompt is resampled."""
    prompt: str
    """Rows of one prompt and stratum are drawn together."""
    rate: str
    value: float
    count: float = 1.0


def rates_of(rows: Sequence[RateRow]) -> dict[str, float]:
    """Returns each rate by its name; one without a count is left out."""
    values: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        values[row.rate] += row.value
        counts[row.rate] += row.count
    return {name: values[name] / count for name, count in counts.items() if count}


def headline_interval(
    rows: Sequence[RateRow], headline: Headline, resampling: Resampling = DEFAULT_RESAMPLING
) -> tuple[float, float] | None:
    """Returns the percentile bootstrap interval of `headline` of the rates, 2,000 resamples by
    default.

    Every resample draws as many prompts of each stratum as it has, with all their rows (stratified
    cluster bootstrap: Davison and Hinkley 1997, sections 3.2 and 3.8). A prompt that stands in two
    strata counts as two, and a stratum of one prompt adds nothing to the width. Resamples in which
    the figure does not exist are left out. None where it does not exist on the rows themselves.
    """
    if headline(rates_of(rows)) is None:
        return None
    strata: defaultdict[str, list[RateRow]] = defaultdict(list)
    for row in rows:
        strata[row.stratum].append(row)
    names = sorted({row.rate for row in rows})
    rng = np.random.default_rng(resampling.seed)
    # _S resamples, _R rates.
    values_SR, counts_SR = np.zeros((2, resampling.num_samples, len(names)))
    for stratum in sorted(strata):
        found = sorted({row.rate for row in strata[stratum]})
        columns = [names.index(name) for name in found]
        sums = _resampled_sums(strata[stratum], found, resampling.num_samples, rng)
        values_SR[:, columns] += sums[:, : len(found)]
        counts_SR[:, columns] += sums[:, len(found) :]
    figures = []
    for values, counts in zip(values_SR.tolist(), counts_SR.tolist(), strict=True):
        rates = {n: v / c for n, v, c in zip(names, values, counts, strict=True) if c}
        figure = headline(rates)
        if figure is not None:
            figures.append(figure)
    return percentiles(np.array(figures), resampling.confidence) if figures else None


def _resampled_sums(
    rows: Sequence[RateRow], names: Sequence[str], num_samples: int, rng: np.random.Generator
) -> FloatArray:
    """Sums of the values and then of the counts of each rate, shape (num_samples, 2 · rates)."""
    places: dict[str, int] = {}
    for row in rows:
        places.setdefault(row.prompt, len(places))
    size = len(places)
    sums_PR = np.zeros((size, 2 * len(names)))
    for row in rows:
        column = names.index(row.rate)
        sums_PR[places[row.prompt], [column, column + len(names)]] += row.value, row.count

    def draw(count: int) -> FloatArray:
        drawn = rng.integers(0, size, (count, size)) + np.arange(count)[:, None] * size
        # How often each resample has each prompt: all its sums in one product.
        times_SP = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        totals: FloatArray = times_SP @ sums_PR
        return totals

    return in_slices(size, num_samples, draw)
