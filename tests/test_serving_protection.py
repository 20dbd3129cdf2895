"""What the service lets in, what it refuses and how, on a small application of the same build."""

import asyncio
import base64
import json
import logging
import pickle
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, Depends, FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.types import Message

from selfreward.config_serving import ServingConfig
from selfreward.errors import ConfigError
from selfreward.serving.access import Access, admitted, install_access, require
from selfreward.serving.admission import Admission
from selfreward.serving.http_errors import (
    ApiError,
    api_error,
    error_response,
    install_error_handlers,
)
from selfreward.serving.judge_wire import PairwiseBatch, PairwiseRequest
from selfreward.serving.keys import Caller, add_key, revoke_key
from selfreward.serving.middleware import BodyLimit, install_middleware
from selfreward.serving.rate_limits import RateLimiter
from selfreward.serving.telemetry import Measured, Telemetry
from selfreward.serving.wire import ErrorBody

SECRET = "the text under judgment"
PAIR = {"prompt": SECRET, "first": "A1", "second": "B2"}
MAX_BODY = 4096


@dataclass(kw_only=True)
class Service:
    """An application with two keys, and doors for the tests to hold."""

    app: FastAPI
    access: Access
    file: str
    user: str
    admin: str
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, method: str, path: str, key: str | None = "user", **options: Any) -> Any:
        return asyncio.run(self.sent(method, path, key, **options))

    async def sent(
        self, method: str, path: str, key: str | None = "user", **options: Any
    ) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        token = {"user": self.user, "admin": self.admin}.get(key or "", key)
        if token is not None:
            headers.setdefault("authorization", f"Bearer {token}")
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers, **options)


Make = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(**config: Any) -> Service:
        file = str(tmp_path / "keys.jsonl")
        user, admin = add_key(file, "ci", "user"), add_key(file, "ops", "admin")
        config = {"limits": {"max_body_bytes": MAX_BODY}, "auth": {"keys_file": file}} | config
        settings = ServingConfig.model_validate(config)
        app = FastAPI()
        install_error_handlers(app)
        install_middleware(app, settings)
        service = Service(app=app, access=Access.of(settings), file=file, user=user, admin=admin)
        install_access(app, service.access)
        _add_routes(app, service)
        return service

    return build


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/judge")
    async def judge(
        body: PairwiseRequest | PairwiseBatch, caller: Annotated[Caller, Depends(require("user"))]
    ) -> dict[str, str]:
        return {"caller": caller.name}

    @app.post("/admin/rollback")
    async def rollback(caller: Annotated[Caller, Depends(require("admin"))]) -> dict[str, str]:
        return {"caller": caller.name}

    @app.post("/slow", dependencies=[Depends(require("user")), Depends(admitted)])
    async def slow() -> str:
        await service.hold.wait()
        return "done"

    @app.post("/reading", dependencies=[Depends(require("user")), Depends(admitted)])
    async def reading(body: Annotated[dict[str, Any], Body()]) -> str:
        return "read"

    @app.get("/stream", dependencies=[Depends(require("user")), Depends(admitted)])
    async def stream(breaks: bool = False) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            yield f"{service.access.admission.in_flight}\n"
            if breaks:
                raise ValueError(SECRET)

        return StreamingResponse(lines())

    @app.post("/broken")
    async def broken(body: Annotated[dict[str, Any], Body()]) -> None:
        try:
            int(body["prompt"])
        except ValueError as error:
            raise KeyError(body["prompt"]) from error

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<p>page</p>")


def refusal(response: httpx.Response, status: int, code: str) -> str:
    """Asserts a refusal in the shape of the wire and returns its message."""
    assert response.status_code == status, response.text
    error = ErrorBody.model_validate(response.json()).error
    assert error.code == code
    assert "\n" not in error.message
    return error.message


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    caplog.set_level(logging.DEBUG)

    def lines() -> str:
        # The test's own client logs whole addresses; the service must not.
        ours = [r for r in caplog.records if not r.name.startswith(("httpx", "asyncio"))]
        return "\n".join(caplog.handler.format(record) for record in ours)

    yield lines


# Keys and roles.


def test_a_known_key_is_let_in_by_bearer_and_by_basic(make: Make) -> None:
    service = make()
    assert service.send("POST", "/judge", "user", json=PAIR).json() == {"caller": "ci"}
    assert service.send("POST", "/judge", "admin", json=PAIR).json() == {"caller": "ops"}
    basic = {"authorization": httpx.BasicAuth("any", service.user)._auth_header}
    assert service.send("POST", "/judge", None, headers=basic, json=PAIR).json() == {"caller": "ci"}


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Bearer ", "missing_api_key"),
        ("Digest abc", "missing_api_key"),
        ("Basic !!!", "missing_api_key"),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), "missing_api_key"),
        ("Basic " + base64.b64encode(b"any:sr-wrong").decode(), "invalid_api_key"),
        ("Bearer sr-wrong", "invalid_api_key"),
        (b"Bearer \xff\xfe", "invalid_api_key"),
    ],
)
def test_without_a_known_key_401(make: Make, authorization: str | bytes | None, code: str) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    response = make().send("POST", "/judge", None, headers=headers, json=PAIR)
    refusal(response, 401, code)
    assert response.json()["error"]["type"] == "authentication_error"
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_users_key_on_an_admins_route_403(make: Make) -> None:
    service = make()
    response = service.send("POST", "/admin/rollback", "user")
    refusal(response, 403, "admin_only")
    assert response.json()["error"]["type"] == "permission_error"
    assert service.send("POST", "/admin/rollback", "admin").json() == {"caller": "ops"}


def test_a_revoked_key_401_and_a_broken_file_503(make: Make, log: Callable[[], str]) -> None:
    service = make()
    assert service.send("POST", "/judge", json=PAIR).status_code == 200
    revoke_key(service.file, "ci")
    refusal(service.send("POST", "/judge", json=PAIR), 401, "invalid_api_key")
    Path(service.file).write_text("{")
    response = service.send("POST", "/judge", "admin", json=PAIR)
    assert service.file not in refusal(response, 503, "keys_unavailable")
    assert response.headers["retry-after"] == "5"
    assert f"nobody is let in: keys file {service.file}, line 1: not JSON" in log()


def test_without_keys_everybody_is_admin_but_for_pages_of_other_sites(make: Make) -> None:
    service = make(auth={"enabled": False}, cors_origins=["https://ours.example"])
    assert service.send("POST", "/admin/rollback", None).json() == {"caller": "anonymous"}
    for site, status in [("none", 200), ("same-origin", 200), ("cross-site", 403)]:
        headers = {"sec-fetch-site": site, "origin": "https://evil.example"}
        response = service.send("POST", "/admin/rollback", None, headers=headers)
        assert response.status_code == status
    refusal(response, 403, "other_site")
    ours = {"sec-fetch-site": "cross-site", "origin": "https://ours.example"}
    response = service.send("POST", "/admin/rollback", None, headers=ours)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://ours.example"


def test_other_origins_are_not_let_in_unless_named(make: Make) -> None:
    ask = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert (
        "access-control-allow-origin" not in make().send("OPTIONS", "/judge", headers=ask).headers
    )


# Bodies.


def test_a_body_announced_too_large_413(make: Make) -> None:
    response = make().send("POST", "/judge", content=b"x" * (MAX_BODY + 1))
    assert f"{MAX_BODY} bytes" in refusal(response, 413, "body_too_large")
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_body_of_just_the_bound_is_read(make: Make) -> None:
    service = make()
    body = json.dumps(PAIR).encode().ljust(MAX_BODY)
    assert service.send("POST", "/judge", content=body, headers=JSON).status_code == 200
    response = service.send("POST", "/judge", content=body + b" ", headers=JSON)
    refusal(response, 413, "body_too_large")


def test_a_chunked_body_too_large_413(make: Make) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    refusal(make().send("POST", "/judge", content=chunks()), 413, "body_too_large")


def _through_body_limit(
    receive: Callable[[], Awaitable[Message]], headers: list[tuple[bytes, bytes]], timeout_s: float
) -> list[Message]:
    """Runs the body limit of 10 bytes alone; returns what is sent. The application echoes."""
    sent: list[Message] = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    asyncio.run(BodyLimit(echo, max_bytes=10, timeout_s=timeout_s)(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("chunks", "headers", "status", "num_read"),
    [
        ([b"12345", b"67890"], [], 200, 2),
        # The fourth chunk is never asked for.
        ([b"12345", b"67890", b"1", b"2"], [], 413, 3),
        # Nothing is read where the length is told, or is no length.
        ([b"12345678901"], [(b"content-length", b"11")], 413, 0),
        ([b"1"], [(b"content-length", b"-1")], 400, 0),
        ([b"1"], [(b"content-length", b"9" * 5000)], 400, 0),
        # A length that is a lie changes nothing.
        ([b"12345", b"678901", b"2"], [(b"content-length", b"1")], 413, 2),
    ],
)
def test_no_more_is_read_than_the_bound(
    chunks: list[bytes], headers: list[tuple[bytes, bytes]], status: int, num_read: int
) -> None:
    left = list(chunks)

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    start, body = _through_body_limit(receive, headers, timeout_s=60)
    assert start["status"] == status
    assert len(chunks) - len(left) == num_read
    if status == 200:
        assert body["body"] == b"".join(chunks)


def test_a_body_that_never_ends_408_and_a_client_that_left_nothing() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("waited for ever")

    start, _ = _through_body_limit(never, [], timeout_s=0.01)
    assert start["status"] == 408

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    assert _through_body_limit(gone, [], timeout_s=60) == []


# Bodies that do not fit.

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        (b'{"prompt": "\xff"}', 400, "invalid_utf8", "byte 12 cannot be decoded"),
        (b'{"prompt": ', 400, "invalid_json", "Expecting value, at character 11"),
        (b"[" * 3000, 400, "invalid_json", None),
        (b'{"a": ' + b"1" * 4050 + b"}", 422, "invalid_request", None),
        (b"[]", 422, "invalid_request", None),
        (b"", 422, "invalid_request", "Field required"),
        (b"null", 422, "invalid_request", None),
    ],
)
def test_bodies_that_are_no_request(
    make: Make, body: bytes, status: int, code: str, message: str | None
) -> None:
    response = make().send("POST", "/judge", content=body, headers=JSON)
    assert (message or "") in refusal(response, status, code)
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_number_of_thousands_of_digits_is_no_failure(make: Make) -> None:
    service = make(limits={"max_body_bytes": 100_000})
    body = b'{"prompt": ' + b"1" * 5000 + b"}"
    response = service.send("POST", "/judge", content=body, headers=JSON)
    assert "out of range" in refusal(response, 400, "invalid_json")
    response = service.send("POST", "/judge", content=b"[" * 90_000, headers=JSON)
    refusal(response, 400, "invalid_json")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_is_not_told_to_be_json_415(make: Make, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    response = make().send("POST", "/judge", content=json.dumps(PAIR).encode(), headers=headers)
    assert "content-type: application/json" in refusal(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({**PAIR, "colour": 1}, "colour", "colour: Extra inputs are not permitted"),
        ({**PAIR, "votes": 0}, "votes", "votes: Input should be greater than or equal to 1"),
        ({"prompt": "p", "first": "a"}, "second", "second: Field required"),
        ({**PAIR, "first": ""}, "first", "first: String should have at least 1 character"),
        # The path is that of the JSON, though the field may be of two kinds.
        (
            {**PAIR, "prompt": [{"role": "boss", "content": "x"}]},
            "prompt.0.role",
            "prompt.0.role: Input should be 'system', 'user' or 'assistant'",
        ),
        ({**PAIR, "prompt": []}, "prompt", "prompt: List should have at least 1 item"),
        ({**PAIR, "rubric": {"criteria": ""}}, "rubric.criteria", "rubric.criteria: String should"),
        (
            {**PAIR, "rubric": {"criteria": "c", "scale": [5, 1]}},
            "rubric",
            "rubric: scale [5, 1]: whole numbers with 0 <= low < high <= 10",
        ),
        ({"batch": [PAIR, {**PAIR, "votes": "x"}]}, "batch.1.votes", "batch.1.votes: Input should"),
        ({"batch": []}, "batch", "batch: List should have at least 1 item"),
        # A lone half of a surrogate pair is JSON, but no text.
        ({**PAIR, "first": "\ud800"}, "first", "first: Input should be a valid string"),
        ({**PAIR, "\ud800": 1}, None, "Input should be a valid string"),
        ({**PAIR, "a\nb": 1}, "a b", "a b: Extra inputs are not permitted"),
    ],
)
def test_a_field_that_does_not_fit_422(
    make: Make, body: dict[str, Any], param: str | None, message: str
) -> None:
    response = make().send("POST", "/judge", content=json.dumps(body).encode(), headers=JSON)
    assert refusal(response, 422, "invalid_request").startswith(message)
    assert response.json()["error"]["param"] == param


def test_inputs_are_not_echoed_at_length(make: Make) -> None:
    body = {**PAIR, "votes": SECRET * 10, "temperature": SECRET, "y" * 2000: 1, "z": 1, "w": 1}
    response = make().send("POST", "/judge", json=body)
    message = refusal(response, 422, "invalid_request")
    assert SECRET not in response.text
    assert len(message) < 900
    assert message.endswith("; and 2 more")  # five faults, three of them told


def test_routes_and_methods_that_are_not_there(make: Make) -> None:
    service = make()
    assert "POST /v1/nothing" in refusal(service.send("POST", "/v1/nothing"), 404, "unknown_route")
    response = service.send("GET", "/judge")
    assert "only POST" in refusal(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"
    long = refusal(service.send("GET", "/" + "x" * 3000), 404, "unknown_route")
    assert len(long) < 300


# Too much.


def test_beyond_the_rate_429_with_the_time_to_wait(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make(limits={"rate": "2/minute"})

    def status_at(seconds: float, key: str) -> httpx.Response:
        monkeypatch.setattr(time, "time", lambda: seconds)
        response: httpx.Response = service.send("POST", "/judge", key, json=PAIR)
        return response

    assert status_at(1000.0, "user").status_code == 200
    assert status_at(1015.0, "user").status_code == 200
    response = status_at(1020.5, "user")
    assert "2 requests a minute" in refusal(response, 429, "rate_limited")
    assert response.json()["error"]["type"] == "rate_limit_error"
    # The first one leaves the window at 1000 + 60, which is 39.5 s away.
    assert response.headers["retry-after"] == "40"
    # Another key has its own count, and a refused request is not counted.
    assert status_at(1020.5, "admin").status_code == 200
    assert status_at(1060.5, "user").status_code == 200
    # Now those of 1015 and 1060.5 are in the window: 1015 + 60 - 1061 = 14.
    assert status_at(1061.0, "user").headers["retry-after"] == "14"


def test_without_keys_hosts_are_counted_and_no_rate_is_no_limit(make: Make) -> None:
    service = make(auth={"enabled": False}, limits={"rate": "1/day"})
    assert service.send("POST", "/judge", None, json=PAIR).status_code == 200
    refusal(service.send("POST", "/judge", None, json=PAIR), 429, "rate_limited")
    assert RateLimiter.of(ServingConfig.model_validate({"limits": {"rate": None}}).limits) is None


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("file://hidden", "limits.rate_storage: it is memory:// or redis://HOST:PORT"),
        ("hidden", "limits.rate_storage: it is memory:// or redis://HOST:PORT"),
        ("redis://:hidden@host", "limits.rate_storage=redis://… needs a package"),
    ],
)
def test_a_storage_that_cannot_be_used_is_told_without_its_password(
    storage: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)  # as if it were not installed
    with pytest.raises(ConfigError) as caught:
        RateLimiter("1/day", storage)
    assert str(caught.value).startswith(message)
    assert "hidden" not in str(caught.value)


def test_a_full_queue_503_and_a_place_after_it(make: Make) -> None:
    service = make(limits={"max_queued": 2})

    async def scenario() -> None:
        inside = [asyncio.create_task(service.sent("POST", "/slow")) for _ in range(2)]
        while service.access.admission.in_flight < 2:
            await asyncio.sleep(0)
        response = await service.sent("POST", "/slow")
        refusal(response, 503, "queue_full")
        assert response.json()["error"]["type"] == "overloaded_error"
        assert response.headers["retry-after"] == "1"
        # One whose client leaves gives its place back.
        inside[0].cancel()
        await asyncio.wait(inside[:1])
        assert service.access.admission.in_flight == 1
        service.hold.set()
        assert (await inside[1]).json() == "done"
        assert (await service.sent("POST", "/slow")).json() == "done"

    asyncio.run(scenario())
    assert service.access.admission.in_flight == 0
    assert service.access.admission.num_refused == 1


def test_who_has_no_key_no_place_or_too_high_a_rate_is_refused_before_the_body_arrives(
    make: Make, log: Callable[[], str]
) -> None:
    service = make(limits={"max_queued": 1, "rate": "3/minute"})

    async def answer(path: str, key: str | None, method: str = "POST") -> tuple[int, int]:
        """Status, and the places taken while the body is waited for, of which nothing comes."""
        status: list[int] = []

        async def receive() -> dict[str, Any]:
            status.append(-service.access.admission.in_flight)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        headers = [(b"host", b"localhost"), (b"content-length", b"100")]
        if key is not None:
            headers.append((b"authorization", f"Bearer {key}".encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        await asyncio.wait_for(service.app(scope, receive, send), 10)  # type: ignore[arg-type]
        return status[0], len(status)

    async def scenario() -> None:
        assert await answer("/reading", None) == (401, 1)
        assert await answer("/reading", "sr-unknown") == (401, 1)
        # The body is waited for, in the one place there is.
        assert await answer("/reading", service.user) == (-1, 1)
        assert await answer("/nowhere", None) == (404, 1)
        assert await answer("/page", None, "GET") == (200, 1)
        async with service.access.admission.admit():
            assert await answer("/reading", service.user) == (503, 1)
            assert await answer("/reading", service.user) == (503, 1)
        # The fourth within a minute, though two of the three before were refused.
        assert await answer("/reading", service.user) == (429, 1)
        assert await answer("/reading", service.admin) == (-1, 1)

    asyncio.run(scenario())
    assert service.access.admission.in_flight == 0
    (too_many,) = [line for line in log().splitlines() if " 429 " in line]
    assert " caller=ci " in too_many


def test_without_keys_the_rate_and_the_host_are_looked_at_before_the_body_arrives(
    make: Make,
) -> None:
    service = make(auth={"enabled": False}, limits={"rate": "1/day"})

    asked_for: list[str] = []

    async def body() -> AsyncIterator[bytes]:
        asked_for.append("the body")
        yield b"{}"

    def refused(**headers: str) -> httpx.Response:
        answer: httpx.Response = service.send(
            "POST", "/reading", None, content=body(), headers=JSON | headers
        )
        return answer

    refusal(refused(host="evil.example"), 403, "other_host")
    refusal(refused(**{"sec-fetch-site": "cross-site"}), 403, "other_site")
    assert service.send("POST", "/judge", None, json=PAIR).status_code == 200
    refusal(refused(), 429, "rate_limited")
    assert asked_for == []


def test_a_stream_holds_its_place_to_its_end(make: Make) -> None:
    service = make()
    assert service.send("GET", "/stream").text == "1\n"
    assert service.access.admission.in_flight == 0


def test_the_time_to_wait_is_the_median_of_the_last_ones() -> None:
    now = 0.0
    admission = Admission(1, clock=lambda: now)

    async def scenario() -> str:
        nonlocal now
        for seconds in (2.0, 9.0, 4.2):
            async with admission.admit():
                now += seconds
        async with admission.admit():
            with pytest.raises(ApiError) as caught:
                async with admission.admit():
                    pass
        return caught.value.headers["retry-after"]

    assert asyncio.run(scenario()) == "5"  # the median is 4.2, rounded up

    async def slow() -> float:
        nonlocal now
        for _ in range(64):
            async with admission.admit():
                now += 1000
        return admission.retry_after_s

    assert asyncio.run(slow()) == 60


def test_what_is_counted_has_the_routes_template_however_it_ends(make: Make) -> None:
    service = make(limits={"rate": "2/day"})
    telemetry = Telemetry()
    service.app.add_middleware(Measured, telemetry=telemetry)

    @service.app.get("/items/{name:path}", dependencies=[Depends(require("user"))])
    async def item(name: str) -> str:
        return name

    service.send("GET", "/items/a/b")
    service.send("GET", "/items/c")
    service.send("GET", "/items/d")  # beyond the rate
    service.send("GET", "/items/e", None)
    service.send("POST", "/items/f")
    for path in ("/nowhere/1", "/nowhere/2", "/static/x"):
        service.send("GET", path)
    counted = {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for family in telemetry.requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert counted == {
        ("/items/{name:path}", "200"): 2,
        ("/items/{name:path}", "429"): 1,
        ("/items/{name:path}", "401"): 1,
        ("/items/{name:path}", "405"): 1,
        ("none", "404"): 3,
    }


# Failures of our own.


def test_what_nobody_expected_500_without_a_word_of_it(make: Make, log: Callable[[], str]) -> None:
    headers = {"x-request-id": "req-7"}
    response = make().send("POST", "/broken", json=PAIR, headers=headers)
    message = refusal(response, 500, "internal_error")
    assert "req-7" in message
    assert response.headers["x-request-id"] == "req-7"
    assert "content-security-policy" in response.headers
    for word in ("KeyError", "Traceback", __file__, SECRET):
        assert word not in response.text
    # The log says where, with the cause's type, and not what was judged.
    assert "unexpected KeyError from ValueError at " in log()
    assert " broken request_id=req-7" in log()
    assert SECRET not in log()


def test_texts_are_logged_only_if_asked_for(make: Make, log: Callable[[], str]) -> None:
    make(log_texts=True).send("POST", "/broken", json=PAIR)
    assert SECRET in log()


def test_a_stream_that_breaks_is_cut_off_without_a_word(make: Make, log: Callable[[], str]) -> None:
    with pytest.raises(RuntimeError, match="an answer broke off after its start") as caught:
        make().send("GET", "/stream?breaks=true")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert SECRET not in log()


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(api_error(504, "slow", "too slow", retry_after_s=0.1)))
    response = error_response(error)
    assert (response.status_code, response.headers["retry-after"]) == (504, "1")
    assert json.loads(bytes(response.body))["error"] == {
        "message": "too slow",
        "type": "timeout_error",
        "param": None,
        "code": "slow",
    }
    assert str(error) == "504 slow: too slow"


# Headers and the log.


def test_answers_carry_strict_headers(make: Make) -> None:
    service = make()
    api = service.send("POST", "/judge", json=PAIR).headers
    page = service.send("GET", "/page").headers
    for headers in (api, page):
        policy = headers["content-security-policy"].split("; ")
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert api["cache-control"] == "no-store"
    assert page["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-1.2_X", True), ("", False), ("a b", False), ("x" * 65, False), ("sr-key", False)],
)
def test_a_sane_request_id_is_kept(make: Make, sent: str, kept: bool) -> None:
    answered = make().send("GET", "/page", headers={"x-request-id": sent}).headers["x-request-id"]
    assert (answered == sent) == kept
    assert answered


def test_the_access_log_names_who_and_what_but_no_text_and_no_key(
    make: Make, log: Callable[[], str]
) -> None:
    service = make()
    headers = {"x-request-id": "req-8"}
    service.send("POST", f"/judge?q={SECRET}", json=PAIR, headers=headers)
    service.send("POST", "/judge", "sr-wrong-key", json={**PAIR, "votes": SECRET})
    service.send("POST", "/judge", json={**PAIR, "votes": SECRET})
    service.send("POST", "/judge", content=b'{"prompt": "' + SECRET.encode(), headers=JSON)
    service.send("GET", "/a%0Ab c")
    first, *others = log().splitlines()
    assert "POST /judge 200 " in first
    assert first.endswith("ms caller=ci request_id=req-8")
    # Who it is, is asked before what is wrong with the body is told.
    assert [" 401 " in others[0], " 422 " in others[1], " 400 " in others[2]] == [True, True, True]
    assert "GET /a%0Ab%20c 404 " in others[3]
    assert len(others) == 4
    for hidden in (SECRET, SECRET.replace(" ", "%20"), service.user, service.admin, "sr-wrong-key"):
        assert hidden not in log()
