"""Records of the stages before and around the loops: documents, tasks with checks, rankings."""

from dataclasses import dataclass
from typing import Self

from selfreward.records import Conversation, ModelRef, Response, content_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A piece of raw text, cleaned.

    Example: `Document(id="doc-3f…", text="The with statement wraps a block …",
    source="python_docs")`
    """

    id: str
    text: str
    source: str

    @classmethod
    def new(cls, *, text: str, source: str) -> Self:
        """The id follows from the text alone, so equal texts have one."""
        return cls(id=content_id("doc", text), text=text, source=source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A constraint on an answer that a program can check.

    Example: `Check(kind="num_words", args=("3",))`
    """

    kind: str
    """A name in judging/checks.py."""
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskItem:
    """One exercise: what is asked, what is wanted, and how an answer is checked.

    Example: `TaskItem(id="task-9c…", task="snake_to_words", template="snake_to_words/2",
    messages=(Message(role="user", content="Spell out: parse_url"),), target="parse url",
    checks=(Check(kind="all_lowercase"),))`
    """

    id: str
    task: str
    template: str
    """Which of the task's prompt forms this is; forms kept out of training are told by it."""
    messages: Conversation
    target: str
    checks: tuple[Check, ...] = ()

    @classmethod
    def new(
        cls,
        *,
        task: str,
        template: str,
        messages: Conversation,
        target: str,
        checks: tuple[Check, ...] = (),
    ) -> Self:
        turns = "\n".join(f"{m.role}: {m.content}" for m in messages)
        return cls(
            id=content_id("task", task, template, turns, target),
            task=task,
            template=template,
            messages=messages,
            target=target,
            checks=checks,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Answers to one conversation in the order people ranked them.

    Example: `Ranking(id="rank-51…", messages=(Message(role="user", content="2 + 2?"),),
    responses=("4", "It is 4, I think.", "5"), ranks=(1, 1, 2), source="review")`
    """

    id: str
    messages: Conversation
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    """1 is best; equal ranks are ties."""
    source: str

    @classmethod
    def new(
        cls,
        *,
        messages: Conversation,
        responses: tuple[str, ...],
        ranks: tuple[int, ...],
        source: str,
    ) -> Self:
        turns = "\n".join(f"{m.role}: {m.content}" for m in messages)
        return cls(
            id=content_id("rank", turns, *responses, str(ranks)),
            messages=messages,
            responses=responses,
            ranks=ranks,
            source=source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAnswer:
    """A model's answer to an exercise, whatever it is: empty and cut ones count as answers too.

    Example: `TaskAnswer(id="tan-0d…", item=TaskItem(…), response=Response(…))`
    """

    id: str
    item: TaskItem
    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReward:
    """What a reward model gives an answer.

    Example: `AnswerReward(id="rew-77…", item_id="task-9c…", response_id="res-a1…",
    model=ModelRef(…), reward=1.4)`
    """

    id: str
    item_id: str
    """The exercise that was answered: answers of two models are compared by it."""
    response_id: str
    model: ModelRef
    """The reward model."""
    reward: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRanking:
    """A ranking by people beside a reward model's scores of the same answers.

    Example: `ScoredRanking(id="srk-0a…", ranking=Ranking(…), model=ModelRef(…),
    scores=(1.2, 0.9, -0.4))`
    """

    id: str
    ranking: Ranking
    model: ModelRef
    scores: tuple[float, ...]
    """One of each of the ranking's responses, in their order."""
