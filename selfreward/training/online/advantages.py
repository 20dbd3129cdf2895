"""How much better a rollout is than the others of its prompt.

No value model: the rewards of one prompt's rollouts are each other's baseline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

Estimator = Literal["rloo", "grpo", "dr_grpo"]

STD_FLOOR = 1e-4
"""Added to GRPO's standard deviation, so that rewards that hardly differ are not blown up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantages:
    """An advantage for each rollout, 0 for those that are masked.

    Example: `Advantages(values=[0.5, -0.5, 0.0], num_groups=2, num_flat_groups=1)`
    """

    values: list[float]
    num_groups: int
    num_flat_groups: int
    """Groups that teach nothing: their rewards are all equal, or fewer than two are there."""


def _of_group(rewards: Sequence[float], estimator: Estimator) -> list[float]:
    mean, count = fmean(rewards), len(rewards)
    differences = [reward - mean for reward in rewards]
    if estimator == "rloo":
        # r_i - mean of the others = (r_i - mean of all) * count / (count - 1)
        return [d * count / (count - 1) for d in differences]
    if estimator == "grpo":
        scale = stdev(rewards) + STD_FLOOR
        return [d / scale for d in differences]
    return differences


def group_advantages(
    rewards: Sequence[float | None], groups: Sequence[str], estimator: Estimator
) -> Advantages:
    """Returns the advantage of each rollout among those with the same entry in `groups`.

    A reward of None masks a rollout: it is in nobody's baseline. `rloo` subtracts the mean of the
    others' rewards (arXiv 2402.14740, equations 7 and 8), `grpo` the mean of all and divides by
    the sample standard deviation (arXiv 2402.03300, section 4.1.2), `dr_grpo` subtracts the mean
    only (arXiv 2503.20783, section 3.2).

    Raises:
        ValueError: a reward is not finite.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    values = [0.0] * len(rewards)
    num_flat = 0
    for indices in members.values():
        known = [(i, r) for i in indices if (r := rewards[i]) is not None]
        found = [r for _, r in known]
        if not all(map(math.isfinite, found)):
            raise ValueError(f"rewards {found} are not finite")
        if len(set(found)) < 2:
            num_flat += 1
            continue
        for (i, _), value in zip(known, _of_group(found, estimator), strict=True):
            values[i] = value
    return Advantages(values=values, num_groups=len(members), num_flat_groups=num_flat)
