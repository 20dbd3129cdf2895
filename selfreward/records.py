"""The records that flow through a run: frozen, keyword-only, with content-derived ids.

A record never knows where it is stored or who reads it. Rows become dictionaries only in
`schemas.py`. One file beyond 300 lines, since the records are read together and half of it are
their examples. The `new` constructors derive the id from the content, so the same work done twice
has the same id, whichever machine did it and however often the run was interrupted.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

ID_HEX_CHARS = 20  # 80 bits: a collision among a billion records has a chance below 1e-6


def content_id(kind: str, *parts: object) -> str:
    """Returns `kind-<20 hex digits>` of the JSON of `parts`.

    Example: `content_id("ins", "What is 2 + 2?")` is the same on every machine.
    """
    text = json.dumps([kind, *parts], ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:ID_HEX_CHARS]}"


def derived_seed(*parts: object) -> int:
    """Returns a 31-bit seed that depends on every one of `parts` and on nothing else.

    Seeds follow the record, never the machine or the moment: a draw repeated after a crash is the
    same draw, and two replicas never sample the same stream.
    """
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


class Position(StrEnum):
    """Which response of a pair the judge was shown first."""

    CHOSEN_FIRST = "chosen_first"
    REJECTED_FIRST = "rejected_first"


class Outcome(StrEnum):
    """What became of a judgment. Only `CHOICE` and `SCORE` carry a judgment's value."""

    CHOICE = "choice"
    SCORE = "score"
    TIE = "tie"
    UNPARSED = "unparsed"
    TRUNCATED = "truncated"
    REFUSED = "refused"


class Corruption(StrEnum):
    """How the rejected response of a pair was made worse than the chosen one."""

    MODIFIED_INSTRUCTION = "modified_instruction"
    REWRITE = "rewrite"
    REFERENCE = "reference"
    LIKELIHOOD = "likelihood"
    """Nothing was made worse: of the model's own samples the one it finds least likely."""


class DropReason(StrEnum):
    """Why a row left the run. Every dropped row is counted and written to the drop file."""

    UNREADABLE = "unreadable"
    """A line that is no JSON object."""
    MISSING_COLUMN = "missing_column"
    BAD_CONVERSATION = "bad_conversation"
    EMPTY_INSTRUCTION = "empty_instruction"
    TRUNCATED_INSTRUCTION = "truncated_instruction"
    SEVERAL_INSTRUCTIONS = "several_instructions"
    NOT_AN_INSTRUCTION = "not_an_instruction"
    NOT_ANSWERABLE = "not_answerable"
    KEYWORD = "keyword"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    LOW_QUALITY = "low_quality"
    HELD_OUT = "held_out"
    """Its prompt is one that models are measured on."""
    IN_TRAINING = "in_training"
    """It was to measure models on, but its prompt is one that the run trains on."""
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    SIMILAR_INSTRUCTION = "similar_instruction"
    NOT_SELECTED = "not_selected"
    OVER_CATEGORY_SHARE = "over_category_share"
    UNPARSED_CATEGORY = "unparsed_category"
    EMPTY_RESPONSE = "empty_response"
    TRUNCATED_RESPONSE = "truncated_response"
    UNPARSED_CORRUPTION = "unparsed_corruption"
    SAME_RESPONSE = "same_response"
    NO_REFERENCE = "no_reference"
    NO_RIGHT_SAMPLE = "no_right_sample"
    NO_WRONG_SAMPLE = "no_wrong_sample"
    NO_RIGHT_JUDGMENT = "no_right_judgment"
    NO_WRONG_JUDGMENT = "no_wrong_judgment"
    LABEL_BALANCE = "label_balance"
    LENGTH_BALANCE = "length_balance"
    NOT_PERTURBABLE = "not_perturbable"
    PROMPT_TOO_LONG = "prompt_too_long"
    ENGINE_FAILURE = "engine_failure"
    BAD_SCORE = "bad_score"
    TIED_SCORES = "tied_scores"
    TOO_FEW_SCORES = "too_few_scores"
    LOW_MARGIN = "low_margin"
    NO_POSITIVE = "no_positive"
    DISAGREES_WITH_PEOPLE = "disagrees_with_people"
    UNREAD_JUDGMENTS = "unread_judgments"
    COMMON_SCORE = "common_score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation.

    Example: `Message(role="user", content="Why is the sky blue?")`
    """

    role: Literal["system", "user", "assistant"]
    content: str


Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """A task of a user: the conversation so far, ending with a user turn.

    Example: `Instruction(id="ins-4be0…", messages=(Message(role="user", content="2 + 2?"),),
    source="pool.jsonl", category=None, complexity=None, expected_length=None,
    reference_answer="4")`
    """

    id: str
    messages: Conversation
    source: str
    category: str | None = None
    complexity: int | None = None
    """1 (trivial) to 10 (expert), as the model sorted it; None where it was not asked."""
    expected_length: str | None = None
    reference_answer: str | None = None
    """The known right answer, where the pool has one."""

    @classmethod
    def new(
        cls,
        *,
        messages: Sequence[Message],
        source: str,
        category: str | None = None,
        reference_answer: str | None = None,
    ) -> Self:
        """Makes an instruction whose id is derived from its conversation alone."""
        ident = content_id("ins", [[m.role, m.content] for m in messages])
        return cls(
            id=ident,
            messages=tuple(messages),
            source=source,
            category=category,
            reference_answer=reference_answer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """Which weights did something.

    Example: `ModelRef(name="embedded:smollm2-135m-instruct", iteration=0, fingerprint="9f3c…")`
    """

    name: str
    iteration: int
    """0 is the seed model, t the model trained by iteration t."""
    fingerprint: str
    """Digest of the checkpoint's content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer of a model to an instruction.

    Example: `Response(id="res-a1…", instruction_id="ins-4b…", text="4", model=ModelRef(…),
    draw=0, finish_reason="stop", num_tokens=2)`
    """

    id: str
    instruction_id: str
    text: str
    model: ModelRef
    draw: int
    finish_reason: str
    num_tokens: int

    @classmethod
    def new(
        cls,
        *,
        instruction_id: str,
        text: str,
        model: ModelRef,
        draw: int,
        finish_reason: str,
        num_tokens: int,
    ) -> Self:
        ident = content_id("res", instruction_id, text, model.fingerprint, draw)
        return cls(
            id=ident,
            instruction_id=instruction_id,
            text=text,
            model=model,
            draw=draw,
            finish_reason=finish_reason,
            num_tokens=num_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredInstruction:
    """An instruction with its baseline answer: what `respond` writes and `corrupt` reads.

    Example: `AnsweredInstruction(id="ans-77…", instruction=Instruction(…),
    response=Response(…))`
    """

    id: str
    instruction: Instruction
    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePair:
    """Two answers to one instruction of which the better is known by construction.

    Example: `ResponsePair(id="pair-0c…", messages=(Message(…),), instruction_id="ins-4b…",
    chosen="Paris.", rejected="Lyon is …", corruption="modified_instruction",
    modified_instruction="What is the capital of Spain?", chosen_id="res-a1…",
    rejected_id="res-b7…", source="pool.jsonl", category="open_qa")`
    """

    id: str
    instruction_id: str
    messages: Conversation
    chosen: str
    rejected: str
    corruption: str
    """A `Corruption` value, a kind of `judging.perturbations`, or the subset of a labelled pair."""
    modified_instruction: str | None = None
    chosen_id: str | None = None
    rejected_id: str | None = None
    source: str = ""
    category: str | None = None
    meta: str | None = None
    """JSON of what a labelled pair's file says of it besides; benchmark protocols read it."""
    source_id: str | None = None
    """Of a labelled pair: the `id` of the file's row."""

    @classmethod
    def new(
        cls,
        *,
        instruction_id: str,
        messages: Sequence[Message],
        chosen: str,
        rejected: str,
        corruption: str,
        modified_instruction: str | None = None,
        chosen_id: str | None = None,
        rejected_id: str | None = None,
        source: str = "",
        category: str | None = None,
        meta: str | None = None,
        source_id: str | None = None,
    ) -> Self:
        ident = content_id(
            "pair", [[m.role, m.content] for m in messages], chosen, rejected, corruption
        )
        return cls(
            id=ident,
            instruction_id=instruction_id,
            messages=tuple(messages),
            chosen=chosen,
            rejected=rejected,
            corruption=corruption,
            modified_instruction=modified_instruction,
            chosen_id=chosen_id,
            rejected_id=rejected_id,
            source=source,
            category=category,
            meta=meta,
            source_id=source_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The parsed content of a judgment; a failed one has an outcome and no value.

    Example: `Verdict(outcome="choice", choice="first", probability_first=0.83)`
    """

    outcome: Outcome
    choice: Literal["first", "second"] | None = None
    score: float | None = None
    probability_first: float | None = None
    """P(first) from the verdict token's log-probabilities, where they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """One reading of a pair by a judge, with its raw text.

    Example: `Judgment(id="jud-3d…", pair_id="pair-0c…", judge=ModelRef(…),
    rubric_id="pairwise_verdict_only", position="chosen_first", draw=0, text="A",
    finish_reason="stop", num_tokens=1, num_prompt_tokens=311, verdict=Verdict(…))`
    """

    id: str
    pair_id: str
    judge: ModelRef
    rubric_id: str
    position: Position
    draw: int
    text: str
    finish_reason: str
    num_tokens: int
    num_prompt_tokens: int
    verdict: Verdict

    @property
    def gold(self) -> Literal["first", "second"]:
        """The position of the response known to be better."""
        return "first" if self.position is Position.CHOSEN_FIRST else "second"

    @property
    def is_right(self) -> bool:
        """True where the verdict is a choice and names the better response."""
        return self.verdict.outcome is Outcome.CHOICE and self.verdict.choice == self.gold

    @classmethod
    def new(
        cls,
        *,
        pair_id: str,
        judge: ModelRef,
        rubric_id: str,
        position: Position,
        draw: int,
        text: str,
        finish_reason: str,
        num_tokens: int,
        num_prompt_tokens: int,
        verdict: Verdict,
    ) -> Self:
        ident = content_id("jud", pair_id, judge.fingerprint, rubric_id, position.value, draw)
        return cls(
            id=ident,
            pair_id=pair_id,
            judge=judge,
            rubric_id=rubric_id,
            position=position,
            draw=draw,
            text=text,
            finish_reason=finish_reason,
            num_tokens=num_tokens,
            num_prompt_tokens=num_prompt_tokens,
            verdict=verdict,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingExample:
    """What SFT reads: the loss falls on the target only.

    Example: `TrainingExample(id="exa-9e…", messages=(Message(…),), target="A",
    pair_id="pair-0c…", judgment_id="jud-3d…", gold="first", counter_target="B")`
    """

    id: str
    messages: Conversation
    target: str
    pair_id: str
    """The pair, instruction or group of responses it is about."""
    judgment_id: str | None
    gold: Literal["first", "second"] | None = None
    """The right verdict, where the target is a verdict on a pair."""
    counter_target: str | None = None
    """The same text with the other verdict: lets training measure verdict accuracy."""
    ended: bool = True
    """False where the target was cut: the end of the turn is then no part of what is learnt."""
    verdict_margin: float | None = None
    """How sure the judge was of the right verdict on the pair, over both orders
    (`judging/margins.py`); None where it was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """What DPO reads: one prompt, a chosen and a rejected completion.

    Example: `Preference(id="pre-12…", messages=(Message(…),), chosen="A", rejected="B",
    pair_id="pair-0c…", chosen_id="jud-3d…", rejected_id="jud-77…", gold="first")`
    """

    id: str
    messages: Conversation
    chosen: str
    rejected: str
    pair_id: str
    """The pair or instruction it is about."""
    chosen_id: str
    rejected_id: str
    gold: Literal["first", "second"] | None = None
    """The right verdict, where the completions are verdicts on a pair."""
    chosen_score: float | None = None
    rejected_score: float | None = None
    label_confidence: float = 1.0
    """Weight of the preference as it stands; the rest, up to 1, is the weight of its opposite
    (arXiv 2410.12735)."""
    chosen_ended: bool = True
    """False where the completion was cut: nobody drew an end of the turn behind it."""
    rejected_ended: bool = True
    verdict_margin: float | None = None
    """As in `TrainingExample`."""

    @property
    def score_margin(self) -> float | None:
        """Chosen minus rejected score, where both are known."""
        if self.chosen_score is None or self.rejected_score is None:
            return None
        return self.chosen_score - self.rejected_score


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedRow:
    """A row that left the run, and why.

    Example: `DroppedRow(row_id="ins-4b…", stage="respond", reason="truncated_response",
    detail="finish_reason length after 256 tokens")`
    """

    row_id: str
    stage: str
    reason: DropReason
    detail: str = ""
