"""A bounded load on a server of this machine: so many clients, so many seconds, every answer kept.

Only loopback addresses are taken: this is for measuring one's own service.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request as its client saw it.

    Example: `Answered(start=0.2, seconds=0.31, status=200, body={…}, retry_after=None)`
    """

    start: float
    """Seconds since the load began."""
    seconds: float
    status: int
    """0 where no answer came."""
    body: Any
    retry_after: str | None

    @property
    def end(self) -> float:
        return self.start + self.seconds


async def run_load(
    url: str,
    body_of: Callable[[int], dict[str, Any]],
    *,
    clients: int,
    seconds: float,
    headers: dict[str, str] | None = None,
    timeout_s: float = 120.0,
    max_requests: int = 100_000,
) -> list[Answered]:
    """Sends `body_of(0)`, `body_of(1)`, … by POST, each client one after the other.

    No request begins after `seconds` or beyond `max_requests`; those under way are waited for,
    each for `timeout_s` at most.

    Raises:
        ValueError: the address is not one of this machine.
    """
    if urlsplit(url).hostname not in _LOOPBACK:
        raise ValueError(f"{url} is not on this machine")
    begin = time.monotonic()
    answers: list[Answered] = []
    counter = 0

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal counter
        while time.monotonic() - begin < seconds and counter < max_requests:
            number, counter = counter, counter + 1
            start = time.monotonic()
            status, body, retry_after = 0, None, None
            try:
                answer = await http.post(url, json=body_of(number), headers=headers)
                status, retry_after = answer.status_code, answer.headers.get("retry-after")
                body = answer.json()
            except (httpx.HTTPError, ValueError) as error:
                body = f"{type(error).__name__}: {error}"
            answers.append(
                Answered(
                    start=start - begin,
                    seconds=time.monotonic() - start,
                    status=status,
                    body=body,
                    retry_after=retry_after,
                )
            )

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=timeout_s, limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    return answers


def latency(answers: Sequence[Answered]) -> dict[str, float | int | None]:
    """Requests and their p50 and p99 in milliseconds."""
    if not answers:
        return {"requests": 0, "p50_ms": None, "p99_ms": None}
    p50, p99 = np.percentile([1000 * a.seconds for a in answers], [50, 99])
    return {
        "requests": len(answers),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
    }


def statuses(answers: Sequence[Answered]) -> dict[str, int]:
    """How many answers had which status; 0 is no answer."""
    return {str(s): n for s, n in sorted(Counter(a.status for a in answers).items())}
