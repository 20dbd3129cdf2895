"""Judgments told piece by piece: what is rationale while it is written, and what ends a stream."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import Completion, Delta, Draw, GenerationRequest
from selfreward.errors import EngineError
from selfreward.records import ModelRef
from selfreward.serving.judge_wire import (
    RationalePiece,
    ScoreJudgment,
    ScoreRequest,
    StreamEvent,
)
from selfreward.serving.rationales import (
    ScoreListener,
    VerdictFirstListener,
    rationale_before_score,
)
from selfreward.serving.scores import plan_score
from selfreward.serving.streaming import stream_plan
from selfreward.serving.wire import JudgeVersion
from tests.serving_tools import GOOD, PAIR, events_of, local_service

ASKED = {"prompt": "Ask number 1", "response": GOOD, "rationale": True}
ROUTES = [("pairwise", PAIR | {"rationale": True}), ("score", ASKED)]
MODEL = ModelRef(name="m", iteration=2, fingerprint="f00d")
VERSION = JudgeVersion(version=3, model="m", iteration=2, fingerprint="f00d")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[TestClient]:
    with local_service(tiny_model, tmp_path_factory.mktemp("streams")) as (client, _, _):
        yield client


def test_a_score_has_its_explanation_in_pieces_and_ends_with_the_judgment(
    client: TestClient,
) -> None:
    answer = client.post("/v1/judge/score/stream", json=ASKED)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *pieces, (name, data) = events_of(answer.text)
    assert name == "judgment"
    assert len(pieces) > 3 and {name for name, _ in pieces} == {"rationale"}
    assert all(set(data) == {"text"} for _, data in pieces)
    judgment = ScoreJudgment.model_validate(data)
    assert judgment.outcome == "score"
    told = "".join(data["text"] for _, data in pieces)
    assert told.strip() == judgment.rationale != ""


@pytest.mark.parametrize(("route", "body"), ROUTES)
@pytest.mark.parametrize("options", [{}, {"rationale": False}, {"votes": 3}])
def test_the_last_event_is_the_answer_that_is_not_streamed(
    client: TestClient, route: str, body: dict[str, Any], options: dict[str, Any]
) -> None:
    whole = client.post(f"/v1/judge/{route}", json=body | options).json()
    *pieces, last = events_of(client.post(f"/v1/judge/{route}/stream", json=body | options).text)
    assert last[0] == "judgment"
    assert last[1] | {"id": ""} == whole | {"id": ""}
    assert bool(pieces) == options.get("rationale", True)


def test_what_is_refused_has_its_status_and_a_batch_is_not_streamed(client: TestClient) -> None:
    for body in (ASKED | {"response": " "}, ASKED | {"rubric": "none"}, {"batch": [ASKED]}):
        answer = client.post("/v1/judge/score/stream", json=body)
        assert answer.status_code == 422
        assert answer.json()["error"]["type"] == "invalid_request_error"
    long = client.post("/v1/judge/score/stream", json=ASKED | {"response": "word " * 10_000})
    ((name, data),) = events_of(long.text)
    assert (name, data["outcome"]) == ("judgment", "prompt_too_long")


def test_a_stream_is_counted_as_what_was_judged(tmp_path: Path, tiny_model: Path) -> None:
    with local_service(tiny_model, tmp_path) as (client, _, _):
        client.post("/v1/judge/score/stream", json=ASKED)
        metrics = client.get("/metrics").text
    assert 'selfreward_judgments_total{kind="score",outcome="score"} 1.0' in metrics
    assert 'selfreward_requests_total{route="/v1/judge/score/stream",status="200"} 1.0' in metrics


@pytest.mark.parametrize(("route", "body"), ROUTES)
def test_a_time_limit_ends_a_stream_as_an_outcome(
    tmp_path: Path, tiny_model: Path, route: str, body: dict[str, Any]
) -> None:
    with local_service(tiny_model, tmp_path, delay_s=0.5) as (client, _, _):
        answer = client.post(f"/v1/judge/{route}/stream", json=body | {"timeout_s": 2})
    *pieces, (name, data) = events_of(answer.text)
    # What was written in time is told; the rest is not waited for.
    assert pieces and {name for name, _ in pieces} == {"rationale"}
    assert (name, data["outcome"]) == ("judgment", "timed_out")


class Writer:
    """An engine that writes given pieces, and then the whole or for ever on."""

    def __init__(self, *pieces: str, ends: bool = True, error: Exception | None = None) -> None:
        self.pieces, self.ends, self.error = pieces, ends, error
        self.closed = asyncio.Event()

    async def __call__(self, request: GenerationRequest) -> AsyncIterator[Delta | Completion]:
        try:
            for piece in self.pieces:
                yield Delta(draw=0, text=piece)
                # Of another draw nothing is told.
                yield Delta(draw=1, text="other")
            if self.error is not None:
                raise self.error
            if not self.ends:
                await asyncio.Event().wait()
            draw = Draw(text="".join(self.pieces), finish_reason="stop", num_tokens=5)
            yield Completion(request_id=request.id, model=MODEL, draws=(draw,))
        finally:
            self.closed.set()


async def streamed(writer: Writer) -> list[StreamEvent]:
    plan = plan_score(ScoreRequest.model_validate(ASKED), ServingConfig(), "r")
    return [event async for event in stream_plan(plan, writer, VERSION, timeout_s=20)]


def test_a_caller_who_leaves_ends_the_writing() -> None:
    async def run() -> None:
        writer = Writer("It is", " plain.", ends=False)
        plan = plan_score(ScoreRequest.model_validate(ASKED), ServingConfig(), "r")
        async with aclosing(stream_plan(plan, writer, VERSION, timeout_s=20)) as events:
            assert await anext(events) == RationalePiece(text="It is")
            assert not writer.closed.is_set()
        await asyncio.wait_for(writer.closed.wait(), 10)

    asyncio.run(run())


@pytest.mark.parametrize(("route", "body"), ROUTES)
def test_a_client_that_hangs_up_leaves_nothing_behind(
    tmp_path: Path, tiny_model: Path, route: str, body: dict[str, Any]
) -> None:
    content = json.dumps(body).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/v1/judge/{route}/stream",
        "raw_path": f"/v1/judge/{route}/stream".encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }

    async def hang_up(app: Any) -> bytes:
        sent: list[bytes] = []
        has_piece = asyncio.Event()
        received = iter([{"type": "http.request", "body": content, "more_body": False}])

        async def receive() -> dict[str, Any]:
            message = next(received, None)
            if message is not None:
                return message
            await has_piece.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                sent.append(message["body"])
                has_piece.set()

        before = asyncio.all_tasks()
        await asyncio.wait_for(app(scope, receive, send), 20)
        # What the engine was writing ends too, at its next step.
        async with asyncio.timeout(4):
            while asyncio.all_tasks() - before:
                await asyncio.sleep(0.01)
        return b"".join(sent)

    # At 1 s a word the whole would take twice as long as is waited.
    with local_service(tiny_model, tmp_path, delay_s=1.0) as (client, _, _):
        assert client.portal is not None
        sent = client.portal.call(hang_up, client.app)
    assert b"event: rationale" in sent
    assert b"event: judgment" not in sent


def test_an_engine_that_breaks_down_is_an_outcome() -> None:
    *pieces, last = asyncio.run(streamed(Writer("It is", error=EngineError("gone"))))
    assert pieces == [RationalePiece(text="It is")]
    assert isinstance(last, ScoreJudgment)
    assert (last.outcome, last.detail) == ("failed", "gone")


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        (["It is plain.\n", "Sc", "ore", ": 4"], ["It is plain.\n"]),
        (["Good.\n*", "*Score:** 4"], ["Good.\n"]),
        # Not the word after all.
        (["A under", "score: of sc", "ent\nScore: 4"], ["A under", "score: of", " scent\n"]),
        # A later one shows that the first belonged to the rationale.
        (["Score: 2 at first", ", but no.\n", "Score: 4"], ["Score: 2 at first, but no.\n"]),
        (["Score: 4"], []),
    ],
)
def test_the_score_itself_is_not_told(pieces: list[str], told: list[str]) -> None:
    *given_out, last = asyncio.run(streamed(Writer(*pieces)))
    assert given_out == [RationalePiece(text=text) for text in told]
    assert isinstance(last, ScoreJudgment)
    assert "".join(told).strip() == (last.rationale or "")


def test_of_a_verdict_that_comes_first_all_that_follows_is_told() -> None:
    listener = VerdictFirstListener("first_second")
    heard = [listener.hear(piece) for piece in ("[[", "A]", "]", "\nFour is", " right.")]
    assert [piece.text for piece in heard if piece is not None] == ["\nFour is", " right."]


PARTS = ["Score", "sc", "ore", ":", " ", "\t", "*", "_`#", "\n", "a", "4", "s", "S"]


@given(st.lists(st.sampled_from(PARTS), max_size=40))
def test_what_is_told_is_what_the_whole_text_has_as_its_rationale(pieces: list[str]) -> None:
    # The mark at the end, so that there is one.
    pieces = [*pieces, "\nScore: 4"]
    listener = ScoreListener()
    heard = [listener.hear(piece) for piece in pieces]
    draw = Draw(text="".join(pieces), finish_reason="stop", num_tokens=1)
    told = "".join(piece.text for piece in heard if piece is not None)
    assert told.strip() == rationale_before_score(draw)
