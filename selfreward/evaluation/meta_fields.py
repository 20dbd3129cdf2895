"""Fields of a row's `meta` that benchmarks read, each checked and made what it is meant to be."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from selfreward.errors import DataError
from selfreward.metrics.protocols.rm_bench import STYLES

Meta = Mapping[str, dict[str, Any]]
"""By pair id: the `meta` of the file's row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaField:
    """One field: how its value is read, and what messages say it should be.

    Example: `MetaField(read=_count, wanted="a whole number of at least 0")`
    """

    read: Callable[[Any], Any]
    """Gives the value, or None for one that does not fit."""
    wanted: str
    is_required: bool = True
    """Otherwise all rows have it or none."""


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    # Parquet makes floats of whole numbers in a column where one is missing.
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def _turn(value: Any) -> int | None:
    number = _count(value)
    return number if number in (1, 2) else None


def _style(value: Any) -> str | None:
    return value if isinstance(value, str) and value in STYLES else None


TEXT = MetaField(read=_text, wanted="a text or a whole number")
COUNT = MetaField(read=_count, wanted="a whole number of at least 0")
TURN = MetaField(read=_turn, wanted="1 or 2")
STYLE = MetaField(read=_style, wanted=f"one of {', '.join(STYLES)}")
OPTIONAL_NUMBER = MetaField(read=_number, wanted="a number", is_required=False)


def problem_of(meta: Mapping[str, Any], fields: Mapping[str, MetaField]) -> str | None:
    """What is wrong with the first field of a row's `meta` that does not fit; None if all do."""
    missing = [name for name, f in fields.items() if f.is_required and name not in meta]
    if missing:
        return f"meta lacks {', '.join(missing)}"
    for name, field in fields.items():
        if name not in meta or (meta[name] is None and not field.is_required):
            continue
        if field.read(meta[name]) is None:
            said = "null" if meta[name] is None else repr(meta[name])
            return f"meta.{name} is {said[:80]} and should be {field.wanted}"
    return None


def uneven(metas: Iterable[Mapping[str, Any]], fields: Mapping[str, MetaField]) -> str | None:
    """What is wrong where an optional field is given to some pairs only; None where none is."""
    rows = list(metas)
    for name, field in fields.items():
        without = sum(row.get(name) is None for row in rows)
        if not field.is_required and 0 < without < len(rows):
            return (
                f"{without} of {len(rows)} pairs have no meta.{name}: give it to all of them or to"
                " none"
            )
    return None


def values_of(
    meta: Meta, pair_id: str, fields: Mapping[str, MetaField], needed: str
) -> dict[str, Any]:
    """The fields of one pair as they are meant; an optional one that is missing is None.

    Raises:
        DataError: a field is missing or of another type; the line ends with `needed`.
    """
    row = meta.get(pair_id, {})
    problem = problem_of(row, fields)
    if problem is not None:
        raise DataError(f"{pair_id}: {problem}; {needed}")
    return {
        name: None if row.get(name) is None else field.read(row[name])
        for name, field in fields.items()
    }
