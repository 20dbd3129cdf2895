"""What surrounds every request: an id, headers, a log line, a bound on the body. Pure ASGI, so
that streams pass through as they come."""

import asyncio
import logging
import re
import time
import uuid
from urllib.parse import quote

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfreward.config_serving import ServingConfig
from selfreward.serving.guard import Guard
from selfreward.serving.http_errors import ApiError, UnexpectedErrors, api_error, error_response

_LOG = logging.getLogger("selfreward.serving.access")
# A key that was sent as an id by mistake must not get into the log.
_SANE_ID = re.compile(r"(?!sr-)[A-Za-z0-9._-]{1,64}")
BODY_TIMEOUT_S = 60.0
"""For the whole body to arrive."""
_CLIENT_GONE = 499
"""The log's status where the client left before an answer, as nginx writes it."""

_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_SECURITY_HEADERS = {
    "content-security-policy": _CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_PAGE_TYPES = ("text/html", "text/css", "text/javascript", "image/", "font/")


def install_middleware(app: FastAPI, config: ServingConfig) -> None:
    """Puts the layers around an application, from the outside in: id, headers and log; CORS, if
    any origin is let in; the last resort for errors; callers and places; the bound on bodies."""
    limits = config.limits
    # The one added last is the outermost.
    app.add_middleware(BodyLimit, max_bytes=limits.max_body_bytes)
    app.add_middleware(Guard)
    app.add_middleware(UnexpectedErrors, log_texts=config.log_texts)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=[
                "retry-after",
                "x-request-id",
                "x-judge-version",
                "x-judge-fingerprint",
                "x-rubric",
            ],
        )
    app.add_middleware(Envelope)


class Envelope:
    """ASGI middleware: the request's id, the answer's headers, the line in the access log.

    The id is the caller's `x-request-id` if it is up to 64 letters, digits, dots, - and _, else a
    new one. The line never has a body, a key or a query. A route's own header wins over the one
    from here, except that answers of the API are never stored.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent_id = Headers(scope=scope).get("x-request-id", "")
        request_id = sent_id if _SANE_ID.fullmatch(sent_id) else uuid.uuid4().hex
        # One dict for all layers: routing may copy the scope around it.
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        status = _CLIENT_GONE
        start = time.perf_counter()

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                _set_headers(MutableHeaders(scope=message), request_id)
            await send(message)

        try:
            await self._app(scope, receive, framed)
        finally:
            caller = state.get("caller")
            _LOG.info(
                "%s %s %d %.1fms caller=%s request_id=%s",
                quote(scope["method"])[:16],
                # Percent signs were decoded before, so a path may hold a line break.
                quote(scope["path"])[:200],
                status,
                (time.perf_counter() - start) * 1000,
                "-" if caller is None else caller.name,
                request_id,
            )


def _set_headers(headers: MutableHeaders, request_id: str) -> None:
    headers["x-request-id"] = request_id
    for name, value in _SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    if headers.get("content-type", "").startswith(_PAGE_TYPES):
        headers.setdefault("cache-control", "no-cache")
    else:
        headers["cache-control"] = "no-store"


class BodyLimit:
    """ASGI middleware: a body of more than `max_bytes`, announced or not, is refused with 413
    before the rest of it is read; one that takes longer than `timeout_s` with 408.

    The application is called when the body is whole. It would wait for it anyway, and so a refusal
    never meets an answer that has begun. Where no route takes one (`Guard`), none is waited for.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope.get("state", {}).get("takes_body", True):
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        if body is None:
            return
        is_read = False

        async def replayed() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replayed, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Returns the body, or None if the client has gone."""
        announced = Headers(scope=scope).get("content-length", "0")
        # Python refuses to read numbers of thousands of digits.
        if not announced.isdecimal() or len(announced) > 18:
            raise api_error(
                400, "invalid_content_length", "content-length is not a number of bytes"
            )
        if int(announced) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self._max_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            message_text = f"the body did not arrive within {self._timeout_s:g} seconds"
            raise api_error(408, "body_timeout", message_text) from None

    def _too_large(self) -> ApiError:
        message = f"the body has more than {self._max_bytes} bytes (limits.max_body_bytes)"
        return api_error(413, "body_too_large", message)
