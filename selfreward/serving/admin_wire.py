"""What goes over the wire of the routes that change and watch the judge that is served."""

from typing import Annotated

from pydantic import Field, model_validator

from selfreward.serving.wire import JudgeVersion, Text, Wire


class PromoteRequest(Wire):
    """Exactly one of the two: an iteration of the run that is served, or a model."""

    iteration: Annotated[int, Field(ge=0)] | None = None
    model: Annotated[Text, Field(max_length=4096)] | None = None
    """A folder, URL or hub id of the same architecture as the served model."""

    @model_validator(mode="after")
    def _one(self) -> "PromoteRequest":
        if (self.iteration is None) == (self.model is None):
            raise ValueError("name either an iteration or a model")
        return self


class VersionEntry(Wire):
    """A judge that is or was served."""

    judge: JudgeVersion
    since: str
    """ISO 8601 time in UTC."""
    by: str
    """`start`, `run` (current.json moved), `promote` or `rollback`."""


class VersionHistory(Wire):
    current: VersionEntry
    history: list[VersionEntry]
    """Earlier ones, oldest first."""
    problems: dict[str, int] = Field(default_factory=dict)
    """What stood in the way of following the run since the service started, and how often:
    `missing`, or `read`, `apply` or, of a replica, `load` with the type of the error. The log says
    more."""


class ShadowReport(Wire):
    """How a candidate that judges a share of the traffic agrees with the current judge."""

    judge: JudgeVersion | None
    share: float
    judged: int
    both_have_choice: int
    agreed: int
    agreement: float | None
    """`agreed / both_have_choice`."""
