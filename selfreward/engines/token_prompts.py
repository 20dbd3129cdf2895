"""A request as token ids, the completion it ends in, and draws that grow piece by piece.

What an engine of token ids needs and no engine's library is asked for.
"""

from dataclasses import dataclass, field
from typing import Any

from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.records import ModelRef


@dataclass(slots=True, kw_only=True)
class TokenPrompt:
    """A request as token ids, and the completion that it ends in.

    Example: `TokenPrompt(ids=[1, 9, 4], target=[], logps_ids={"A": 34, "B": 35}, context=2048)`
    """

    ids: list[int]
    target: list[int]
    logps_ids: dict[str, int]
    context: int

    @property
    def num_tokens(self) -> int:
        return len(self.ids) + len(self.target)

    @property
    def room(self) -> int:
        """Tokens the context has left."""
        return self.context - self.num_tokens

    @property
    def error(self) -> str | None:
        return "prompt_too_long" if self.room < 1 else None

    def completion(
        self, request: GenerationRequest, model: ModelRef, draws: tuple[Draw, ...] = ()
    ) -> Completion:
        told = f"prompt has {self.num_tokens} tokens, the context {self.context}"
        return Completion(
            request_id=request.id,
            model=model,
            draws=draws,
            num_prompt_tokens=self.num_tokens,
            error=self.error,
            detail=told if self.error else "",
        )


@dataclass(slots=True)
class GrownOutput:
    """One draw put together from vLLM's deltas; has the fields of its finished output."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, piece: Any) -> None:
        self.text += piece.text
        self.token_ids += piece.token_ids
        self.logprobs += piece.logprobs or []
        self.finish_reason = piece.finish_reason or self.finish_reason


def refused(
    request: GenerationRequest, model: ModelRef, num_prompt_tokens: int, error: Exception
) -> Completion:
    """The completion of a request that the engine does not accept."""
    return Completion(
        request_id=request.id,
        model=model,
        num_prompt_tokens=num_prompt_tokens,
        error="bad_request",
        detail=str(error),
    )
