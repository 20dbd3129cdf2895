"""What a labelled row says besides, its `meta`: an object, or the text of one."""

import json
from collections.abc import Mapping
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


def meta_text(value: Any) -> str | None:
    """`meta` as the JSON that a pair is stored with."""
    if value is None:
        return None
    said = parse_meta(value)
    return clean_text(json.dumps(said, ensure_ascii=False, sort_keys=True, default=str))


def read_meta_text(text: str | None) -> dict[str, Any] | None:
    """The object that a stored pair's `meta` is; None where it says nothing or something else."""
    value = parse_meta(json.loads(text)) if text else None
    return value if isinstance(value, dict) else None
