"""The engine behind the service: one model, whole judgments, weights that change between them.

A request is judged from its first draw to its last on one replica under one version of the
weights, so no answer can mix two. Which version is wanted comes with the request: a replica that
holds an older one fetches it while it goes on, and changes once what it is busy with has ended.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import TypeVar

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import Completion, Delta, GenerationRequest
from selfreward.errors import TransientEngineError
from selfreward.serving.judge_wire import (
    PairwiseJudgment,
    PairwiseRequest,
    RankJudgment,
    RankRequest,
    ScoreJudgment,
    StreamEvent,
    StreamRequest,
)
from selfreward.serving.pairwise import plan_pairwise
from selfreward.serving.ranking import plan_rank
from selfreward.serving.replicas import Replica
from selfreward.serving.rubric_choice import JudgeRequest
from selfreward.serving.scores import Failure, Plan, plan_score, run_plan
from selfreward.serving.streaming import StreamedPlan, stream_plan
from selfreward.serving.turning import ReplicaLostError, TurningWeights
from selfreward.serving.versions import ServedVersion
from selfreward.serving.wire import JudgeVersion

Judgment = PairwiseJudgment | ScoreJudgment | RankJudgment
JudgmentT = TypeVar("JudgmentT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A completion with the version that wrote it."""

    version: JudgeVersion
    completion: Completion


ChatPiece = JudgeVersion | Delta | Answer
"""Of a chat that is streamed: who writes, what is written, and the whole."""


def make_plan(request: JudgeRequest, config: ServingConfig, request_id: str) -> Plan[Judgment]:
    """What is asked of the engine for one request.

    Raises:
        RequestError: the request names a rubric that its route has not.
    """
    if isinstance(request, RankRequest):
        return plan_rank(request, config, request_id)
    return make_streamed_plan(request, config, request_id)


def make_streamed_plan(
    request: StreamRequest, config: ServingConfig, request_id: str
) -> StreamedPlan[PairwiseJudgment | ScoreJudgment]:
    """The same for a request that can be answered piece by piece."""
    if isinstance(request, PairwiseRequest):
        return plan_pairwise(request, config, request_id)
    return plan_score(request, config, request_id)


class JudgeEngine:
    """Judges and chats with one replica; lives in one event loop."""

    def __init__(
        self,
        replica: Replica,
        version: ServedVersion,
        config: ServingConfig,
        tell: Callable[[str], object] = lambda problem: None,
    ) -> None:
        """`tell` gets the kind of each failure to change the weights."""
        self._replica = replica
        self._config = config
        self._weights = TurningWeights(
            replica,
            version,
            fetch_timeout_s=config.start_timeout_s,
            drain_timeout_s=config.limits.request_timeout_s,
            tell=tell,
        )

    def check_health(self) -> None:
        """Raises ReplicaLostError where requests wait and the engine has done nothing for as long
        as any of them may take, or where it broke down."""
        if self._weights.broken:
            raise ReplicaLostError(self._weights.broken)
        stalled_s, most = self._replica.stalled_s(), self._config.limits.request_timeout_s
        if stalled_s > most:
            raise ReplicaLostError(f"the engine has done nothing for {stalled_s:.0f} s")

    async def judge(
        self, requests: Sequence[JudgeRequest], wanted: ServedVersion, request_id: str
    ) -> list[Judgment]:
        """Returns a judgment for each request, in order, all of one version.

        Waiting for a change of weights counts against each request's own time limit.

        Raises:
            RequestError: a request names a rubric that its route has not.
            ReplicaLostError: the engine broke down or stands still.
        """
        plans = [
            make_plan(request, self._config, f"{request_id}-{index}")
            for index, request in enumerate(requests)
        ]
        limits = [self._limit(request) for request in requests]
        clock = asyncio.get_running_loop().time
        start = clock()
        async with AsyncExitStack() as stack:
            version = await self._begin(stack, wanted, max(limits, default=None))
            if version is None:
                return [_late(plan, s, self.version) for plan, s in zip(plans, limits, strict=True)]
            waited_s = clock() - start
            tasks = [
                asyncio.ensure_future(
                    run_plan(plan, self._generate, version.wire(), limit, waited_s)
                )
                for plan, limit in zip(plans, limits, strict=True)
            ]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                # Of a caller who has gone, nothing goes on.
                for task in tasks:
                    task.cancel()

    async def judge_stream(
        self, request: StreamRequest, wanted: ServedVersion, request_id: str
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yields the explanation as it is written, then the judgment; the orders of a pair
        interleave.

        Errors as in `judge`.
        """
        plan = make_streamed_plan(request, self._config, f"{request_id}-0")
        limit = self._limit(request)
        clock = asyncio.get_running_loop().time
        start = clock()
        async with AsyncExitStack() as stack:
            version = await self._begin(stack, wanted, limit)
            if version is None:
                yield _late(plan, limit, self.version)
                return
            waited_s = clock() - start
            fingerprint = version.model.fingerprint

            def write(request: GenerationRequest) -> AsyncIterator[Delta | Completion]:
                return self._replica.generate_stream(request, fingerprint)

            told = stream_plan(plan, write, version.wire(), limit, waited_s)
            async with aclosing(told) as events:
                async for event in events:
                    yield event

    async def chat(self, request: GenerationRequest, wanted: ServedVersion) -> Answer:
        """Writes a completion of a conversation. Errors as in `judge`, and TimeoutError."""
        self.check_health()
        async with (
            asyncio.timeout(self._config.limits.request_timeout_s),
            self._weights.session(wanted) as version,
        ):
            (completion,) = await self._generate([request])
            return Answer(version=version.wire(), completion=completion)

    async def chat_stream(
        self, request: GenerationRequest, wanted: ServedVersion
    ) -> AsyncGenerator[ChatPiece, None]:
        """Yields the version that writes, the text as it is written, then the whole. Errors as in
        `chat`."""
        self.check_health()
        async with self._weights.session(wanted) as version:
            yield version.wire()
            stream = self._replica.generate_stream(request, version.model.fingerprint)
            async with aclosing(stream) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if isinstance(piece, Completion):
                        yield Answer(version=version.wire(), completion=piece)
                    else:
                        yield piece

    async def _generate(self, requests: list[GenerationRequest]) -> list[Completion]:
        fingerprint = self.version.model.fingerprint
        try:
            return list(
                await asyncio.gather(*(self._replica.generate(r, fingerprint) for r in requests))
            )
        except TransientEngineError as error:
            raise ReplicaLostError(str(error)) from error

    @property
    def version(self) -> ServedVersion:
        """The version of the weights that are loaded."""
        return self._weights.version

    async def _begin(
        self, stack: AsyncExitStack, wanted: ServedVersion, limit_s: float | None
    ) -> ServedVersion | None:
        """Holds the weights until the stack ends; None if they change for longer than the limit."""
        self.check_health()
        try:
            async with asyncio.timeout(limit_s):
                return await stack.enter_async_context(self._weights.session(wanted))
        except TimeoutError:
            return None

    def _limit(self, request: JudgeRequest) -> float:
        most = self._config.limits.request_timeout_s
        return min(request.timeout_s or most, most)


def _late(plan: Plan[JudgmentT], limit_s: float, version: ServedVersion) -> JudgmentT:
    detail = f"the judge's weights were changing; no judgment within {limit_s:g} s"
    return plan.failure(Failure(outcome="timed_out", detail=detail), version.wire())
