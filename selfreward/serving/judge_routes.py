"""`/v1/judge/…`: pairs, scores and rankings, one or many, whole or streamed."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from selfreward.config_serving import LimitsConfig
from selfreward.serving.access import admitted, require
from selfreward.serving.engine import Judgment
from selfreward.serving.http_errors import ApiError, api_error
from selfreward.serving.judge_wire import (
    PairwiseBatch,
    PairwiseJudgment,
    PairwiseJudgments,
    PairwiseRequest,
    RankBatch,
    RankJudgment,
    RankJudgments,
    RankRequest,
    RationalePiece,
    RewardAnswer,
    RewardLogs,
    RewardRequest,
    ScoreBatch,
    ScoreJudgment,
    ScoreJudgments,
    ScoreRequest,
    StreamEvent,
    StreamRequest,
)
from selfreward.serving.rubric_choice import JudgeRequest, RequestError, check_limits
from selfreward.serving.service import Service, as_api_error
from selfreward.serving.wire import ErrorBody, JudgeVersion

J = TypeVar("J", bound=Judgment)

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody}
    for status in (400, 401, 403, 408, 413, 415, 422, 429, 500, 503, 504)
}
"""For the OpenAPI document: every refusal has the same body."""
EVENT_STREAM = "text/event-stream"

_EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["rationale", "judgment", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {EVENT_STREAM: {"schema": _EVENT_SCHEMA}}}
}
"""For the OpenAPI document: what is streamed has one form, whatever is judged."""

router = APIRouter(
    prefix="/v1/judge",
    tags=["judge"],
    responses=REFUSALS,
    dependencies=[Depends(require("user")), Depends(admitted)],
)


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(service_of)]


async def _judged(
    service: Service, request: Request, requests: Sequence[JudgeRequest], kind: type[J]
) -> list[J]:
    service.check(requests)
    judgments = await service.judge(requests, request.state.request_id)
    return [judgment for judgment in judgments if isinstance(judgment, kind)]


@router.post("/pairwise", operation_id="judge_pairwise")
async def pairwise(
    body: PairwiseRequest | PairwiseBatch, request: Request, service: Here
) -> PairwiseJudgment | PairwiseJudgments:
    """Compare two responses to one prompt, in both orders; or a batch of such pairs."""
    if isinstance(body, PairwiseBatch):
        return PairwiseJudgments(
            batch=await _judged(service, request, body.batch, PairwiseJudgment)
        )
    (judgment,) = await _judged(service, request, [body], PairwiseJudgment)
    return judgment


@router.post("/score", operation_id="judge_score")
async def score(
    body: ScoreRequest | ScoreBatch, request: Request, service: Here
) -> ScoreJudgment | ScoreJudgments:
    """Score one response by itself; or a batch of such responses."""
    if isinstance(body, ScoreBatch):
        return ScoreJudgments(batch=await _judged(service, request, body.batch, ScoreJudgment))
    (judgment,) = await _judged(service, request, [body], ScoreJudgment)
    return judgment


@router.post("/rank", operation_id="judge_rank")
async def rank(
    body: RankRequest | RankBatch, request: Request, service: Here
) -> RankJudgment | RankJudgments:
    """Order several responses from best to worst; or a batch of such sets."""
    if isinstance(body, RankBatch):
        return RankJudgments(batch=await _judged(service, request, body.batch, RankJudgment))
    (judgment,) = await _judged(service, request, [body], RankJudgment)
    return judgment


@router.post(
    "/pairwise/stream",
    operation_id="judge_pairwise_stream",
    response_class=StreamingResponse,
    responses=_EVENTS,
)
async def pairwise_stream(
    body: PairwiseRequest, request: Request, service: Here
) -> StreamingResponse:
    """The same as `/pairwise`, as server-sent events: `rationale` pieces, then the `judgment`."""
    return _streamed(service, request, body)


@router.post(
    "/score/stream",
    operation_id="judge_score_stream",
    response_class=StreamingResponse,
    responses=_EVENTS,
)
async def score_stream(body: ScoreRequest, request: Request, service: Here) -> StreamingResponse:
    """The same as `/score`, as server-sent events: `rationale` pieces, then the `judgment`."""
    return _streamed(service, request, body)


def _streamed(service: Service, request: Request, body: StreamRequest) -> StreamingResponse:
    service.check([body])
    events = service.judge_stream(body, request.state.request_id)
    return StreamingResponse(_sent(events), media_type=EVENT_STREAM)


async def _sent(events: AsyncIterator[StreamEvent]) -> AsyncIterator[str]:
    try:
        async for event in events:
            if isinstance(event, RationalePiece):
                yield _event("rationale", json.dumps(event.model_dump()))
            else:
                yield _event("judgment", event.model_dump_json())
    except ApiError as error:
        # The status has been sent: what went wrong can only be told as an event.
        yield _event("error", ErrorBody(error=error.detail).model_dump_json())


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


reward_router = APIRouter(tags=["judge"], responses=REFUSALS)


@reward_router.post(
    "/get_reward",
    operation_id="get_reward",
    dependencies=[Depends(require("user")), Depends(admitted)],
)
async def get_reward(
    body: RewardRequest,
    request: Request,
    response: Response,
    service: Here,
    failed_reward: Annotated[float | None, Query(allow_inf_nan=False)] = None,
) -> RewardAnswer:
    """Scores of whole texts, in the form that OpenRLHF's remote reward model client reads.

    With `prompts`, each text begins with its prompt, which is taken off; without them the whole
    text is judged as a response to the request to be helpful. A text that is blank, too long or
    not scored by the judge has null, or `failed_reward` where the caller gives one, and 1 in
    `extra_logs.judge_failed`.
    """
    prompts = body.prompts if body.prompts is not None else [""] * len(body.query)
    if len(prompts) != len(body.query):
        message = f"{len(body.query)} texts in query and {len(prompts)} in prompts"
        raise api_error(422, "invalid_request", message, param="prompts")
    limits = service.config.limits
    requests = [
        _reward_request(text, prompt, limits)
        for text, prompt in zip(body.query, prompts, strict=True)
    ]
    asked = [r for r in requests if r is not None]
    judged = await _judged(service, request, asked, ScoreJudgment) if asked else []
    left = iter(judged)
    scores = [None if r is None else next(left).score for r in requests]
    logs = RewardLogs(judge_failed=[float(s is None) for s in scores])
    if judged:
        name_judge(response, judged[0].judge, judged[0].rubric)
    filled = [failed_reward if s is None else s for s in scores]
    return RewardAnswer(rewards=filled, scores=filled, extra_logs=logs)


_ANY_TASK = "Write something helpful."
_NO_TEXT_TO_SCORE = ("blank_text", "text_too_long")


def _reward_request(text: str, prompt: str, limits: LimitsConfig) -> ScoreRequest | None:
    """None for a text that cannot be scored: a policy under training writes such ones too, and the
    rest of its batch must not be lost with them."""
    response = text.removeprefix(prompt).strip()
    if not response:
        return None
    request = ScoreRequest(prompt=prompt.strip() or _ANY_TASK, response=response)
    try:
        check_limits(request, limits)
    except RequestError as error:
        if error.code in _NO_TEXT_TO_SCORE:
            return None
        raise as_api_error(error) from None
    return request


def name_judge(response: Response, judge: JudgeVersion, rubric: str | None = None) -> None:
    """Says in the headers who answered, where the body's form has no place for it."""
    response.headers["x-judge-version"] = str(judge.version)
    response.headers["x-judge-fingerprint"] = judge.fingerprint
    if rubric is not None:
        response.headers["x-rubric"] = rubric
