"""Lays the real tokens of a batch out as one row, so that no padding is computed.

Shape suffix: _L real tokens. Only attention asks which tokens are neighbours; it is handed the
lengths of the sequences and works through them one by one (see attention.py).
"""

from typing import Any

import torch
from torch import Tensor

from selfreward.training.attention import Ragged
from selfreward.training.collate import Batch, segment_mask


def ragged_inputs(batch: Batch) -> tuple[Tensor, dict[str, Any]]:
    """Returns the place of each real token in the flattened rows, and a decoder's inputs.

    The mask among them has one entry: transformers takes a mask of four dimensions as it is, and
    makes none of its own.
    """
    device = batch.input_ids_BT.device
    ranges = [torch.arange(s.start, s.start + s.length, device=device) for s in batch.spans]
    place_L = torch.cat(ranges)
    seen: list[Tensor | None] = [None] * len(batch.spans)
    if batch.position_ids_BT is None or batch.segments_BT is None:
        position_L = torch.cat([torch.arange(s.length, device=device) for s in batch.spans])
    else:
        segments_N, position_N = batch.segments_BT.flatten(), batch.position_ids_BT.flatten()
        position_L = position_N[place_L]
        for number, span in enumerate(batch.spans):
            if not span.causal:
                line = (None, slice(span.start, span.start + span.length))
                seen[number] = segment_mask(segments_N[line], position_N[line], None)
    return place_L, {
        "input_ids": batch.input_ids_BT.flatten()[place_L][None],
        "position_ids": position_L[None],
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        "ragged": Ragged(lengths=tuple(s.length for s in batch.spans), seen=tuple(seen)),
    }
