"""What goes over the wire of the review pages: tasks for people, their answers, agreement.

Tasks are blind: nothing in them tells which model wrote a response or what the judge said. The
order in which responses are shown is settled for each reviewer and task, half one way and half
the other, and the server turns answers back, so that the store never holds a position.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from selfreward.serving.wire import ChatMessage, JudgeVersion, Unicode, Wire

Label = Annotated[str, StringConstraints(pattern=r"^[A-Z]$")]
"""The letter a response is shown under: A, B, …"""
MAX_LABELS = 26
Labels = Annotated[list[Label], Field(max_length=MAX_LABELS)]
TaskId = Annotated[Unicode, StringConstraints(max_length=200)]
Reviewer = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00-\x1f]+$"
    ),
]


class ShownResponse(Wire):
    label: Label
    text: str


class ReviewTask(Wire):
    id: str
    kind: Literal["pair", "rank"]
    """`pair`: name the better one or a tie; `rank`: order three or more from best to worst."""
    prompt: list[ChatMessage]
    responses: list[ShownResponse]
    num_left: int
    """Tasks this reviewer has not answered, this one among them."""
    num_done: int


class ReviewAnswer(Wire):
    """Exactly one of `choice` and `ranking`, as the task's kind wants it."""

    task_id: TaskId
    choice: Label | Literal["tie"] | None = None
    ranking: Annotated[list[Labels], Field(max_length=MAX_LABELS)] | None = None
    """From best to worst; equal ones stand together; every label exactly once."""
    harmful: Labels = Field(default_factory=list)
    comment: Annotated[Unicode, StringConstraints(max_length=4000)] = ""
    seconds: Annotated[float, Field(ge=0)] | None = None
    """How long the reviewer looked at the task."""

    @model_validator(mode="after")
    def _one(self) -> "ReviewAnswer":
        if (self.choice is None) == (self.ranking is None):
            raise ValueError("an answer has either a choice or a ranking")
        return self


class ReviewReceipt(Wire):
    answer_id: str
    num_left: int
    num_done: int


class PairOfReviewers(Wire):
    one: str
    other: str
    num_common: int
    """Comparisons both have made."""
    agreement: float | None
    cohen_kappa: float | None
    """None where it is not defined: nothing in common, or both always say the same one thing."""


class JudgeAgreement(Wire):
    """People against one version of the judge."""

    judge: str
    """E.g. `M1`."""
    num_common: int
    agreement: float | None
    cohen_kappa: float | None


class AgreementReport(Wire):
    num_answers: int
    num_comparisons: int
    """Pairs of responses that were compared; a ranking of n counts n (n - 1) / 2."""
    reviewers: list[str]
    krippendorff_alpha: float | None
    """Nominal, over first/second/tie of all comparisons; None without two reviewers in common."""
    between_reviewers: list[PairOfReviewers]
    with_judges: list[JudgeAgreement]


class BiasFigure(Wire):
    name: str
    value: float | None


class PromotedJudge(Wire):
    """One line of the history page."""

    judge: JudgeVersion
    since: str
    by: str
    reason: str | None
    """Why the run promoted it, in words; None for a judge that no run promoted."""
    accuracy: float | None
    bias_card: list[BiasFigure]


class PromotionHistory(Wire):
    judges: list[PromotedJudge]
    """Newest first."""
