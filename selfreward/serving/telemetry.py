"""What the service counts, for Prometheus: requests, outcomes, tokens, seconds, versions.

Labels are routes, statuses and outcomes only: nothing that a caller writes can become one.
"""

import time
from collections.abc import Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfreward.serving.wire import JudgeVersion

__all__ = ["CONTENT_TYPE_LATEST", "Measured", "Telemetry"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Telemetry:
    """One registry for each app, so that two apps in one process do not count together."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "selfreward_requests",
            "Answered requests",
            ("route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "selfreward_request_seconds",
            "Seconds from a request's arrival to the end of its answer",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.judgments = Counter(
            "selfreward_judgments",
            "Judgments by what became of them",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self.tokens = Counter(
            "selfreward_tokens", "Tokens read and written", ("which",), registry=self.registry
        )
        self.in_flight = Gauge(
            "selfreward_requests_in_flight",
            "Requests let in and not answered yet",
            registry=self.registry,
        )
        self.version = Gauge(
            "selfreward_judge_version",
            "Number of the served version; grows with each promotion and rollback",
            registry=self.registry,
        )
        self.shadow = Counter(
            "selfreward_shadow_judgments",
            "Pairs that the shadow judge read too",
            ("agreement",),
            registry=self.registry,
        )

    def judged(self, kind: str, outcomes: Sequence[str], prompt: int, completion: int) -> None:
        for outcome in outcomes:
            self.judgments.labels(kind, outcome).inc()
        self.tokens.labels("prompt").inc(prompt)
        self.tokens.labels("completion").inc(completion)

    def serving(self, version: JudgeVersion) -> None:
        self.version.set(version.version)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware: counts every request by its route and status, and takes its time.

    A stream ends with its last piece. The route is its template, or `none` where none matched.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "none"

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        start = time.perf_counter()
        try:
            with self._telemetry.in_flight.track_inprogress():
                await self._app(scope, receive, seen)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._telemetry.requests.labels(route, status).inc()
            self._telemetry.seconds.labels(route).observe(time.perf_counter() - start)
