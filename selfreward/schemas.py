"""One explicit Arrow schema per record, and the only place where records become rows.

The schemas are derived from the records' type hints once, at import, so a column can never be
guessed from its values (an all-null column would otherwise be read as floats). A field that is None
by default may be younger than a file: where its column is missing, it is None.
"""

import types
from collections.abc import Collection, Iterable
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from selfreward.errors import DataError
from selfreward.records import (
    AnsweredInstruction,
    DroppedRow,
    Instruction,
    Judgment,
    Preference,
    ResponsePair,
    TrainingExample,
)
from selfreward.records_custom_llm import (
    AnswerReward,
    Document,
    Ranking,
    ScoredRanking,
    TaskAnswer,
    TaskItem,
)
from selfreward.records_scores import BestOfReading, PairScore, Rating, ScoredResponse
from selfreward.records_self_rewarding import (
    CreatedInstruction,
    CreationPrompt,
    RatingPair,
    ResponseLikelihood,
    SampledInstruction,
)

RecordT = TypeVar("RecordT")

STORED_RECORDS: dict[str, type] = {
    "Instruction": Instruction,
    "AnsweredInstruction": AnsweredInstruction,
    "ResponsePair": ResponsePair,
    "Judgment": Judgment,
    "TrainingExample": TrainingExample,
    "Preference": Preference,
    "DroppedRow": DroppedRow,
    "ScoredResponse": ScoredResponse,
    "Rating": Rating,
    "PairScore": PairScore,
    "BestOfReading": BestOfReading,
    "CreationPrompt": CreationPrompt,
    "CreatedInstruction": CreatedInstruction,
    "SampledInstruction": SampledInstruction,
    "ResponseLikelihood": ResponseLikelihood,
    "RatingPair": RatingPair,
    "Document": Document,
    "TaskItem": TaskItem,
    "Ranking": Ranking,
    "AnswerReward": AnswerReward,
    "ScoredRanking": ScoredRanking,
    "TaskAnswer": TaskAnswer,
}

_SCALARS: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Splits `X | None` into `(X, True)`; anything else into `(hint, False)`."""
    if get_origin(hint) in (Union, types.UnionType):
        kept = [a for a in get_args(hint) if a is not type(None)]
        if len(kept) != 1:
            raise TypeError(f"a record field may be one type or None, not {hint}")
        return kept[0], True
    return hint, False


def _arrow_type(hint: Any) -> pa.DataType:
    hint, _ = _without_none(hint)
    if get_origin(hint) is Literal:
        return pa.string()
    if get_origin(hint) is tuple:
        return pa.list_(_arrow_type(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return pa.string()
    if is_dataclass(hint):
        return pa.struct(list(_arrow_fields(hint)))
    return _SCALARS[hint]


def _arrow_fields(record_type: Any) -> Iterable[pa.Field]:
    hints = get_type_hints(record_type)
    for field in fields(record_type):
        nullable = _without_none(hints[field.name])[1]
        yield pa.field(field.name, _arrow_type(hints[field.name]), nullable=nullable)


@cache
def schema_of(record_type: type) -> pa.Schema:
    """Returns the Arrow schema of a record type."""
    return pa.schema(list(_arrow_fields(record_type)))


def _to_plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_to_plain(v) for v in value]
    return value


def _from_plain(hint: Any, value: Any) -> Any:
    hint, nullable = _without_none(hint)
    if value is None and nullable:
        return None
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return tuple(_from_plain(inner, v) for v in value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    if is_dataclass(hint):
        return _record_from_row(hint, value)
    return value


@cache
def _hints(record_type: Any) -> dict[str, Any]:
    return get_type_hints(record_type)


def _record_from_row(record_type: Any, row: dict[str, Any]) -> Any:
    hints = _hints(record_type)
    return record_type(
        **{name: _from_plain(hint, row[name]) for name, hint in hints.items() if name in row}
    )


@cache
def _optional_columns(record_type: Any) -> frozenset[str]:
    """Columns of what is None unless it is known: a shard written before one was added lacks it."""
    return frozenset(field.name for field in fields(record_type) if field.default is None)


def missing_columns(record_type: type, names: Collection[str]) -> list[str]:
    """The columns that a file with the columns `names` lacks to hold records of this type."""
    optional = _optional_columns(record_type)
    return [n for n in schema_of(record_type).names if n not in names and n not in optional]


def to_row(record: Any) -> dict[str, Any]:
    """Returns a record as plain nested dictionaries and lists (JSON-ready)."""
    row: dict[str, Any] = _to_plain(record)
    return row


def to_table(records: Iterable[Any], record_type: type) -> pa.Table:
    """Returns the records as an Arrow table with the explicit schema of their type."""
    return pa.Table.from_pylist([_to_plain(r) for r in records], schema=schema_of(record_type))


def from_table(table: pa.Table, record_type: type[RecordT]) -> list[RecordT]:
    """Reads records back from a table.

    Raises:
        DataError: the table lacks a column of the record that is not None by default.
    """
    missing = missing_columns(record_type, table.column_names)
    if missing:
        raise DataError(
            f"columns {missing} of {record_type.__name__} are missing; the file holds"
            f" {table.column_names}"
        )
    return [_record_from_row(record_type, row) for row in table.to_pylist()]
