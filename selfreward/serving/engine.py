"""The engine behind the service: one model, whole judgments, weights that change between them.

A request is judged from its first draw to its last on one replica under one version of the
weights, so no answer can mix two. Which version is wanted comes with the request: a replica that
holds an older one changes before it begins, once what it is busy with has ended.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import Completion, Delta, GenerationRequest
from selfreward.engines.replica import ReplicaSpec, Wanted, WeightsGate
from selfreward.errors import EngineError, TransientEngineError, UserError
from selfreward.records import ModelRef
from selfreward.serving.pairwise import plan_pairwise
from selfreward.serving.ranking import plan_rank
from selfreward.serving.rubric_choice import JudgeRequest
from selfreward.serving.scores import Plan, plan_score, run_plan
from selfreward.serving.versions import ServedVersion
from selfreward.serving.wire import (
    JudgeVersion,
    PairwiseJudgment,
    PairwiseRequest,
    RankJudgment,
    RationaleDelta,
    ScoreJudgment,
    ScoreRequest,
    Shown,
)

Judgment = PairwiseJudgment | ScoreJudgment | RankJudgment

_log = logging.getLogger("selfreward.serving")


class Replica(Protocol):
    """What is needed of an engine's replica; the pool's classes have it."""

    async def generate(
        self, request: GenerationRequest, expected_fingerprint: str
    ) -> Completion: ...

    def generate_stream(
        self, request: GenerationRequest, expected_fingerprint: str
    ) -> AsyncIterator[Delta | Completion]: ...

    async def fetch(self, model: ModelRef, folder: str) -> None: ...

    async def swap(self, model: ModelRef, folder: str, timeout_s: float) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A completion with the version that wrote it."""

    version: JudgeVersion
    completion: Completion


class ReplicaLostError(Exception):
    """The engine broke down under a request, which another replica can take over.

    None of this project's errors, so that no judgment is made of it on its way to the ingress.
    """


class OneBoard:
    """What a replica asks its pool, answered for a replica that stands alone."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.failure = ""

    def begin_start(self) -> Wanted:
        return self._wanted

    def note_failure(self, replica: str, text: str) -> None:
        self.failure = f"{replica}: {text}"


def start_replica(spec: ReplicaSpec, version: ServedVersion) -> Replica:
    """Starts an engine in this process with the weights of a version; blocks until it is up.

    Raises:
        EngineError, ModelNotFoundError: it cannot be started.
    """
    board = OneBoard(Wanted(model=version.model, folder=version.folder))
    if spec.engine.kind == "scripted":
        from selfreward.engines.scripted import ScriptedReplica

        return ScriptedReplica(spec, board)
    from selfreward.engines.vllm_replica import VLLMReplica

    return VLLMReplica(spec, board)


def make_plan(request: JudgeRequest, config: ServingConfig, request_id: str) -> Plan[Judgment]:
    """What is asked of the engine for one request.

    Raises:
        RequestError: the request names a rubric that its route has not.
    """
    if isinstance(request, PairwiseRequest):
        return plan_pairwise(request, config, request_id)
    if isinstance(request, ScoreRequest):
        return plan_score(request, config, request_id)
    return plan_rank(request, config, request_id)


class JudgeEngine:
    """Judges and chats with one replica; lives in one event loop."""

    def __init__(self, replica: Replica, version: ServedVersion, config: ServingConfig) -> None:
        self.version = version
        self._replica = replica
        self._config = config
        self._gate = WeightsGate("engine", version.model)
        self._turning: asyncio.Task[None] | None = None

    async def judge(
        self, requests: Sequence[JudgeRequest], wanted: ServedVersion, request_id: str
    ) -> list[Judgment]:
        """Returns a judgment for each request, in order, all of one version.

        Raises:
            RequestError: a request names a rubric that its route has not.
            EngineTimeoutError: the weights could not be changed in time; no request was begun.
        """
        plans = [
            make_plan(request, self._config, f"{request_id}-{index}")
            for index, request in enumerate(requests)
        ]
        async with self._session(wanted) as version:
            tasks = [
                asyncio.ensure_future(
                    run_plan(plan, self._generate, version.wire(), self._limit(request))
                )
                for plan, request in zip(plans, requests, strict=True)
            ]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                # Of a caller who has gone, nothing goes on.
                for task in tasks:
                    task.cancel()

    async def judge_stream(
        self, request: PairwiseRequest, wanted: ServedVersion, request_id: str
    ) -> AsyncGenerator[RationaleDelta | PairwiseJudgment, None]:
        """Yields the explanation as it is written, then the judgment; the orders interleave.

        Errors as in `judge`.
        """
        plan = plan_pairwise(request, self._config, f"{request_id}-0")
        wants_reason = plan.rubric.wants_reason
        async with self._session(wanted) as version:
            events: asyncio.Queue[RationaleDelta | Judgment | BaseException] = asyncio.Queue()

            async def generate(requests: list[GenerationRequest]) -> list[Completion]:
                return list(
                    await asyncio.gather(
                        *(
                            self._write(request, shown, wants_reason, events)
                            for request, shown in zip(requests, plan.shown, strict=True)
                        )
                    )
                )

            async def run() -> None:
                try:
                    limit = self._limit(request)
                    events.put_nowait(await run_plan(plan, generate, version.wire(), limit))
                except BaseException as error:  # handed to whoever iterates, who raises it
                    events.put_nowait(error)

            task = asyncio.ensure_future(run())
            try:
                while True:
                    event = await events.get()
                    if isinstance(event, BaseException):
                        raise event
                    if isinstance(event, RationaleDelta):
                        yield event
                        continue
                    assert isinstance(event, PairwiseJudgment)
                    yield event
                    return
            finally:
                task.cancel()

    async def _write(
        self,
        request: GenerationRequest,
        shown: Shown,
        is_reason: bool,
        events: "asyncio.Queue[Any]",
    ) -> Completion:
        """Writes one order; where it begins with a reason, the pieces of its first draw become
        events, up to the verdict: square brackets are kept for that."""
        stream = self._replica.generate_stream(request, self.version.model.fingerprint)
        async with aclosing(stream) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
                if piece.draw == 0 and is_reason:
                    text, bracket, _ = piece.text.partition("[")
                    is_reason = not bracket
                    if text:
                        events.put_nowait(RationaleDelta(shown=shown, text=text))
        raise AssertionError("an engine's stream ended without its completion")

    async def chat(self, request: GenerationRequest, wanted: ServedVersion) -> Answer:
        """Writes a completion of a conversation. Errors as in `judge`, and EngineError."""
        async with (
            asyncio.timeout(self._config.limits.request_timeout_s),
            self._session(wanted) as version,
        ):
            (completion,) = await self._generate([request])
            return Answer(version=version.wire(), completion=completion)

    async def chat_stream(
        self, request: GenerationRequest, wanted: ServedVersion
    ) -> AsyncGenerator[Delta | Answer, None]:
        """Yields what is written as it is written, then the whole. Errors as in `chat`."""
        async with self._session(wanted) as version:
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

    def _limit(self, request: JudgeRequest) -> float:
        most = self._config.limits.request_timeout_s
        return min(request.timeout_s or most, most)

    @asynccontextmanager
    async def _session(self, wanted: ServedVersion) -> AsyncIterator[ServedVersion]:
        """Holds the weights still for one request, which begins under `wanted` or a later one."""
        while wanted.number > self.version.number:
            if self._turning is None or self._turning.done():
                self._turning = asyncio.ensure_future(self._turn(wanted))
            # In a task of its own: a caller who leaves must not leave half a change behind.
            await asyncio.shield(self._turning)
        async with self._gate.request(None):
            yield self.version

    async def _turn(self, wanted: ServedVersion) -> None:
        timeout_s = self._config.limits.request_timeout_s
        try:
            # What may be a long download is done while requests go on.
            await self._replica.fetch(wanted.model, wanted.folder)
            async with self._gate.change(timeout_s):
                await self._replica.swap(wanted.model, wanted.folder, timeout_s)
                self.version = wanted
        except TransientEngineError as error:
            raise ReplicaLostError(str(error)) from error
        except UserError as error:
            # No mistake of the caller's: this node does not see what was promoted.
            _log.error("version %d cannot be loaded: %s", wanted.number, error)
            raise EngineError(f"version {wanted.number} cannot be loaded here yet") from error
