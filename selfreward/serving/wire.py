"""What all bodies over the wire share: their base, texts, the judge that answered, and errors.

Statuses from 400 on are for requests that were wrong or not let in, and have the body `ErrorBody`.
The same classes are read by the server and by the client.
"""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
)

MAX_MESSAGES = 200


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no text; send valid Unicode") from None
    return text


Unicode = Annotated[str, AfterValidator(_encodable)]
"""A text that has a UTF-8 form: JSON can write half a surrogate pair, which has none."""
Text = Annotated[str, StringConstraints(min_length=1), AfterValidator(_encodable)]
"""A text with at least one character; what is only space is refused where it is judged."""


class Wire(BaseModel):
    """The base of all bodies: unknown fields and NaN are refused, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ChatMessage(Wire):
    role: Literal["system", "user", "assistant"]
    content: str


class JudgeVersion(Wire):
    """Which judge answered. The number grows with every promotion and rollback of this service."""

    version: int
    model: str
    iteration: int
    fingerprint: str


ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "overloaded_error",
    "timeout_error",
    "server_error",
]


class ErrorDetail(Wire):
    """The shape of OpenAI's errors."""

    message: str
    type: ErrorType
    param: str | None = None
    code: str | None = None
    """A word for programs, e.g. `unknown_rubric`, `body_too_large`, `queue_full`."""


class ErrorBody(Wire):
    error: ErrorDetail
