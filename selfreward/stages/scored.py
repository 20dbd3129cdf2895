"""Files of scored responses, {messages | prompt, response, score, scale}, as records."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from selfreward.config import ColumnsConfig
from selfreward.errors import DataError
from selfreward.records import DroppedRow, DropReason
from selfreward.records_scores import ScoredResponse
from selfreward.stages.in_training import NO_TRAINING, InTraining
from selfreward.stages.labelled import already_known, nothing_usable, write_rows
from selfreward.stages.labelled_meta import meta_text, row_id_of
from selfreward.stages.labelled_rows import (
    SCORED,
    FileReading,
    check_names,
    column_hint,
    has_lists,
    renamed,
)
from selfreward.stages.row_limit import RowLimit, limited
from selfreward.stages.sources import clean_text, to_instruction
from selfreward.storage.shards import ShardSummary

WRITER = "model"
"""The column, or key of `meta`, with the model that wrote a scored response."""
_NUMBER = r"-?\d+(?:\.\d+)?"
_SCALE = re.compile(rf"\s*({_NUMBER})\s*(?:-|\u2013|to|\.\.)\s*({_NUMBER})")


def is_scored(row: Mapping[str, Any]) -> bool:
    """Whether a row holds scored responses and no pair: one with its score, or lists of right and
    wrong ones."""
    return ("score" in row and "response" in row) or has_lists(row)


def parse_scale(value: Any) -> tuple[float, float] | None:
    """Least and greatest score of a scale: `[1, 5]`, or text that begins like `1-5`."""
    if isinstance(value, list | tuple) and len(value) == 2:
        try:
            low, high = float(value[0]), float(value[1])
        except (TypeError, ValueError):
            return None
    else:
        found = _SCALE.match(str(value))
        if found is None:
            return None
        low, high = float(found[1]), float(found[2])
    return (low, high) if low < high else None


def build_scored(
    path: str,
    folder: str,
    shard_size: int,
    limit: RowLimit | None,
    max_chars: int,
    columns: Mapping[str, str] | None = None,
    trained: InTraining = NO_TRAINING,
    reading: FileReading = SCORED,
) -> list[ShardSummary]:
    """Writes the scored responses of one file as shards; `columns` maps our names to its own.

    A response to a prompt in `trained` is dropped: a model knows its task.

    Raises:
        DataError: the file is unreadable, lacks the columns, or holds no usable row.
    """
    rows, dropped = read_scored(path, limit, max_chars, columns, trained, reading)
    summaries: Iterator[ShardSummary] = write_rows(
        folder, rows, dropped, shard_size, ScoredResponse
    )
    return list(summaries)


def read_scored(
    path: str,
    limit: RowLimit | None,
    max_chars: int,
    columns: Mapping[str, str] | None = None,
    trained: InTraining = NO_TRAINING,
    reading: FileReading = SCORED,
) -> tuple[list[ScoredResponse], list[DroppedRow]]:
    """Returns the scored responses of one file, and its rows that cannot be used.

    Raises:
        DataError: the file is unreadable, lacks the columns, or holds no usable row.
    """
    rows: list[ScoredResponse] = []
    dropped: list[DroppedRow] = []
    seen: set[str] = set()
    known = trained.keys()
    source = path.rstrip("/").rpartition("/")[2]
    found: set[str] = set()
    fits = False
    for raw in reading.rows(path, dropped):
        found.update(raw)
        row = renamed(raw, columns or {})
        fits = fits or has_lists(row) or (is_scored(row) and "scale" in row)
        for one in _single_responses(row):
            made = _scored(one, source, max_chars)
            if isinstance(made, ScoredResponse):
                made = already_known(made.id, made.messages, "row", seen, known) or made
            if isinstance(made, ScoredResponse):
                seen.add(made.id)
                rows.append(made)
            else:
                dropped.append(made)
    check_names(found, columns or {}, path, reading.names)
    if found and not fits:
        raise DataError(
            f"{path}: scored responses need the columns messages (or prompt), response, score"
            f" and scale; it has {sorted(found)}{column_hint(reading.names, 'response')}"
        )
    if not rows:
        raise nothing_usable(path, "scored response", dropped)
    return limited(rows, limit), dropped


def _single_responses(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row itself, or one row a response of its lists: right ones score 1, wrong ones 0."""
    if not has_lists(row):
        return [row]
    return [
        row | {"response": text, "score": score, "scale": [0, 1], "group": row.get("id")}
        for side, score in (("chosen", 1), ("rejected", 0))
        for text in row[side]
    ]


def _scored(row: dict[str, Any], source: str, max_chars: int) -> ScoredResponse | DroppedRow:
    found = to_instruction(row, ColumnsConfig(), source, max_chars)
    if isinstance(found, DroppedRow):
        return _drop(found.row_id, found.reason, found.detail)
    missing = [name for name in ("response", "score", "scale") if name not in row]
    if missing:
        return _drop(found.id, DropReason.MISSING_COLUMN, f"no {' and no '.join(missing)}")
    text = row["response"]
    if not isinstance(text, str) or not text.strip():
        return _drop(found.id, DropReason.EMPTY_RESPONSE, "the response has no text")
    scale = parse_scale(row["scale"])
    try:
        score = float(row["score"])
    except (TypeError, ValueError):
        return _drop(found.id, DropReason.BAD_SCORE, f"score {row['score']!r} is no number")
    if scale is None or not scale[0] <= score <= scale[1]:
        detail = f"score {score:g} on the scale {row['scale']!r}"
        return _drop(found.id, DropReason.BAD_SCORE, detail)
    return ScoredResponse.new(
        messages=found.messages,
        response=clean_text(text.strip()),
        score=score,
        low=scale[0],
        high=scale[1],
        group=None if row.get("group") is None else str(row["group"]),
        subset=str(row.get("subset") or ""),
        source=found.source,
        meta=meta_text(row, (WRITER,)),
        source_id=row_id_of(row),
    )


def _drop(row_id: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row_id, stage="labelled", reason=reason, detail=detail)
