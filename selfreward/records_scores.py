"""Records of judging other than by comparing two: a response by itself with the scores and rewards
it was given, and the best of several."""

from dataclasses import dataclass
from typing import Self

from selfreward.records import Conversation, ModelRef, Outcome, Verdict, content_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredResponse:
    """A response with the score people (or another judge) gave it.

    Example: `ScoredResponse(id="sco-51…", messages=(Message(…),), response="Paris.", score=4.0,
    low=1.0, high=5.0, group="grp-88…", subset="geography", source="ratings.jsonl")`
    """

    id: str
    messages: Conversation
    response: str
    score: float
    low: float
    """The scale's least score, by which `score` was given."""
    high: float
    group: str
    """Responses of one group answer the same prompt and may be compared with each other."""
    subset: str = ""
    source: str = ""
    meta: str | None = None
    """JSON of what the file says of the response besides, e.g. which model wrote it."""
    source_id: str | None = None
    """Of a file that judges are measured on: the `id` of its row."""

    @classmethod
    def new(
        cls,
        *,
        messages: Conversation,
        response: str,
        score: float,
        low: float,
        high: float,
        group: str | None = None,
        subset: str = "",
        source: str = "",
        meta: str | None = None,
        source_id: str | None = None,
    ) -> Self:
        """`group` is by default made from the messages."""
        turns = [[m.role, m.content] for m in messages]
        ident = content_id("sco", turns, response, score, group)
        return cls(
            id=ident,
            messages=messages,
            response=response,
            score=score,
            low=low,
            high=high,
            group=group or content_id("grp", turns),
            subset=subset,
            source=source,
            meta=meta,
            source_id=source_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One reading of one response by a judge, with its raw text.

    Example: `Rating(id="rat-0e…", response_id="sco-51…", judge=ModelRef(…),
    rubric_id="pointwise_additive", draw=0, text="Clear and right.\\nScore: 4",
    finish_reason="stop", num_tokens=9, num_prompt_tokens=280,
    verdict=Verdict(outcome="score", score=4.0))`
    """

    id: str
    response_id: str
    judge: ModelRef
    rubric_id: str
    draw: int
    text: str
    finish_reason: str
    num_tokens: int
    num_prompt_tokens: int
    verdict: Verdict

    @classmethod
    def new(
        cls,
        *,
        response_id: str,
        judge: ModelRef,
        rubric_id: str,
        draw: int,
        text: str,
        finish_reason: str,
        num_tokens: int,
        num_prompt_tokens: int,
        verdict: Verdict,
    ) -> Self:
        return cls(
            id=content_id("rat", response_id, judge.fingerprint, rubric_id, draw),
            response_id=response_id,
            judge=judge,
            rubric_id=rubric_id,
            draw=draw,
            text=text,
            finish_reason=finish_reason,
            num_tokens=num_tokens,
            num_prompt_tokens=num_prompt_tokens,
            verdict=verdict,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScore:
    """What a model without a prompt to judge by says of the responses of a pair.

    A language model's scores are log-probabilities in nats, with those of the same texts on their
    own beside them; a reward model's are rewards, and nothing stands beside them.

    Example: `PairScore(id="psc-7a…", pair_id="pair-0c…", judge=ModelRef(…), chosen=-41.5,
    rejected=-60.2, chosen_alone=-70.1, rejected_alone=-75.9, chosen_tokens=22,
    rejected_tokens=25)`
    """

    id: str
    pair_id: str
    judge: ModelRef
    chosen: float
    rejected: float
    chosen_alone: float | None
    rejected_alone: float | None
    chosen_tokens: int
    rejected_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotVerdict:
    """Which of several responses a judge named as the best; a failure has an outcome and no slot.

    Example: `SlotVerdict(outcome="choice", slot=2)` for the third response shown
    """

    outcome: Outcome
    slot: int | None = None
    """Place of the response among those shown, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfReading:
    """One reading of a question in which the judge was to name the best of several responses.

    Example: `BestOfReading(id="bor-6b…", question_id="que-21…", judge=ModelRef(…),
    rubric_id="best_of_verdict_only", draw=0, gold=2, num_shown=4, text="C", finish_reason="stop",
    num_tokens=1, num_prompt_tokens=640, verdict=SlotVerdict(outcome="choice", slot=2))`
    """

    id: str
    question_id: str
    judge: ModelRef
    rubric_id: str
    draw: int
    gold: int
    """Slot in which the right response was shown."""
    num_shown: int
    text: str
    finish_reason: str
    num_tokens: int
    num_prompt_tokens: int
    verdict: SlotVerdict

    @classmethod
    def new(
        cls,
        *,
        question_id: str,
        judge: ModelRef,
        rubric_id: str,
        draw: int,
        gold: int,
        num_shown: int,
        text: str,
        finish_reason: str,
        num_tokens: int,
        num_prompt_tokens: int,
        verdict: SlotVerdict,
    ) -> Self:
        return cls(
            id=content_id("bor", question_id, judge.fingerprint, rubric_id, gold, draw),
            question_id=question_id,
            judge=judge,
            rubric_id=rubric_id,
            draw=draw,
            gold=gold,
            num_shown=num_shown,
            text=text,
            finish_reason=finish_reason,
            num_tokens=num_tokens,
            num_prompt_tokens=num_prompt_tokens,
            verdict=verdict,
        )
