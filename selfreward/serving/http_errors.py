"""Every refusal and failure in one shape, `ErrorBody`, that tells the caller what to mend and
nothing else: no stack trace, no text under judgment, no long input."""

import logging
import math
import traceback

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfreward.serving.validation_errors import describe, one_line
from selfreward.serving.wire import ErrorBody, ErrorDetail, ErrorType

_LOG = logging.getLogger("selfreward.serving")
_MAX_FRAMES = 12

_TYPES: dict[int, ErrorType] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """A request is answered with this status and body. Survives pickling."""

    def __init__(
        self, status: int, detail: ErrorDetail, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, headers)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def __str__(self) -> str:
        return f"{self.status} {self.detail.code}: {self.detail.message}"


def api_error(
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    retry_after_s: float | None = None,
    headers: dict[str, str] | None = None,
) -> ApiError:
    """Makes an error whose type follows from its status.

    Args:
        retry_after_s: seconds; rounded up to at least 1, as the header wants whole ones.
    """
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    detail = ErrorDetail(message=message, type=kind, param=param, code=code)
    extra = {} if retry_after_s is None else {"retry-after": str(max(1, math.ceil(retry_after_s)))}
    return ApiError(status, detail, {**(headers or {}), **extra})


def error_response(error: ApiError) -> Response:
    """Returns the answer that an error stands for."""
    return Response(
        ErrorBody(error=error.detail).model_dump_json(),
        status_code=error.status,
        headers=error.headers,
        media_type="application/json",
    )


def install_error_handlers(app: FastAPI) -> None:
    """Has an application answer `ApiError`, bodies that do not fit, 404 and 405 with `ErrorBody`.

    What nobody expected is the middleware's, `UnexpectedErrors`.
    """
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


async def _answer_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(_read_invalid(error))


def _read_invalid(error: RequestValidationError) -> ApiError:
    errors = error.errors()
    first = errors[0]
    if first["type"] == "json_invalid":
        why = one_line(str(first["ctx"]["error"]))
        where = first["loc"][-1]
        return api_error(400, "invalid_json", f"the body is not JSON: {why}, at character {where}")
    # What was sent as JSON has been decoded by now.
    if isinstance(error.body, bytes) and any(each["loc"][0] == "body" for each in errors):
        return api_error(
            415, "unsupported_media_type", "send the body as JSON, content-type: application/json"
        )
    message, param = describe(errors, error.body)
    return api_error(422, "invalid_request", message, param=param)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _read_http(request, error)
    return error_response(ApiError(answer.status, answer.detail, dict(error.headers or {})))


def _read_http(request: Request, error: HTTPException) -> ApiError:
    asked = one_line(f"{request.method} {request.url.path}")
    if error.status_code == 404 and error.detail == "Not Found":
        return api_error(
            404, "unknown_route", f"there is no {asked}: /openapi.json lists the routes"
        )
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "other methods")
        return api_error(405, "method_not_allowed", f"there is no {asked}, only {allowed}")
    cause = error.__cause__
    if isinstance(cause, UnicodeDecodeError):
        message = f"the body is not UTF-8: byte {cause.start} cannot be decoded"
        return api_error(400, "invalid_utf8", message)
    if isinstance(cause, RecursionError):
        return api_error(400, "invalid_json", "the body's JSON is nested too deeply")
    if isinstance(cause, ValueError):  # e.g. a number of thousands of digits
        return api_error(400, "invalid_json", "the body's JSON holds a value that is out of range")
    return api_error(error.status_code, "http_error", one_line(str(error.detail)))


class UnexpectedErrors:
    """ASGI middleware: what no handler knows becomes a 500 that says nothing of the inside.

    Starlette's own place for this stands outside all other middleware, and raises on to the
    server, whose log then has the exception's message: of a failed check, that is the very text.
    The log line here has types and places in the code only, unless texts may be logged.
    """

    def __init__(self, app: ASGIApp, log_texts: bool = False) -> None:
        self._app = app
        self._log_texts = log_texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            request_id = scope.get("state", {}).get("request_id", "-")
            _LOG.error(
                "unexpected %s request_id=%s",
                _trail(error),
                request_id,
                exc_info=error if self._log_texts else None,
            )
            failed = api_error(
                500, "internal_error", f"the service failed; its log has more under {request_id}"
            )
        else:
            return
        if has_started:
            # Only an error makes the server cut the connection, without which half an answer would
            # look like a whole one.
            raise RuntimeError(f"an answer broke off after its start, request_id={request_id}")
        await error_response(failed)(scope, receive, send)


def _trail(error: BaseException) -> str:
    """Types of an exception and of its causes, and the frames it came through: no message."""
    names = [type(error).__name__]
    cause = error.__cause__ or error.__context__
    while cause is not None and len(names) < _MAX_FRAMES:
        names.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    places = " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{' from '.join(names)} at {places}"
