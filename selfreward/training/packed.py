"""Lays packed sequences out as a `Batch` in which no document sees another one.

Shape suffixes as in collate.py; _L positions of one row in use, _K pieces of one row.

Every token of a piece but its first is a target. A piece goes on where a longer document was cut,
and is treated like a document of its own.
"""

from collections.abc import Sequence

import numpy as np
import torch

from selfreward.storage.token_shards import IntArray, PackedRow
from selfreward.training.collate import Batch, collate


def _pieces(lengths_K: IntArray) -> tuple[IntArray, IntArray]:
    """(piece index, position in its piece) of each token of a row."""
    piece_L = np.repeat(np.arange(len(lengths_K)), lengths_K)
    starts_K = np.cumsum(lengths_K) - lengths_K
    return piece_L, np.arange(len(piece_L)) - starts_K[piece_L]


def collate_packed(rows: Sequence[PackedRow], pad_id: int) -> Batch:
    """Returns the batch of some packed sequences; sequence s of it is its s-th piece.

    Rows are as wide as the fullest one needs. Where each row is one piece, they are plain
    sequences, whose causal attention needs no mask and is much faster. No rows give the empty
    batch of `collate`.

    Padding is a segment of its own behind the last piece, seen by nobody: with nothing to see at
    all, its softmax would be over nothing and could spread NaN.

    Raises:
        ValueError: no piece has two tokens, so that there is nothing to predict.
    """
    if not rows:
        return collate((), pad_id, share_prompt=False)
    totals = [int(row.lengths.sum()) for row in rows]
    shape = (len(rows), max(totals))
    input_ids_BT = np.full(shape, pad_id, dtype=np.int64)
    positions_BT = np.zeros(shape, dtype=np.int64)
    segments_BT = np.zeros(shape, dtype=np.int64)
    sources, sequences = [], []
    num_pieces = 0
    for number, (row, total) in enumerate(zip(rows, totals, strict=True)):
        piece_L, position_L = _pieces(row.lengths)
        input_ids_BT[number, :total] = row.tokens[:total]
        positions_BT[number, :total] = position_L
        positions_BT[number, total:] = np.arange(shape[1] - total)
        # Segment 0 would be a prompt, which all segments see.
        segments_BT[number, :total] = piece_L + 1
        segments_BT[number, total:] = len(row.lengths) + 1
        targets = np.flatnonzero(position_L)
        sources.append(targets - 1 + number * shape[1])
        sequences.append(piece_L[targets] + num_pieces)
        num_pieces += len(row.lengths)
    source_N = np.concatenate(sources)
    if len(source_N) == 0:
        raise ValueError("no piece of these sequences has two tokens")
    places = [np.arange(total) + number * shape[1] for number, total in enumerate(totals)]
    packs = any(len(row.lengths) > 1 for row in rows)
    return Batch(
        input_ids_BT=torch.from_numpy(input_ids_BT),
        real_L=torch.from_numpy(np.concatenate(places)),
        position_ids_BT=torch.from_numpy(positions_BT) if packs else None,
        segments_BT=torch.from_numpy(segments_BT) if packs else None,
        source_N=torch.from_numpy(source_N),
        target_N=torch.from_numpy(input_ids_BT.ravel()[source_N + 1]),
        sequence_N=torch.from_numpy(np.concatenate(sequences)),
        lengths_S=torch.from_numpy(
            np.concatenate([row.lengths - 1 for row in rows]).astype(np.float32)
        ),
    )
