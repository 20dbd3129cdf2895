"""Turns rollouts into rewards: by a reward model, a judge, checks, or the known right verdict.

A scorer is picklable and travels to every training worker, which scores its own rollouts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from selfreward.config import RatingConfig
from selfreward.engines.protocol import Completion, Generate, GenerationRequest, Sampling
from selfreward.errors import DataError
from selfreward.judging.pointwise import PointwiseRubric, render_pointwise, score_labels
from selfreward.judging.pointwise_scores import parse_pointwise
from selfreward.judging.rewards import (
    Passes,
    Reward,
    RewardFailure,
    checks_reward,
    names_better,
    score_reward,
    verdict_rewards,
)
from selfreward.judging.rubrics import PairwiseRubric
from selfreward.records import derived_seed
from selfreward.training.online.rollouts import Rollout, RolloutPrompt, failure_of, run_within

Answered = tuple[RolloutPrompt, Rollout]


class Scorer(Protocol):
    """Gives each rollout its reward."""

    def check(self, prompts: Sequence[RolloutPrompt]) -> None:
        """Raises DataError where a prompt lacks what the reward needs."""
        ...

    async def __call__(self, answered: Sequence[Answered]) -> list[Reward]:
        """One reward for each rollout, none of which has failed."""
        ...


def rewarded(
    scorer: Scorer,
    prompts: Sequence[RolloutPrompt],
    rollouts: Sequence[Rollout],
    timeout_s: float,
) -> list[Rollout]:
    """Returns the rollouts with their rewards; those that failed before stay as they are.

    Raises:
        EngineError: who scores did not answer, within `timeout_s` at the latest.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    alive = [i for i, rollout in enumerate(rollouts) if rollout.failed is None]
    if not alive:
        return list(rollouts)
    answered = [(by_id[rollouts[i].prompt_id], rollouts[i]) for i in alive]
    rewards = run_within(
        lambda: scorer(answered), timeout_s, f"rewards of {len(answered)} rollouts"
    )
    out = list(rollouts)
    for i, reward in zip(alive, rewards, strict=True):
        out[i] = replace(rollouts[i], reward=reward.value, failed=reward.failure)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModelScorer:
    """The reward of a sequence classifier in a pool of its own."""

    ask: Generate

    def check(self, prompts: Sequence[RolloutPrompt]) -> None:
        """Any prompt will do."""

    async def __call__(self, answered: Sequence[Answered]) -> list[Reward]:
        requests = [
            GenerationRequest(
                id=f"{prompt.id}/{rollout.draw}/reward",
                purpose="score",
                messages=prompt.messages,
                sampling=Sampling(temperature=0.0, max_tokens=1),
                target=rollout.text,
            )
            for prompt, rollout in answered
        ]

        def reward(completion: Completion) -> Reward:
            score = completion.draws[0].score
            if score is None or not math.isfinite(score):
                return Reward(failure=RewardFailure.BAD_SCORE)
            return Reward(value=score)

        return [_read(completion, reward) for completion in await self.ask(requests)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeScorer:
    """The mean score of a judge with a pointwise rubric, as the rating stage asks for it.

    The judge is a pool of its own: the weights of the policy's pool change with each step.
    """

    ask: Generate
    rubric: PointwiseRubric
    rating: RatingConfig
    seed: int

    def check(self, prompts: Sequence[RolloutPrompt]) -> None:
        """Any prompt will do."""

    async def __call__(self, answered: Sequence[Answered]) -> list[Reward]:
        requests = [self._request(prompt, rollout) for prompt, rollout in answered]

        def reward(completion: Completion) -> Reward:
            verdicts = [
                parse_pointwise(self.rubric, draw.text, draw.finish_reason, draw.logps)
                for draw in completion.draws
            ]
            return score_reward(verdicts)

        return [_read(completion, reward) for completion in await self.ask(requests)]

    def _request(self, prompt: RolloutPrompt, rollout: Rollout) -> GenerationRequest:
        rating, sampling = self.rating, self.rating.sampling
        return GenerationRequest(
            id=f"{prompt.id}/{rollout.draw}/rate",
            purpose="rate",
            messages=render_pointwise(self.rubric, prompt.messages, rollout.text),
            sampling=Sampling(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                min_p=sampling.min_p,
                max_tokens=sampling.max_tokens,
                n=rating.num_draws,
                # By the text: the same answer always gets the same reading.
                seed=derived_seed(self.seed, "rate", prompt.id, rollout.text),
                regex=self.rubric.guided_regex if rating.guided else None,
                logps_of=score_labels(self.rubric) if rating.expected else (),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksScorer:
    """The share of a prompt's checks that the answer passes."""

    passes: Passes

    def check(self, prompts: Sequence[RolloutPrompt]) -> None:
        for prompt in prompts:
            if not prompt.checks:
                raise DataError(
                    f"prompt {prompt.id} has no checks, which online.reward=checks needs; leave it"
                    " out or take another reward"
                )

    async def __call__(self, answered: Sequence[Answered]) -> list[Reward]:
        return [
            checks_reward(prompt.checks, rollout.text, self.passes) for prompt, rollout in answered
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictScorer:
    """1 for a judgment that names the better response, a share of it only if both orders do."""

    rubric: PairwiseRubric
    consistency_bonus: float

    def check(self, prompts: Sequence[RolloutPrompt]) -> None:
        golds: dict[str, list[str]] = {}
        for prompt in prompts:
            if prompt.gold is None:
                raise DataError(
                    f"prompt {prompt.id} does not say which response is better, which"
                    " online.reward=verdict needs"
                )
            golds.setdefault(prompt.key, []).append(prompt.gold)
        for key, orders in golds.items():
            if self.consistency_bonus > 0 and sorted(orders) != ["first", "second"]:
                raise DataError(
                    f"pair {key} is not there once in each order, which online.reward=verdict"
                    " needs; set online.consistency_bonus=0 to judge single orders"
                )

    async def __call__(self, answered: Sequence[Answered]) -> list[Reward]:
        right = []
        in_order: dict[tuple[str, str | None, int], bool] = {}
        for prompt, rollout in answered:
            assert prompt.gold is not None
            is_right = names_better(self.rubric, rollout.text, rollout.finish_reason, prompt.gold)
            right.append(is_right)
            in_order[prompt.key, prompt.gold, rollout.draw] = is_right
        swapped = [
            in_order.get((prompt.key, _OTHER_ORDER[prompt.gold], rollout.draw))
            for prompt, rollout in answered
            if prompt.gold is not None
        ]
        return verdict_rewards(right, swapped, self.consistency_bonus)


_OTHER_ORDER = {"first": "second", "second": "first"}


def _read(completion: Completion, reward: Callable[[Completion], Reward]) -> Reward:
    failure = failure_of(completion)
    return reward(completion) if failure is None else Reward(failure=failure)
