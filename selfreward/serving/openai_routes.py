"""`/v1/chat/completions` and `/v1/models`, as OpenAI's clients know them."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from selfreward.engines.protocol import Completion, Delta, Draw, GenerationRequest
from selfreward.serving.access import admitted, require
from selfreward.serving.engine import Answer, ChatPiece
from selfreward.serving.http_errors import ApiError, api_error
from selfreward.serving.judge_routes import EVENT_STREAM, REFUSALS, Here, name_judge
from selfreward.serving.openai_wire import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatReply,
    ChatRequest,
    ChatUsage,
    ModelCard,
    ModelList,
)
from selfreward.serving.service import Service
from selfreward.serving.wire import ErrorBody, JudgeVersion

SERVED_NAME = "judge"
"""The model id that always means the current judge."""

_CHUNK = {
    "type": "object",
    "properties": {"data": {"type": "string", "contentMediaType": "application/json"}},
    "required": ["data"],
}

router = APIRouter(
    prefix="/v1", tags=["openai"], responses=REFUSALS, dependencies=[Depends(require("user"))]
)


def _names(service: Service) -> list[str]:
    return [SERVED_NAME, service.wanted.model.name]


@router.get("/models", operation_id="list_models")
async def models(service: Here) -> ModelList:
    """The current judge, by the name `judge` and by its own."""
    return ModelList(data=[ModelCard(id=name, created=0) for name in _names(service)])


@router.get("/models/{model:path}", operation_id="get_model", responses={404: {"model": ErrorBody}})
async def model_card(model: str, service: Here) -> ModelCard:
    """One of the models that are served."""
    _check_model(model, service)
    return ModelCard(id=model, created=0)


def _check_model(model: str, service: Service) -> None:
    if model != SERVED_NAME and not service.knows_model(model):
        shown = model if len(model) <= 80 else f"{model[:80]}…"
        raise api_error(
            404,
            "model_not_found",
            f"no model {shown!r} here; this service has {', '.join(_names(service))}",
            param="model",
        )


@router.post(
    "/chat/completions",
    operation_id="chat_completions",
    response_model=ChatCompletion,
    responses={404: {"model": ErrorBody}, 200: {"content": {EVENT_STREAM: {"schema": _CHUNK}}}},
    dependencies=[Depends(admitted)],
)
async def chat(body: ChatRequest, request: Request, response: Response, service: Here) -> object:
    """A conversation with the judge's model; with `stream` as server-sent events."""
    _check_model(body.model, service)
    wanted = _generation(body, request, service)
    name = f"chatcmpl-{request.state.request_id}"
    created = int(time.time())
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        pieces = service.chat_stream(wanted)
        # Asked for before the status is sent: a refusal then still has its own.
        version = await anext(pieces)
        assert isinstance(version, JudgeVersion)
        first = await anext(pieces)
        if isinstance(first, Answer):
            _refuse_failed(first.completion)
        opening = _Opening(name, created, version.model, body.n or 1, usage)
        streamed = StreamingResponse(
            _chunks(_chained(first, pieces), opening), media_type=EVENT_STREAM
        )
        name_judge(streamed, version)
        return streamed
    answer = await service.chat(wanted)
    _refuse_failed(answer.completion)
    name_judge(response, answer.version)
    return ChatCompletion(
        id=name,
        created=created,
        model=answer.version.model,
        system_fingerprint=answer.version.fingerprint,
        choices=[
            ChatChoice(
                index=index,
                message=ChatReply(content=draw.text),
                finish_reason=_reason(draw),
            )
            for index, draw in enumerate(answer.completion.draws)
        ],
        usage=_usage(answer.completion),
    )


async def _chained(first: ChatPiece, rest: AsyncIterator[ChatPiece]) -> AsyncIterator[ChatPiece]:
    yield first
    async for piece in rest:
        yield piece


def _generation(body: ChatRequest, request: Request, service: Service) -> GenerationRequest:
    limits = service.config.limits
    if body.tokens_wanted(1) > limits.max_new_tokens:
        message = f"{body.tokens_wanted(1)} new tokens; this service writes {limits.max_new_tokens}"
        raise api_error(422, "too_many_tokens", message, param="max_tokens")
    if (body.n or 1) > limits.max_votes:
        message = f"n={body.n}; this service draws {limits.max_votes} at once"
        raise api_error(422, "too_many_votes", message, param="n")
    if not any(turn.message().content.strip() for turn in body.messages):
        raise api_error(422, "blank_text", "every message is blank", param="messages")
    for index, turn in enumerate(body.messages):
        if len(turn.message().content) > limits.max_text_chars:
            message = f"a message has over {limits.max_text_chars} characters"
            raise api_error(422, "text_too_long", message, param=f"messages.{index}.content")
    return body.generation_request(request.state.request_id, limits.max_new_tokens)


def _refuse_failed(completion: Completion) -> None:
    if completion.error == "prompt_too_long":
        raise api_error(400, "context_length_exceeded", completion.detail, param="messages")
    if completion.error is not None:
        raise api_error(422, completion.error, completion.detail)


def _reason(draw: Draw) -> Literal["stop", "length"]:
    return "length" if draw.finish_reason == "length" else "stop"


def _usage(completion: Completion) -> ChatUsage:
    written = sum(d.num_tokens for d in completion.draws)
    return ChatUsage(
        prompt_tokens=completion.num_prompt_tokens,
        completion_tokens=written,
        total_tokens=completion.num_prompt_tokens + written,
    )


@dataclass(frozen=True, slots=True)
class _Opening:
    """What is known of a stream before its first piece: its id, time and model, how many texts are
    written, and whether usage is told at the end."""

    name: str
    created: int
    model: str
    num: int
    usage: bool


async def _chunks(pieces: AsyncIterator[ChatPiece], opening: _Opening) -> AsyncIterator[str]:
    def chunk(
        choices: list[ChatChunkChoice],
        fingerprint: str | None = None,
        used: ChatUsage | None = None,
    ) -> str:
        return _data(
            ChatChunk(
                id=opening.name,
                created=opening.created,
                model=opening.model,
                system_fingerprint=fingerprint,
                choices=choices,
                usage=used,
            )
        )

    try:
        for index in range(opening.num):
            start = ChatDelta(role="assistant", content="")
            yield chunk([ChatChunkChoice(index=index, delta=start)])
        async for piece in pieces:
            if isinstance(piece, Delta):
                delta = ChatDelta(content=piece.text)
                yield chunk([ChatChunkChoice(index=piece.draw, delta=delta)])
                continue
            assert isinstance(piece, Answer)
            _refuse_failed(piece.completion)
            fingerprint = piece.version.fingerprint
            for index, draw in enumerate(piece.completion.draws):
                end = ChatChunkChoice(index=index, delta=ChatDelta(), finish_reason=_reason(draw))
                yield chunk([end], fingerprint)
            if opening.usage:
                yield chunk([], fingerprint, _usage(piece.completion))
    except ApiError as error:
        # The status has been sent: what went wrong can only be told in the stream.
        yield _data(ErrorBody(error=error.detail))
    yield "data: [DONE]\n\n"


def _data(body: BaseModel) -> str:
    return f"data: {body.model_dump_json(exclude_none=True)}\n\n"
