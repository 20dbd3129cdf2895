"""Server-sent events, as far as a streamed judgment needs them.

The form is that of the HTML standard, section "Server-sent events": lines end with CR LF, LF or
CR and nothing else. `httpx`'s own line splitting also cuts at U+2028, U+0085 and others, which
may stand unescaped inside JSON, so that bytes are split here.
"""

import re
from collections.abc import AsyncGenerator, Generator, Iterator
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from selfreward.client.calls import Answer, Piece, StreamRoute
from selfreward.client.errors import JudgeProtocolError, error_of_detail, problems_of
from selfreward.client.transport import Deadline, until
from selfreward.serving.judge_wire import (
    PairwiseJudgment,
    RationaleDelta,
    RationalePiece,
    ScoreJudgment,
)
from selfreward.serving.wire import ErrorBody

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"

StreamItem = RationaleDelta | PairwiseJudgment
ScoreStreamItem = RationalePiece | ScoreJudgment


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """One event.

    Example:
        ServerEvent(name="rationale", data='{"shown": "first_second", "text": "Both"}')
    """

    name: str
    data: str


class EventParser:
    """Takes bytes as they come, cut anywhere, and gives whole events."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes. An event without its blank line is never given."""
        self._rest += chunk
        if not self._started:
            if len(self._rest) < len(_BOM) and _BOM.startswith(self._rest):
                return []
            self._rest = self._rest.removeprefix(_BOM)
            self._started = True
        *lines, rest = _LINE_END.split(self._rest)
        if lines and self._rest.endswith(b"\r"):
            # It may be the first half of CR LF: the line waits for the byte after it.
            rest = lines.pop() + b"\r"
        self._rest = rest
        events = (self._take(line.decode(errors="replace")) for line in lines)
        return [event for event in events if event is not None]

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            name, data = self._name, self._data
            self._name, self._data = "", []
            return ServerEvent(name=name or "message", data="\n".join(data)) if data else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        # Comments (an empty field name), `id`, `retry` and unknown fields say nothing here.
        return None


def read_items(
    parser: EventParser, data: bytes, route: StreamRoute[Answer, Piece]
) -> Iterator[Piece | Answer]:
    """Yields what the events that `data` completes mean on a route. Those of a kind that is not
    known are passed over.

    Raises:
        JudgeError: the kind that an `error` event tells.
        JudgeProtocolError: the data is not of the event's form.
    """
    for event in parser.feed(data):
        item = _read(event, route)
        if item is not None:
            yield item


def _read(event: ServerEvent, route: StreamRoute[Answer, Piece]) -> Piece | Answer | None:
    try:
        if event.name == "rationale":
            return route.piece.model_validate_json(event.data)
        if event.name == "judgment":
            return route.answer.model_validate_json(event.data)
        if event.name == "error":
            raise error_of_detail(ErrorBody.model_validate_json(event.data).error)
    except ValidationError as error:
        raise JudgeProtocolError(
            f"event {event.name!r} of the stream cannot be read: {problems_of(error)}"
        ) from error
    return None


def items_of(
    response: httpx.Response, route: StreamRoute[Answer, Piece], deadline: Deadline
) -> Generator[Piece | Answer, None, None]:
    """Yields what an answer's stream holds, up to the judgment; it never ends without one. Closes
    the answer however it ends.

    Raises:
        JudgeError: as `read_items`, and JudgeTimeoutError past the deadline.
    """
    try:
        parser = EventParser()
        for data in response.iter_bytes():
            deadline.left()
            for item in read_items(parser, data, route):
                yield item
                if isinstance(item, route.answer):
                    return
        raise _no_judgment(route)
    finally:
        response.close()


async def items_of_async(
    response: httpx.Response, route: StreamRoute[Answer, Piece], deadline: Deadline
) -> AsyncGenerator[Piece | Answer, None]:
    """The same for a caller with an event loop."""
    try:
        parser = EventParser()
        pieces = response.aiter_bytes()
        while True:
            async with until(deadline):
                data = await anext(pieces, None)
            if data is None:
                raise _no_judgment(route)
            for item in read_items(parser, data, route):
                yield item
                if isinstance(item, route.answer):
                    return
    finally:
        await response.aclose()


def _no_judgment(route: StreamRoute[Answer, Piece]) -> JudgeProtocolError:
    return JudgeProtocolError(f"the stream of {route.path} ended without a judgment")
