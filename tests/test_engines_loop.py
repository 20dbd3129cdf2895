"""The thread that owns an engine: what a request's error means for the others."""

import asyncio
import threading
from typing import Any

import pytest

from selfreward.engines import engine_loop
from selfreward.engines.engine_loop import EngineLoop, RequestRefusedError
from selfreward.errors import TransientEngineError


class GoneError(Exception):
    """The engine's own process is no more."""


class Engine:
    """Takes no request: `error` is what it says of each."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.aborted: list[str] = []

    def add_request(self, request_id: str, prompt: Any, params: Any) -> None:
        raise self._error

    def abort_request(self, request_ids: list[str]) -> None:
        self.aborted += request_ids

    def has_unfinished_requests(self) -> bool:
        return False

    def step(self) -> list[Any]:
        return []


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Codes with which the process would have ended; the engine's thread ends in its place."""
    codes: list[int] = []
    monkeypatch.setattr(engine_loop.os, "_exit", codes.append)
    monkeypatch.setattr(engine_loop, "LAST_WORDS_S", 0.0)
    return codes


def test_a_request_the_engine_does_not_take_is_its_own_fault(exits: list[int]) -> None:
    engine = Engine(ValueError("top_p is 3"))
    loop = EngineLoop(lambda: engine, lambda said: None, 5.0)
    with pytest.raises(RequestRefusedError, match="top_p is 3"):
        asyncio.run(loop.generate("a", "b"))
    assert engine.aborted and not exits


def test_a_request_to_an_engine_that_is_gone_ends_the_replica(exits: list[int]) -> None:
    # Refused, it would be dropped for good, and so would everything that follows it.
    said: list[str] = []
    loop = EngineLoop(
        lambda: Engine(GoneError("EngineCore is gone")),
        said.append,
        5.0,
        is_fatal=lambda error: isinstance(error, GoneError),
    )

    async def ask() -> None:
        async with asyncio.timeout(5):
            await loop.generate("a", "b")

    with pytest.raises(TransientEngineError, match="EngineCore is gone"):
        asyncio.run(ask())
    for thread in threading.enumerate():
        if thread.name == "engine-loop":
            thread.join(timeout=5)
    assert (said, exits) == (["GoneError: EngineCore is gone"], [1])


def test_a_start_that_failed_is_told_though_nobody_can_be_told_why() -> None:
    def build() -> Engine:
        raise ValueError("no such model")

    def last_words(said: str) -> None:
        raise TimeoutError("the board is gone")

    with pytest.raises(ValueError, match="no such model"):
        EngineLoop(build, last_words, 5.0)
