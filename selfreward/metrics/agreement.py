"""How far two or more raters agree, and rankings as the comparisons they imply.

A rater gives labels to units. For responses a unit is a comparison of two of them, and its label
says which is the better one. Labels are nominal: no two of them are nearer to each other than to
a third.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Literal, TypeVar

import krippendorff
import numpy as np
from sklearn.metrics import cohen_kappa_score

_Unit = TypeVar("_Unit", bound=Hashable)
Comparison = tuple[int, int]
"""The places of two responses in their task, the lower one first."""
ComparisonLabel = Literal["first", "second", "tie"]
"""Which of the two is better: the one at the lower place, the other one, or neither."""


def observed_agreement(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Returns the share of units, 0 to 1, to which two raters gave the same label.

    The two sequences hold the labels of the same units in the same order; without units it is
    None. Raises ValueError for unequal lengths.
    """
    if len(one) != len(other):
        raise ValueError(f"two raters of the same units are needed: {len(one)} and {len(other)}")
    if not one:
        return None
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def cohen_kappa(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Returns Cohen's kappa of two raters of the same units: 1 full agreement, 0 that of chance.

    Kappa = (p_o - p_e) / (1 - p_e), with p_o the observed agreement and p_e what two raters with
    these shares of labels would reach by chance (Cohen 1960, "A Coefficient of Agreement for
    Nominal Scales", Educational and Psychological Measurement 20(1)). None where it is not
    defined: without units, or where both always say the same one thing, so that p_e = 1. Raises
    ValueError for unequal lengths.
    """
    if observed_agreement(one, other) is None or len({*one, *other}) == 1:
        return None
    return float(cohen_kappa_score(list(one), list(other)))


def krippendorff_alpha(ratings: Mapping[str, Mapping[_Unit, str]]) -> float | None:
    """Returns Krippendorff's nominal alpha of any number of raters, who may miss units.

    `ratings` are rater → unit → label. Alpha = 1 - D_o / D_e, with D_o the disagreement within
    units and D_e the disagreement among all labels given, whatever the unit (Krippendorff 2011,
    "Computing Krippendorff's Alpha-Reliability"). A unit with fewer than two labels says nothing
    of agreement and is left out. None where it is not defined: no unit with two labels, or all
    such labels equal, so that D_e = 0.
    """
    by_unit: dict[_Unit, list[str]] = {}
    for labels in ratings.values():
        for unit, label in labels.items():
            by_unit.setdefault(unit, []).append(label)
    pairable = [labels for labels in by_unit.values() if len(labels) > 1]
    columns = {
        label: i for i, label in enumerate(dict.fromkeys(x for row in pairable for x in row))
    }
    if len(columns) < 2:
        return None
    counts = np.zeros((len(pairable), len(columns)), dtype=np.int64)
    for row, given in enumerate(pairable):
        for label in given:
            counts[row, columns[label]] += 1
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def ranking_comparisons(ranking: Sequence[Sequence[int]]) -> dict[Comparison, ComparisonLabel]:
    """Returns the n (n - 1) / 2 comparisons that a ranking of n responses implies.

    `ranking` goes from best to worst; equal ones stand together. Example: `[[2], [0, 1]]` gives
    `{(0, 1): "tie", (0, 2): "second", (1, 2): "second"}`. Raises ValueError where a response
    stands twice.
    """
    rank = {place: position for position, group in enumerate(ranking) for place in group}
    if len(rank) != sum(len(group) for group in ranking):
        raise ValueError(f"a response stands twice in the ranking {[list(g) for g in ranking]}")
    return {(i, j): _label(rank[j] - rank[i]) for i, j in combinations(sorted(rank), 2)}


def score_comparisons(scores: Sequence[float | None]) -> dict[Comparison, ComparisonLabel]:
    """Returns the comparisons that scores of responses imply, higher being better.

    A response without a score is in none of them; means that differ by rounding only are equal.
    Example: `(4.0, None, 5.0)` gives
    `{(0, 2): "second"}`.
    """
    known = [(place, score) for place, score in enumerate(scores) if score is not None]
    return {
        (i, j): _label(0.0 if math.isclose(a, b) else a - b)
        for (i, a), (j, b) in combinations(known, 2)
    }


def _label(lead: float) -> ComparisonLabel:
    """The label for how far the first is ahead of the second."""
    if lead == 0:
        return "tie"
    return "first" if lead > 0 else "second"
