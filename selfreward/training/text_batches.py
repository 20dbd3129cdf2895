"""Cuts a worker's packed sequences of a step into micro-batches that are laid out one by one."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from selfreward.storage.token_shards import PackedRow
from selfreward.training.batching import micro_batches
from selfreward.training.collate import Batch, collate
from selfreward.training.encoding import EncodedRow
from selfreward.training.packed import collate_packed
from selfreward.training.parallel import Parallel

MakeBatch = Callable[[], Batch]


def num_targets(row: PackedRow) -> int:
    """Tokens to predict: all but the first of each piece, before which there is nothing."""
    return int((row.lengths - 1).clip(min=0).sum())


def pieces_of(rows: Sequence[PackedRow]) -> list[EncodedRow]:
    """The pieces of packed rows as rows of their own: all that follows the first token of a piece
    is its completion."""
    pieces = []
    for number, row in enumerate(rows):
        start = 0
        for length in row.lengths.tolist():
            tokens = row.tokens[start : start + length]
            start += length
            if length > 1:
                name = f"{number}/{start}"
                pieces.append(
                    EncodedRow(id=name, pair_id=name, prompt=tokens[:1], completions=(tokens[1:],))
                )
    return pieces


class TextBatches:
    """Lays packed rows out for one model.

    A model that cannot be told what a token may see gets each piece as a padded row instead; the
    sums of its losses are the same.
    """

    def __init__(self, parallel: Parallel, *, pad_id: int, max_padded_tokens: int):
        self._pad_id = pad_id
        self._max_padded_tokens = max_padded_tokens
        self._overhead_tokens = parallel.overhead_tokens
        self._ragged = parallel.policy.traits.ragged
        self._packs = parallel.policy.traits.shares_prompt

    def cut(self, rows: Sequence[PackedRow]) -> list[MakeBatch]:
        """Micro-batches of up to so many padded tokens, each with something to predict."""
        if self._packs:
            return self._packed([row for row in rows if num_targets(row)])
        pieces = pieces_of(rows)
        lengths = [len(p.prompt) + p.num_targets for p in pieces]
        parts = micro_batches(
            range(len(pieces)),
            lengths,
            self._max_padded_tokens,
            self._overhead_tokens,
            pads=not self._ragged,
        )
        return [partial(collate, [pieces[i] for i in part], self._pad_id, False) for part in parts]

    def _packed(self, rows: Sequence[PackedRow]) -> list[MakeBatch]:
        if not rows:
            return []
        at_once = max(1, self._max_padded_tokens // len(rows[0].tokens))
        count = -(-len(rows) // at_once)
        edges = [len(rows) * i // count for i in range(count + 1)]  # of sizes as equal as can be
        return [
            partial(collate_packed, rows[start:stop], self._pad_id)
            for start, stop in pairwise(edges)
        ]

    def filler(self) -> Batch:
        """A batch of nothing."""
        return collate([], self._pad_id, False)
