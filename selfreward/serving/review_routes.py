"""`/v1/review/…`: tasks for people, their answers, agreement, the history, the export."""

from typing import Annotated, Literal
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import TypeAdapter, ValidationError

from selfreward.errors import DataError
from selfreward.serving.access import require
from selfreward.serving.http_errors import api_error
from selfreward.serving.judge_routes import REFUSALS, Here
from selfreward.serving.keys import Caller
from selfreward.serving.review.agreement import agreement_report, item_verdicts
from selfreward.serving.review.blind import blind_task
from selfreward.serving.review.export import human_preferences, human_rankings, jsonl
from selfreward.serving.review.history import promotion_history
from selfreward.serving.review_desk import ReviewDesk
from selfreward.serving.review_wire import (
    AgreementReport,
    PromotionHistory,
    ReviewAnswer,
    Reviewer,
    ReviewReceipt,
    ReviewTask,
)
from selfreward.serving.wire import ErrorBody

_REVIEWER: TypeAdapter[str] = TypeAdapter(Reviewer)

router = APIRouter(prefix="/v1/review", tags=["review"], responses=REFUSALS)
Asking = Annotated[Caller, Depends(require("user"))]


def _desk(request: Request) -> ReviewDesk:
    desk: ReviewDesk | None = request.app.state.review
    if desk is None:
        raise api_error(404, "no_review", "review is switched off here: serving.review.enabled")
    return desk


Desk = Annotated[ReviewDesk, Depends(_desk)]


def _reviewer(
    request: Request,
    caller: Asking,
    x_reviewer: Annotated[str | None, Header(max_length=1000)] = None,
) -> str:
    """Whose answer it is: the key's name. Without keys, the name that the page sends, percent
    encoded, since a browser puts nothing but ASCII into a header."""
    if request.app.state.access.keys is not None or x_reviewer is None:
        return caller.name
    try:
        return _REVIEWER.validate_python(unquote(x_reviewer))
    except ValidationError:
        message = "a reviewer's name has 1 to 80 characters and no control characters"
        raise api_error(422, "invalid_request", message, param="X-Reviewer") from None


Who = Annotated[str, Depends(_reviewer)]


@router.get(
    "/next",
    operation_id="next_review_task",
    response_model=ReviewTask,
    responses={204: {"description": "every task is answered"}, 404: {"model": ErrorBody}},
)
async def next_task(desk: Desk, reviewer: Who) -> object:
    """The task this reviewer should answer next: where judges are least sure, first."""
    served = await desk.work(lambda: desk.store.next_task(reviewer))
    return Response(status_code=204) if served is None else blind_task(served)


@router.post(
    "/answers",
    operation_id="answer_review_task",
    responses={404: {"model": ErrorBody}, 409: {"model": ErrorBody}},
)
async def answer(body: ReviewAnswer, desk: Desk, reviewer: Who) -> ReviewReceipt:
    """Store an answer; another answer to the same task replaces it."""
    try:
        stored = await desk.work(lambda: desk.store.save_answer(reviewer, body))
    except DataError as error:
        raise api_error(409, "answer_does_not_fit", str(error)) from None
    left, done = await desk.work(lambda: desk.store.counts(reviewer))
    return ReviewReceipt(answer_id=stored.id, num_left=left, num_done=done)


@router.get("/agreement", operation_id="review_agreement", responses={404: {"model": ErrorBody}})
async def agreement(desk: Desk, caller: Asking) -> AgreementReport:
    """How people agree with each other and with each version of the judge."""

    def report() -> AgreementReport:
        # Answers first: a task answered in between is then among the tasks.
        answers = desk.store.all_answers()
        tasks = desk.store.answered_tasks()
        return agreement_report(tasks, answers, item_verdicts(tasks))

    return await desk.work(report)


@router.get("/history", operation_id="review_history", responses={404: {"model": ErrorBody}})
async def history(desk: Desk, service: Here, caller: Asking) -> PromotionHistory:
    """The judges that were promoted, newest first, with their bias cards."""
    served = await service.history()
    try:
        return await desk.work(lambda: promotion_history(desk.layout, served))
    except DataError as error:
        raise api_error(404, "no_run", str(error)) from None


@router.get(
    "/export",
    operation_id="review_export",
    response_class=Response,
    responses={
        200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}},
        404: {"model": ErrorBody},
    },
    dependencies=[Depends(require("admin"))],
)
async def export(
    desk: Desk, what: Annotated[Literal["preferences", "ranked"], Query()] = "preferences"
) -> Response:
    """People's answers as training data: preferences, or responses with scores, as JSON lines."""

    def lines() -> str:
        answers = desk.store.all_answers()
        items = desk.store.all_tasks()
        if what == "preferences":
            return "".join(jsonl(human_preferences(items, answers)))
        return "".join(jsonl(human_rankings(items, answers)))

    return Response(await desk.work(lines), media_type="application/x-ndjson")
