"""What both clients share about HTTP: headers, time limits, tries, and reading an answer.

A judgment changes nothing at the service, so asking again is safe. Asked again are requests that
found no connection or lost it (a stream only before its first event), and those answered with 429,
502, 503 or 504; all other answers from 400 on are final. A read that ran out of time is not
repeated: the service is at work on it, and a second one would only add to its load.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import tenacity
from pydantic import ValidationError

from selfreward.client.calls import Answer, Chunk, Judgments, Route
from selfreward.client.errors import (
    JudgeConnectionError,
    JudgeError,
    JudgeProtocolError,
    JudgeTimeoutError,
    OverloadedError,
    error_of_answer,
    problems_of,
)
from selfreward.errors import ConfigError

API_KEY = "SELFREWARD_API_KEY"
"""Environment variable with the key to send, where none is given."""
RETRIED_STATUS = (429, 502, 503, 504)
NOT_ACTED_ON_STATUS = (429,)
"""Answers that say for certain that nothing was done."""
TOO_MUCH = ("batch_too_large", "body_too_large", "too_many_draws", "too_many_characters")
"""The service's words for what it takes in several requests but not in one."""
LOST = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
PROBE_TIMEOUT_S = 5.0

_backoff = tenacity.wait_random_exponential(multiplier=0.5, max=20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the service is reached.

    Example:
        Settings(base_url="http://127.0.0.1:8000", api_key="sr-1", timeout_s=330.0,
            total_timeout_s=900.0, max_tries=5, max_batch=64, max_body_bytes=2_000_000)
    """

    base_url: str = field(repr=False)
    api_key: str | None = field(repr=False)
    timeout_s: float
    """Of one try, from connecting to the last byte."""
    total_timeout_s: float
    """Of all tries and the waits between them."""
    max_tries: int
    max_batch: int
    max_body_bytes: int

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            # What is in it cannot be told from a key.
            raise ConfigError("base_url is no URL; it looks like http://127.0.0.1:8000") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"base_url={self.address!r} should look like http://127.0.0.1:8000")
        for name in ("timeout_s", "total_timeout_s", "max_tries", "max_batch", "max_body_bytes"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be above 0")

    @property
    def address(self) -> str:
        """The URL without the key that may stand in it, as in `http://any:KEY@host`: it is what is
        told in errors and in httpx's own log."""
        return str(httpx.URL(self.base_url).copy_with(userinfo=b""))

    @property
    def auth(self) -> tuple[str, str] | None:
        """Name and key that stand in the URL."""
        url = httpx.URL(self.base_url)
        return (url.username, url.password) if url.userinfo else None

    def headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"Content-Type": "application/json", **key}


def key_or_environment(api_key: str | None) -> str | None:
    return api_key if api_key is not None else os.environ.get(API_KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A point of the monotonic clock.

    Example:
        Deadline(at=1234.5)
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(at=time.monotonic() + seconds)

    def within(self, seconds: float) -> "Deadline":
        """The earlier of this one and `seconds` from now."""
        return Deadline(at=min(self.at, time.monotonic() + seconds))

    def left(self) -> float:
        """Seconds that remain, above 0.

        Raises:
            JudgeTimeoutError: none remain.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise JudgeTimeoutError("the judge service did not answer in time")
        return left


@asynccontextmanager
async def until(deadline: Deadline) -> AsyncIterator[None]:
    """Ends what is awaited inside at the deadline. Raises JudgeTimeoutError."""
    try:
        async with asyncio.timeout(deadline.left()):
            yield
    except TimeoutError:
        raise JudgeTimeoutError("the judge service did not answer in time") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Tenacity's three questions, for one route; see `retry_policy`.

    Example:
        RetryPolicy(retry=retry_if_exception(...), wait=wait_before_next,
            stop=stop_after_attempt(5) | stop_before_delay(900.0))
    """

    retry: tenacity.retry_base
    wait: Callable[[tenacity.RetryCallState], float]
    stop: Callable[[tenacity.RetryCallState], bool]


def retry_policy(settings: Settings, route: Route[Answer]) -> RetryPolicy:
    """A wait that would end after `total_timeout_s` is not begun: the error is told at once."""
    worth = may_repeat if route.repeatable else may_repeat_unsafe
    return RetryPolicy(
        retry=tenacity.retry_if_exception(worth),
        wait=wait_before_next,
        stop=tenacity.stop_after_attempt(settings.max_tries)
        | tenacity.stop_before_delay(settings.total_timeout_s),
    )


def may_repeat(error: BaseException) -> bool:
    if isinstance(error, JudgeError):
        # Inside a stream that has told nothing else yet an error has no status.
        return error.status in RETRIED_STATUS or isinstance(error, OverloadedError)
    return isinstance(error, LOST + NEVER_SENT)


def may_repeat_unsafe(error: BaseException) -> bool:
    """For requests that change something: only when the service has certainly not acted."""
    if isinstance(error, JudgeError):
        return error.status in NOT_ACTED_ON_STATUS
    return isinstance(error, NEVER_SENT)


def wait_before_next(state: tenacity.RetryCallState) -> float:
    """Seconds: what the service asked for, else a random time that doubles from try to try."""
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, JudgeError) and error.retry_after_s is not None:
        return error.retry_after_s
    return _backoff(state)


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Reads a Retry-After header (RFC 9110, 10.2.3): whole seconds or an HTTP date.

    A date gone by is 0. None where there is no header or it cannot be read.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


@contextmanager
def own_errors(settings: Settings) -> Iterator[None]:
    """Turns what httpx raises into the client's errors, with the service's address."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise JudgeTimeoutError(
            f"{settings.address} did not answer in time ({type(error).__name__})"
        ) from error
    except httpx.HTTPError as error:
        raise JudgeConnectionError(
            f"{settings.address} cannot be reached, or broke off:"
            f" {type(error).__name__}: {error}; is the service running there?"
        ) from error


def error_of_response(response: httpx.Response, body: bytes) -> JudgeError:
    wait_s = retry_after_s(response.headers.get("Retry-After"))
    return error_of_answer(response.status_code, body, wait_s)


def read_answer(route: Route[Answer], body: bytes) -> Answer:
    try:
        return route.answer.model_validate_json(body)
    except ValidationError as error:
        raise JudgeProtocolError(
            f"the answer of {route.method} {route.path} is no {route.answer.__name__}:"
            f" {problems_of(error)}; is this a judge service, of the client's release?"
        ) from error


def read_judgments(route: Route[Judgments], body: bytes, chunk: Chunk) -> Judgments:
    """The answer to a chunk, which must hold one judgment for each request."""
    answer = read_answer(route, body)
    if len(answer.batch) != len(chunk.requests):
        raise JudgeProtocolError(
            f"{route.path} answered {len(answer.batch)} judgments to {len(chunk.requests)} requests"
        )
    return answer


def may_split(error: JudgeError, chunk: Chunk) -> bool:
    """Whether a chunk that was refused may be taken in two halves."""
    return error.code in TOO_MUCH and len(chunk.requests) > 1


def probe_says(response: httpx.Response) -> bool:
    """What a health or readiness probe means: 200 is yes and a server's own failure is no.

    Raises:
        JudgeError: any other answer, which waiting does not change.
    """
    if response.status_code == 200:
        return True
    if response.status_code >= 500:
        return False
    raise error_of_response(response, response.content)
