"""Says in one line what is wrong with a request that does not fit its schema.

A value that may be of several kinds is reported by pydantic once for each kind, under a path that
holds the kinds' names too. Here the path is the one in the caller's own JSON, and only the kind
that the caller most likely meant is spoken of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_SHOWN = 3
"""Faults told in one message; more are counted."""
MAX_PART = 60
MAX_TEXT = 200

_Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """One fault of a body.

    Example: `_Fault(place=("prompt", 0, "role"), kinds=((("prompt",), "list[ChatMessage]"),),
    type="literal_error", text="Input should be 'system', 'user' or 'assistant'")`
    """

    place: _Place
    """In the caller's JSON."""
    kinds: tuple[tuple[_Place, str], ...]
    """Which kind was tried where, from the outside in."""
    type: str
    """Pydantic's word for the fault."""
    text: str


def one_line(text: str, limit: int = MAX_TEXT) -> str:
    """Returns a text in one line of at most `limit` characters that any encoding can carry."""
    whole = text[: limit * 4].encode("utf-8", "replace").decode()
    line = " ".join("".join(c if c.isprintable() else " " for c in whole).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def describe(errors: Sequence[Mapping[str, Any]], body: object) -> tuple[str, str | None]:
    """Returns a message and the dotted path of the first fault, None for the body as a whole.

    Inputs are not echoed, but for names of fields, shortened.

    Args:
        errors: as `RequestValidationError.errors()` gives them.
        body: the decoded JSON that was refused.
    """
    faults = _likeliest([_read(error, body) for error in errors], level=0)
    lines = []
    for fault in faults[:MAX_SHOWN]:
        path = _dotted(fault.place)
        lines.append(f"{path}: {fault.text}" if path else fault.text)
    left = len(faults) - MAX_SHOWN
    more = f"; and {left} more" if left > 0 else ""
    return "; ".join(lines) + more, _dotted(faults[0].place) or None


def _read(error: Mapping[str, Any], body: object) -> _Fault:
    source, *parts = error["loc"]
    place: list[str | int] = []
    kinds: list[tuple[_Place, str]] = []
    current = body
    for number, part in enumerate(parts):
        missing = error["type"] == "missing" and number == len(parts) - 1
        if source != "body" or missing:
            place.append(part)
        elif (isinstance(current, dict) and part in current) or (
            isinstance(current, list) and isinstance(part, int) and part < len(current)
        ):
            place.append(part)
            current = current[part]
        else:
            kinds.append((tuple(place), str(part)))
    text = one_line(str(error["msg"]).removeprefix("Value error, "))
    return _Fault(place=tuple(place), kinds=tuple(kinds), type=str(error["type"]), text=text)


def _likeliest(faults: list[_Fault], level: int) -> list[_Fault]:
    """Keeps, wherever several kinds were tried, the faults of the one with the fewest; a value of
    quite another JSON type was not meant to be of that kind."""
    kept = [fault for fault in faults if len(fault.kinds) == level]
    tried: dict[_Place, dict[str, list[_Fault]]] = {}
    for fault in faults:
        if len(fault.kinds) > level:
            place, kind = fault.kinds[level]
            tried.setdefault(place, {}).setdefault(kind, []).append(fault)
    for place, kinds in tried.items():
        groups = [_likeliest(group, level + 1) for group in kinds.values()]
        ranks = [_unlikeliness(group, place) for group in groups]
        kept += groups[ranks.index(min(ranks))]
    return kept


def _unlikeliness(group: list[_Fault], place: _Place) -> tuple[bool, int]:
    first = group[0]
    is_other_type = len(group) == 1 and first.place == place and first.type.endswith("_type")
    return is_other_type, len(group)


def _dotted(place: _Place) -> str:
    return one_line(".".join(one_line(str(part), MAX_PART) for part in place))
