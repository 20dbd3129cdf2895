"""One thread that owns an engine and steps it while there is work; coroutines wait for results.

Knows nothing of vLLM but four methods (`Engine`), so that adding, stepping and changing weights
never happen at once and never in two threads.
"""

import asyncio
import itertools
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from selfreward.errors import EngineError, TransientEngineError

_CHANGE = "change"
LAST_WORDS_S = 1.0
"""How long a dying replica leaves Ray to send the errors of its pending requests."""


class Engine(Protocol):
    """What the loop needs of an engine; vLLM's `LLMEngine` has it."""

    def add_request(self, request_id: str, prompt: Any, params: Any) -> Any: ...

    def abort_request(self, request_ids: list[str]) -> None: ...

    def has_unfinished_requests(self) -> bool: ...

    def step(self) -> list[Any]: ...


class RequestRefusedError(Exception):
    """The engine does not accept a request (a grammar it cannot read, a bad parameter)."""


def one_line(error: BaseException) -> str:
    """Type and message of an error in one line of at most 600 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:600]


class EngineLoop:
    """Builds an engine in a thread of its own and steps it there.

    An exception in a step leaves the engine in an unknown state: every pending request fails with
    a TransientEngineError, `last_words` gets the cause, and the process exits so that Ray starts
    it anew.
    """

    def __init__(
        self, build: Callable[[], Engine], last_words: Callable[[str], None], timeout_s: float
    ) -> None:
        self._build = build
        self._last_words = last_words
        self._commands: queue.SimpleQueue[Callable[[Engine], None]] = queue.SimpleQueue()
        self._pending: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = {}
        self._ids = itertools.count()
        self._started = threading.Event()
        self._start_error: BaseException | None = None
        threading.Thread(target=self._run, name="engine-loop", daemon=True).start()
        if not self._started.wait(timeout_s):
            raise EngineError(f"the engine did not start within {timeout_s:.0f} s")
        if self._start_error is not None:
            raise self._start_error

    async def generate(self, prompt: Any, params: Any) -> Any:
        """Returns the finished output of one request.

        Raises:
            RequestRefusedError: the engine does not accept the request.
            TransientEngineError: the engine broke down.
        """
        request_id = str(next(self._ids))
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def add(engine: Engine) -> None:
            self._pending[request_id] = (loop, future)
            try:
                engine.add_request(request_id, prompt, params)
            except Exception as error:
                # Adding computes nothing, so whatever it raises is about this request alone.
                self._pending.pop(request_id)
                engine.abort_request([request_id])
                _settle(loop, future, error=RequestRefusedError(one_line(error)))

        self._commands.put(add)
        try:
            return await future
        except asyncio.CancelledError:
            self._commands.put(lambda engine: self._abort(engine, request_id))
            raise

    def _abort(self, engine: Engine, request_id: str) -> None:
        if self._pending.pop(request_id, None) is not None:
            engine.abort_request([request_id])

    async def change(self, function: Callable[[Any], None]) -> None:
        """Runs `function(engine)` between two steps; if it fails, the engine is beyond repair.

        Raises:
            TransientEngineError: it failed, and this process is about to end.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def run(engine: Engine) -> None:
            self._pending[_CHANGE] = (loop, future)
            function(engine)
            self._pending.pop(_CHANGE)
            _settle(loop, future)

        self._commands.put(run)
        await future

    def _run(self) -> None:
        try:
            engine = self._build()
        except BaseException as error:
            self._start_error = error
            self._last_words(one_line(error))
            self._started.set()
            return
        self._started.set()
        try:
            while True:
                self._take_commands(engine)
                for output in engine.step():
                    if output.finished:
                        waiter = self._pending.pop(output.request_id, None)
                        if waiter is not None:
                            _settle(*waiter, output)
        except BaseException as error:
            self._die(error)

    def _take_commands(self, engine: Engine) -> None:
        """Runs waiting commands; returns once the engine has something to step."""
        while True:
            try:
                self._commands.get(block=not engine.has_unfinished_requests())(engine)
            except queue.Empty:
                return

    def _die(self, error: BaseException) -> None:
        traceback.print_exception(error)
        failure = TransientEngineError(f"the engine broke down: {one_line(error)}")
        for loop, future in self._pending.values():
            _settle(loop, future, error=failure)
        try:
            self._last_words(one_line(error))
        finally:
            time.sleep(LAST_WORDS_S)
            os._exit(1)


def _settle(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[Any]",
    result: Any = None,
    error: BaseException | None = None,
) -> None:
    """Sets a future of another thread's loop, unless its waiter has gone."""

    def settle() -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    loop.call_soon_threadsafe(settle)
