"""A judge service of a few lines for the tests of its client: right bodies, no model."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from selfreward.serving.admin_wire import PromoteRequest, VersionEntry, VersionHistory
from selfreward.serving.judge_wire import (
    PairwiseBatch,
    PairwiseJudgment,
    PairwiseJudgments,
    PairwiseRequest,
    RankBatch,
    RankJudgment,
    RankJudgments,
    RankRequest,
    ScoreBatch,
    ScoreJudgment,
    ScoreJudgments,
    ScoreRequest,
    Standing,
    VoteCounts,
)
from selfreward.serving.wire import ErrorBody, ErrorDetail, JudgeVersion

KEY = "sr-right"
JUDGE = JudgeVersion(version=3, model="M2", iteration=2, fingerprint="abc")
ENTRY = VersionEntry(judge=JUDGE, since="2026-01-02T03:04:05Z", by="promote")


def pairwise_judgment(request: PairwiseRequest) -> PairwiseJudgment:
    """The longer response wins with P = 0.9; equal lengths tie; "fail" gets no verdict."""
    fields: dict[str, Any] = {"id": request.first, "rubric": "r", "judge": JUDGE}
    if "fail" in request.first:
        return PairwiseJudgment(outcome="unparsed", detail="no verdict found", **fields)
    if len(request.first) == len(request.second):
        return PairwiseJudgment(outcome="tie", votes=VoteCounts(tie=2), **fields)
    first = len(request.first) > len(request.second)
    return PairwiseJudgment(
        outcome="choice",
        choice="first" if first else "second",
        probability_first=0.9 if first else 0.1,
        votes=VoteCounts(first=2 * first, second=2 * (not first)),
        **fields,
    )


def score_judgment(request: ScoreRequest) -> ScoreJudgment:
    """The response's length as its score from 0 to 5, one more with a reference."""
    fields: dict[str, Any] = {
        "id": request.response,
        "scale": (0, 5),
        "rubric": "r",
        "judge": JUDGE,
    }
    if "fail" in request.response:
        return ScoreJudgment(outcome="truncated", detail="cut off at 8 tokens", **fields)
    score = float(len(request.response) + (request.reference is not None))
    return ScoreJudgment(outcome="score", score=score, num_scores=1, scores=[score], **fields)


def rank_judgment(request: RankRequest) -> RankJudgment:
    order = sorted(range(len(request.responses)), key=lambda i: -len(request.responses[i]))
    return RankJudgment(
        id=request.method,
        outcome="ranking",
        ranking=[[i] for i in order],
        standings=[
            Standing(index=i, points=float(len(r))) for i, r in enumerate(request.responses)
        ],
        rubric="r",
        judge=JUDGE,
    )


def error_answer(
    status: int, kind: str, message: str, code: str | None = None, **headers: str
) -> JSONResponse:
    detail = ErrorDetail.model_validate({"message": message, "type": kind, "code": code})
    content = ErrorBody(error=detail).model_dump()
    return JSONResponse(
        content, status, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def make_app(seen: list[Any]) -> FastAPI:
    """The app; what it is sent is added to `seen`."""
    app = FastAPI()

    @app.middleware("http")
    async def key(request: Request, call_next: Callable[[Request], Any]) -> Any:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return error_answer(401, "authentication_error", "wrong key", "invalid_key")
        return await call_next(request)

    @app.post("/v1/judge/pairwise")
    async def pairwise(
        body: PairwiseBatch | PairwiseRequest,
    ) -> PairwiseJudgments | PairwiseJudgment:
        seen.append(body)
        if isinstance(body, PairwiseRequest):
            return pairwise_judgment(body)
        return PairwiseJudgments(batch=[pairwise_judgment(r) for r in body.batch])

    @app.post("/v1/judge/score")
    async def score(body: ScoreBatch | ScoreRequest) -> ScoreJudgments | ScoreJudgment:
        seen.append(body)
        if isinstance(body, ScoreRequest):
            return score_judgment(body)
        return ScoreJudgments(batch=[score_judgment(r) for r in body.batch])

    @app.post("/v1/judge/rank")
    async def rank(body: RankBatch | RankRequest) -> RankJudgments | RankJudgment:
        seen.append(body)
        if isinstance(body, RankRequest):
            return rank_judgment(body)
        return RankJudgments(batch=[rank_judgment(r) for r in body.batch])

    @app.get("/v1/models")
    async def models() -> Any:
        return {"object": "list", "data": [{"id": "M2", "object": "model", "owned_by": "us"}]}

    @app.get("/v1/version")
    async def version() -> VersionHistory:
        return VersionHistory(current=ENTRY, history=[])

    @app.post("/admin/promote")
    async def promote(body: PromoteRequest) -> VersionEntry:
        seen.append(body)
        return ENTRY

    @app.post("/admin/rollback")
    async def rollback() -> Any:
        return error_answer(403, "permission_error", "admin keys only", "admin_only")

    @app.get("/healthz")
    async def health() -> Any:
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> Any:
        return error_answer(503, "overloaded_error", "loading weights", "not_ready")

    return app


def blocking_transport(app: FastAPI) -> httpx.MockTransport:
    """The app for a client without an event loop."""

    def handle(request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
                return await http.request(
                    request.method, request.url, content=request.content, headers=request.headers
                )

        answer = asyncio.run(ask())
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    return httpx.MockTransport(handle)
