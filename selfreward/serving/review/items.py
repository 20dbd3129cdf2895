"""What the review store holds: tasks for people, and their answers by response, not by letter."""

import math
from dataclasses import dataclass
from typing import Literal

from selfreward.metrics.agreement import ComparisonLabel
from selfreward.records import Conversation

MAX_RESPONSES = 26
"""Responses are shown under one letter each."""

ItemKind = Literal["pair", "rank"]
Ranking = tuple[tuple[int, ...], ...]
"""Places of responses in their item from best to worst; equal ones stand together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBy:
    """What one judge said of a task's responses. A pair has a label, scored responses scores.

    Example: `JudgedBy(judge="M1", label="first", scores=(4.5, 3.0))`
    """

    judge: str
    label: ComparisonLabel | None
    """Of a pair; None where the judge failed."""
    scores: tuple[float | None, ...] | None
    """One a response, in the task's order; None for one without a score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """A task for people, with what they must not see.

    Raises ValueError where number, ids or verdicts do not fit the responses.

    Example: `ReviewItem(id="rev-5c…", kind="pair", prompt=(Message(role="user", content="2+2?"),),
    responses=("4", "5"), response_ids=("res-a1…", "res-b7…"), instruction_id="ins-4b…",
    priority=0.8, why="draws disagree", judged=(JudgedBy(judge="M1", label="first", scores=None),))`
    """

    id: str
    kind: ItemKind
    prompt: Conversation
    responses: tuple[str, ...]
    response_ids: tuple[str, ...]
    instruction_id: str
    priority: float
    """Higher comes first."""
    why: str
    """Why people are asked, in words."""
    judged: tuple[JudgedBy, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.responses)
        low, high = (2, 2) if self.kind == "pair" else (3, MAX_RESPONSES)
        if not low <= n <= high:
            raise ValueError(f"task {self.id}: a {self.kind} of {n} responses, not {low} to {high}")
        if len(self.response_ids) != n or len(set(self.response_ids)) != n:
            raise ValueError(f"task {self.id}: each response needs an id of its own")
        if not math.isfinite(self.priority):
            raise ValueError(f"task {self.id}: priority {self.priority} is no finite number")
        for said in self.judged:
            if said.label is not None and self.kind != "pair":
                raise ValueError(f"task {self.id}: a verdict of {said.judge} on a {self.kind}")
            if said.scores is not None and len(said.scores) != n:
                raise ValueError(f"task {self.id}: {said.judge} has not one score a response")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTask:
    """A task without its texts: what is needed to compare people with judges.

    Example: `JudgedTask(id="rev-5c…", response_ids=("res-a1…", "res-b7…"),
    judged=(JudgedBy(judge="M1", label="first", scores=None),))`
    """

    id: str
    response_ids: tuple[str, ...]
    judged: tuple[JudgedBy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedItem:
    """A task as it is put before one reviewer.

    Example: `ServedItem(item=ReviewItem(…), order=(1, 0), num_left=7, num_done=3)`
    """

    item: ReviewItem
    order: tuple[int, ...]
    """The place in `item.responses` of what is shown as A, as B, …"""
    num_left: int
    """Tasks this reviewer has not answered, this one among them."""
    num_done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedAnswer:
    """What an answer says of the responses, whichever letters they were shown under.

    Example: `PlacedAnswer(ranking=((1,), (0,)), harmful=(0,))`
    """

    ranking: Ranking
    """Of a pair too: the better one first, a tie together."""
    harmful: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An answer of one reviewer to one task.

    Example: `StoredAnswer(id="rva-0c…", task_id="rev-5c…", reviewer="Ada", revision=1,
    placed=PlacedAnswer(ranking=((1,), (0,)), harmful=()), comment="", seconds=12.5,
    answered_at="2026-01-31T12:00:00+00:00")`
    """

    id: str
    task_id: str
    reviewer: str
    revision: int
    """1 for the first answer, one more each time the reviewer changed it."""
    placed: PlacedAnswer
    comment: str
    seconds: float | None
    answered_at: str
    """ISO 8601 time in UTC."""
