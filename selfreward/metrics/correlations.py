"""Correlations of two rows of numbers, where they exist."""

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, pearsonr, rankdata

FloatArray = npt.NDArray[np.float64]

ROUNDING = 1e-9
"""Averages of several draws are not exact: scores no further apart are equal."""


def is_constant(values: FloatArray) -> bool:
    """Whether there are no two different values."""
    return len(values) < 2 or bool(values.max() - values.min() <= ROUNDING)


def correlations(
    first: FloatArray, second: FloatArray
) -> tuple[float | None, float | None, float | None]:
    """Returns Spearman, Kendall tau-b and Pearson, or three None if one side is constant."""
    if is_constant(first) or is_constant(second):
        return None, None, None
    # Spearman's coefficient is Pearson's of the ranks; ties share their mean rank.
    spearman = pearsonr(rankdata(first), rankdata(second)).statistic
    tau = kendalltau(first, second).statistic
    return float(spearman), float(tau), float(pearsonr(first, second).statistic)
