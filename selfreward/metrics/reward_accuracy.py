"""How good a reward model is: on preferences, as a probability, and over whole rankings.

Inputs are plain arrays of its scores. A reward model's scores s mean something only by their
differences: by the Bradley-Terry model it was trained on, the first of two responses is preferred
with probability sigmoid(s_first - s_second).
"""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import kendalltau

from selfreward.metrics.calibration import (
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_table,
)
from selfreward.metrics.injection import wilson_interval
from selfreward.metrics.intervals import bootstrap_interval

FloatArray = npt.NDArray[np.float64]

MARGIN_EDGES = (0.5, 1.0, 2.0)
"""Differences of scores at which it should be right in 62, 73 and 88 % of the pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginBucket:
    """The preferences whose margin lies in one interval.

    Example: `MarginBucket(low=0.5, high=1.0, n=61, accuracy=0.705, accuracy_ci=(0.58, 0.8))`
    """

    low: float
    """Included."""
    high: float | None
    """Excluded; None in the last bucket, which has no end."""
    n: int
    accuracy: float | None
    accuracy_ci: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAccuracyReport:
    """A reward model on preferences. Without preferences all figures are None.

    Example: `RewardAccuracyReport(n=150, num_ties=0, accuracy=0.82, accuracy_ci=(0.75, 0.873),
    mean_margin=1.3, brier=0.13, negative_log_likelihood=0.41, expected_calibration_error=0.05,
    bins=(ReliabilityBin(…), …), buckets=(MarginBucket(…), …))`
    """

    n: int
    num_ties: int
    """Preferences with two equal scores."""
    accuracy: float | None
    """Share whose chosen response has the higher score; a tie is wrong."""
    accuracy_ci: tuple[float, float] | None
    """Wilson interval."""
    mean_margin: float | None
    """Mean of chosen minus rejected score."""
    brier: float | None
    """Mean (1 - P(chosen))²: 0 is best, 0.25 is always P = 0.5."""
    negative_log_likelihood: float | None
    """Mean -ln P(chosen), in nats: the Bradley-Terry loss; 0.693 is always P = 0.5."""
    expected_calibration_error: float | None
    """Mean distance of confidence and accuracy over equal-width bins of confidence."""
    bins: tuple[ReliabilityBin, ...]
    """From confidence 0.5 to 1."""
    buckets: tuple[MarginBucket, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingAgreement:
    """How a reward model orders the responses that people ranked. What cannot be said is None.

    Example: `RankingAgreement(n=50, num_undefined=1, kendall_tau=0.61, kendall_tau_ci=(0.5, 0.7),
    best_of=0.72, best_of_ci=(0.6, 0.84))`
    """

    n: int
    """Rankings in which people put some response above another."""
    num_undefined: int
    """Of these, those whose scores are all equal: a correlation does not exist."""
    kendall_tau: float | None
    """Tau-b, mean over the rankings where it exists."""
    kendall_tau_ci: tuple[float, float] | None
    """Percentile bootstrap interval over rankings."""
    best_of: float | None
    """Mean chance that a response with the highest score is one that people rank first."""
    best_of_ci: tuple[float, float] | None
    """Percentile bootstrap interval over rankings."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)


def reward_accuracy(
    chosen: Sequence[float],
    rejected: Sequence[float],
    *,
    groups: Sequence[Hashable] | None = None,
    margins: Sequence[float] | None = None,
    edges: Sequence[float] = MARGIN_EDGES,
    confidence: float = 0.95,
    num_bins: int = 10,
) -> RewardAccuracyReport:
    """Measures scores of chosen and rejected responses, pair by pair.

    Args:
        chosen: scores of the responses that people prefer.
        rejected: scores of the others, of equal length.
        groups: what each pair comes from, such as the id of its ranking: pairs of one group count
            in intervals as if they said the same (see `wilson_interval`). None: each on its own.
        margins: how far apart the two responses of a pair are, for the buckets, such as the
            distance of their ranks. None: the size of the difference of their scores.
        edges: margins that part the buckets, growing.
        confidence: of the intervals.
        num_bins: bins of confidence for the calibration error.

    Raises:
        ValueError: unequal lengths, numbers that are not finite, edges that do not grow.
    """
    differences = _finite(chosen, "chosen") - _finite(rejected, "rejected", len(chosen))
    sizes = np.abs(differences) if margins is None else _finite(margins, "margins", len(chosen))
    if list(edges) != sorted(set(edges)) or (len(sizes) and sizes.min() < 0):
        raise ValueError("margins must not be negative, and the edges between buckets must grow")
    labels = list(range(len(chosen))) if groups is None else list(groups)
    if len(labels) != len(differences):
        raise ValueError(f"{len(labels)} groups of {len(differences)} pairs")
    is_right = differences > 0
    chances = expit(differences)
    # A chance of exactly one half names no response; it is right by half, as a coin would be.
    half_right = is_right + (differences == 0) / 2
    is_any = len(differences) > 0
    bins = (
        reliability_table(np.maximum(chances, 1 - chances), half_right, num_bins, (0.5, 1.0))
        if is_any
        else ()
    )
    accuracy, interval = _rate(is_right, labels, confidence)
    happened = np.ones_like(chances)
    return RewardAccuracyReport(
        n=len(differences),
        num_ties=int((differences == 0).sum()),
        accuracy=accuracy,
        accuracy_ci=interval,
        mean_margin=float(differences.mean()) if is_any else None,
        brier=brier_score(chances, happened) if is_any else None,
        negative_log_likelihood=negative_log_likelihood(chances, happened) if is_any else None,
        expected_calibration_error=expected_calibration_error(bins),
        bins=bins,
        buckets=_buckets(sizes, is_right, labels, tuple(edges), confidence),
    )


def ranking_agreement(
    ranks: Sequence[Sequence[float]],
    scores: Sequence[Sequence[float]],
    *,
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> RankingAgreement:
    """Compares scores with people's ranks (lower is better), ranking by ranking.

    Rankings in which people put nothing above anything are left out. Kendall's tau-b counts pairs
    in the same order against pairs in the other one and allows for ties on either side (Kendall
    1945). Raises ValueError for unequal lengths and for numbers that are not finite.
    """
    taus: list[float] = []
    hits: list[float] = []
    if len(ranks) != len(scores):
        raise ValueError(f"{len(ranks)} rankings and scores of {len(scores)}")
    for one_ranks, one_scores in zip(ranks, scores, strict=True):
        people = _finite(one_ranks, "ranks")
        model = _finite(one_scores, "scores", len(people))
        if len(set(people.tolist())) < 2:
            continue
        is_top = model == model.max()
        hits.append(float((people[is_top] == people.min()).mean()))
        if not is_top.all():
            taus.append(float(kendalltau(-people, model).statistic))

    def mean(values: list[float]) -> tuple[float | None, tuple[float, float] | None]:
        if not values:
            return None, None
        return float(np.mean(values)), bootstrap_interval(values, confidence, num_samples, seed)

    tau, tau_ci = mean(taus)
    best, best_ci = mean(hits)
    return RankingAgreement(
        n=len(hits),
        num_undefined=len(hits) - len(taus),
        kendall_tau=tau,
        kendall_tau_ci=tau_ci,
        best_of=best,
        best_of_ci=best_ci,
    )


def _finite(values: Sequence[float], name: str, length: int | None = None) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a 1-d array of finite numbers")
    if length is not None and len(array) != length:
        raise ValueError(f"{name} must be {length} numbers, not {len(array)}")
    return array


def _rate(
    is_right: npt.NDArray[np.bool_], labels: Sequence[Hashable], confidence: float
) -> tuple[float | None, tuple[float, float] | None]:
    if len(is_right) == 0:
        return None, None
    counts: dict[Hashable, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    rate = float(is_right.mean())
    return rate, wilson_interval(rate, list(counts.values()), confidence)


def _buckets(
    sizes: FloatArray,
    is_right: npt.NDArray[np.bool_],
    labels: Sequence[Hashable],
    edges: tuple[float, ...],
    confidence: float,
) -> tuple[MarginBucket, ...]:
    lows, highs = (0.0, *edges), (*edges, None)
    places = np.searchsorted(np.array(edges), sizes, side="right")
    buckets = []
    for number, (low, high) in enumerate(zip(lows, highs, strict=True)):
        inside = places == number
        chosen = [labels[i] for i in np.flatnonzero(inside)]
        accuracy, interval = _rate(is_right[inside], chosen, confidence)
        buckets.append(
            MarginBucket(
                low=low,
                high=high,
                n=int(inside.sum()),
                accuracy=accuracy,
                accuracy_ci=interval,
            )
        )
    return tuple(buckets)
