"""What a reward is made of: which judgment is asked for, its number, and the texts in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from selfreward.client.calls import (
    JudgeOptions,
    PromptLike,
    checked,
    pairwise_request,
    score_request,
)
from selfreward.client.sync_client import JudgeClient
from selfreward.errors import ConfigError, DataError
from selfreward.serving.judge_wire import Options, PairwiseJudgment, ScoreJudgment

RewardRoute = Literal["score", "pairwise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A prompt with a response to judge.

    Example:
        Judged(prompt="2+2?", response="4", reference="It is 4.")
    """

    prompt: PromptLike
    response: str
    reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRule:
    """How a judgment becomes a number.

    Example:
        RewardRule(route="score", normalised=True, options={"votes": 3})
    """

    route: RewardRoute
    normalised: bool
    options: JudgeOptions

    def __post_init__(self) -> None:
        if self.route not in ("score", "pairwise"):
            raise ConfigError(f"route={self.route!r} should be score or pairwise")
        if self.options.get("reference") is not None:
            raise ConfigError(
                "reference= would be the same for every prompt; name the data's own column or key"
            )
        checked(Options, self.options)

    def judge(
        self, client: JudgeClient, items: Sequence[Judged]
    ) -> Sequence[ScoreJudgment | PairwiseJudgment]:
        """One judgment per item, in order. For `pairwise` every item has a reference."""
        if self.route == "score":
            return client.score_batch(
                score_request(
                    i.prompt, i.response, self.options | JudgeOptions(reference=i.reference)
                )
                for i in items
            )
        return client.pairwise_batch(
            pairwise_request(i.prompt, i.response, i.reference or "", self.options) for i in items
        )

    def reward(self, judgment: ScoreJudgment | PairwiseJudgment) -> float | None:
        if isinstance(judgment, ScoreJudgment):
            return score_reward(judgment, normalised=self.normalised)
        return pairwise_reward(judgment)


def score_reward(judgment: ScoreJudgment, *, normalised: bool) -> float | None:
    """The score, from 0 to 1 by the rubric's scale if `normalised`; None for a failed judgment."""
    if judgment.outcome != "score" or judgment.score is None:
        return None
    low, high = judgment.scale
    return (judgment.score - low) / (high - low) if normalised else judgment.score


def pairwise_reward(judgment: PairwiseJudgment) -> float | None:
    """P(the first response is better); None for a failed judgment.

    An engine without probabilities gives the share of its draws that name the first, a tie being
    half a draw.
    """
    if judgment.outcome not in ("choice", "tie"):
        return None
    if judgment.probability_first is not None:
        return judgment.probability_first
    votes = judgment.votes
    total = votes.first + votes.second + votes.tie
    return (votes.first + votes.tie / 2) / total if total else None


def response_text(completion: Any) -> str:
    """The text to judge: a completion that is messages counts by its last assistant message, which
    is what a reader gets after tool calls and the like."""
    if isinstance(completion, str):
        return completion
    spoken = [m for m in completion if m.get("role") == "assistant"]
    return _content_text(spoken[-1].get("content")) if spoken else ""


def prompt_messages(prompt: Any) -> PromptLike:
    """A prompt as the client takes it: only roles and texts of messages are kept."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": m["role"], "content": _content_text(m.get("content"))} for m in prompt]


def _content_text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if any(block.get("type") != "text" for block in content):
        raise DataError("a message holds more than text; the judge reads text only")
    return "".join(block["text"] for block in content)
