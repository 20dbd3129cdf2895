"""Which rows of a file are measured where it is to give only so many.

Files of benchmarks are sorted, by subset or by prompt: their first rows are one subset of it, of a
few prompts. So rows are drawn by a hash of what they say, the same ones for every judge.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from selfreward.judging.filters import exact_key
from selfreward.records import Message, derived_seed


class Prompted(Protocol):
    """A record of a file: it has an id and a prompt."""

    @property
    def id(self) -> str: ...

    @property
    def messages(self) -> Sequence[Message]: ...


_Row = TypeVar("_Row", bound=Prompted)


@dataclass(frozen=True, slots=True)
class RowLimit:
    """At most `rows` rows of each file.

    Example: `RowLimit(100, whole_prompts=True)`
    """

    rows: int
    whole_prompts: bool = False
    """Every row of a prompt or none, for figures over a prompt's rows. False: one row of each
    prompt comes before a second one of any: rows of one prompt say less than those of several."""


def limited(rows: Sequence[_Row], limit: RowLimit | None) -> list[_Row]:
    """Returns the rows that are measured, in the order of `rows`.

    Whole prompts are taken as long as they fit; of a first one that is too long, its first rows.
    """
    if limit is None or len(rows) <= limit.rows:
        return list(rows)
    prompts: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        prompts[exact_key(row.messages)].append(row)
    drawn = [prompts[key] for key in sorted(prompts, key=_place)]
    chosen = _whole(drawn, limit.rows) if limit.whole_prompts else _spread(drawn, limit.rows)
    ids = {row.id for row in chosen}
    return [row for row in rows if row.id in ids]


def _whole(prompts: Sequence[Sequence[_Row]], wanted: int) -> list[_Row]:
    chosen: list[_Row] = []
    for rows in prompts:
        if chosen and len(chosen) + len(rows) > wanted:
            break
        chosen.extend(rows)
    return chosen[:wanted]


def _spread(prompts: Sequence[Sequence[_Row]], wanted: int) -> list[_Row]:
    of_prompt = [sorted(rows, key=lambda row: _place(row.id)) for rows in prompts]
    longest = max(map(len, of_prompt))
    return [rows[k] for k in range(longest) for rows in of_prompt if k < len(rows)][:wanted]


def _place(key: str) -> tuple[int, str]:
    return derived_seed("row limit", key), key
