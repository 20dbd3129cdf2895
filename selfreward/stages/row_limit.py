"""Which rows of a file are read where it is to give only so many.

Files of benchmarks are sorted, by subset or by prompt: their first rows are one subset of it, of a
few prompts. So rows are drawn by a hash of what they say: for measuring, the same for every judge.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from selfreward.errors import DataError
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
    setting: str = "--max-rows"
    """What to raise where no prompt fits."""
    seed: int = 0

    @property
    def recipe(self) -> dict[str, Any]:
        """What says which rows are kept; not what messages call it."""
        return {"rows": self.rows, "whole_prompts": self.whole_prompts, "seed": self.seed}


def limited(rows: Sequence[_Row], limit: RowLimit | None) -> list[_Row]:
    """Returns the rows that are kept, in the order of `rows`.

    Whole prompts are drawn until no further one fits. The draw follows from the seed and what the
    rows say: in another order they give the same ones.

    Raises:
        DataError: every prompt has more rows than may be kept, and they stay together.
    """
    if limit is None or len(rows) <= limit.rows:
        return list(rows)
    prompts: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        prompts[exact_key(row.messages)].append(row)
    drawn = [prompts[key] for key in sorted(prompts, key=lambda key: _place(key, limit))]
    chosen = _whole(drawn, limit) if limit.whole_prompts else _spread(drawn, limit)
    ids = {row.id for row in chosen}
    return [row for row in rows if row.id in ids]


def _whole(prompts: Sequence[Sequence[_Row]], limit: RowLimit) -> list[_Row]:
    least = min(map(len, prompts))
    if least > limit.rows:
        raise DataError(
            f"{limit.setting}={limit.rows} is less than the rows of any one prompt, which stay"
            f" together; set it to {least} or more"
        )
    chosen: list[_Row] = []
    for rows in prompts:
        if len(chosen) + len(rows) <= limit.rows:
            chosen.extend(rows)
    return chosen


def _spread(prompts: Sequence[Sequence[_Row]], limit: RowLimit) -> list[_Row]:
    of_prompt = [sorted(rows, key=lambda row: _place(row.id, limit)) for rows in prompts]
    longest = max(map(len, of_prompt))
    return [rows[k] for k in range(longest) for rows in of_prompt if k < len(rows)][: limit.rows]


def _place(key: str, limit: RowLimit) -> tuple[int, str]:
    return derived_seed(limit.seed, "row limit", key), key
