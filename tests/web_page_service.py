"""A judge service of fixed answers for the tests of the web page: real wire models, no engine."""

import socket
import threading
import time
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from selfreward.serving.judge_wire import (
    OrderReading,
    PairwiseJudgment,
    PairwiseRequest,
    RankedPair,
    RankJudgment,
    RankRequest,
    Standing,
    Usage,
    VoteCounts,
)
from selfreward.serving.review_wire import (
    AgreementReport,
    BiasFigure,
    JudgeAgreement,
    PairOfReviewers,
    PromotedJudge,
    PromotionHistory,
    ReviewAnswer,
    ReviewReceipt,
    ReviewTask,
    ShownResponse,
)
from selfreward.serving.web_page import mount_page
from selfreward.serving.wire import ChatMessage, ErrorBody, ErrorDetail, JudgeVersion

JUDGE = JudgeVersion(version=3, model="runs/first/M2", iteration=2, fingerprint="9f3c51d0a7e2")

FORGED = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "</div><b>bold</b>"
)


def make_task(number: int, texts: list[str], prompt: str) -> ReviewTask:
    return ReviewTask(
        id=f"task-{number}",
        kind="pair" if len(texts) == 2 else "rank",
        prompt=[ChatMessage(role="user", content=prompt)],
        responses=[ShownResponse(label=chr(65 + i), text=t) for i, t in enumerate(texts)],
        num_left=1,
        num_done=0,
    )


def pair_tasks(num: int) -> list[ReviewTask]:
    return [
        make_task(i, [f"{i} plus {i} is {2 * i}.", f"{i} plus {i} is {2 * i + 1}."], f"{i} + {i}?")
        for i in range(num)
    ]


@dataclass(kw_only=True)
class Service:
    """What the app answers with, and what it was sent."""

    tasks: list[ReviewTask] = field(default_factory=list)
    key: str | None = None
    refuse_with: tuple[int, str, str] | None = None
    """Status, message and Retry-After of the next request, once."""
    judged: list[PairwiseRequest | RankRequest] = field(default_factory=list)
    answers: list[ReviewAnswer] = field(default_factory=list)
    reviewers: list[str | None] = field(default_factory=list)
    base: str = ""

    def left(self) -> list[ReviewTask]:
        done = {answer.task_id for answer in self.answers}
        return [task for task in self.tasks if task.id not in done]


def pairwise(request: PairwiseRequest) -> PairwiseJudgment:
    """Answers that begin with "cut" leave the judge without a verdict."""
    if request.first.startswith("cut"):
        return PairwiseJudgment(
            id="j-2",
            outcome="truncated",
            detail="finish_reason length after 400 tokens",
            probability_first=0.5,
            votes=VoteCounts(failed=2),
            rubric="pairwise_reasoned",
            judge=JUDGE,
        )
    readings = [
        OrderReading(
            shown="first_second",
            outcome="choice",
            choice="first",
            probability_first=0.91,
            votes=VoteCounts(first=3),
            rationales=["A gives the year 1889; B is ten years off."] * 3,
        ),
        OrderReading(
            shown="second_first",
            outcome="choice",
            choice="first",
            probability_first=0.75,
            votes=VoteCounts(first=2, failed=1),
            rationales=["The second text names the right year.", "A is right.", ""],
        ),
    ]
    return PairwiseJudgment(
        id="j-1",
        outcome="choice",
        choice="first",
        probability_first=0.83,
        consistent=True,
        votes=VoteCounts(first=5, failed=1),
        orders=readings,
        rationale="A gives the year 1889; B is ten years off.",
        rubric=request.rubric if isinstance(request.rubric, str) else "pairwise_verdict_only",
        judge=JUDGE,
        usage=Usage(prompt_tokens=1204, completion_tokens=312),
    )


def rank(request: RankRequest) -> RankJudgment:
    """The last answer is best, the first two are equal."""
    n = len(request.responses)
    ranking = [[i] for i in range(n - 1, 1, -1)] + [[0, 1]]
    standings = [Standing(index=0, points=0.5, ties=1), Standing(index=1, points=0.5, ties=1)]
    standings += [Standing(index=i, points=i, wins=i, losses=n - 1 - i) for i in range(2, n)]
    compared = []
    for first, second in combinations(range(n), 2):
        pair = PairwiseRequest(
            prompt=request.prompt, first=request.responses[second], second=request.responses[first]
        )
        # The later one stands first where it is read, so that it is the better one here.
        compared.append(RankedPair(first=second, second=first, judgment=pairwise(pair)))
    return RankJudgment(
        id="j-3",
        outcome="ranking",
        ranking=ranking,
        standings=standings,
        num_comparisons=len(compared),
        comparisons=compared,
        consistent_share=0.9,
        rubric="pairwise_verdict_only",
        judge=JUDGE,
    )


AGREEMENT = AgreementReport(
    num_answers=42,
    num_comparisons=57,
    reviewers=["anna", "ben", "chris"],
    krippendorff_alpha=0.6187,
    between_reviewers=[
        PairOfReviewers(one="anna", other="ben", num_common=18, agreement=5 / 6, cohen_kappa=0.66),
        PairOfReviewers(one="anna", other="chris", num_common=0, agreement=None, cohen_kappa=None),
    ],
    with_judges=[
        JudgeAgreement(judge="M1", num_common=40, agreement=0.7, cohen_kappa=0.4),
        JudgeAgreement(judge="M2", num_common=40, agreement=0.8, cohen_kappa=0.6),
    ],
)

HISTORY = PromotionHistory(
    judges=[
        PromotedJudge(
            judge=JUDGE,
            since="2026-03-04T09:30:00Z",
            by="run",
            reason="accuracy on held-out pairs rose by 0.04 (95 % interval 0.01 to 0.07)",
            accuracy=0.71,
            bias_card=[
                BiasFigure(name="n", value=64),
                BiasFigure(name="swap_flip_rate", value=0.125),
                BiasFigure(name="score_entropy_bits", value=1.4),
                BiasFigure(name="self_preference", value=None),
            ],
        ),
        PromotedJudge(
            judge=JudgeVersion(version=1, model="seed", iteration=0, fingerprint="00aa"),
            since="2026-03-01T08:00:00Z",
            by="start",
            reason=None,
            accuracy=None,
            bias_card=[],
        ),
    ]
)


ERROR_TYPES: dict[int, Literal["authentication_error", "overloaded_error"]] = {
    401: "authentication_error",
    503: "overloaded_error",
}


def refusal(status: int, message: str, retry_after: str | None = None) -> JSONResponse:
    body = ErrorBody(error=ErrorDetail(message=message, type=ERROR_TYPES[status]))
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def make_app(service: Service) -> FastAPI:
    app = FastAPI()
    mount_page(app)

    @app.middleware("http")
    async def let_in(request: Request, call_next):  # type: ignore[no-untyped-def]
        if "/v1/" not in request.url.path:
            return await call_next(request)
        if service.refuse_with is not None:
            status, message, retry_after = service.refuse_with
            service.refuse_with = None
            return refusal(status, message, retry_after)
        held = request.headers.get("authorization")
        if service.key is not None and held != f"Bearer {service.key}":
            return refusal(401, "this service needs an API key")
        return await call_next(request)

    @app.post("/v1/judge/pairwise")
    async def judge_pair(body: PairwiseRequest) -> PairwiseJudgment:
        service.judged.append(body)
        return pairwise(body)

    @app.post("/v1/judge/rank")
    async def judge_rank(body: RankRequest) -> RankJudgment:
        service.judged.append(body)
        return rank(body)

    @app.get("/v1/review/next", response_model=None)
    async def next_task(request: Request) -> ReviewTask | Response:
        service.reviewers.append(request.headers.get("x-reviewer"))
        left = service.left()
        if not left:
            return Response(status_code=204)
        counts = {"num_left": len(left), "num_done": len(service.answers)}
        return left[0].model_copy(update=counts)

    @app.post("/v1/review/answers")
    async def take(body: ReviewAnswer) -> ReviewReceipt:
        service.answers.append(body)
        return ReviewReceipt(
            answer_id=f"answer-{len(service.answers)}",
            num_left=len(service.left()),
            num_done=len(service.answers),
        )

    @app.get("/v1/review/agreement")
    async def agreement() -> AgreementReport:
        return AGREEMENT

    @app.get("/v1/review/history")
    async def history() -> PromotionHistory:
        return HISTORY

    return app


class Server:
    """An app on a free loopback port, under a prefix as a proxy would give it one."""

    def __init__(self, app: FastAPI, prefix: str = "") -> None:
        # The lifespan of an app that is mounted in another one is never run.
        outer = FastAPI() if prefix else app
        if prefix:
            outer.mount(prefix, app)
        # Bound before the server starts, so that nobody else can take the port in between.
        listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{listener.getsockname()[1]}{prefix}/"
        self._server = uvicorn.Server(uvicorn.Config(outer, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the test's web server did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
