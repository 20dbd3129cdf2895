"""Which prompts a step is on, and which of them a worker takes.

Every worker derives both from the same numbers, so they agree without talking.
"""

import random
from collections.abc import Sequence

from selfreward.errors import DataError
from selfreward.training.online.rollouts import RolloutPrompt


def _by_group(prompts: Sequence[RolloutPrompt]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(prompt.key, []).append(index)
    return list(groups.values())


def plan_steps(
    prompts: Sequence[RolloutPrompt], *, num_steps: int, prompts_per_step: int, seed: int
) -> list[list[int]]:
    """Returns the indices of the prompts of each step, over all workers.

    Prompts are taken in epochs, each a new shuffle; groups stay whole. A step has as many groups
    as fit into `prompts_per_step`, at least one; what is left of an epoch and fills no step is
    left out of it, so that all steps are alike.

    Raises:
        DataError: there are no prompts, or two with one id.
    """
    if not prompts:
        raise DataError("online training has no prompts; name some in online.prompts")
    if len({p.id for p in prompts}) < len(prompts):
        raise DataError("two prompts of online training have the same id")
    steps: list[list[int]] = []
    epoch = 0
    while len(steps) < num_steps:
        groups = _by_group(prompts)
        random.Random(f"{seed}/{epoch}").shuffle(groups)
        whole: list[list[int]] = []
        current: list[int] = []
        for group in groups:
            if current and len(current) + len(group) > prompts_per_step:
                whole.append(current)
                current = []
            current = current + group
        if not whole or len(current) >= prompts_per_step:
            whole.append(current)
        steps += whole
        epoch += 1
    return steps[:num_steps]


def share_of(
    prompts: Sequence[RolloutPrompt], indices: Sequence[int], *, rank: int, num_workers: int
) -> list[int]:
    """Returns the prompts of a step that worker `rank` takes: every `num_workers`-th group."""
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(prompts[index].key, []).append(index)
    return [i for group in list(groups.values())[rank::num_workers] for i in group]
