"""What a labelled row says besides: its `meta`, an object or the text of one, and its own `id`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from selfreward.stages.sources import clean_text


def parse_meta(value: Any) -> Any:
    """`meta` as it is meant: text that holds a JSON object is that object, as Parquet files often
    store it; everything else stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, dict) else value


def meta_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `meta` of a row where it is an object or the text of one, else None."""
    value = parse_meta(row.get("meta"))
    return value if isinstance(value, dict) else None


def meta_text(row: Mapping[str, Any], writers: Sequence[str]) -> str | None:
    """The `meta` of a row as the JSON that it is stored with, with the names of its `writers` that
    stand in columns of their own; of two names that in `meta` counts."""
    said = parse_meta(row.get("meta"))
    named = {key: row[key] for key in writers if isinstance(row.get(key), str) and row[key]}
    if named and (said is None or isinstance(said, dict)):
        known = {key: name for key, name in (said or {}).items() if name is not None}
        said = {**(said or {}), **named, **known}
    if said is None:
        return None
    return clean_text(json.dumps(said, ensure_ascii=False, sort_keys=True, default=str))


def row_id_of(row: Mapping[str, Any]) -> str | None:
    """A row's own `id` as text, where it has one."""
    value = row.get("id")
    return None if value is None else clean_text(str(value))


def read_meta_text(text: str | None) -> dict[str, Any] | None:
    """The object that a stored `meta` is; None where it says nothing or something else."""
    value = parse_meta(json.loads(text)) if text else None
    return value if isinstance(value, dict) else None
