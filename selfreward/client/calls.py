"""What a caller may ask: the routes, and how arguments become request bodies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from selfreward.client.errors import InvalidRequestError, problems_of
from selfreward.serving.admin_wire import PromoteRequest, VersionEntry, VersionHistory
from selfreward.serving.judge_wire import (
    InlineRubric,
    PairwiseJudgment,
    PairwiseJudgments,
    PairwiseRequest,
    RankJudgment,
    RankJudgments,
    RankRequest,
    RationaleDelta,
    RationalePiece,
    ScoreJudgment,
    ScoreJudgments,
    ScoreRequest,
)
from selfreward.serving.wire import ChatMessage, Wire

PromptLike = str | Sequence[ChatMessage | Mapping[str, str]]
"""A user turn as a text, or a conversation up to and including a user turn."""

Answer = TypeVar("Answer", bound=BaseModel)
Judgments = TypeVar("Judgments", PairwiseJudgments, ScoreJudgments, RankJudgments)
Piece = TypeVar("Piece", bound=RationalePiece)
Body = TypeVar("Body", bound=Wire)

_BATCH_HEAD, _BATCH_TAIL = b'{"batch":[', b"]}"


class JudgeOptions(TypedDict, total=False):
    """The fields of `selfreward.serving.judge_wire.Options`, where they are explained."""

    rubric: str | InlineRubric | None
    votes: int
    temperature: float | None
    both_orders: bool
    rationale: bool
    reference: str | None
    seed: int
    timeout_s: float | None


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")
    id: str


class ModelList(BaseModel):
    """OpenAI's list of models, of which only the ids are read."""

    model_config = ConfigDict(extra="ignore")
    data: list[_Model]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[Answer]):
    """One route and the form of its answer.

    Example:
        Route(method="POST", path="/v1/judge/score", answer=ScoreJudgment)
    """

    method: Literal["GET", "POST"]
    path: str
    answer: type[Answer]
    repeatable: bool = True
    """Whether it may be sent again when it is not known if the service has acted on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRoute(Route[Answer], Generic[Answer, Piece]):
    """A route that sends pieces of a rationale before its answer.

    Example:
        StreamRoute(method="POST", path="/v1/judge/score/stream", answer=ScoreJudgment,
            piece=RationalePiece)
    """

    piece: type[Piece]


PAIRWISE = Route(method="POST", path="/v1/judge/pairwise", answer=PairwiseJudgment)
SCORE = Route(method="POST", path="/v1/judge/score", answer=ScoreJudgment)
RANK = Route(method="POST", path="/v1/judge/rank", answer=RankJudgment)
PAIRWISE_BATCH = Route(method="POST", path="/v1/judge/pairwise", answer=PairwiseJudgments)
SCORE_BATCH = Route(method="POST", path="/v1/judge/score", answer=ScoreJudgments)
RANK_BATCH = Route(method="POST", path="/v1/judge/rank", answer=RankJudgments)
PAIRWISE_STREAM = StreamRoute(
    method="POST",
    path="/v1/judge/pairwise/stream",
    answer=PairwiseJudgment,
    piece=RationaleDelta,
)
SCORE_STREAM = StreamRoute(
    method="POST", path="/v1/judge/score/stream", answer=ScoreJudgment, piece=RationalePiece
)
MODELS = Route(method="GET", path="/v1/models", answer=ModelList)
VERSION = Route(method="GET", path="/v1/version", answer=VersionHistory)
PROMOTE = Route(method="POST", path="/admin/promote", answer=VersionEntry, repeatable=False)
ROLLBACK = Route(method="POST", path="/admin/rollback", answer=VersionEntry, repeatable=False)
HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Several requests, each as JSON, that are sent in one body.

    Example:
        Chunk(requests=(b'{"prompt":"2+2?","response":"4"}',))
    """

    requests: tuple[bytes, ...]

    @property
    def content(self) -> bytes:
        return _BATCH_HEAD + b",".join(self.requests) + _BATCH_TAIL

    def halves(self) -> "tuple[Chunk, Chunk]":
        """The same of at least two requests in two bodies, in order."""
        middle = len(self.requests) // 2
        return Chunk(requests=self.requests[:middle]), Chunk(requests=self.requests[middle:])


def pairwise_request(
    prompt: PromptLike, first: str, second: str, options: JudgeOptions
) -> PairwiseRequest:
    fields = {"prompt": _prompt(prompt), "first": first, "second": second, **options}
    return checked(PairwiseRequest, fields)


def score_request(prompt: PromptLike, response: str, options: JudgeOptions) -> ScoreRequest:
    return checked(ScoreRequest, {"prompt": _prompt(prompt), "response": response, **options})


def rank_request(
    prompt: PromptLike,
    responses: Sequence[str],
    method: Literal["tournament", "scores"],
    options: JudgeOptions,
) -> RankRequest:
    fields = {
        "prompt": _prompt(prompt),
        "responses": list(responses),
        "method": method,
        **options,
    }
    return checked(RankRequest, fields)


def promote_request(iteration: int | None, model: str | None) -> PromoteRequest:
    return checked(PromoteRequest, {"iteration": iteration, "model": model})


def checked(kind: type[Body], fields: Body | Mapping[str, Any]) -> Body:
    """The body, or `InvalidRequestError` before anything is sent."""
    try:
        return kind.model_validate(fields if isinstance(fields, kind) else dict(fields))
    except ValidationError as error:
        raise InvalidRequestError(f"{kind.__name__}: {problems_of(error)}") from error


def chunks_of(
    kind: type[Body],
    requests: Iterable[Body | Mapping[str, Any]],
    *,
    max_batch: int,
    max_body_bytes: int,
) -> list[Chunk]:
    """Cuts requests, in order, into bodies of at most so many requests and bytes.

    All requests are checked before any is sent. One that is larger than `max_body_bytes` by itself
    goes alone, and the service says what it thinks of it.
    """
    encoded = [checked(kind, request).model_dump_json().encode() for request in requests]
    room = max_body_bytes - len(_BATCH_HEAD) - len(_BATCH_TAIL)
    return list(_chunks(encoded, max_batch, room))


def _chunks(encoded: list[bytes], max_batch: int, room: int) -> Iterator[Chunk]:
    held: list[bytes] = []
    size = 0
    for one in encoded:
        # The comma between two requests is counted with the one after it.
        if held and (len(held) == max_batch or size + 1 + len(one) > room):
            yield Chunk(requests=tuple(held))
            held, size = [], 0
        size += len(one) + (1 if held else 0)
        held.append(one)
    if held:
        yield Chunk(requests=tuple(held))


def _prompt(prompt: PromptLike) -> str | list[Any]:
    if isinstance(prompt, str):
        return prompt
    return [m if isinstance(m, ChatMessage) else dict(m) for m in prompt]
