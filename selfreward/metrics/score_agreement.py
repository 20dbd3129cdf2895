"""How well a judge's scores agree with human scores of the same responses, one by one.

A response whose judgment failed has no score: it is left out and counted, never scored 0.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from selfreward.metrics.correlations import correlations
from selfreward.metrics.intervals import DEFAULT_RESAMPLING, Groups, Resampling, percentiles

FloatArray = npt.NDArray[np.float64]
Scale = tuple[float, float]
"""Lowest and highest score there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseAgreement:
    """Agreement of a flat list of scores with human scores. What cannot be measured is None.

    Example: `PointwiseAgreement(n=198, num_failed=2, spearman=0.61, kendall_tau=0.5,
    pearson=0.63, mean_absolute_error=0.72, exact_agreement=0.44, quadratic_weighted_kappa=0.55)`
    """

    n: int
    """Scores compared."""
    num_failed: int
    spearman: float | None
    kendall_tau: float | None
    """Tau-b."""
    pearson: float | None
    mean_absolute_error: float | None
    """In points of the human scale."""
    exact_agreement: float | None
    """Share of equal scores, both rounded to whole points of the human scale."""
    quadratic_weighted_kappa: float | None
    """On the same rounded scores: 1 is agreement, 0 is chance."""


def quadratic_weighted_kappa(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Returns Cohen's kappa with quadratic weights of two 1-d arrays of whole-number levels.

    1 - (mean squared difference) / (the same for all combinations of a first and a second level,
    which is var + var + (mean - mean)²): Cohen 1968. None where both name one same level only.
    Raises ValueError for empty arrays or unequal lengths.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"levels must be 1-d, of equal length and not empty: {a.shape}, {b.shape}")
    by_chance = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    return None if by_chance == 0 else 1.0 - float(((a - b) ** 2).mean()) / by_chance


def _check_scale(values: FloatArray, scale: Scale, name: str) -> None:
    low, high = scale
    if not low < high:
        raise ValueError(f"the {name} scale must go from low to high, not from {low} to {high}")
    # Written so that nan fails it too.
    if not ((values >= low) & (values <= high)).all():
        raise ValueError(f"a {name} score lies outside its scale from {low} to {high}")


def pointwise_agreement(
    human: Sequence[float],
    judge: Sequence[float | None],
    human_scale: Scale,
    judge_scale: Scale,
) -> PointwiseAgreement:
    """Compares a judge's scores with human scores of the same responses, one by one.

    The judge's scores are mapped onto the human scale by the straight line that takes end to end.
    Whole points are counted from the low end of the human scale, halves rounded up. None among
    the judge's scores is a failed judgment. Raises ValueError for unequal lengths, no scores, and
    scores outside their scale.
    """
    humans, judges = _on_one_scale(human, judge, human_scale, judge_scale)
    return _agreement(humans, judges, num_failed=len(human) - len(humans))


def agreement_intervals(
    human: Sequence[float],
    judge: Sequence[float | None],
    human_scale: Scale,
    judge_scale: Scale,
    groups: Groups,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> dict[str, tuple[float, float] | None]:
    """Percentile bootstrap intervals of the figures of `pointwise_agreement`, by their names.

    `groups` names the prompt of each response: whole prompts are resampled. A resample in which a
    figure does not exist says nothing about it; where the figure itself does not, there is no
    interval. Raises ValueError as `pointwise_agreement` does, and for groups of another length.
    """
    if len(groups) != len(human):
        raise ValueError(f"there are {len(groups)} groups of {len(human)} scores")
    humans, judges = _on_one_scale(human, judge, human_scale, judge_scale)
    places: dict[object, list[int]] = {}
    kept = (group for group, score in zip(groups, judge, strict=True) if score is not None)
    for i, group in enumerate(kept):
        places.setdefault(group, []).append(i)
    rows = [np.array(found) for found in places.values()]
    rng = np.random.default_rng(resampling.seed)
    whole = _figures(_agreement(humans, judges, 0))
    found: dict[str, list[float]] = {name: [] for name, value in whole.items() if value is not None}
    for _ in range(resampling.num_samples if found else 0):
        drawn = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        figures = _figures(_agreement(humans[drawn], judges[drawn], 0))
        for name, values in found.items():
            value = figures[name]
            if value is not None:
                values.append(value)
    return {
        name: percentiles(np.array(found[name]), resampling.confidence) if found.get(name) else None
        for name in whole
    }


def _on_one_scale(
    human: Sequence[float], judge: Sequence[float | None], human_scale: Scale, judge_scale: Scale
) -> tuple[FloatArray, FloatArray]:
    """Both scores of the responses that the judge scored, in human points above the low end."""
    if len(human) != len(judge) or not human:
        raise ValueError(
            f"human and judge scores must be of the same responses, not {len(human)} and"
            f" {len(judge)}"
        )
    kept = [(h, j) for h, j in zip(human, judge, strict=True) if j is not None]
    humans = np.array([h for h, _ in kept], dtype=np.float64)
    judges = np.array([j for _, j in kept], dtype=np.float64).round(9)
    _check_scale(np.array(human, dtype=np.float64), human_scale, "human")
    _check_scale(judges, judge_scale, "judge")
    points = (human_scale[1] - human_scale[0]) / (judge_scale[1] - judge_scale[0])
    return humans - human_scale[0], (judges - judge_scale[0]) * points


def _agreement(humans: FloatArray, judges: FloatArray, num_failed: int) -> PointwiseAgreement:
    spearman, tau, pearson = correlations(humans, judges)
    levels = tuple(np.floor(np.round(side, 9) + 0.5) for side in (humans, judges))
    is_any = len(humans) > 0
    return PointwiseAgreement(
        n=len(humans),
        num_failed=num_failed,
        spearman=spearman,
        kendall_tau=tau,
        pearson=pearson,
        mean_absolute_error=float(np.abs(humans - judges).mean()) if is_any else None,
        exact_agreement=float((levels[0] == levels[1]).mean()) if is_any else None,
        quadratic_weighted_kappa=quadratic_weighted_kappa(*levels) if is_any else None,
    )


def _figures(found: PointwiseAgreement) -> dict[str, float | None]:
    """The figures without the counts."""
    return {name: value for name, value in asdict(found).items() if name not in _COUNTS}


_COUNTS = ("n", "num_failed")
