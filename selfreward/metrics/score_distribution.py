"""What a judge's scores of sampled candidates look like, and the lengths of what it prefers.

A candidate without a score, all of whose judgments failed, is counted and has no place in any
figure of scores. Lengths are in characters.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import entropy

from selfreward.records import Outcome, Preference
from selfreward.records_scores import Rating

FloatArray = npt.NDArray[np.float64]

# Draws averaged in another order differ in the last digits: equal scores must compare as equal.
_DECIMALS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCandidates:
    """The sampled responses to one instruction with the scores a judge gave them.

    Example: `ScoredCandidates(instruction_id="ins-4b…", scores=(4.0, 3.667, None),
    lengths=(120, 480, 0))`
    """

    instruction_id: str
    scores: tuple[float | None, ...]
    """Mean over the draws; None where every judgment failed."""
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDistribution:
    """Scores, failures and lengths of an iteration's candidates. What cannot be measured is None.

    Example: `ScoreDistribution(n=256, num_candidates=1024, num_unscored=3,
    histogram={0: 2, …, 5: 320}, mean_score=3.9, saturation=0.22, top_level_share=0.31,
    modal_share=0.41, entropy_nats=1.1, normalised_entropy=0.61, num_compared=255, tie_rate=0.12,
    mean_length=512.0, length_quartiles=(220.0, 430.0, 760.0), num_ratings=3072,
    rating_histogram={0: 9, …, 5: 990}, unparsed_rate=0.01, truncated_rate=0.0,
    refused_rate=0.0)`
    """

    n: int
    """Instructions."""
    num_candidates: int
    num_unscored: int
    """Candidates without a score."""
    histogram: dict[int, int]
    """Candidates by the whole score nearest to their mean score, halves rounded up; every whole
    score of the scale has its place."""
    mean_score: float | None
    saturation: float | None
    """Share of the scored candidates whose mean score is the top of the scale. Scores that are
    expectations over token probabilities hardly ever are: for those see `top_level_share`."""
    top_level_share: float | None
    """Share of the scored candidates in the highest place of the histogram."""
    modal_share: float | None
    """Share of the scored candidates that have the commonest score: in the fullest place of the
    histogram, or with a tie spread, that lie within the spread of each other."""
    entropy_nats: float | None
    """Of the histogram: 0 is one score for everything."""
    normalised_entropy: float | None
    """The same over the logarithm of the number of whole scores: 1 is all equally often."""
    num_compared: int
    """Instructions with at least two scored candidates."""
    tie_rate: float | None
    """Share of these whose scored candidates all have the same mean score, or with a tie spread,
    lie within the spread of each other."""
    mean_length: float | None
    """Over all candidates, scored or not."""
    length_quartiles: tuple[float, float, float] | None
    num_ratings: int
    """Single judgments."""
    rating_histogram: dict[int, int]
    """Judgments with a score, by the nearest whole score."""
    unparsed_rate: float | None
    """Shares of all judgments."""
    truncated_rate: float | None
    refused_rate: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary; the scores of the histograms become text."""
        quartiles = self.length_quartiles
        return {
            **asdict(self),
            "histogram": {str(k): v for k, v in self.histogram.items()},
            "rating_histogram": {str(k): v for k, v in self.rating_histogram.items()},
            "length_quartiles": None if quartiles is None else [*quartiles],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLengths:
    """Lengths of the chosen and rejected completions of preferences.

    Example: `PairLengths(n=180, num_equal=2, longer_chosen_rate=0.61, mean_chosen=540.0,
    mean_rejected=470.5)`
    """

    n: int
    """Pairs."""
    num_equal: int
    """Pairs of equal lengths."""
    longer_chosen_rate: float | None
    """Of the pairs of unequal lengths: share whose chosen completion is the longer."""
    mean_chosen: float | None
    mean_rejected: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)


def _mean(values: Sequence[float] | FloatArray | npt.NDArray[np.bool_]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _scores_within(scores: Sequence[float], scale: tuple[float, float]) -> FloatArray:
    values = np.array(scores, dtype=np.float64).round(_DECIMALS)
    low, high = (round(end, _DECIMALS) for end in scale)
    # Written so that nan fails it too.
    if not ((values >= low) & (values <= high)).all():
        raise ValueError(f"a score lies outside the scale from {low:g} to {high:g}")
    return values


def _levels(scale: tuple[float, float]) -> range:
    levels = range(math.ceil(scale[0]), math.floor(scale[1]) + 1)
    if not levels:
        raise ValueError(f"there is no whole score from {scale[0]:g} to {scale[1]:g}")
    return levels


def _histogram(values: FloatArray, levels: range) -> dict[int, int]:
    nearest = np.clip(np.floor(values + 0.5), levels[0], levels[-1]).astype(int)
    counts = Counter(nearest.tolist())
    return {level: counts[level] for level in levels}


def _largest_within(values: FloatArray, spread: float) -> float | None:
    """The largest share of the values that lie within `spread` of each other."""
    if len(values) == 0:
        return None
    ordered = np.sort(values)
    ends = np.searchsorted(ordered, ordered + spread, side="right")
    return float((ends - np.arange(len(ordered))).max() / len(ordered))


def _quartiles(values: FloatArray) -> tuple[float, float, float] | None:
    if len(values) == 0:
        return None
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return lower, median, upper


def score_distribution(
    candidates: Sequence[ScoredCandidates],
    ratings: Iterable[Rating],
    scale: tuple[float, float],
    tie_spread: float = 0.0,
) -> ScoreDistribution:
    """Measures the scored candidates of an iteration and the single ratings behind the scores.

    `scale` holds the lowest and the highest score of the rubric. `ratings` is read once, so it can
    be a stream. Scores that differ by at most `tie_spread` points are one score for ties and for
    the modal share: expectations over token probabilities are hardly ever equal. Raises ValueError
    for scores outside the scale, unequally many scores and lengths, ratings that are choices, and
    a negative spread.
    """
    if not tie_spread >= 0:
        raise ValueError(f"tie_spread must be 0 or more, not {tie_spread}")
    # Scores are rounded to nine decimals: half of the last one is no difference.
    spread = tie_spread + 0.5e-9
    levels = _levels(scale)
    groups: list[FloatArray] = []
    for row in candidates:
        if len(row.scores) != len(row.lengths):
            raise ValueError(
                f"{row.instruction_id} has {len(row.scores)} scores and {len(row.lengths)} lengths"
            )
        groups.append(_scores_within([s for s in row.scores if s is not None], scale))
    values = np.concatenate([np.empty(0), *groups])
    compared = [bool(np.ptp(group) <= spread) for group in groups if len(group) >= 2]
    lengths = np.array([n for row in candidates for n in row.lengths], dtype=np.float64)

    outcomes: Counter[Outcome] = Counter()
    rated: list[float] = []
    for rating in ratings:
        verdict = rating.verdict
        if verdict.outcome is Outcome.CHOICE:
            raise ValueError(f"{rating.id} is a choice between two responses, not a rating of one")
        outcomes[verdict.outcome] += 1
        if verdict.outcome is Outcome.SCORE and verdict.score is not None:
            rated.append(verdict.score)
    num_ratings = outcomes.total()

    def rate(outcome: Outcome) -> float | None:
        return outcomes[outcome] / num_ratings if num_ratings else None

    histogram = _histogram(values, levels)
    fullest = max(histogram.values()) / len(values) if len(values) else None
    modal_share = _largest_within(values, spread) if tie_spread else fullest
    # Adding 0 turns the -0.0 of a single score into 0.0.
    nats = float(entropy(list(histogram.values()))) + 0.0 if len(values) else None
    return ScoreDistribution(
        n=len(candidates),
        num_candidates=len(lengths),
        num_unscored=len(lengths) - len(values),
        histogram=histogram,
        mean_score=_mean(values),
        saturation=_mean(values == round(scale[1], _DECIMALS)),
        top_level_share=histogram[levels[-1]] / len(values) if len(values) else None,
        modal_share=modal_share,
        entropy_nats=nats,
        normalised_entropy=(
            None if nats is None or len(levels) == 1 else nats / math.log(len(levels))
        ),
        num_compared=len(compared),
        tie_rate=_mean(compared),
        mean_length=_mean(lengths),
        length_quartiles=_quartiles(lengths),
        num_ratings=num_ratings,
        rating_histogram=_histogram(_scores_within(rated, scale), levels),
        unparsed_rate=rate(Outcome.UNPARSED),
        truncated_rate=rate(Outcome.TRUNCATED),
        refused_rate=rate(Outcome.REFUSED),
    )


def pair_lengths(preferences: Iterable[Preference]) -> PairLengths:
    """Measures the completions of preferences; `preferences` is read once."""
    sizes = [(len(p.chosen), len(p.rejected)) for p in preferences]
    unequal = [chosen > rejected for chosen, rejected in sizes if chosen != rejected]
    return PairLengths(
        n=len(sizes),
        num_equal=len(sizes) - len(unequal),
        longer_chosen_rate=_mean(unequal),
        mean_chosen=_mean([chosen for chosen, _ in sizes]),
        mean_rejected=_mean([rejected for _, rejected in sizes]),
    )
