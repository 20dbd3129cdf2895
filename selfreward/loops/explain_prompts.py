"""The prompt behind a reading or a created instruction, rendered again from the records.

Prompts are not stored: they follow from the records and a rubric. A rubric whose words have changed
since gives the prompt as it would be today.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import pyarrow as pa

from selfreward.errors import ConfigError
from selfreward.judging.meta_judging import get_meta_rubric, render_meta
from selfreward.judging.pointwise import get_pointwise_rubric, render_pointwise
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.judging.selection import judged_prompt
from selfreward.judging.self_instruct import render_creation
from selfreward.records import Conversation, Message, Position, ResponsePair
from selfreward.records_self_rewarding import RatingPair
from selfreward.reports.lineage import Entry, Shown
from selfreward.schemas import from_table, schema_of, to_row

RecordT = TypeVar("RecordT")

READINGS = ("Judgment", "Rating")
WRITTEN = ("CreationPrompt", "CreatedInstruction")


def prompt_of(
    target: str, entries: tuple[Entry, ...], shown: Mapping[str, Shown]
) -> list[dict[str, str]] | None:
    """What a judge or a writer of instructions was shown; None for anything else."""
    made = next((e for e in entries if e.id == target and e.record in (*READINGS, *WRITTEN)), None)
    if made is None:
        return None
    try:
        if made.record in WRITTEN:
            messages = _creation_prompt(made, shown)
        elif made.record == "Judgment":
            messages = _judgment_prompt(made, entries)
        else:
            messages = _rating_prompt(made, entries)
    except ConfigError as unknown:  # the rubric is in a file of the user's
        return [{"role": "system", "content": f"(cannot be rendered: {unknown})"}]
    return None if messages is None else [to_row(m) for m in messages]


def _creation_prompt(made: Entry, shown: Mapping[str, Shown]) -> Conversation | None:
    examples = [shown.get(shot) for shot in made.row["shot_ids"]]
    texts = [e.messages[0]["content"] for e in examples if e is not None]
    return render_creation(texts) if len(texts) == len(examples) else None


def _record(row: dict[str, Any], record: type[RecordT]) -> RecordT:
    kind: type = record
    (made,) = from_table(pa.Table.from_pylist([row], schema=schema_of(kind)), record)
    return made


def _judgment_prompt(reading: Entry, entries: tuple[Entry, ...]) -> Conversation | None:
    about, rubric = reading.row["pair_id"], reading.row["rubric_id"]
    position = Position(reading.row["position"])
    for entry in entries:
        if entry.id == about and entry.record == "ResponsePair":
            pair = _record(entry.row, ResponsePair)
            return judged_prompt(get_pairwise_rubric(rubric), pair, position)
        if entry.id == about and entry.record == "RatingPair":
            two = _record(entry.row, RatingPair)
            meta = get_meta_rubric(rubric)
            return render_meta(meta, two.response, two.first, two.second, position)
    return None


def _rating_prompt(reading: Entry, entries: tuple[Entry, ...]) -> Conversation | None:
    wanted = reading.row["response_id"]
    texts: dict[str, tuple[Any, str]] = {}
    for entry in entries:
        row = entry.row
        if entry.record == "ScoredResponse":
            texts[row["id"]] = (row["messages"], row["response"])
        elif entry.record in ("AnsweredInstruction", "SampledInstruction"):
            for response in row["responses"] if "responses" in row else [row["response"]]:
                texts[response["id"]] = (row["instruction"]["messages"], response["text"])
    if wanted not in texts:
        return None
    messages, text = texts[wanted]
    rubric = get_pointwise_rubric(reading.row["rubric_id"])
    return render_pointwise(rubric, tuple(Message(**m) for m in messages), text)
