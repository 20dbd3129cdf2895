"""The bodies of the OpenAI-compatible routes: what of that interface this service speaks.

Fields that only tell something about the caller are ignored, as other servers do. Fields that
would change the answer and are not spoken here are refused, so that nobody gets another answer
than the one asked for.
"""

import json
import secrets
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from selfreward.engines.protocol import GenerationRequest, Sampling
from selfreward.records import Message
from selfreward.serving.schema_bounds import MAX_SCHEMA_CHARS, MAX_SCHEMA_DEPTH, check_schema
from selfreward.serving.wire import MAX_MESSAGES, Unicode

_UNSPOKEN = (
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
    "audio",
    "modalities",
    "prediction",
    "web_search_options",
    "top_k",
    "min_p",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "stop_token_ids",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "structured_outputs",
)
"""Refused unless absent, null, false, 0 or empty."""


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class TextPart(_Open):
    type: Literal["text"]
    text: Unicode


class ChatTurn(_Open):
    role: Literal["system", "developer", "user", "assistant"]
    content: Unicode | list[TextPart]

    def message(self) -> Message:
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        role = "system" if self.role == "developer" else self.role
        return Message(role=role, content=text)


class JsonSchemaFormat(_Open):
    schema_: Annotated[dict[str, Any], AfterValidator(check_schema)] = Field(
        alias="schema",
        description=(
            f"At most {MAX_SCHEMA_CHARS} characters of JSON and {MAX_SCHEMA_DEPTH} levels deep; a"
            " `$ref` stays within it."
        ),
    )


class ResponseFormat(_Open):
    type: Literal["text", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema stands with type json_schema, and only there")
        return self


class StreamOptions(_Open):
    include_usage: bool = False


class ChatRequest(_Open):
    model: str
    messages: Annotated[list[ChatTurn], Field(min_length=1, max_length=MAX_MESSAGES)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    stop: Unicode | Annotated[list[Unicode], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _spoken(self) -> "ChatRequest":
        for name in _UNSPOKEN:
            if (self.model_extra or {}).get(name):
                raise ValueError(f"{name} is not supported by this service; leave it out")
        return self

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if stop == "" or (isinstance(stop, list) and "" in stop):
            raise ValueError("an empty stop would end every text at once")
        return stop

    def tokens_wanted(self, most: int) -> int:
        """How many tokens may be written: what was asked for, or the service's most."""
        return self.max_completion_tokens or self.max_tokens or most

    def generation_request(self, request_id: str, most_tokens: int) -> GenerationRequest:
        stop = self.stop or ()
        form = self.response_format.json_schema if self.response_format else None
        return GenerationRequest(
            id=request_id,
            purpose="chat",
            messages=tuple(turn.message() for turn in self.messages),
            sampling=Sampling(
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=self.top_p or 1.0,
                max_tokens=self.tokens_wanted(most_tokens),
                n=self.n or 1,
                # Without one every call is another draw, as callers of OpenAI expect.
                seed=secrets.randbelow(2**31) if self.seed is None else self.seed,
                stop=(stop,) if isinstance(stop, str) else tuple(stop),
                json_schema=json.dumps(form.schema_) if form else None,
            ),
        )


class ChatUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatReply(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    index: int
    message: ChatReply
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    """The weights that answered."""
    choices: list[ChatChoice]
    usage: ChatUsage


class ChatDelta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    index: int
    delta: ChatDelta
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatChunk(BaseModel):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str | None = None
    choices: list[ChatChunkChoice]
    usage: ChatUsage | None = None


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "selfreward"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
