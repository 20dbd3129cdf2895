"""Which rows make an optimizer step, which worker takes them, and in what pieces.

Every worker derives the whole plan from the same numbers, so workers agree on it without talking,
and an optimizer step is over the same rows whatever the number of workers.
"""

import math
import random
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, islice
from statistics import fmean

ATTENTION_TOKENS = 1600
"""Attention over so many positions costs a token as much as the rest of the model: measured with
135M weights on a CPU; half as many with 6M, where it weighs little beside the overhead."""
LOOKAHEAD = 64
"""How many groups ahead a batch looks for one that still fits."""


def _epoch_batches(groups: list[list[int]], batch_size: int) -> list[list[int]]:
    """Cuts groups into batches of exactly `batch_size`; the last may be smaller.

    A group stays whole unless it is larger than a batch or none of the next ones fits the room.
    """
    upcoming = deque(
        group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)
    )
    batches: list[list[int]] = []
    batch: list[int] = []
    while upcoming:
        room = batch_size - len(batch)
        near = enumerate(islice(upcoming, LOOKAHEAD))
        index = next((i for i, group in near if len(group) <= room), None)
        if index is None:
            first = upcoming.popleft()
            upcoming.extendleft([first[room:], first[:room]])
            index = 0
        batch += upcoming[index]
        del upcoming[index]
        if len(batch) == batch_size:
            batches.append(batch)
            batch = []
    return [*batches, batch] if batch else batches


def _hardness(margins: Sequence[float | None]) -> float:
    known = [margin for margin in margins if margin is not None]
    return -fmean(known) if known else math.inf


def plan_batches(
    pair_ids: Sequence[str],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    max_steps: int | None = None,
    margins: Sequence[float | None] | None = None,
) -> list[list[int]]:
    """Returns the row indices of each optimizer step, over all workers.

    Each epoch is a new shuffle of all rows. Rows with one `pair_id` (the two orders of a pair)
    stay in the same step where possible: a judge that answers by position then sees both sides of
    its habit in one gradient. Every step but the last of an epoch has `batch_size` rows.

    With `margins` of the rows the first epoch goes from the largest margin to the smallest, and on
    to rows that have none; equal ones stay shuffled (curriculum learning, Bengio et al. 2009). A
    pair counts by the mean of its rows. Later epochs are shuffled: the model has seen all by then,
    and would only end each of them on its hardest rows.

    Example: `plan_batches(["p", "q", "p", "q"], batch_size=2, epochs=1, seed=0)` is
    `[[0, 2], [1, 3]]` or `[[1, 3], [0, 2]]`.
    """
    by_pair: dict[str, list[int]] = {}
    for index, pair_id in enumerate(pair_ids):
        by_pair.setdefault(pair_id, []).append(index)
    steps: list[list[int]] = []
    for epoch in range(epochs):
        groups = list(by_pair.values())
        random.Random(f"{seed}/{epoch}").shuffle(groups)
        if margins is not None and epoch == 0:
            groups.sort(key=lambda group: _hardness([margins[i] for i in group]))
        steps += _epoch_batches(groups, batch_size)
        if max_steps is not None and len(steps) >= max_steps:
            break
    return steps[:max_steps]


def split_over_workers(
    indices: Sequence[int], lengths: Sequence[int], num_workers: int
) -> list[list[int]]:
    """Deals the rows of a step to workers, the longest first to the worker with the least to do.

    Returns one list for each worker, sorted by falling length; a list may be empty.
    """
    shares: list[list[int]] = [[] for _ in range(num_workers)]
    loads = [0] * num_workers
    for index in sorted(indices, key=lambda i: (-lengths[i], i)):
        worker = loads.index(min(loads))
        shares[worker].append(index)
        loads[worker] += lengths[index]
    return shares


def micro_batches(
    indices: Sequence[int],
    lengths: Sequence[int],
    max_padded_tokens: int,
    overhead_tokens: int = 128,
    *,
    pads: bool = True,
) -> list[list[int]]:
    """Cuts rows into micro-batches of similar length of up to `max_padded_tokens`.

    Of all cuts of the rows in falling order of length it takes the one with the least work, where
    a micro-batch costs its padded tokens and `overhead_tokens` more. Where only attention `pads`,
    it costs its rows' own tokens, and what attention computes over the square of the longest. A
    row longer than `max_padded_tokens` is a micro-batch of its own.
    """
    rows = sorted(indices, key=lambda i: (-lengths[i], i))
    before = [0, *accumulate(lengths[i] for i in rows)]
    # best[n]: (cost of the first n rows, where their last micro-batch begins)
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(rows) + 1):
        choices = []
        for begin in range(end - 1, -1, -1):
            longest = lengths[rows[begin]]
            padded = (end - begin) * longest
            if padded > max_padded_tokens and begin < end - 1:
                break  # beginning earlier only makes it wider and longer
            work = padded
            if not pads:
                work = before[end] - before[begin] + padded * longest // ATTENTION_TOKENS
            choices.append((best[begin][0] + work + overhead_tokens, begin))
        best.append(min(choices))
    out: list[list[int]] = []
    end = len(rows)
    while end > 0:
        begin = best[end][1]
        out.append(rows[begin:end])
        end = begin
    return out[::-1]


def plan_step(
    indices: Sequence[int],
    lengths: Sequence[int],
    *,
    num_workers: int,
    rank: int,
    max_padded_tokens: int,
    overhead_tokens: int,
    equal_counts: bool,
    pads: bool = True,
) -> list[list[int]]:
    """Returns the micro-batches of worker `rank` for one step; `pads` as in `micro_batches`.

    With `equal_counts` every worker gets the same number of them, filled up with empty ones: a
    sharded model communicates in each forward and backward, so all workers must run as many.
    """
    shares = split_over_workers(indices, lengths, num_workers)
    pieces = [
        micro_batches(share, lengths, max_padded_tokens, overhead_tokens, pads=pads)
        for share in shares
    ]
    count = max(len(p) for p in pieces) if equal_counts else len(pieces[rank])
    return pieces[rank] + [[] for _ in range(count - len(pieces[rank]))]
