"""The client against a small service, a scripted network, and a real socket."""

import asyncio
import base64
import contextlib
import inspect
import json
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

import selfreward.client as public
from selfreward.client import (
    AsyncJudgeClient,
    ChatMessage,
    JudgeClient,
    JudgeError,
    JudgeOptions,
    PairwiseJudgment,
    PairwiseRequest,
    RationaleDelta,
    RationalePiece,
    ScoreRequest,
    VersionEntry,
)
from selfreward.client.errors import error_of_answer
from selfreward.client.events import EventParser
from selfreward.client.transport import Deadline, retry_after_s
from selfreward.errors import ConfigError
from selfreward.serving.judge_wire import Options
from selfreward.serving.wire import ErrorBody, ErrorDetail
from tests.judge_service import (
    JUDGE,
    KEY,
    blocking_transport,
    make_app,
    pairwise_judgment,
    score_judgment,
)

URL = "http://judge.test"
JUDGMENT = pairwise_judgment(PairwiseRequest(prompt="p", first="long", second="s"))
ANSWER = JUDGMENT.model_dump_json().encode()


def failure(
    status: int, kind: str = "server_error", code: str = "why", **headers: str
) -> httpx.Response:
    body = {"error": {"message": "no", "type": kind, "param": None, "code": code}}
    return httpx.Response(
        status, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


class Script:
    """A network that answers what it is told, in order, and the waits between the answers."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.waits: list[float] = []
        self.num_sent = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.num_sent += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **settings: Any) -> JudgeClient:
        transport = httpx.MockTransport(self)
        return JudgeClient(URL, transport=transport, sleep=self.waits.append, **settings)

    def async_client(self, **settings: Any) -> AsyncJudgeClient:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        return AsyncJudgeClient(URL, transport=httpx.MockTransport(self), sleep=sleep, **settings)

    def pairwise(self, kind: str, **settings: Any) -> PairwiseJudgment:
        """The same call by either client."""
        if kind == "sync":
            with self.client(**settings) as client:
                return client.pairwise("p", "long", "s")

        async def ask() -> PairwiseJudgment:
            async with self.async_client(**settings) as client:
                return await client.pairwise("p", "long", "s")

        return asyncio.run(ask())


both_clients = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def client(seen: list[Any]) -> Iterator[JudgeClient]:
    transport = blocking_transport(make_app(seen))
    with JudgeClient(URL, api_key=KEY, transport=transport, max_batch=3) as made:
        yield made


def test_every_call_of_the_blocking_client(client: JudgeClient, seen: list[Any]) -> None:
    judgment = client.pairwise("2+2?", "four", "5", votes=3, rationale=True)
    assert (judgment.choice, judgment.probability_first) == ("first", 0.9)
    assert (seen[0].votes, seen[0].rationale, seen[0].prompt) == (3, True, "2+2?")
    assert client.score("2+2?", "four", reference="4").score == 5
    ranked = client.rank("2+2?", ["a", "ccc", "bb"], method="scores", seed=7)
    assert ranked.ranking == [[1], [2], [0]]
    assert (seen[2].method, seen[2].seed) == ("scores", 7)
    assert client.models() == ["M2"]
    assert client.version().current.judge == JUDGE
    assert client.promote(iteration=2).judge.version == 3
    assert (client.health(), client.ready()) == (True, False)


def test_every_call_of_the_async_client(seen: list[Any]) -> None:
    async def ask() -> None:
        transport = httpx.ASGITransport(make_app(seen))
        async with AsyncJudgeClient(URL, api_key=KEY, transport=transport, max_batch=2) as client:
            assert (await client.pairwise("2+2?", "four", "5")).choice == "first"
            assert (await client.score("2+2?", "four")).score == 4
            assert (await client.rank("2+2?", ["a", "bb"])).ranking == [[1], [0]]
            assert await client.models() == ["M2"]
            assert (await client.version()).current.judge == JUDGE
            assert (await client.promote(model="org/judge")).by == "promote"
            assert (await client.health(), await client.ready()) == (True, False)
            with pytest.raises(public.PermissionDeniedError, match="admin keys only"):
                await client.rollback()

    asyncio.run(ask())


@pytest.mark.parametrize(
    "prompt",
    [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}],
        (
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="user", content="2+2?"),
        ),
    ],
)
def test_a_conversation_arrives_as_messages(
    client: JudgeClient, seen: list[Any], prompt: Any
) -> None:
    client.pairwise(prompt, "four", "5")
    assert [(m.role, m.content) for m in seen[0].prompt] == [
        ("system", "Be brief."),
        ("user", "2+2?"),
    ]


def test_a_batch_is_cut_into_chunks_and_keeps_its_order(
    client: JudgeClient, seen: list[Any]
) -> None:
    responses = ["r" * n for n in (5, 1, 4, 2, 3, 1, 2)]
    judgments = client.score_batch([{"prompt": "p", "response": r} for r in responses])
    assert [j.score for j in judgments] == [5, 1, 4, 2, 3, 1, 2]
    assert [len(body.batch) for body in seen] == [3, 3, 1]
    pairs = [PairwiseRequest(prompt="p", first=r, second="zz") for r in responses[:4]]
    assert [j.id for j in client.pairwise_batch(pairs)] == responses[:4]
    ranked = client.rank_batch([{"prompt": "p", "responses": ["a", "bb"]}])
    assert [j.ranking for j in ranked] == [[[1], [0]]]
    assert client.score_batch([]) == []
    assert len(seen) == 6


def test_a_body_stays_below_its_limit_in_bytes(seen: list[Any]) -> None:
    sizes: list[int] = []
    inner = blocking_transport(make_app(seen))

    def handle(request: httpx.Request) -> httpx.Response:
        sizes.append(len(request.content))
        return inner.handle_request(request)

    one = len(PairwiseRequest(prompt="p", first="é" * 100, second="s").model_dump_json().encode())
    # `{"batch":[` and `]}` are 12 bytes, two requests have one comma between them.
    room_for_two = 12 + 2 * one + 1
    requests = [{"prompt": "p", "first": "é" * 100, "second": "s"}] * 5
    for limit, expected in [(room_for_two, [2, 2, 1]), (room_for_two - 1, [1] * 5), (1, [1] * 5)]:
        seen.clear()
        sizes.clear()
        transport = httpx.MockTransport(handle)
        with JudgeClient(URL, api_key=KEY, transport=transport, max_body_bytes=limit) as client:
            assert len(client.pairwise_batch(requests)) == 5
        assert [len(body.batch) for body in seen] == expected
        assert max(sizes) == (room_for_two if expected[0] == 2 else 12 + one)


def test_async_chunks_overlap_and_keep_their_order() -> None:
    under_way, most = 0, 0

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        batch = json.loads(request.content)["batch"]
        # Earlier chunks take longer, so that they are answered in the opposite order.
        for _ in range(30 - int(batch[0]["first"][1:])):
            await asyncio.sleep(0)
        under_way -= 1
        judgments = [pairwise_judgment(PairwiseRequest.model_validate(r)) for r in batch]
        return httpx.Response(200, json={"batch": [j.model_dump() for j in judgments]})

    async def ask() -> list[PairwiseJudgment]:
        transport = httpx.MockTransport(handle)
        async with AsyncJudgeClient(
            URL, transport=transport, max_batch=2, max_in_flight=3
        ) as client:
            requests = [{"prompt": "p", "first": f"r{n}", "second": "s"} for n in range(13)]
            return await client.pairwise_batch(requests)

    assert [j.id for j in asyncio.run(ask())] == [f"r{n}" for n in range(13)]
    assert most == 3


@both_clients
@pytest.mark.parametrize("code", ["batch_too_large", "too_many_draws"])
def test_a_chunk_that_the_service_finds_too_large_goes_in_halves(kind: str, code: str) -> None:
    sent: list[int] = []

    def handle(request: httpx.Request) -> httpx.Response:
        batch = json.loads(request.content)["batch"]
        sent.append(len(batch))
        if len(batch) > 2 or "fat" in batch[0]["response"]:
            return failure(422, "invalid_request_error", code)
        judgments = [score_judgment(ScoreRequest.model_validate(r)) for r in batch]
        return httpx.Response(200, json={"batch": [j.model_dump() for j in judgments]})

    def scored(*responses: str) -> list[str]:
        requests = [{"prompt": "p", "response": r} for r in responses]
        transport = httpx.MockTransport(handle)
        if kind == "sync":
            return [j.id for j in JudgeClient(URL, transport=transport).score_batch(requests)]

        async def ask() -> list[str]:
            async with AsyncJudgeClient(URL, transport=transport) as client:
                return [j.id for j in await client.score_batch(requests)]

        return asyncio.run(ask())

    assert scored("a", "b", "c", "d", "e") == ["a", "b", "c", "d", "e"]
    assert sent == [5, 2, 3, 1, 2]
    # One by itself that is too much is told.
    with pytest.raises(public.InvalidRequestError, match=code):
        scored("fat")


def test_a_failing_chunk_is_told_as_itself() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return failure(400, "invalid_request_error")

    async def ask() -> None:
        async with AsyncJudgeClient(
            URL, transport=httpx.MockTransport(handle), max_batch=1
        ) as client:
            await client.score_batch([{"prompt": "p", "response": "r"}] * 3)

    with pytest.raises(public.InvalidRequestError, match=r"^no \(HTTP 400, why\)$"):
        asyncio.run(ask())


def test_a_batch_of_another_length_is_refused() -> None:
    script = Script(httpx.Response(200, json={"batch": []}))
    with pytest.raises(public.JudgeProtocolError, match="0 judgments to 1 requests"):
        script.client().score_batch([{"prompt": "p", "response": "r"}])


@both_clients
@pytest.mark.parametrize(
    "trouble",
    [
        (429, "rate_limit_error"),
        (502, "server_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
        httpx.ConnectTimeout("slow"),
    ],
    ids=lambda t: str(t[0]) if isinstance(t, tuple) else type(t).__name__,
)
def test_what_may_pass_is_tried_again(kind: str, trouble: Any) -> None:
    troubles = [failure(*trouble) if isinstance(trouble, tuple) else trouble for _ in range(2)]
    script = Script(*troubles, httpx.Response(200, content=ANSWER))
    assert script.pairwise(kind) == JUDGMENT
    assert script.num_sent == 3
    # Random, at most 0.5 s and then 1 s.
    first, second = script.waits
    assert 0 <= first <= 0.5
    assert 0 <= second <= 1


@both_clients
@pytest.mark.parametrize(
    ("status", "body_type", "expected"),
    [
        (400, "invalid_request_error", public.InvalidRequestError),
        (401, "authentication_error", public.AuthenticationError),
        (403, "permission_error", public.PermissionDeniedError),
        (404, "not_found_error", public.NotFoundError),
        (413, "invalid_request_error", public.InvalidRequestError),
        (500, "server_error", public.ServerError),
    ],
)
def test_what_cannot_pass_is_told_at_once(
    kind: str, status: int, body_type: str, expected: type[JudgeError]
) -> None:
    script = Script(failure(status, body_type))
    with pytest.raises(expected) as caught:
        script.pairwise(kind)
    assert (caught.value.status, caught.value.code, caught.value.message) == (status, "why", "no")
    assert (script.num_sent, script.waits) == (1, [])


@both_clients
def test_tries_are_bounded_and_the_last_error_is_told(kind: str) -> None:
    script = Script(*[failure(503, "overloaded_error", Retry_After="2") for _ in range(9)])
    with pytest.raises(public.OverloadedError) as caught:
        script.pairwise(kind, max_tries=4)
    assert (caught.value.status, caught.value.retry_after_s) == (503, 2.0)
    assert (script.num_sent, script.waits) == (4, [2.0, 2.0, 2.0])


@both_clients
def test_no_wait_goes_past_the_total_time(kind: str) -> None:
    script = Script(failure(429, "rate_limit_error", Retry_After="120"))
    with pytest.raises(public.RateLimitError) as caught:
        script.pairwise(kind, total_timeout_s=60.0)
    assert (caught.value.retry_after_s, script.num_sent, script.waits) == (120.0, 1, [])


@both_clients
def test_retry_after_as_a_date(kind: str) -> None:
    gone_by = "Wed, 21 Oct 2015 07:28:00 GMT"
    script = Script(
        failure(503, "overloaded_error", Retry_After=gone_by),
        httpx.Response(200, content=ANSWER),
    )
    script.pairwise(kind)
    assert script.waits == [0.0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("", None),
        (None, None),
    ],
)
def test_reading_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, now=datetime(2015, 10, 21, 7, 28, 0, tzinfo=UTC)) == seconds


@both_clients
def test_a_slow_read_is_not_repeated(kind: str) -> None:
    script = Script(httpx.ReadTimeout("slow"))
    with pytest.raises(public.JudgeTimeoutError, match=r"http://judge\.test"):
        script.pairwise(kind)
    assert script.num_sent == 1


@both_clients
def test_a_lost_connection_names_the_address(kind: str) -> None:
    script = Script(*[httpx.ConnectError("refused")] * 2)
    with pytest.raises(public.JudgeConnectionError, match=r"judge\.test.*ConnectError: refused"):
        script.pairwise(kind, max_tries=2)


@both_clients
def test_a_key_in_the_url_is_sent_and_never_told(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    sent: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Authorization"])
        if len(sent) == 2:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, content=ANSWER)

    url = f"http://any:{KEY}@judge.test/prefix"
    settings: dict[str, Any] = {"transport": httpx.MockTransport(handle), "max_tries": 1}

    def ask() -> None:
        if kind == "sync":
            client = JudgeClient(url, **settings)
            client.pairwise("p", "long", "s")
            client.pairwise("p", "long", "s")

        async def both() -> None:
            async with AsyncJudgeClient(url, **settings) as client:
                await client.pairwise("p", "long", "s")
                await client.pairwise("p", "long", "s")

        asyncio.run(both())

    with pytest.raises(public.JudgeConnectionError, match=r"http://judge\.test/prefix") as caught:
        ask()
    assert sent == ["Basic " + base64.b64encode(f"any:{KEY}".encode()).decode()] * 2
    assert KEY not in str(caught.value) and KEY not in caplog.text
    for wrong in (f"http://any:{KEY}@host:x", f"ftp://any:{KEY}@host"):
        with pytest.raises(ConfigError) as refused:
            JudgeClient(wrong)
        assert KEY not in str(refused.value)


def test_changes_are_repeated_only_when_nothing_can_have_happened() -> None:
    entry = VersionEntry(judge=JUDGE, since="2026-01-02T03:04:05Z", by="rollback")
    done = httpx.Response(200, content=entry.model_dump_json())
    script = Script(httpx.ConnectError("refused"), failure(429, "rate_limit_error"), done)
    assert script.client().rollback().by == "rollback"
    troubles: list[httpx.Response | Exception] = [
        httpx.ReadError("reset"),
        failure(503, "overloaded_error"),
        failure(502),
    ]
    for trouble in troubles:
        script = Script(trouble)
        with pytest.raises(JudgeError):
            script.client().rollback()
        assert script.num_sent == 1


def test_a_deadline_ends() -> None:
    deadline = Deadline.after(60.0)
    assert deadline.within(1000.0) == deadline
    assert 0 < deadline.within(5.0).left() <= 5.0
    with pytest.raises(public.JudgeTimeoutError):
        Deadline.after(-1.0).left()


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in pieces, and remembers whether it was closed."""

    def __init__(self, *pieces: bytes, endless: bool = False) -> None:
        self.pieces = pieces
        self.endless = endless
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        while self.endless:
            yield b" "

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        while self.endless:
            await asyncio.sleep(0)
            yield b" "

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Breaks(Pieces):
    """A body whose connection is lost after its pieces."""

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        raise httpx.ReadError("reset")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        raise httpx.ReadError("reset")


@both_clients
def test_an_answer_that_drips_for_ever_runs_into_the_limit(kind: str) -> None:
    body = Pieces(endless=True)
    with pytest.raises(public.JudgeTimeoutError):
        Script(httpx.Response(200, stream=body)).pairwise(kind, timeout_s=0.05)
    assert body.closed


EVENTS = (
    b": hello\n\n"
    b'event: rationale\ndata: {"shown": "first_second", "text": "caf\xc3\xa9 \xe2\x80\xa8 A"}\n\n'
    b'event: rationale\r\ndata: {"shown": "second_first",\r\ndata:  "text": "two\\nlines"}\r\n\r\n'
    b"event: ping\ndata: 1\n\n"
    b"event: judgment\ndata: " + ANSWER + b"\n\n"
)
ITEMS = [
    RationaleDelta(shown="first_second", text="caf\u00e9 \u2028 A"),
    RationaleDelta(shown="second_first", text="two\nlines"),
    JUDGMENT,
]


def collect(kind: str, *answers: httpx.Response | Exception) -> list[Any]:
    script = Script(*answers)
    if kind == "sync":
        return list(script.client().stream_pairwise("p", "long", "s"))

    async def ask() -> list[Any]:
        async with script.async_client() as client:
            return [item async for item in client.stream_pairwise("p", "long", "s")]

    return asyncio.run(ask())


@both_clients
@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_a_stream_is_the_same_however_it_is_cut(kind: str, step: int) -> None:
    pieces = [EVENTS[i : i + step] for i in range(0, len(EVENTS), step)]
    body = Pieces(*pieces)
    assert collect(kind, httpx.Response(200, stream=body)) == ITEMS
    assert body.closed


def test_the_parser_follows_the_standard() -> None:
    def parsed(text: bytes) -> list[tuple[str, str]]:
        parser = EventParser()
        # Byte by byte, the hardest cut.
        events = [e for i in range(len(text)) for e in parser.feed(text[i : i + 1])]
        whole = EventParser().feed(text)
        assert whole == events
        return [(e.name, e.data) for e in events]

    # The standard's own examples of fields, spaces and multi-line data.
    assert parsed(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [("message", "YHOO\n+2\n10")]
    assert parsed(b"data:test\n\ndata: test\n\ndata:  test\n\n") == [
        ("message", "test"),
        ("message", "test"),
        ("message", " test"),
    ]
    assert parsed(b"data\n\ndata\ndata\n\ndata:") == [("message", ""), ("message", "\n")]
    # An event without data is dropped, with its name; so is one without its blank line.
    assert parsed(b"event: a\n\ndata: 1\n\nevent: b\ndata: 2\n") == [("message", "1")]
    assert parsed(b"\xef\xbb\xbfevent: a\rdata: 1\r\rid: 5\nretry: 1\ndata: 2\n\n") == [
        ("a", "1"),
        ("message", "2"),
    ]


@both_clients
def test_a_stream_is_asked_for_again_until_its_first_event(kind: str) -> None:
    lost = Breaks(b": hello\n\nevent: rationale\ndata: ")
    detail = ErrorDetail(message="no replica", type="overloaded_error", code="engine_unavailable")
    busy = Pieces(f"event: error\ndata: {ErrorBody(error=detail).model_dump_json()}\n\n".encode())
    before: list[httpx.Response | Exception] = [
        failure(503, "overloaded_error"),
        httpx.ConnectError("refused"),
        httpx.Response(200, stream=lost),
        httpx.Response(200, stream=busy),
    ]
    assert collect(kind, *before, httpx.Response(200, stream=Pieces(EVENTS))) == ITEMS
    assert lost.closed and busy.closed
    five = [httpx.Response(200, stream=Breaks(b"")) for _ in range(5)]
    with pytest.raises(public.JudgeConnectionError, match="broke off: ReadError: reset"):
        collect(kind, *five)


@both_clients
def test_a_stream_that_breaks_after_its_first_event_is_not_begun_again(kind: str) -> None:
    head = EVENTS.partition(b"event: judgment")[0]
    lost = Breaks(head)
    with pytest.raises(public.JudgeConnectionError):
        collect(kind, httpx.Response(200, stream=lost))
    assert lost.closed
    broken = Pieces(EVENTS.partition(b"event: judgment")[0])
    with pytest.raises(public.JudgeProtocolError, match="ended without a judgment"):
        collect(kind, httpx.Response(200, stream=broken))
    assert broken.closed


@both_clients
def test_an_error_in_a_stream_is_typed(kind: str) -> None:
    detail = ErrorDetail(message="out of time", type="timeout_error", code="timeout")
    data = ErrorBody(error=detail).model_dump_json().encode()
    with pytest.raises(public.JudgeTimeoutError, match="out of time") as caught:
        stream = Pieces(b"event: error\ndata: ", data, b"\n\n")
        collect(kind, httpx.Response(200, stream=stream))
    assert (caught.value.status, caught.value.code) == (None, "timeout")
    with pytest.raises(public.JudgeProtocolError, match=r"'rationale'.*shown"):
        collect(
            kind, httpx.Response(200, stream=Pieces(b'event: rationale\ndata: {"text":""}\n\n'))
        )


SCORED = score_judgment(ScoreRequest(prompt="p", response="four"))
SCORE_EVENTS = (
    b'event: rationale\ndata: {"text": "plain"}\n\n'
    b"event: judgment\ndata: " + SCORED.model_dump_json().encode() + b"\n\n"
)


@both_clients
def test_a_stream_asks_for_the_rationale(kind: str) -> None:
    sent: list[Any] = []

    def handle(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        sent.append((request.url.path, body["rationale"]))
        return httpx.Response(200, stream=Pieces(EVENTS if "first" in body else SCORE_EVENTS))

    def ask(**options: Any) -> list[list[Any]]:
        transport = httpx.MockTransport(handle)
        if kind == "sync":
            with JudgeClient(URL, transport=transport) as blocking:
                pair = list(blocking.stream_pairwise("p", "long", "s", **options))
                return [pair, list(blocking.stream_score("p", "four", **options))]

        async def both() -> list[list[Any]]:
            async with AsyncJudgeClient(URL, transport=transport) as client:
                pair = [i async for i in client.stream_pairwise("p", "long", "s", **options)]
                return [pair, [i async for i in client.stream_score("p", "four", **options)]]

        return asyncio.run(both())

    assert ask() == [ITEMS, [RationalePiece(text="plain"), SCORED]]
    ask(rationale=False)
    paths = ["/v1/judge/pairwise/stream", "/v1/judge/score/stream"]
    assert sent == [*((path, True) for path in paths), *((path, False) for path in paths)]


def test_a_judgment_of_another_kind_is_refused_in_a_stream() -> None:
    script = Script(httpx.Response(200, stream=Pieces(EVENTS.partition(b"event: ping")[2])))
    with pytest.raises(public.JudgeProtocolError, match="'judgment' of the stream cannot be read"):
        list(script.client().stream_score("p", "four"))


def test_leaving_a_stream_early_closes_it() -> None:
    body = Pieces(EVENTS)
    events = Script(httpx.Response(200, stream=body)).client().stream_pairwise("p", "a", "b")
    assert next(events) == ITEMS[0]
    was_open = not body.closed
    events.close()
    assert (was_open, body.closed) == (True, True)

    async def ask() -> Pieces:
        body = Pieces(EVENTS)
        async with Script(httpx.Response(200, stream=body)).async_client() as client:
            async with contextlib.aclosing(client.stream_pairwise("p", "a", "b")) as events:
                async for _ in events:
                    break
            assert body.closed
        return body

    asyncio.run(ask())


@pytest.mark.parametrize("what", ["waiting for an answer", "inside a stream"])
def test_cancelling_closes_the_connection(what: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

    async def ask() -> None:
        asked, hung_up = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if what == "inside a stream":
                writer.write(head + EVENTS.partition(b"event: ping")[0])
                await writer.drain()
            asked.set()
            # The body of the request, then nothing until the other side hangs up.
            while await reader.read(4096):
                pass
            hung_up.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        got: list[Any] = []

        async def call(client: AsyncJudgeClient) -> None:
            if what == "inside a stream":
                async for item in client.stream_pairwise("p", "a", "b"):
                    got.append(item)
            else:
                await client.pairwise("p", "a", "b")

        async with server, AsyncJudgeClient(f"http://127.0.0.1:{port}") as client:
            task = asyncio.create_task(call(client))
            await asked.wait()
            while what == "inside a stream" and len(got) < 2:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The client is still open: only the call's own connection can have closed.
            await asyncio.wait_for(hung_up.wait(), 30)
        assert got == (ITEMS[:2] if what == "inside a stream" else [])

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda c: c.pairwise("", "a", "b"), "PairwiseRequest: prompt"),
        (lambda c: c.pairwise("p", "a", "b", votes=0), "votes: .*greater than or equal to 1"),
        (lambda c: c.pairwise("p", "a", "b", vote=2), "vote: Extra inputs"),
        (lambda c: c.pairwise([{"role": "robot", "content": "x"}], "a", "b"), "role"),
        (lambda c: c.score("p", "\ud800"), "response: .*unicode"),
        (lambda c: c.rank("p", ["only"]), "responses: .*at least 2"),
        (lambda c: c.stream_pairwise("p", "a", ""), "second"),
        (lambda c: c.stream_score("p", ""), "response"),
        (lambda c: c.score_batch([{"prompt": "p", "response": "r"}, {"prompt": "p"}]), "response"),
        (lambda c: c.promote(), "name either an iteration or a model"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_sent(
    call: Callable[[JudgeClient], Any], match: str
) -> None:
    script = Script()
    with pytest.raises(public.InvalidRequestError, match=match) as caught:
        call(script.client())
    assert caught.value.status is None
    assert script.num_sent == 0
    assert "\n" not in str(caught.value)


def test_the_key_goes_with_every_request(seen: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    transport = blocking_transport(make_app(seen))
    monkeypatch.delenv("SELFREWARD_API_KEY", raising=False)
    with pytest.raises(public.AuthenticationError, match="wrong key") as caught:
        JudgeClient(URL, transport=transport).models()
    assert (caught.value.status, caught.value.code) == (401, "invalid_key")
    monkeypatch.setenv("SELFREWARD_API_KEY", KEY)
    client = JudgeClient(URL, transport=transport)
    assert client.models() == ["M2"]
    assert KEY not in repr(client.settings)
    with pytest.raises(public.AuthenticationError):
        JudgeClient(URL, api_key="sr-wrong", transport=transport).health()


def test_a_route_prefix_is_kept() -> None:
    paths = []

    def handle(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(200, content=ANSWER)

    for url in (f"{URL}/judge", f"{URL}/judge/"):
        JudgeClient(url, transport=httpx.MockTransport(handle)).pairwise("p", "a", "b")
    assert paths == ["/judge/v1/judge/pairwise"] * 2


def test_probes_of_a_service_that_is_not_there() -> None:
    assert Script(httpx.ConnectError("refused")).client().health() is False
    assert Script(failure(500)).client().ready() is False
    with pytest.raises(public.NotFoundError):
        Script(failure(404, "not_found_error")).client().ready()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (502, b"<html>Bad\n Gateway</html>", public.ServerError),
        (503, b"", public.OverloadedError),
        (429, b'{"detail": "slow down"}', public.RateLimitError),
        (404, b'{"detail": "Not Found"}', public.NotFoundError),
        (422, b'{"error": {"message": 5}}', public.InvalidRequestError),
        (307, b"", public.JudgeProtocolError),
    ],
)
def test_bodies_of_others_are_told_by_their_status(
    status: int, body: bytes, expected: type[JudgeError]
) -> None:
    error = error_of_answer(status, body)
    assert type(error) is expected
    assert str(error).endswith(f"(HTTP {status})")
    assert "\n" not in str(error)


def test_an_answer_of_another_form_is_refused() -> None:
    script = Script(httpx.Response(200, json={"score": 1}))
    with pytest.raises(public.JudgeProtocolError, match="/v1/judge/score is no ScoreJudgment"):
        script.client().score("p", "r")


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("judge:8000", {}),
        ("127.0.0.1:8000", {}),
        ("ftp://judge", {}),
        ("http://", {}),
        ("http://judge:port", {}),
        (URL, {"timeout_s": 0}),
        (URL, {"total_timeout_s": float("nan")}),
        (URL, {"max_tries": 0}),
        (URL, {"max_batch": -1}),
    ],
)
def test_settings_that_cannot_work(url: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings), "base_url")):
        JudgeClient(url, **settings)


def test_client_and_errors_survive_pickling() -> None:
    client = pickle.loads(pickle.dumps(JudgeClient(URL, api_key=KEY, max_tries=2)))
    assert (client.settings.max_tries, client.settings.api_key) == (2, KEY)
    client.close()
    error = public.RateLimitError("slow", status=429, code="rate", retry_after_s=2.0)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is public.RateLimitError
    assert (str(copy), copy.retry_after_s) == ("slow (HTTP 429, rate)", 2.0)


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {n: list(inspect.signature(f).parameters) for n, f in functions if n[0] != "_"}

    blocking, other = calls(JudgeClient), calls(AsyncJudgeClient)
    assert blocking.pop("close") == other.pop("aclose")
    assert blocking == other
    assert set(JudgeOptions.__annotations__) == set(Options.model_fields)


def test_the_client_loads_light() -> None:
    heavy = {"ray", "torch", "vllm", "transformers", "numpy", "fastapi"}
    code = f"import sys, selfreward.client.rewards; print({heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert sorted(public.__all__) == public.__all__
    assert all(hasattr(public, name) for name in public.__all__)
