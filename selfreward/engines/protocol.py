"""What an engine is asked and what it answers, whichever engine it is.

Nothing here knows Ray, vLLM or prompts: a stage makes `GenerationRequest`s, a replica returns one
`Completion` for each, in the same order.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from selfreward.judging.token_logps import TokenLogps
from selfreward.records import Conversation, ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn.

    Example: `Sampling(temperature=0.7, top_p=0.9, max_tokens=512, n=4, seed=17)`
    """

    temperature: float
    max_tokens: int
    top_p: float = 1.0
    top_k: int = 0
    """0 is off."""
    min_p: float = 0.0
    n: int = 1
    seed: int = 0
    """Draw i of n is sampled with seed + i."""
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    """Guided decoding: the text is one of these. At most one of choices/regex/json_schema."""
    regex: str | None = None
    """Guided decoding: the text matches this."""
    json_schema: str | None = None
    """Guided decoding: the text is JSON of this schema."""
    logps_of: tuple[str, ...] = ()
    """Texts of one token each, e.g. ("A", "B"): their log-probabilities at every place where one
    of them was produced come back in `Draw.logps`."""
    needs_logps: bool = False
    """Whether a completion without them is of no use."""
    wants_token_ids: bool = False
    """Whether `Draw.token_ids` is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt, n draws.

    Example: `GenerationRequest(id="ins-4b…/respond", purpose="respond",
    messages=(Message(role="user", content="2 + 2?"),), sampling=Sampling(…))`
    """

    id: str
    purpose: str
    """Which stage asks: `categorise`, `respond`, `modify`, `respond_modified`,
    `modify_and_respond`, `rewrite`, `sample`, `create`, `candidate`, `judge`, `best_of`, `rate`,
    `score`."""
    messages: Conversation
    sampling: Sampling
    target: str | None = None
    """Nothing is written then: this text is scored as the assistant's next turn, and the one draw
    that comes back carries `Draw.score`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One sampled text.

    `finish_reason` is `stop` or `length`; `num_tokens` counts generated tokens, or those of a
    scored target; `logps` holds the places where one of `Sampling.logps_of` was produced.
    """

    text: str
    finish_reason: str
    num_tokens: int
    logps: tuple[TokenLogps, ...] = ()
    score: float | None = None
    """Of a target: the sum of its tokens' natural log-probabilities from a language model, or the
    reward from a classifier."""
    token_ids: tuple[int, ...] | None = None
    """The tokens as they were drawn, the one that ended the draw included; where asked for and
    known. Encoding `text` again may give others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a draw has grown by, while it is being written.

    Example: `Delta(draw=0, text=" because")`
    """

    draw: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The answer to one request: draws, or an error that no retry mends.

    `error` is None or a code: `prompt_too_long` (the prompt leaves no room in the context) or
    `bad_request`; `detail` says more.
    """

    request_id: str
    model: ModelRef
    draws: tuple[Draw, ...] = ()
    num_prompt_tokens: int = 0
    error: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaHealth:
    """What a replica says of itself."""

    replica: str
    pid: int
    node: str
    model: ModelRef
    num_starts: int
    """Engine starts of this process: 1 unless the engine itself was rebuilt."""
    requests_served: int
    stalled_s: float = 0.0
    """Since its engine last did something; 0 where it has nothing to do."""


@dataclass(slots=True)
class Ledger:
    """Tokens and requests spent."""

    requests: int = 0
    draws: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    by_purpose: dict[str, int] = field(default_factory=dict)
    """Completion tokens by purpose."""

    def add(self, request: GenerationRequest, completion: Completion) -> None:
        tokens = sum(d.num_tokens for d in completion.draws)
        self.requests += 1
        self.draws += len(completion.draws)
        self.prompt_tokens += completion.num_prompt_tokens
        self.completion_tokens += tokens
        self.by_purpose[request.purpose] = self.by_purpose.get(request.purpose, 0) + tokens


class GenerateStream(Protocol):
    """Writes one completion piece by piece: deltas as they come, the whole `Completion` last."""

    def __call__(self, request: GenerationRequest) -> AsyncIterator[Delta | Completion]: ...


class Generate(Protocol):
    """What a stage is handed: sends requests to the pool, returns completions in order."""

    async def __call__(self, requests: list[GenerationRequest]) -> list[Completion]: ...
