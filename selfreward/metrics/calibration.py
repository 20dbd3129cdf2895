"""Whether a judge's probabilities mean what they say: of its 80 % verdicts, 80 % should be right.

The general functions take probabilities of an event and whether it happened, both 1-d;
`calibration_report` applies them to the readings of labelled pairs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreward.metrics.pairwise import PairOutcome, chosen_probabilities

FloatArray = npt.NDArray[np.float64]

# A probability of exactly 0 would make the mean likelihood infinite, whatever the others are.
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """The events whose probability lies in one bin.

    Example: `ReliabilityBin(low=0.8, high=0.9, n=41, mean_probability=0.853,
    observed_rate=0.732)`, an overconfident bin
    """

    low: float
    """Excluded, but for the first bin."""
    high: float
    """Included."""
    n: int
    mean_probability: float | None
    observed_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """Calibration of a judge on readings of labelled pairs. Without readings all is None.

    Example: `CalibrationReport(n=128, num_without=0, brier=0.21, negative_log_likelihood=0.61,
    expected_calibration_error=0.07, bins=(ReliabilityBin(…), …))`
    """

    n: int
    """Readings with a probability."""
    num_without: int
    """Readings without one: failed, or log-probabilities were not asked for."""
    brier: float | None
    """Mean (1 - P(better response))²: 0 is best, 0.25 is always P = 0.5."""
    negative_log_likelihood: float | None
    """Mean -ln P(better response), in nats: 0 is best, 0.693 is always P = 0.5."""
    expected_calibration_error: float | None
    """Mean distance of confidence and accuracy over equal-width bins of confidence."""
    bins: tuple[ReliabilityBin, ...]
    """From confidence 0.5 to 1."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return {**asdict(self), "bins": [asdict(b) for b in self.bins]}


def _events(probabilities: npt.ArrayLike, happened: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    chances = np.asarray(probabilities, dtype=np.float64)
    outcomes = np.asarray(happened, dtype=np.float64)
    if chances.shape != outcomes.shape or chances.ndim != 1 or len(chances) == 0:
        raise ValueError(
            "probabilities and outcomes must be 1-d, of equal length and not empty, not"
            f" {chances.shape} and {outcomes.shape}"
        )
    for values in (chances, outcomes):
        # Written so that nan fails it too.
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("probabilities and outcomes must lie between 0 and 1")
    return chances, outcomes


def brier_score(probabilities: npt.ArrayLike, happened: npt.ArrayLike) -> float:
    """Returns the mean squared error of probabilities of an event (Brier 1950).

    `happened` is 1 or 0 (True or False). Raises ValueError for empty or unequal arrays and for
    values outside 0 to 1.
    """
    chances, outcomes = _events(probabilities, happened)
    return float(((chances - outcomes) ** 2).mean())


def negative_log_likelihood(probabilities: npt.ArrayLike, happened: npt.ArrayLike) -> float:
    """Returns the mean -ln of the probability given to what happened, in nats.

    Probabilities below `LEAST_PROBABILITY` count as that. Raises as `brier_score` does.
    """
    chances, outcomes = _events(probabilities, happened)
    gains = outcomes * np.log(np.maximum(chances, LEAST_PROBABILITY))
    losses = (1 - outcomes) * np.log(np.maximum(1 - chances, LEAST_PROBABILITY))
    # Adding 0 turns -0.0, which a perfect forecast gives, into 0.0.
    return float(-(gains + losses).mean()) + 0.0


def reliability_table(
    probabilities: npt.ArrayLike,
    happened: npt.ArrayLike,
    num_bins: int = 10,
    span: tuple[float, float] = (0.0, 1.0),
) -> tuple[ReliabilityBin, ...]:
    """Returns equal-width bins over `span`, empty ones included; a bin excludes its low edge.

    Raises ValueError for fewer than one bin, probabilities outside `span`, and as `brier_score`.
    """
    chances, outcomes = _events(probabilities, happened)
    if num_bins < 1:
        raise ValueError(f"a reliability table needs at least one bin, not {num_bins}")
    if chances.min() < span[0] or chances.max() > span[1]:
        raise ValueError(f"a probability lies outside {span[0]:g} to {span[1]:g}")
    edges = np.linspace(*span, num_bins + 1)
    index = np.searchsorted(edges[1:-1], chances)
    counts = np.bincount(index, minlength=num_bins)
    chance_sums = np.bincount(index, weights=chances, minlength=num_bins)
    outcome_sums = np.bincount(index, weights=outcomes, minlength=num_bins)
    return tuple(
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            n=int(n),
            mean_probability=float(chance_sums[i] / n) if n else None,
            observed_rate=float(outcome_sums[i] / n) if n else None,
        )
        for i, n in enumerate(counts)
    )


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float | None:
    """Returns the mean of |mean probability - observed rate| over bins, weighted by their events.

    Source: Naeini, Cooper and Hauskrecht 2015; equal widths as Guo et al. (arXiv 1706.04599). It
    depends on the number of bins and is biased upwards where bins hold few events. None if empty.
    """
    distances = [
        (b.n, abs(b.mean_probability - b.observed_rate))
        for b in bins
        if b.mean_probability is not None and b.observed_rate is not None
    ]
    total = sum(n for n, _ in distances)
    return sum(n * distance for n, distance in distances) / total if total else None


def calibration_report(outcomes: Sequence[PairOutcome], num_bins: int = 10) -> CalibrationReport:
    """Measures the probabilities of a judge on labelled pairs read in one order or both.

    In every reading the better response is known, so P(better response) is scored against 1. For
    the bins each reading becomes its confidence, the larger of P and 1 - P, from 0.5 to 1, and
    whether the likelier response is the better one; a probability of exactly 0.5 names none and
    is right by half, as a coin would be.
    """
    chances = np.array([p for o in outcomes for p in chosen_probabilities(o)], dtype=np.float64)
    num_without = sum(len(o.readings) for o in outcomes) - len(chances)
    if len(chances) == 0:
        return CalibrationReport(
            n=0,
            num_without=num_without,
            brier=None,
            negative_log_likelihood=None,
            expected_calibration_error=None,
            bins=(),
        )
    happened = np.ones_like(chances)
    is_right = (chances > 0.5) + (chances == 0.5) / 2
    bins = reliability_table(np.maximum(chances, 1 - chances), is_right, num_bins, (0.5, 1.0))
    return CalibrationReport(
        n=len(chances),
        num_without=num_without,
        brier=brier_score(chances, happened),
        negative_log_likelihood=negative_log_likelihood(chances, happened),
        expected_calibration_error=expected_calibration_error(bins),
        bins=bins,
    )
