"""A judgment whose rationale is told while it is written, of any plan that has listeners."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from selfreward.engines.protocol import Completion, GenerateStream, GenerationRequest
from selfreward.serving.judge_wire import RationalePiece
from selfreward.serving.rationales import Listener
from selfreward.serving.scores import JudgmentT_co, Plan, run_plan
from selfreward.serving.wire import JudgeVersion


class StreamedPlan(Plan[JudgmentT_co], Protocol[JudgmentT_co]):
    """A plan that can also tell what its judge says before it has decided."""

    def listeners(self) -> Sequence[Listener | None]:
        """One for each request, in order; None for one that begins with no rationale."""
        ...


async def stream_plan(
    plan: StreamedPlan[JudgmentT_co],
    write: GenerateStream,
    version: JudgeVersion,
    timeout_s: float,
    waited_s: float = 0.0,
) -> AsyncGenerator[RationalePiece | JudgmentT_co, None]:
    """Yields the rationale as it is written, then the judgment; several requests interleave.

    The judgment, its time limit and its failures are those of `run_plan`.
    """
    events: asyncio.Queue[RationalePiece | JudgmentT_co | BaseException] = asyncio.Queue()

    async def generate(requests: list[GenerationRequest]) -> list[Completion]:
        heard = zip(requests, plan.listeners(), strict=True)
        return list(await asyncio.gather(*(_written(*each, write, events) for each in heard)))

    async def run() -> None:
        try:
            events.put_nowait(await run_plan(plan, generate, version, timeout_s, waited_s))
        except BaseException as error:  # handed to whoever iterates, who raises it
            events.put_nowait(error)

    task = asyncio.ensure_future(run())
    try:
        while True:
            event = await events.get()
            if isinstance(event, BaseException):
                raise event
            yield event
            if not isinstance(event, RationalePiece):
                return
    finally:
        # Of a caller who has gone, nothing goes on.
        task.cancel()


async def _written(
    request: GenerationRequest,
    listener: Listener | None,
    write: GenerateStream,
    events: "asyncio.Queue[Any]",
) -> Completion:
    """The completion of one request; what the listener makes of its first draw become events."""
    async with aclosing(write(request)) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            if isinstance(piece, Completion):
                return piece
            told = listener.hear(piece.text) if listener and piece.draw == 0 else None
            if told is not None:
                events.put_nowait(told)
    raise AssertionError("an engine's stream ended without its completion")
