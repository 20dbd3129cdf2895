"""A score of one response, from the request to generation requests and from completions to a typed
outcome; and what the plans of all routes share.

A plan is plain data: whoever holds it may send its requests in any way (all at once with
`run_plan`, or streamed) and hands the completions back in their order. Nothing here knows HTTP,
replicas or how versions change.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import Completion, Generate, GenerationRequest, Sampling
from selfreward.errors import EngineError, EngineTimeoutError
from selfreward.judging.pointwise import PointwiseRubric, render_pointwise
from selfreward.judging.pointwise_scores import parse_pointwise
from selfreward.judging.voting import mean_score
from selfreward.records import Conversation, Message, Outcome, derived_seed
from selfreward.serving.judge_wire import (
    JudgedOutcome,
    Options,
    Prompt,
    ScoreJudgment,
    ScoreRequest,
    Usage,
)
from selfreward.serving.rationales import ScoreListener, rationale_before_score
from selfreward.serving.rubric_choice import choose_pointwise_rubric
from selfreward.serving.wire import JudgeVersion

SEVERAL_VOTES_TEMPERATURE = 0.7
# `Score: 10` and an end of turn, for a tokenizer that knows little more than characters.
_SCORE_TOKENS = 16

OUTCOMES: dict[Outcome, JudgedOutcome] = {
    Outcome.CHOICE: "choice",
    Outcome.SCORE: "score",
    Outcome.TIE: "tie",
    Outcome.UNPARSED: "unparsed",
    Outcome.TRUNCATED: "truncated",
    Outcome.REFUSED: "refused",
}
FAILED_READING: dict[Outcome, str] = {
    Outcome.UNPARSED: "what the judge wrote holds no clear verdict",
    Outcome.TRUNCATED: "the judge's text was cut at its token limit, before a verdict",
    Outcome.REFUSED: "the judge declined to judge",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there was nothing to read.

    Example: `Failure(outcome="prompt_too_long", detail="2310 tokens, the context has 2048")`
    """

    outcome: JudgedOutcome
    detail: str


JudgmentT_co = TypeVar("JudgmentT_co", covariant=True)


class Plan(Protocol[JudgmentT_co]):
    """What is asked of the engine for one judgment, and how its answers are read."""

    @property
    def requests(self) -> list[GenerationRequest]: ...

    def judgment(
        self, completions: Sequence[Completion], version: JudgeVersion
    ) -> JudgmentT_co: ...

    def failure(self, failure: Failure, version: JudgeVersion) -> JudgmentT_co: ...


async def run_plan(
    plan: Plan[JudgmentT_co],
    generate: Generate,
    version: JudgeVersion,
    timeout_s: float,
    waited_s: float = 0.0,
) -> JudgmentT_co:
    """Sends a plan's requests and reads the answers, all within `timeout_s` seconds, of which
    `waited_s` have passed.

    Time running out, here or in the engine, is the outcome `timed_out`, and an engine that broke
    down is `failed` with its reason; neither raises. `generate` is cancelled when time is up.
    """
    try:
        async with asyncio.timeout(timeout_s - waited_s):
            completions = await generate(list(plan.requests))
    except (TimeoutError, EngineTimeoutError) as error:
        detail = str(error) or f"no judgment within {timeout_s:g} s"
        return plan.failure(Failure(outcome="timed_out", detail=detail), version)
    except EngineError as error:
        detail = str(error) or type(error).__name__
        return plan.failure(Failure(outcome="failed", detail=detail), version)
    return plan.judgment(completions, version)


def engine_failure(completion: Completion) -> Failure | None:
    """Why a completion has nothing to read; None where it has draws."""
    if completion.error == "prompt_too_long":
        detail = completion.detail or "the prompt leaves no room in the judge's context"
        return Failure(outcome="prompt_too_long", detail=detail)
    if completion.error is not None:
        detail = ": ".join(x for x in (completion.error, completion.detail) if x)
        return Failure(outcome="failed", detail=detail)
    if not completion.draws:
        return Failure(outcome="failed", detail="the engine returned no draw")
    return None


def usage_of(completions: Sequence[Completion]) -> Usage:
    return Usage(
        prompt_tokens=sum(c.num_prompt_tokens for c in completions),
        completion_tokens=sum(d.num_tokens for c in completions for d in c.draws),
    )


def conversation_of(prompt: Prompt) -> Conversation:
    if isinstance(prompt, str):
        return (Message(role="user", content=prompt),)
    return tuple(Message(role=m.role, content=m.content) for m in prompt)


def temperature_of(options: Options) -> float:
    """The request's own; else 0 for one vote, which is then the likeliest, and 0.7 for several."""
    if options.temperature is not None:
        return options.temperature
    return 0.0 if options.votes == 1 else SEVERAL_VOTES_TEMPERATURE


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePlan:
    """One response to be scored; there is one request.

    Example: `ScorePlan(request_id="req-1", rubric=PointwiseRubric(…),
    requests=[GenerationRequest(…)])`
    """

    request_id: str
    rubric: PointwiseRubric
    requests: list[GenerationRequest]

    def judgment(self, completions: Sequence[Completion], version: JudgeVersion) -> ScoreJudgment:
        """Reads the one completion: the mean of the draws that have a score."""
        (completion,) = completions
        failure = engine_failure(completion)
        if failure is not None:
            return self.failure(failure, version).model_copy(
                update={"usage": usage_of(completions)}
            )
        verdicts = [
            parse_pointwise(self.rubric, d.text, d.finish_reason, d.logps) for d in completion.draws
        ]
        vote = mean_score(verdicts)
        scored = [
            draw
            for draw, verdict in zip(completion.draws, verdicts, strict=True)
            if verdict.score is not None
        ]
        return ScoreJudgment(
            id=self.request_id,
            outcome=OUTCOMES[vote.verdict.outcome],
            score=vote.verdict.score,
            scale=self.rubric.scale,
            num_scores=vote.num_scores,
            scores=[verdict.score for verdict in verdicts],
            detail=FAILED_READING.get(vote.verdict.outcome),
            rationale=(
                rationale_before_score(scored[0]) if scored and self.rubric.wants_reason else None
            ),
            rubric=self.rubric.id,
            judge=version,
            usage=usage_of(completions),
        )

    def failure(self, failure: Failure, version: JudgeVersion) -> ScoreJudgment:
        """The judgment where nothing came back to read."""
        return ScoreJudgment(
            id=self.request_id,
            outcome=failure.outcome,
            scale=self.rubric.scale,
            detail=failure.detail,
            rubric=self.rubric.id,
            judge=version,
        )

    def listeners(self) -> list[ScoreListener | None]:
        """What tells the rationale while it is written."""
        return [ScoreListener() if self.rubric.wants_reason else None]


def plan_score(request: ScoreRequest, config: ServingConfig, request_id: str) -> ScorePlan:
    """Plans the score of one response. Raises ConfigError as `choose_pointwise_rubric` does."""
    rubric = choose_pointwise_rubric(request, config)
    messages = conversation_of(request.prompt)
    return response_plan(request, messages, request.response, rubric, config, request_id)


def response_plan(
    options: Options,
    messages: Conversation,
    response: str,
    rubric: PointwiseRubric,
    config: ServingConfig,
    request_id: str,
) -> ScorePlan:
    """The same for a response whose rubric is chosen: of a request, or of a ranking.

    Draws depend on the request's seed and its texts alone, not on its id.
    """
    turns = [[m.role, m.content] for m in messages]
    request = GenerationRequest(
        id=f"{request_id}/score",
        purpose="rate",
        messages=render_pointwise(rubric, messages, response, options.reference),
        sampling=Sampling(
            temperature=temperature_of(options),
            max_tokens=config.max_rationale_tokens if rubric.wants_reason else _SCORE_TOKENS,
            n=options.votes,
            seed=derived_seed(options.seed, "score", turns, response),
            regex=rubric.guided_regex if config.guided else None,
        ),
    )
    return ScorePlan(request_id=request_id, rubric=rubric, requests=[request])
