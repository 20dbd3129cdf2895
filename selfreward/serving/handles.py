"""The engine's and the versions' calls over Ray Serve's handles, with what may go wrong there."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from ray.exceptions import RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from selfreward.engines.deaths import GONE
from selfreward.engines.protocol import GenerationRequest
from selfreward.errors import EngineError, own_error_in
from selfreward.serving.admin_wire import PromoteRequest, VersionHistory
from selfreward.serving.engine import Answer, ChatPiece, Judgment
from selfreward.serving.judge_wire import StreamEvent, StreamRequest
from selfreward.serving.rubric_choice import JudgeRequest
from selfreward.serving.turning import ReplicaLostError
from selfreward.serving.versions import ServedVersion

RETRY_WAIT_S = 0.5
MAX_SENDS = 4
"""A request that ends every replica it comes to must not take them all along. Where there is no
replica the handle itself waits for one."""


class EngineHandle:
    """The engine's calls over a handle: any replica answers, a lost one is replaced by another.

    Judging changes nothing outside, so a request whose replica died is simply sent again.
    """

    def __init__(self, handle: DeploymentHandle, recovery_s: float) -> None:
        self._handle = handle
        self._recovery_s = recovery_s

    async def judge(
        self, requests: Sequence[JudgeRequest], wanted: ServedVersion, request_id: str
    ) -> list[Judgment]:
        return await self._again(
            lambda: self._handle.judge.remote(list(requests), wanted, request_id)
        )

    async def judge_stream(
        self, request: StreamRequest, wanted: ServedVersion, request_id: str
    ) -> AsyncIterator[StreamEvent]:
        streaming = self._handle.options(stream=True)
        sent = streaming.judge_stream.remote(request, wanted, request_id)
        async with aclosing(_told(sent)) as events:
            async for event in events:
                yield event

    async def chat(self, request: GenerationRequest, wanted: ServedVersion) -> Answer:
        return await self._again(lambda: self._handle.chat.remote(request, wanted))

    async def chat_stream(
        self, request: GenerationRequest, wanted: ServedVersion
    ) -> AsyncIterator[ChatPiece]:
        streaming = self._handle.options(stream=True)
        async with aclosing(_told(streaming.chat_stream.remote(request, wanted))) as pieces:
            async for piece in pieces:
                yield piece

    async def _again(self, send: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + self._recovery_s
        for sent in itertools.count(1):
            response = send()
            try:
                return await response
            except asyncio.CancelledError:
                # Ray stops nothing by itself when nobody waits any more.
                response.cancel()
                raise
            except Exception as error:
                if not _is_lost(error) or sent >= MAX_SENDS or time.monotonic() > deadline:
                    raise _ours(error) from error
            await asyncio.sleep(RETRY_WAIT_S)
        raise AssertionError("unreachable")


async def _told(pieces: Any) -> AsyncGenerator[Any, None]:
    """What was streamed cannot be taken back, so a lost stream is an error and not begun again."""
    try:
        async for piece in pieces:
            yield piece
    except (asyncio.CancelledError, GeneratorExit):
        pieces.cancel()
        raise
    except Exception as error:
        raise _ours(error) from error


def _is_lost(error: Exception) -> bool:
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, (*GONE, ReplicaLostError))


def _ours(error: Exception) -> Exception:
    """The error of this project that came through Ray; an engine that is gone is EngineError."""
    own = own_error_in(error)
    if own is not None:
        return own
    if _is_lost(error) or isinstance(error, RayServeException):
        return EngineError("no replica of the engine is there; one is being started")
    return error


class VersionsHandle:
    """The keeper's calls over a handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def current(self) -> ServedVersion:
        return await self._ask(self._handle.current.remote())

    async def history(self) -> VersionHistory:
        return await self._ask(self._handle.history.remote())

    async def promote(self, request: PromoteRequest) -> ServedVersion:
        return await self._ask(self._handle.promote.remote(request))

    async def rollback(self) -> ServedVersion:
        return await self._ask(self._handle.rollback.remote())

    async def _ask(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except Exception as error:
            raise _ours(error) from error
