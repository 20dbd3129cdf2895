"""Rows of an export, in TRL's conversational formats where there are such: a prompt is a list of
turns, a completion a list with the assistant's one turn."""

from typing import Any

from selfreward.records import Conversation, Instruction, Judgment, Preference, TrainingExample
from selfreward.records_scores import Rating

Row = dict[str, Any]

TURNS = "turns"
COLUMNS: dict[str, dict[str, str]] = {
    "preferences": {
        "id": "string",
        "kind": "string",
        "prompt": TURNS,
        "chosen": TURNS,
        "rejected": TURNS,
        "score_chosen": "float64",
        "score_rejected": "float64",
        "label_confidence": "float64",
        "chosen_ended": "bool",
        "rejected_ended": "bool",
        "verdict_margin": "float64",
    },
    "sft": {
        "id": "string",
        "kind": "string",
        "prompt": TURNS,
        "completion": TURNS,
        "ended": "bool",
        "verdict_margin": "float64",
    },
    "instructions": {
        "id": "string",
        "prompt": TURNS,
        "source": "string",
        "category": "string",
        "reference_answer": "string",
    },
    "judgments": {
        "id": "string",
        "kind": "string",
        "about": "string",
        "judge": "string",
        "judge_iteration": "int64",
        "judge_fingerprint": "string",
        "rubric": "string",
        "position": "string",
        "draw": "int64",
        "text": "string",
        "finish_reason": "string",
        "num_tokens": "int64",
        "outcome": "string",
        "choice": "string",
        "score": "float64",
        "probability_first": "float64",
        "is_right": "bool",
    },
}
"""What each export holds, by column."""


def row_of(what: str, record: Any, kind: str) -> Row:
    """The row that an export makes of a record; `kind` says what it is about."""
    if what == "preferences":
        return _preference(record, kind)
    if what == "sft":
        return _example(record, kind)
    if what == "judgments":
        return _judgment(record, kind)
    return _instruction(record if isinstance(record, Instruction) else record.instruction)


def _turns(messages: Conversation) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _example(record: TrainingExample, kind: str) -> Row:
    return {
        "id": record.id,
        "kind": kind,
        "prompt": _turns(record.messages),
        "completion": _answer(record.target),
        "ended": record.ended,
        "verdict_margin": record.verdict_margin,
    }


def _preference(record: Preference, kind: str) -> Row:
    return {
        "id": record.id,
        "kind": kind,
        "prompt": _turns(record.messages),
        "chosen": _answer(record.chosen),
        "rejected": _answer(record.rejected),
        "score_chosen": record.chosen_score,
        "score_rejected": record.rejected_score,
        "label_confidence": record.label_confidence,
        "chosen_ended": record.chosen_ended,
        "rejected_ended": record.rejected_ended,
        "verdict_margin": record.verdict_margin,
    }


def _instruction(record: Instruction) -> Row:
    return {
        "id": record.id,
        "prompt": _turns(record.messages),
        "source": record.source,
        "category": record.category,
        "reference_answer": record.reference_answer,
    }


def _judgment(record: Judgment | Rating, kind: str) -> Row:
    if isinstance(record, Judgment):
        about, position = record.pair_id, record.position.value
        # Only of a constructed pair is the better response known.
        known = kind == "pair" and record.verdict.choice is not None
        is_right = record.is_right if known else None
    else:
        about, position, is_right = record.response_id, None, None
    verdict = record.verdict
    return {
        "id": record.id,
        "kind": kind,
        "about": about,
        "judge": record.judge.name,
        "judge_iteration": record.judge.iteration,
        "judge_fingerprint": record.judge.fingerprint,
        "rubric": record.rubric_id,
        "position": position,
        "draw": record.draw,
        "text": record.text,
        "finish_reason": record.finish_reason,
        "num_tokens": record.num_tokens,
        "outcome": verdict.outcome.value,
        "choice": verdict.choice,
        "score": verdict.score,
        "probability_first": verdict.probability_first,
        "is_right": is_right,
    }
