"""A part of a file's scored responses: whole prompts, since a cut ranking is another ranking."""

from collections.abc import Sequence

from selfreward.errors import DataError
from selfreward.judging.filters import exact_key
from selfreward.records import derived_seed
from selfreward.records_scores import ScoredResponse


def sample_whole_prompts(
    rows: Sequence[ScoredResponse], max_rows: int | None, seed: int, setting: str
) -> list[ScoredResponse]:
    """Returns the rows of prompts drawn at random until no further one fits `max_rows`, in the
    order of `rows`; all of them for None.

    The draw follows from `seed` and the prompts' words: the same rows in another order give the
    same prompts.

    Raises:
        DataError: every prompt has more responses; the message names `setting`.
    """
    if max_rows is None or len(rows) <= max_rows:
        return list(rows)
    sizes: dict[str, int] = {}
    keys = [exact_key(row.messages) for row in rows]
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    if min(sizes.values()) > max_rows:
        raise DataError(
            f"{setting}={max_rows} is less than the responses to any one prompt, which stay"
            f" together; set it to {min(sizes.values())} or more"
        )
    kept: set[str] = set()
    room = max_rows
    for key in sorted(sizes, key=lambda k: (derived_seed(seed, "whole prompts", k), k)):
        if sizes[key] <= room:
            kept.add(key)
            room -= sizes[key]
    return [row for row, key in zip(rows, keys, strict=True) if key in kept]
