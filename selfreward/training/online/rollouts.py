"""What is asked of the policy and what it writes, and where that comes from.

The loop knows `Rollouts` only; `EngineRollouts` asks the warm pool from a training worker.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from selfreward.config_base import SamplingConfig
from selfreward.engines.client import EngineClient
from selfreward.engines.protocol import Completion, GenerationRequest, Sampling
from selfreward.engines.publisher import WeightsPublisher
from selfreward.errors import EngineTimeoutError
from selfreward.judging.rewards import RewardFailure
from selfreward.records import Conversation, ModelRef, derived_seed
from selfreward.records_custom_llm import Check

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPrompt:
    """A prompt to learn on, with what its reward needs.

    Example: `RolloutPrompt(id="task-9c…", messages=(Message(role="user", content="…"),),
    checks=(Check(kind="num_words", args=("3",)),))`
    """

    id: str
    """Unique among the prompts of a run."""
    messages: Conversation
    group: str = ""
    """Prompts of one group are rolled out in the same step by the same worker: the two orders of
    a pair. Empty: a group of its own."""
    checks: tuple[Check, ...] = ()
    gold: Literal["first", "second"] | None = None
    """Which response the prompt, a pair to judge, has the better one; for the reward `verdict`."""

    @property
    def key(self) -> str:
        return self.group or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One sampled answer; `failed` ones have no reward and nothing is learnt from them.

    Example: `Rollout(prompt_id="task-9c…", draw=0, text="parse url", finish_reason="stop",
    num_tokens=3, reward=1.0)`
    """

    prompt_id: str
    draw: int
    text: str
    finish_reason: str
    """`stop` or `length`."""
    num_tokens: int
    token_ids: tuple[int, ...] | None = None
    """The tokens as they were drawn, the end of the turn included, where the source knows them;
    None: the text is tokenised."""
    reward: float | None = None
    failed: RewardFailure | None = None

    @property
    def is_truncated(self) -> bool:
        return self.finish_reason == "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights as an engine finds them.

    Example: `Weights(step=3, folder="runs/a/training/online/weights/step-000003",
    fingerprint="9f3c…")`
    """

    step: int
    """After so many steps of online training; 0 is the model it starts from."""
    folder: str
    fingerprint: str


class Rollouts(Protocol):
    """Where rollouts come from. Every worker has its own copy and asks for its own prompts."""

    def publish(self, weights: Weights) -> None:
        """Makes the policy that writes from now on hold these weights; only worker 0 calls it."""
        ...

    def expect(self, weights: Weights) -> None:
        """Says on the other workers what worker 0 has published."""
        ...

    def sample(self, prompts: Sequence[RolloutPrompt], step: int) -> list[Rollout]:
        """The group of each prompt, prompt after prompt and in the order of draws."""
        ...

    def greedy(self, prompts: Sequence[RolloutPrompt]) -> list[Rollout]:
        """One answer to each prompt, of the likeliest tokens."""
        ...


def run_within(work: Callable[[], Awaitable[T]], limit_s: float, what: str) -> T:
    """Runs a coroutine to its end in this thread.

    Raises:
        EngineTimeoutError: it is not done within `limit_s`.
    """

    async def limited() -> T:
        try:
            return await asyncio.wait_for(work(), limit_s)
        except TimeoutError:
            raise EngineTimeoutError(
                f"{what} were not done within online.rollout_timeout_s={limit_s:g}"
            ) from None

    return asyncio.run(limited())


class EngineRollouts:
    """Rollouts of an engine pool. Draw i of a prompt in a step always has the same seed."""

    def __init__(
        self,
        *,
        publisher: WeightsPublisher,
        name: str,
        iteration: int,
        purpose: str,
        sampling: SamplingConfig,
        group_size: int,
        seed: int,
        timeout_s: float,
    ) -> None:
        """`name` and `iteration` (1 or more) are what published weights are called."""
        self._publisher = publisher
        self._name, self._iteration, self._purpose = name, iteration, purpose
        self._sampling, self._group_size, self._seed = sampling, group_size, seed
        self._timeout_s = timeout_s
        self._client: EngineClient = publisher.client(publisher.model)

    def _ref(self, weights: Weights) -> ModelRef:
        if weights.step == 0:
            return self._publisher.model
        return ModelRef(name=self._name, iteration=self._iteration, fingerprint=weights.fingerprint)

    def publish(self, weights: Weights) -> None:
        self._client = self._publisher.swap(self._ref(weights), weights.folder)

    def expect(self, weights: Weights) -> None:
        self._client = self._publisher.client(self._ref(weights))

    def sample(self, prompts: Sequence[RolloutPrompt], step: int) -> list[Rollout]:
        seeds = [derived_seed(self._seed, "rollout", step, prompt.id) for prompt in prompts]
        return self._ask(prompts, seeds, self._sampling.temperature, self._group_size)

    def greedy(self, prompts: Sequence[RolloutPrompt]) -> list[Rollout]:
        return self._ask(prompts, [0] * len(prompts), 0.0, 1)

    def _ask(
        self, prompts: Sequence[RolloutPrompt], seeds: Sequence[int], temperature: float, n: int
    ) -> list[Rollout]:
        config = self._sampling
        requests = [
            GenerationRequest(
                id=f"{prompt.id}/rollout",
                purpose=self._purpose,
                messages=prompt.messages,
                sampling=Sampling(
                    temperature=temperature,
                    top_p=config.top_p,
                    top_k=config.top_k,
                    min_p=config.min_p,
                    max_tokens=config.max_tokens,
                    n=n,
                    seed=seed,
                    wants_token_ids=True,
                ),
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        if not requests:
            return []
        client = self._client
        completions = run_within(
            lambda: client.generate(requests),
            self._timeout_s,
            f"rollouts of {len(requests)} prompts",
        )
        return [
            rollout
            for prompt, completion in zip(prompts, completions, strict=True)
            for rollout in _rollouts(prompt, completion, n)
        ]


def failure_of(completion: Completion) -> RewardFailure | None:
    """The failure of a request that its engine refused for good, None where it answered."""
    if completion.error is None:
        return None
    if completion.error == RewardFailure.PROMPT_TOO_LONG.value:
        return RewardFailure.PROMPT_TOO_LONG
    return RewardFailure.BAD_REQUEST


def _rollouts(prompt: RolloutPrompt, completion: Completion, n: int) -> list[Rollout]:
    failure = failure_of(completion)
    if failure is not None:
        return [
            Rollout(
                prompt_id=prompt.id,
                draw=draw,
                text="",
                finish_reason="stop",
                num_tokens=0,
                failed=failure,
            )
            for draw in range(n)
        ]
    return [
        Rollout(
            prompt_id=prompt.id,
            draw=index,
            text=draw.text,
            finish_reason=draw.finish_reason,
            num_tokens=draw.num_tokens,
            token_ids=draw.token_ids,
        )
        for index, draw in enumerate(completion.draws)
    ]
