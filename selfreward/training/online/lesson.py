"""What a worker learns from the rollouts of a step: which count, and how much better each is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfreward.config_custom_llm import OnlineConfig
from selfreward.judging.rewards import RewardFailure
from selfreward.training.online.advantages import Advantages, group_advantages
from selfreward.training.online.encoding import encode_rollouts
from selfreward.training.online.rollouts import Rollout, RolloutPrompt
from selfreward.training.online.update import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The rollouts of a worker's prompts, those to learn from with their advantages."""

    rollouts: list[Rollout]
    """All of them; those too long to train on have become failures."""
    samples: list[Sample]
    advantages: Advantages
    """Of all rollouts, in their order."""


def make_lesson(
    tokenizer: Any,
    prompts: Sequence[RolloutPrompt],
    rollouts: Sequence[Rollout],
    config: OnlineConfig,
) -> Lesson:
    """Compares the rollouts of each prompt with each other.

    Failed rollouts, and with `config.truncated` "mask" those that were cut, are neither learnt from
    nor part of anybody's baseline.
    """
    rollouts = list(rollouts)
    alive = [i for i, rollout in enumerate(rollouts) if rollout.failed is None]
    by_id = {prompt.id: prompt for prompt in prompts}
    encoded = encode_rollouts(tokenizer, by_id, [rollouts[i] for i in alive])
    rows = {}
    for i, row in zip(alive, encoded, strict=True):
        if row.longest_sequence > config.training.max_length:
            rollouts[i] = replace(rollouts[i], reward=None, failed=RewardFailure.TOO_LONG)
        elif config.truncated == "keep" or not rollouts[i].is_truncated:
            rows[i] = row
    advantages = group_advantages(
        [rollout.reward if i in rows else None for i, rollout in enumerate(rollouts)],
        [rollout.prompt_id for rollout in rollouts],
        config.advantage,
    )
    samples = [
        Sample(
            row=row,
            advantage=advantages.values[i],
            # Every update of a step sees about as many draws of each prompt as any other.
            part=rollouts[i].draw % config.updates_per_step,
        )
        for i, row in rows.items()
    ]
    return Lesson(rollouts=rollouts, samples=samples, advantages=advantages)
