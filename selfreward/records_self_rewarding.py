"""Records of the self-rewarding loop: created instructions, sampled responses, likelihoods."""

from dataclasses import dataclass
from typing import Self

from selfreward.records import Instruction, ModelRef, Response, content_id
from selfreward.records_scores import Rating, ScoredResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class CreationPrompt:
    """The examples behind which a model is asked for one more instruction.

    Example: `CreationPrompt(id="cre-7f…", round=2, shot_ids=("ins-01…", "ins-9f…"),
    shots=("Name a river.", "Add 2 and 3."))`
    """

    id: str
    round: int
    shot_ids: tuple[str, ...]
    shots: tuple[str, ...]
    """Their texts, in the order shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedInstruction:
    """An instruction a model wrote after examples, with all that led to it.

    Example: `CreatedInstruction(id="ins-4b…", instruction=Instruction(…),
    shot_ids=("ins-01…", "ins-9f…"), model=ModelRef(…), round=2, draw=0,
    text=" Name three rivers of Asia.", part=0)`
    """

    id: str
    """The instruction's own id."""
    instruction: Instruction
    shot_ids: tuple[str, ...]
    """Instructions shown as examples, in the order shown."""
    model: ModelRef
    round: int
    draw: int
    text: str
    """The completion as the model wrote it."""
    part: int
    """Which of several instructions in one completion, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledInstruction:
    """An instruction with its N sampled responses.

    Example: `SampledInstruction(id="ins-4b…", instruction=Instruction(…),
    responses=(Response(…), Response(…)))`
    """

    id: str
    """The instruction's own id."""
    instruction: Instruction
    responses: tuple[Response, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseLikelihood:
    """How likely a model finds a response behind its instruction.

    Example: `ResponseLikelihood(id="lik-2a…", response_id="res-a1…", model=ModelRef(…),
    logp=-41.5, num_tokens=22)`
    """

    id: str
    response_id: str
    model: ModelRef
    logp: float
    """log p(response | instruction) in nats, summed over its tokens."""
    num_tokens: int

    @classmethod
    def new(cls, *, response_id: str, model: ModelRef, logp: float, num_tokens: int) -> Self:
        return cls(
            id=content_id("lik", response_id, model.fingerprint),
            response_id=response_id,
            model=model,
            logp=logp,
            num_tokens=num_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingPair:
    """Two readings of the same response by the same judge, for a meta-judge to choose from.

    Example: `RatingPair(id="rap-6d…", response=ScoredResponse(…), first=Rating(…),
    second=Rating(…))`
    """

    id: str
    response: ScoredResponse
    first: Rating
    second: Rating

    @classmethod
    def new(cls, *, response: ScoredResponse, first: Rating, second: Rating) -> Self:
        return cls(
            id=content_id("rap", first.id, second.id),
            response=response,
            first=first,
            second=second,
        )
