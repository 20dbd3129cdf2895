"""What can go wrong between a caller and the judge service, one class a kind.

A judgment that failed is no error: it is an answer with an outcome and a reason. Errors are for
requests that got no judgment at all. All of them survive pickling.
"""

from pydantic import ValidationError

from selfreward.errors import SelfRewardError
from selfreward.serving.wire import ErrorBody, ErrorDetail

MAX_SHOWN_CHARS = 200
MAX_SHOWN_PROBLEMS = 3


class JudgeError(SelfRewardError):
    """Base of every error of the client.

    Example:
        JudgeError("votes: at most 16", status=400, code="too_many_votes", param="votes")
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        """Of the HTTP answer; None where there was none, or the error came inside a stream."""
        self.code = code
        """The service's word for programs, e.g. `unknown_rubric`."""
        self.param = param
        self.retry_after_s = retry_after_s
        """How long the service asked to wait, in seconds."""

    def __str__(self) -> str:
        marks = [f"HTTP {self.status}"] if self.status is not None else []
        marks += [self.code] if self.code is not None else []
        return f"{self.message} ({', '.join(marks)})" if marks else self.message


class JudgeConnectionError(JudgeError):
    """No connection to the service, or it broke before the answer was complete."""


class JudgeTimeoutError(JudgeError):
    """Time ran out, here or (with a status) at the service."""


class JudgeProtocolError(JudgeError):
    """An answer that is none of the judge service's."""


class InvalidRequestError(JudgeError):
    """The request is wrong; sending it again does not help. No status: it was never sent."""


class AuthenticationError(JudgeError):
    """No key, or one the service does not know."""


class PermissionDeniedError(JudgeError):
    """The key may not do this, e.g. promote without being an admin's."""


class NotFoundError(JudgeError):
    """No such route, model or rubric."""


class RateLimitError(JudgeError):
    """More requests than the key may send, after all tries."""


class OverloadedError(JudgeError):
    """The service has no room or is not ready, after all tries."""


class ServerError(JudgeError):
    """The service broke down on the request."""


class JudgmentFailedError(JudgeError):
    """A judgment without a value where a number was asked for; `code` is its outcome."""


BY_TYPE: dict[str, type[JudgeError]] = {
    "invalid_request_error": InvalidRequestError,
    "authentication_error": AuthenticationError,
    "permission_error": PermissionDeniedError,
    "not_found_error": NotFoundError,
    "rate_limit_error": RateLimitError,
    "overloaded_error": OverloadedError,
    "timeout_error": JudgeTimeoutError,
    "server_error": ServerError,
}
BY_STATUS: dict[int, type[JudgeError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: JudgeTimeoutError,
    429: RateLimitError,
    503: OverloadedError,
    504: JudgeTimeoutError,
}


def error_of_detail(
    detail: ErrorDetail, *, status: int | None = None, retry_after_s: float | None = None
) -> JudgeError:
    return BY_TYPE[detail.type](
        detail.message,
        status=status,
        code=detail.code,
        param=detail.param,
        retry_after_s=retry_after_s,
    )


def error_of_answer(status: int, body: bytes, retry_after_s: float | None = None) -> JudgeError:
    """The error of an HTTP answer that is not 200. A body that is not the service's own (a
    proxy's page, another server's) is told by its status and shown shortened."""
    try:
        detail = ErrorBody.model_validate_json(body).error
    except ValidationError:
        shown = " ".join(body.decode(errors="replace").split())[:MAX_SHOWN_CHARS]
        if status < 400:
            return JudgeProtocolError(f"unexpected answer: {shown or 'empty'}", status=status)
        usual = InvalidRequestError if status < 500 else ServerError
        kind = BY_STATUS.get(status, usual)
        return kind(shown or "empty answer", status=status, retry_after_s=retry_after_s)
    return error_of_detail(detail, status=status, retry_after_s=retry_after_s)


def problems_of(error: ValidationError) -> str:
    """The first few problems in one line, without the texts that have them."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    named = [f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg']}" for p in problems]
    more = f" and {len(named) - MAX_SHOWN_PROBLEMS} more" if len(named) > MAX_SHOWN_PROBLEMS else ""
    return "; ".join(named[:MAX_SHOWN_PROBLEMS]) + more
