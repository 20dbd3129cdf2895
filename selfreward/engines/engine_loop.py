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
from collections.abc import AsyncGenerator, Callable
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


class Waiter(Protocol):
    """Whoever waits for a request; called from the engine's thread."""

    def give(self, output: Any) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class RequestRefusedError(Exception):
    """The engine does not accept a request (a grammar it cannot read, a bad parameter)."""


def one_line(error: BaseException) -> str:
    """Type and message of an error in one line of at most 600 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:600]


class EngineLoop:
    """Builds an engine in a thread of its own and steps it there.

    An exception in a step leaves the engine in an unknown state, and one of a request that
    `is_fatal` tells that it is gone: every pending request fails with a TransientEngineError,
    `last_words` gets the cause, and the process exits so that Ray starts it anew.
    """

    def __init__(
        self,
        build: Callable[[], Engine],
        last_words: Callable[[str], None],
        timeout_s: float,
        is_fatal: Callable[[Exception], bool] = lambda error: False,
    ) -> None:
        self._build = build
        self._last_words = last_words
        self._is_fatal = is_fatal
        self._commands: queue.SimpleQueue[Callable[[Engine], None]] = queue.SimpleQueue()
        self._pending: dict[str, Waiter] = {}
        self._ids = itertools.count()
        self._moved_at = time.monotonic()
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
        result = _Result()
        request_id = self._add(prompt, params, result)
        try:
            return await result.future
        except asyncio.CancelledError:
            self._commands.put(lambda engine: self._abort(engine, request_id))
            raise

    async def stream(self, prompt: Any, params: Any) -> AsyncGenerator[Any, None]:
        """Yields the outputs of one request as they come, the finished one last.

        `params` ask for deltas. Leaving the iteration early aborts the request. Errors as in
        `generate`.
        """
        results = _Results()
        request_id = self._add(prompt, params, results)
        try:
            finished = False
            while not finished:
                output = await results.next()
                finished = output.finished
                yield output
        finally:
            self._commands.put(lambda engine: self._abort(engine, request_id))

    def _add(self, prompt: Any, params: Any, waiter: Waiter) -> str:
        request_id = str(next(self._ids))

        def add(engine: Engine) -> None:
            self._pending[request_id] = waiter
            try:
                engine.add_request(request_id, prompt, params)
            except Exception as error:
                if self._is_fatal(error):
                    raise
                # Adding computes nothing, so whatever else it raises is about this request alone.
                self._pending.pop(request_id)
                engine.abort_request([request_id])
                waiter.fail(RequestRefusedError(one_line(error)))

        self._put(add)
        return request_id

    def _put(self, command: Callable[[Engine], None]) -> None:
        if not self._has_work():
            self._moved_at = time.monotonic()
        self._commands.put(command)

    def _has_work(self) -> bool:
        return bool(self._pending) or not self._commands.empty()

    def stalled_s(self) -> float:
        """Seconds since the engine last finished a step or a command, 0 where it has no work.

        A change of weights has a time limit of its own and does not count.
        """
        if not self._has_work() or _CHANGE in self._pending:
            return 0.0
        return time.monotonic() - self._moved_at

    def _abort(self, engine: Engine, request_id: str) -> None:
        if self._pending.pop(request_id, None) is not None:
            engine.abort_request([request_id])

    async def change(self, function: Callable[[Any], None], timeout_s: float) -> None:
        """Runs `function(engine)` between two steps; if it fails, the engine is beyond repair.

        Raises:
            TransientEngineError: it failed or took longer than `timeout_s` seconds, and this
                process is about to end.
        """
        result = _Result()

        def run(engine: Engine) -> None:
            self._pending[_CHANGE] = result
            function(engine)
            self._pending.pop(_CHANGE)
            result.give(None)

        self._put(run)
        try:
            async with asyncio.timeout(timeout_s):
                await result.future
        except TimeoutError:
            late = EngineError(f"the engine was not changed within {timeout_s:.0f} s")
            # It may still change at any moment, and then nobody would know what it holds.
            threading.Thread(target=self._die, args=(late,), daemon=True).start()
            raise TransientEngineError(f"the engine broke down: {late}") from None

    def _run(self) -> None:
        try:
            engine = self._build()
        except BaseException as error:
            self._start_error = error
            try:
                self._last_words(one_line(error))
            except Exception as unheard:
                # Who waits for the start must hear of its end all the same.
                traceback.print_exception(unheard)
            self._started.set()
            return
        self._started.set()
        try:
            while True:
                self._take_commands(engine)
                outputs = engine.step()
                self._moved_at = time.monotonic()
                for output in outputs:
                    waiter = self._pending.get(output.request_id)
                    if output.finished:
                        self._pending.pop(output.request_id, None)
                    if waiter is not None:
                        waiter.give(output)
        except BaseException as error:
            self._die(error)

    def _take_commands(self, engine: Engine) -> None:
        """Runs waiting commands; returns once the engine has something to step."""
        while True:
            try:
                self._commands.get(block=not engine.has_unfinished_requests())(engine)
                self._moved_at = time.monotonic()
            except queue.Empty:
                return

    def _die(self, error: BaseException) -> None:
        traceback.print_exception(error)
        failure = TransientEngineError(f"the engine broke down: {one_line(error)}")
        for waiter in list(self._pending.values()):
            waiter.fail(failure)
        try:
            self._last_words(one_line(error))
        finally:
            time.sleep(LAST_WORDS_S)
            os._exit(1)


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *args: Any) -> None:
    """Calls in the loop of who waits; if that is closed, nobody waits any more."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


class _Result:
    """The one finished output, as a future of the loop it was made in.

    An engine asked for finished outputs only gives nothing before.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def give(self, output: Any) -> None:
        self._settle(lambda: self.future.set_result(output))

    def fail(self, error: BaseException) -> None:
        self._settle(lambda: self.future.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        def unless_gone() -> None:
            if not self.future.done():
                settle()

        _call_in(self._loop, unless_gone)


class _Results:
    """Outputs one after the other, an error last."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def give(self, output: Any) -> None:
        _call_in(self._loop, self._queue.put_nowait, output)

    def fail(self, error: BaseException) -> None:
        _call_in(self._loop, self._queue.put_nowait, error)

    async def next(self) -> Any:
        output = await self._queue.get()
        if isinstance(output, BaseException):
            raise output
        return output
