"""What the routes share: the engine, the versions, the time limits, the shadow, the counters."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import GenerationRequest
from selfreward.errors import EngineError, EngineTimeoutError, SelfRewardError, UserError
from selfreward.serving.admin_wire import PromoteRequest, VersionHistory
from selfreward.serving.calls import EngineCalls, VersionCalls
from selfreward.serving.engine import Answer, ChatPiece, Judgment
from selfreward.serving.http_errors import ApiError, api_error
from selfreward.serving.judge_wire import RationalePiece, StreamEvent, StreamRequest
from selfreward.serving.rubric_choice import (
    JudgeRequest,
    RequestError,
    check_limits,
    choose_rubric,
    num_prompt_chars,
    num_prompts,
)
from selfreward.serving.shadow import Shadow
from selfreward.serving.telemetry import Telemetry
from selfreward.serving.versions import ServedVersion

T = TypeVar("T")

ANSWER_GRACE_S = 15.0
"""How long the engine may take beyond a request's own limit to say that it was reached."""
FORMER_NAME_S = 300.0
"""How long the real name of the judge before this one is still taken: whoever has just read it from
the list of models must not fail because of a promotion. The answer names who gave it."""
PROBE_INTERVAL_S = 10.0
PROBE_TIMEOUT_S = 30.0
READY_FOR_S = 60.0
"""After the last sign of an engine. A probe that waits for a change of weights is no sign."""

_JUDGE, _VERSIONS = "the judge", "the keeper of the versions"
"""What is waited for, as told where it takes too long."""

_log = logging.getLogger("selfreward.serving")


class Service:
    """One for each ingress. Lives in one event loop; every wait has a limit."""

    def __init__(
        self,
        config: ServingConfig,
        engine: EngineCalls,
        versions: VersionCalls,
        shadow: Shadow | None = None,
    ) -> None:
        self.config = config
        self.telemetry = Telemetry()
        self.shadow = shadow
        self._engine = engine
        self._versions = versions
        self._wanted: ServedVersion | None = None
        self._former: tuple[str | None, float] = (None, 0.0)
        self._seen_at: float | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Learns which version is served, keeps learning, and looks for an engine."""
        limit_s = self.config.limits.request_timeout_s
        self._take(await self._within(self._versions.current(), limit_s, _VERSIONS))
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._refresh()), loop.create_task(self._watch_engine())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch_engine(self) -> None:
        """Asks for no judgments, again and again: a model may load for minutes, and an engine that
        answered once may stand still later."""
        while True:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await self._engine.judge([], self.wanted, "ready")
                self._seen_at = asyncio.get_running_loop().time()
                pause_s = PROBE_INTERVAL_S
            except Exception as error:  # whatever it is, it is tried again
                _log.warning("no engine answers: %s", type(error).__name__)
                pause_s = min(self.config.follow_interval_s, PROBE_INTERVAL_S)
            await asyncio.sleep(pause_s)

    def check_ready(self) -> None:
        """Raises ApiError 503 unless an engine has answered within the last `READY_FOR_S`."""
        if self._seen_at is None:
            raise api_error(503, "starting", "the engine is starting", retry_after_s=5)
        unseen_s = asyncio.get_running_loop().time() - self._seen_at
        if unseen_s > READY_FOR_S:
            message = f"no engine has answered for {unseen_s:.0f} s"
            raise api_error(503, "engine_unavailable", message, retry_after_s=5)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self.config.follow_interval_s)
            try:
                async with asyncio.timeout(self.config.limits.request_timeout_s):
                    self._take(await self._versions.current())
            except Exception as error:  # the version known so far is served on
                _log.warning("the served version could not be looked up: %s", type(error).__name__)

    def _take(self, version: ServedVersion) -> None:
        # Never backwards: an answer under way may be older than what is known already.
        if self._wanted is None or version.number > self._wanted.number:
            if self._wanted is not None:
                now = asyncio.get_running_loop().time()
                self._former = (self._wanted.model.name, now + FORMER_NAME_S)
            self._wanted = version
            self.telemetry.serving(version.wire())

    @property
    def wanted(self) -> ServedVersion:
        """The version that requests let in from now on are judged by, or a later one.

        Raises:
            ApiError: 503 before the service has started.
        """
        if self._wanted is None:
            raise api_error(503, "starting", "the service is starting", retry_after_s=5)
        return self._wanted

    def knows_model(self, name: str) -> bool:
        """Whether a name means what is served now, or what was until a moment ago."""
        if name == self.wanted.model.name:
            return True
        former, until = self._former
        return name == former and asyncio.get_running_loop().time() < until

    def check(self, requests: Sequence[JudgeRequest]) -> None:
        """Refuses what the engine would refuse, before it takes a place there.

        Raises:
            ApiError: 422, naming the field where it is one.
        """
        limits = self.config.limits
        if len(requests) > limits.max_batch:
            message = f"batch has {len(requests)} requests; this service takes {limits.max_batch}"
            raise api_error(422, "batch_too_large", message, param="batch")
        for request in requests:
            try:
                check_limits(request, limits)
                choose_rubric(request, self.config)
            except RequestError as error:
                raise as_api_error(error) from None
        draws = sum(num_prompts(r) * r.votes for r in requests)
        if draws > limits.max_draws:
            message = f"{draws} draws in one request; this service makes {limits.max_draws}"
            raise api_error(422, "too_many_draws", message)
        chars = sum(num_prompt_chars(r) for r in requests)
        if chars > limits.max_prompt_chars:
            message = f"prompts of {chars} characters; this service reads {limits.max_prompt_chars}"
            raise api_error(422, "too_many_characters", message)

    async def judge(self, requests: Sequence[JudgeRequest], request_id: str) -> list[Judgment]:
        """Judges requests that were checked, all by one version.

        Raises:
            ApiError: the engine is not there, or did not answer in time.
        """
        judgments = await self._within(
            self._engine.judge(requests, self.wanted, request_id), self._most(requests), _JUDGE
        )
        self._count(judgments)
        if self.shadow is not None:
            self.shadow.offer(requests, judgments, request_id)
        return judgments

    async def judge_stream(
        self, request: StreamRequest, request_id: str
    ) -> AsyncIterator[StreamEvent]:
        """As `judge`, with the explanation as it is written; the judgment comes last."""
        stream = self._engine.judge_stream(request, self.wanted, request_id)
        async for event in self._each_within(stream, self._most([request])):
            if not isinstance(event, RationalePiece):
                self._count([event])
            yield event

    async def chat(self, request: GenerationRequest) -> Answer:
        """Writes a completion. Errors as in `judge`."""
        limit = self.config.limits.request_timeout_s
        answer = await self._within(self._engine.chat(request, self.wanted), limit, _JUDGE)
        self._count_chat(answer)
        return answer

    async def chat_stream(self, request: GenerationRequest) -> AsyncIterator[ChatPiece]:
        """As `chat`, piece by piece: the version first, the whole last."""
        stream = self._engine.chat_stream(request, self.wanted)
        async for piece in self._each_within(stream, self.config.limits.request_timeout_s):
            if isinstance(piece, Answer):
                self._count_chat(piece)
            yield piece

    async def history(self) -> VersionHistory:
        limit = self.config.limits.request_timeout_s
        return await self._within(self._versions.history(), limit, _VERSIONS)

    async def promote(self, request: PromoteRequest) -> ServedVersion:
        """Raises ApiError: 409 where there is no such thing to promote."""
        return await self._changed(self._versions.promote(request))

    async def rollback(self) -> ServedVersion:
        """Raises ApiError: 409 where there is nothing to go back to."""
        return await self._changed(self._versions.rollback())

    async def _changed(self, change: Awaitable[ServedVersion]) -> ServedVersion:
        try:
            limit = self.config.limits.request_timeout_s
            version = await self._within(change, limit, _VERSIONS)
        except ApiError as error:
            if error.status == 422:
                raise api_error(409, "cannot_change_judge", error.detail.message) from None
            raise
        self._take(version)
        return version

    def _most(self, requests: Sequence[JudgeRequest]) -> float:
        most = self.config.limits.request_timeout_s
        return max(min(r.timeout_s or most, most) for r in requests)

    async def _within(self, answer: Awaitable[T], limit_s: float, awaited: str) -> T:
        try:
            async with asyncio.timeout(limit_s + ANSWER_GRACE_S):
                return await answer
        except Exception as error:
            raise _told(error, awaited, limit_s) from error

    async def _each_within(self, stream: Any, limit_s: float) -> AsyncIterator[Any]:
        until = asyncio.get_running_loop().time() + limit_s + ANSWER_GRACE_S
        async with aclosing(stream):
            while True:
                try:
                    # Around each piece: while a piece is being sent no timer may strike.
                    async with asyncio.timeout_at(until):
                        piece = await anext(stream)
                except StopAsyncIteration:
                    return
                except Exception as error:
                    raise _told(error, _JUDGE, limit_s) from error
                yield piece

    def _count_chat(self, answer: Answer) -> None:
        written = sum(draw.num_tokens for draw in answer.completion.draws)
        read = answer.completion.num_prompt_tokens
        self.telemetry.judged("chat", [answer.completion.error or "written"], read, written)

    def _count(self, judgments: Sequence[Judgment]) -> None:
        for judgment in judgments:
            self.telemetry.judged(
                judgment.object.removeprefix("judgment."),
                [judgment.outcome],
                judgment.usage.prompt_tokens,
                judgment.usage.completion_tokens,
            )


def _told(error: Exception, awaited: str, limit_s: float) -> ApiError:
    """As `as_api_error`, of a wait for `awaited` that may take `limit_s` seconds."""
    if isinstance(error, TimeoutError):
        message = f"no answer from {awaited} within {limit_s:g} s"
        return api_error(504, "timed_out", message, retry_after_s=_soon())
    return as_api_error(error)


def _soon() -> float:
    """Spread a little: callers who were refused together do not come back together."""
    return 2 + random.random() * 3


def as_api_error(error: Exception) -> ApiError:
    """The status and body that an error of this project stands for; others are raised on.

    Raises:
        Exception: the error itself, where it is none of those.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestError):
        return api_error(422, error.code or "invalid_request", str(error), param=error.param)
    if isinstance(error, EngineTimeoutError):
        return api_error(503, "engine_busy", str(error), retry_after_s=_soon())
    if isinstance(error, EngineError):
        return api_error(503, "engine_unavailable", str(error), retry_after_s=_soon())
    if isinstance(error, UserError):
        return api_error(422, "invalid_request", str(error))
    if isinstance(error, SelfRewardError):
        return api_error(500, "server_error", str(error))
    raise error
