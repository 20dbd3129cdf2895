"""Cutting label and category counts to size, without ever holding all rows in one place.

Each row has a rank that depends on its id alone. One pass over the shards collects ranks, a pure
function turns them into one cut-off per label, a second pass keeps the rows below it: the same
rows, however they are sharded.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Gold = Literal["first", "second"]

RANK_BITS = 63  # fits a signed 64-bit column
NOTHING = -1
"""A cut-off below every rank."""


def balance_rank(example_id: str) -> int:
    """Returns the row's place in a random order: 63 bits of the SHA-256 of its id."""
    digest = hashlib.sha256(example_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - RANK_BITS)


def paired_ranks(rows: Sequence[tuple[str, str, Gold]]) -> dict[str, int]:
    """Returns the rank of each row, given as (id, pair id, label): whole pairs come first.

    The k-th row of a pair with one label and its k-th with the other share a rank in the lower
    half of the range; rows without such a partner follow in the upper half. Cut-offs by these
    ranks keep both orders of a pair or neither as far as the counts allow, and a batch with both
    orders of a pair teaches nothing about positions (arXiv 2505.10320). All rows of a
    pair must be given together.
    """
    by_pair: dict[str, dict[Gold, list[str]]] = {}
    for ident, pair_id, gold in rows:
        by_pair.setdefault(pair_id, {"first": [], "second": []})[gold].append(ident)
    half = 1 << (RANK_BITS - 1)
    ranks = {}
    for pair_id, labels in by_pair.items():
        num_whole = min(len(idents) for idents in labels.values())
        for idents in labels.values():
            for number, ident in enumerate(sorted(idents)):
                rank = balance_rank(f"{pair_id}/{number}") >> 1
                ranks[ident] = rank if number < num_whole else half + rank
    return ranks


def _smallest(ranks: npt.NDArray[np.int64], count: int) -> int:
    """Returns the `count`-th smallest rank."""
    if count == 0:
        return NOTHING
    cutoff = int(np.partition(ranks, count - 1)[count - 1])
    if np.count_nonzero(ranks <= cutoff) != count:
        raise ValueError("two rows of one label have the same rank: their ids must be unique")
    return cutoff


def balance_ranks(
    first_ranks: npt.NDArray[np.int64], second_ranks: npt.NDArray[np.int64]
) -> dict[Gold, int]:
    """Returns for each label the largest rank kept, so that both keep min(count) rows exactly.

    The arrays are 1-d and unsorted. A label without rows leaves nothing of the other (cut-off -1).
    Raises ValueError where a label's ranks repeat.
    """
    count = min(len(first_ranks), len(second_ranks))
    return {"first": _smallest(first_ranks, count), "second": _smallest(second_ranks, count)}


def balance_threshold(golds: Sequence[Gold], ids: Sequence[str]) -> dict[Gold, int]:
    """Returns the cut-offs of `balance_ranks` for rows given by label and id.

    Down-sampling the larger label is the paper's balancing (arXiv 2408.02666, section 3.2).
    """
    ranks: dict[Gold, list[int]] = {"first": [], "second": []}
    for gold, ident in zip(golds, ids, strict=True):
        ranks[gold].append(balance_rank(ident))
    first, second = (np.array(ranks[g], dtype=np.int64) for g in ("first", "second"))
    return balance_ranks(first, second)


def kept(gold: Gold, example_id: str, thresholds: Mapping[Gold, int]) -> bool:
    """Whether a row survives balancing."""
    return balance_rank(example_id) <= thresholds[gold]


def balance_categories(counts: Mapping[str, int], max_ratio: float) -> dict[str, int]:
    """Returns how many rows each category may keep: at most `max_ratio` times the rarest one.

    Categories without rows are not the rarest one. Raises ValueError for a ratio below 1.
    """
    if max_ratio < 1:
        raise ValueError(f"max_ratio must be at least 1, not {max_ratio}")
    present = [count for count in counts.values() if count > 0]
    if not present:
        return dict.fromkeys(counts, 0)
    quota = math.inf if math.isinf(max_ratio) else math.floor(max_ratio * min(present))
    return {name: int(min(count, quota)) for name, count in counts.items()}
