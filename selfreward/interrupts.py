"""Ctrl-C and SIGTERM that are never lost.

A signal becomes a KeyboardInterrupt in whatever the main thread happens to run. In a library's
callback or destructor Python prints and forgets it, and the run goes on as if nobody had asked.
So the wish is remembered as well: long waits are done where an interrupt is not swallowed, and
look at it between two naps.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

NAP_S = 0.5

_asked = threading.Event()
_handling = threading.Event()
"""Set inside `interruptible`."""


class LimitReachedError(TimeoutError):
    """`run_in_thread` gave up waiting; the work's own TimeoutError is another."""


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _ask(signum: int, frame: FrameType | None) -> None:
    _asked.set()
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """For the block's duration both signals raise KeyboardInterrupt and are remembered."""
    before = {s: signal.signal(s, _ask) for s in _SIGNALS}
    _handling.set()
    try:
        yield
    finally:
        _handling.clear()
        _asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def take_back() -> None:
    """Inside `interruptible`, puts its handlers in place again.

    Ray's start replaces that of SIGTERM, in Python and beneath it, by ones that print a native
    trace and end the process at once.
    """
    # Only the main thread may, and only it is interrupted.
    if _handling.is_set() and threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, _ask)


def check() -> None:
    """Raises KeyboardInterrupt if one was asked for and got lost on its way."""
    if _asked.is_set():
        raise KeyboardInterrupt


def iterate_in_thread(
    items: Iterable[T], name: str, waiting: Callable[[], None] | None = None
) -> Iterator[T]:
    """Yields what `items` yields, which a thread of its own asks for.

    The caller waits in plain Python, where an interrupt is not swallowed. An error of `items` is
    raised here. `waiting` is called at each nap; what it raises ends the wait. A caller who leaves
    early leaves the thread behind, to end with the process.
    """
    results: queue.SimpleQueue[tuple[str, T | BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            for item in items:
                results.put(("item", item))
        except BaseException as error:  # handed to the waiting thread, which raises it
            results.put(("error", error))
        else:
            results.put(("end", None))

    threading.Thread(target=run, name=name, daemon=True).start()
    while True:
        check()
        try:
            what, value = results.get(timeout=NAP_S)
        except queue.Empty:
            if waiting is not None:
                waiting()
            continue
        if what == "end":
            return
        if isinstance(value, BaseException):
            raise value
        yield value  # type: ignore[misc]


def run_in_thread(work: Callable[[], T], name: str, limit_s: float) -> T:
    """Returns what `work` returns, or raises what it raises, in at most `limit_s` seconds.

    The caller waits as in `iterate_in_thread`.

    Raises:
        LimitReachedError: it is not done; the thread is left behind, to end with the process.
    """
    outcome: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # handed to the waiting thread, which raises it
            outcome.append((None, error))

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    deadline = time.monotonic() + limit_s
    while not outcome:
        check()
        left = deadline - time.monotonic()
        if left <= 0:
            raise LimitReachedError(f"{name} is not done within {limit_s:g} seconds")
        thread.join(min(NAP_S, left))
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
