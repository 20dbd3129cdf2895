"""What the rollouts of a step were like, over all workers."""

import math
from collections.abc import Sequence

import torch

from selfreward.judging.rewards import RewardFailure
from selfreward.training.online.advantages import Advantages
from selfreward.training.online.rollouts import Rollout
from selfreward.training.parallel import all_reduce_sum
from selfreward.training.task import Metrics

_FAILURES = tuple(RewardFailure)


def rollout_metrics(
    rollouts: Sequence[Rollout], advantages: Advantages, device: torch.device
) -> Metrics:
    """Means over the rollouts of all workers; called by every worker alike.

    `rollout/reward` and its standard deviation are over those that have one, truncated ones
    included. `rollout/failed_REASON` is there for each reason that occurred.
    """
    rewards = [r.reward for r in rollouts if r.reward is not None]
    failures = [sum(r.failed is failure for r in rollouts) for failure in _FAILURES]
    local = [
        len(rollouts),
        sum(r.num_tokens for r in rollouts),
        sum(r.is_truncated for r in rollouts),
        len(rewards),
        math.fsum(rewards),
        math.fsum(reward * reward for reward in rewards),
        advantages.num_groups,
        advantages.num_flat_groups,
        *failures,
    ]
    sums = all_reduce_sum(torch.tensor(local, dtype=torch.float64, device=device)).tolist()
    count, tokens, truncated, num_rewards, total, squares, groups, flat, *failed = sums
    metrics = {
        "rollout/count": count,
        "rollout/length": tokens / count,
        "rollout/truncated": truncated / count,
        "rollout/failed": sum(failed) / count,
        "rollout/flat_groups": flat / groups,
    }
    if num_rewards:
        mean = total / num_rewards
        metrics["rollout/reward"] = mean
        metrics["rollout/reward_std"] = math.sqrt(max(0.0, squares / num_rewards - mean * mean))
    for failure, number in zip(_FAILURES, failed, strict=True):
        if number:
            metrics[f"rollout/failed_{failure.value}"] = number / count
    return metrics
