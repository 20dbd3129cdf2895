"""What goes over the wire of the judge's own routes: requests in, typed outcomes out.

A judgment that failed is an answer with an `outcome` and a `detail`, under status 200: the request
was right, the judge was not able.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from selfreward.serving.wire import MAX_MESSAGES, ChatMessage, JudgeVersion, Text, Unicode, Wire

Shown = Literal["first_second", "second_first"]
"""In which order the judge read the two responses."""

JudgedOutcome = Literal[
    "choice",
    "score",
    "ranking",
    "tie",
    "unparsed",
    "truncated",
    "refused",
    "prompt_too_long",
    "timed_out",
    "failed",
]
"""What became of a judgment. Only `choice`, `score` and `ranking` carry a value. The last three
never come from reading a text: the prompt left no room, time ran out, or the engine broke down."""

Prompt = Text | Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
"""The task: one user turn as a text, or the conversation up to and including a user turn."""


RubricId = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class InlineRubric(Wire):
    """A rubric of the caller's own: what the judge is told about quality.

    The blocks, the verdict's form and the guided decoding stay the service's, so that an inline
    rubric is as safe from forged verdicts as a named one.
    """

    criteria: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    """Plain words, e.g. "Prefer the response that cites its source."."""
    scale: tuple[int, int] = (1, 5)
    """Lowest and highest whole score, for scoring only: 0 <= low < high <= 10."""

    @model_validator(mode="after")
    def _scale(self) -> "InlineRubric":
        low, high = self.scale
        if not 0 <= low < high <= 10:
            raise ValueError(f"scale {list(self.scale)}: whole numbers with 0 <= low < high <= 10")
        return self


class Options(Wire):
    """How a judgment is made; the same for every route."""

    rubric: RubricId | InlineRubric | None = None
    """The id of a rubric of this service, or one of the caller's own; None is the route's usual
    one. A named rubric also settles whether there is a rationale."""
    votes: Annotated[int, Field(ge=1)] = 1
    """Draws for each order (or each response that is scored). One is drawn at temperature 0."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """None: 0 for one vote, 0.7 for several."""
    both_orders: bool = True
    """Pairs are read in both orders and the two readings combined."""
    rationale: bool = False
    """Whether the judge explains itself before its verdict. A named rubric that has no place for
    that is refused; one that always has it gives it unasked."""
    reference: str | None = None
    """A response known to be good."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Time limit of this judgment in seconds, at most the service's own."""


class PairwiseRequest(Options):
    prompt: Prompt
    first: Text
    second: Text


class ScoreRequest(Options):
    prompt: Prompt
    response: Text


class RankRequest(Options):
    prompt: Prompt
    responses: Annotated[list[Text], Field(min_length=2)]
    method: Literal["tournament", "scores"] = "tournament"
    """`tournament`: every pair is compared, and points (1 a win, 1/2 a tie) make the ranking;
    `scores`: each response is scored by itself."""


class PairwiseBatch(Wire):
    batch: Annotated[list[PairwiseRequest], Field(min_length=1)]


class ScoreBatch(Wire):
    batch: Annotated[list[ScoreRequest], Field(min_length=1)]


class RankBatch(Wire):
    batch: Annotated[list[RankRequest], Field(min_length=1)]


class Usage(Wire):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class VoteCounts(Wire):
    """How the draws fell. `failed` counts those without a verdict."""

    first: int = 0
    second: int = 0
    tie: int = 0
    failed: int = 0


class OrderReading(Wire):
    """What the judge said of one order of a pair. `choice` names the request's response, not the
    position: the service has turned it back."""

    shown: Shown
    outcome: JudgedOutcome
    choice: Literal["first", "second"] | None = None
    probability_first: float | None = None
    """P(the request's first response is better), in this order."""
    votes: VoteCounts
    rationales: list[str] = Field(default=[])
    """One a draw, empty without rationale; the verdict itself is cut off."""


class PairwiseJudgment(Wire):
    object: Literal["judgment.pairwise"] = "judgment.pairwise"
    id: str
    outcome: JudgedOutcome
    choice: Literal["first", "second"] | None = None
    probability_first: float | None = None
    """P(first is better), the mean over the orders; None where the engine gives none."""
    detail: str | None = None
    """Why there is no choice, in words."""
    consistent: bool | None = None
    """Whether both orders name the same response; None unless both made a choice."""
    votes: VoteCounts = VoteCounts()
    """Of all orders together."""
    orders: list[OrderReading] = Field(default=[])
    rationale: str | None = None
    """Of the first draw of the first order that names the winner."""
    rubric: str
    judge: JudgeVersion
    usage: Usage = Usage()


class RationalePiece(Wire):
    """A further piece of what the judge writes before its verdict."""

    text: str


class RationaleDelta(RationalePiece):
    """The same of a pair, with the order that the judge is reading."""

    shown: Shown


class ScoreJudgment(Wire):
    object: Literal["judgment.score"] = "judgment.score"
    id: str
    outcome: JudgedOutcome
    score: float | None = None
    """Mean of the draws that have a score."""
    scale: tuple[float, float]
    num_scores: int = 0
    scores: list[float | None] = Field(default=[])
    """One a draw, in order; None for a draw that failed."""
    detail: str | None = None
    rationale: str | None = None
    rubric: str
    judge: JudgeVersion
    usage: Usage = Usage()


StreamRequest = PairwiseRequest | ScoreRequest
"""What can be answered piece by piece."""

StreamEvent = RationalePiece | PairwiseJudgment | ScoreJudgment
"""Of such an answer: pieces of the rationale, then the judgment."""


class Standing(Wire):
    index: int
    """Place in the request's `responses`, from 0."""
    points: float | None
    """Tournament: wins plus half the ties, as a share of its comparisons that have a verdict, times
    all its comparisons; scores: the mean score; None where it has none."""
    wins: int = 0
    ties: int = 0
    losses: int = 0
    failed: int = 0
    """Comparisons or draws without a verdict."""


class RankedPair(Wire):
    """One comparison of a tournament, by places in the request's `responses`."""

    first: int
    second: int
    judgment: PairwiseJudgment


class RankJudgment(Wire):
    object: Literal["judgment.rank"] = "judgment.rank"
    id: str
    outcome: JudgedOutcome
    """`ranking`; `tie` where all have equal points; a failure where any response has no points."""
    ranking: list[list[int]] = Field(default=[])
    """Indices from best to worst; equal ones stand together."""
    standings: list[Standing] = Field(default=[])
    """In the order of the request."""
    num_comparisons: int = 0
    comparisons: list[RankedPair] = Field(default=[])
    """Of a tournament, with what the judge said of each."""
    scores: list[ScoreJudgment] = Field(default=[])
    """Of method `scores`, in the order of the request."""
    consistent_share: float | None = None
    """Share of comparisons in which both orders agree."""
    detail: str | None = None
    """Why there is no ranking; where there is one, how many comparisons have no verdict and why."""
    rubric: str
    judge: JudgeVersion
    usage: Usage = Usage()


class PairwiseJudgments(Wire):
    batch: list[PairwiseJudgment]


class ScoreJudgments(Wire):
    batch: list[ScoreJudgment]


class RankJudgments(Wire):
    batch: list[RankJudgment]


class RewardRequest(Wire):
    """What OpenRLHF's remote reward model client sends to `/get_reward`: whole texts, and from
    some versions on their prompts and labels beside them. One that knows several addresses sends
    the ones it has no texts for an empty list."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    query: list[Unicode]
    prompts: list[Unicode] | None = None
    labels: list[Any] | None = None
    """Whatever the data set holds; not read."""


class RewardLogs(Wire):
    """Numbers that OpenRLHF logs beside the rewards. It puts those of all samples together, so that
    each is a list with one number a text, never null, and every answer has all of them."""

    judge_failed: list[float]
    """1 for a text that has no score, else 0."""


class RewardAnswer(Wire):
    """`rewards` as OpenRLHF reads it, one a text. A text the judge could not score has null, or the
    number that the caller asked for with `failed_reward`."""

    rewards: list[float | None]
    scores: list[float | None]
    extra_logs: RewardLogs
