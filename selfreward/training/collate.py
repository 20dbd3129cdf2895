"""Lays encoded rows out as padded tensors, so that logits are needed only where a target is.

Shape suffixes: _B rows, _T positions of a padded row, _L tokens that are no padding, _N target
tokens, _S sequences.

With a shared prompt, a preference is one row `prompt chosen rejected`: the rejected completion does
not see the chosen one and its positions restart after the prompt, so that each completion gets
exactly the log-probabilities of a row of its own while the prompt is computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from selfreward.training.encoding import EncodedRow

PROMPT_SEGMENT = 0
PAD_SEGMENT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A micro-batch. `position_ids_BT` and `segments_BT` are None where rows are plain sequences.

    Target n is token `target_N[n]`, predicted from position `source_N[n]` of the flattened rows,
    and belongs to sequence `sequence_N[n]`; sequence s = row * completions + completion.
    """

    input_ids_BT: Tensor
    real_L: Tensor
    """Places of the tokens that are no padding in the flattened rows, in order."""
    position_ids_BT: Tensor | None
    segments_BT: Tensor | None
    """0 prompt, 1 first completion, 2 second completion, -1 padding."""
    source_N: Tensor
    target_N: Tensor
    sequence_N: Tensor
    lengths_S: Tensor
    """Target tokens of each sequence, as floats."""
    last_S: Tensor | None = None
    """Where in the flattened rows each sequence has its last token; only reward models ask."""

    @property
    def num_sequences(self) -> int:
        return self.lengths_S.shape[0]

    def to(self, device: torch.device) -> "Batch":
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(
            self,
            **{k: v.to(device, non_blocking=True) for k, v in moved.items() if v is not None},
        )


def segment_mask(segments_BT: Tensor, position_ids_BT: Tensor, window: int | None) -> Tensor:
    """Returns which position (q) sees which (k), bool, shape (B, 1, T, T).

    A position sees the prompt and its own completion, up to itself; `window` limits how many
    positions back, counted as the sequence counts them. Padding sees the prompt, so that no
    softmax is over nothing, and nothing sees padding.
    """
    length = segments_BT.shape[1]
    causal_TT = torch.ones(length, length, dtype=torch.bool, device=segments_BT.device).tril()
    key_BT = segments_BT[:, None, :]
    visible = (key_BT == PROMPT_SEGMENT) | (
        (key_BT == segments_BT[:, :, None]) & (key_BT != PAD_SEGMENT)
    )
    visible &= causal_TT
    if window is not None:
        distance = position_ids_BT[:, :, None] - position_ids_BT[:, None, :]
        visible &= (distance < window) | (segments_BT[:, :, None] == PAD_SEGMENT)
    return visible[:, None]


def _fill(rows: Sequence[list[int]], value: int) -> Tensor:
    width = max(len(r) for r in rows)
    return torch.tensor([r + [value] * (width - len(r)) for r in rows], dtype=torch.long)


def collate(rows: Sequence[EncodedRow], pad_id: int, share_prompt: bool) -> Batch:
    """Pads rows on the right into a `Batch`.

    `share_prompt` puts all completions of a prompt into one row; else each has its own. No rows
    give a batch of one padding token whose only target belongs to no sequence.
    """
    if not rows:
        return _empty_batch(pad_id)
    ids, positions, segments = [], [], []
    sources: list[tuple[int, int]] = []
    targets: list[int] = []
    sequences: list[int] = []
    lengths: list[float] = []
    lasts: list[tuple[int, int]] = []
    for row in rows:
        prompt = row.prompt.tolist()
        start = len(prompt)
        if share_prompt:
            ids.append(list(prompt))
            positions.append(list(range(start)))
            segments.append([PROMPT_SEGMENT] * start)
        for number, tokens in enumerate(row.completions, start=1):
            completion = tokens.tolist()
            if not share_prompt:
                ids.append(list(prompt))
                positions.append(list(range(start)))
                segments.append([PROMPT_SEGMENT] * start)
            line, offset = len(ids) - 1, len(ids[-1])
            # The last prompt position predicts the first token of every completion.
            before = [start - 1, *range(offset, offset + len(completion) - 1)]
            sources += [(line, position) for position in before]
            targets += completion
            sequences += [len(lengths)] * len(completion)
            lengths.append(float(len(completion)))
            ids[-1] += completion
            lasts.append((line, len(ids[-1]) - 1))
            positions[-1] += range(start, start + len(completion))
            segments[-1] += [number] * len(completion)
    input_ids_BT = _fill(ids, pad_id)
    width = input_ids_BT.shape[1]
    packs = share_prompt and any(len(r.completions) > 1 for r in rows)
    places = [torch.arange(len(line)) + number * width for number, line in enumerate(ids)]
    return Batch(
        input_ids_BT=input_ids_BT,
        real_L=torch.cat(places),
        position_ids_BT=_fill(positions, 0) if packs else None,
        segments_BT=_fill(segments, PAD_SEGMENT) if packs else None,
        source_N=torch.tensor([line * width + position for line, position in sources]),
        target_N=torch.tensor(targets),
        sequence_N=torch.tensor(sequences),
        lengths_S=torch.tensor(lengths),
        last_S=torch.tensor([line * width + position for line, position in lasts]),
    )


def _empty_batch(pad_id: int) -> Batch:
    zero = torch.zeros(1, dtype=torch.long)
    return Batch(
        input_ids_BT=torch.tensor([[pad_id]]),
        real_L=zero,
        position_ids_BT=None,
        segments_BT=None,
        source_N=zero,
        target_N=zero,
        sequence_N=zero,
        lengths_S=torch.zeros(0),
        last_S=torch.zeros(0, dtype=torch.long),
    )
