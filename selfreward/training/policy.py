"""The trained model as a function from a micro-batch to target log-probabilities."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfreward.training.attention import Ragged
from selfreward.training.collate import Batch, segment_mask
from selfreward.training.losses import target_logps

NO_MASK = torch.ones(1, 1, 1, 0, dtype=torch.bool)
"""Transformers takes a mask of four dimensions as it is, and makes none of its own."""
FULL = 0.97
"""Taking less padding than 3% out of a batch costs more than it saves."""

Masks = Tensor | dict[str, Tensor] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a model's family allows; `measure` finds it out."""

    plain_head: bool = True
    """Logits are hidden states times the head, with no cap, scale or bias."""
    shares_prompt: bool = True
    """Two completions behind one prompt can be one row."""
    ragged: bool = False
    """The rows of a batch can be computed as one row without their padding."""


def layer_types(config: Any) -> set[str]:
    """Kinds of attention in the layers of a model; empty where its config names none."""
    return set(getattr(config, "layer_types", None) or ())


def sliding_window(config: Any) -> int | None:
    """How many positions back some layers see; None where all see everything before them."""
    kinds = layer_types(config)
    uses_window = not kinds or "sliding_attention" in kinds
    if not uses_window or not getattr(config, "use_sliding_window", True):
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window


class Policy(nn.Module):
    """Wraps a causal language model of transformers, or a PEFT model around one.

    It is the root that sharding is applied to: every weight is used inside `forward`.
    """

    def __init__(self, lm: nn.Module, traits: Traits | None = None):
        super().__init__()
        self.lm = lm
        self.traits = traits or Traits()

    @property
    def causal_lm(self) -> Any:
        """The transformers model itself, without PEFT around it."""
        lm: Any = self.lm
        return lm.get_base_model() if hasattr(lm, "get_base_model") else lm

    @property
    def config(self) -> Any:
        return self.causal_lm.config

    def _masks(self, batch: Batch) -> Masks:
        """The attention mask of rows with a shared prompt; None where plain causality is right
        (rows are padded on the right, so no real token ever sees padding)."""
        if batch.segments_BT is None or batch.position_ids_BT is None:
            return None
        window, kinds = sliding_window(self.config), layer_types(self.config)
        if len(kinds) > 1:
            # Models that mix kinds of attention take one ready mask for each kind.
            return {
                kind: segment_mask(
                    batch.segments_BT,
                    batch.position_ids_BT,
                    window if kind == "sliding_attention" else None,
                )
                for kind in sorted(kinds)
            }
        return segment_mask(batch.segments_BT, batch.position_ids_BT, window)

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        return {
            "input_ids": batch.input_ids_BT,
            "attention_mask": self._masks(batch),
            "position_ids": batch.position_ids_BT,
            "use_cache": False,
        }

    def hidden_states(self, batch: Batch) -> Tensor:
        """Final hidden states, shape (B, T, D); those of padding are not to be used."""
        filled = len(batch.real_L) / batch.input_ids_BT.numel()
        if self.traits.ragged and filled < FULL:
            return self.ragged_hidden_states(batch)
        decoder = self.causal_lm.get_decoder()
        hidden_BTD: Tensor = decoder(**self._inputs(batch)).last_hidden_state
        return hidden_BTD

    def ragged_hidden_states(self, batch: Batch) -> Tensor:
        """The same, computed without padding, which only attention sees; theirs are 0."""
        rows, length = batch.input_ids_BT.shape
        positions_BT = batch.position_ids_BT
        if positions_BT is None:
            positions_BT = torch.arange(length, device=batch.real_L.device).expand(rows, length)
        seen = self._masks(batch)
        if isinstance(seen, dict):
            raise TypeError("a model of several kinds of attention keeps its padding")
        hidden_LD = self.causal_lm.get_decoder()(
            input_ids=batch.input_ids_BT.flatten()[batch.real_L][None],
            position_ids=positions_BT.flatten()[batch.real_L][None],
            attention_mask=NO_MASK.to(batch.real_L.device),
            ragged=Ragged(real_L=batch.real_L, shape=(rows, length), seen=seen),
            use_cache=False,
        ).last_hidden_state[0]
        hidden_BTD = hidden_LD.new_zeros(rows * length, hidden_LD.shape[1])
        return hidden_BTD.index_copy(0, batch.real_L, hidden_LD).view(rows, length, -1)

    def _logps_of_full_logits(self, batch: Batch) -> Tensor:
        logits_BTV = self.causal_lm(**self._inputs(batch)).logits
        logits_NV = logits_BTV.flatten(0, 1).index_select(0, batch.source_N).float()
        logps_NV = torch.log_softmax(logits_NV, dim=-1)
        return logps_NV.gather(1, batch.target_N[:, None]).squeeze(1)

    def forward(self, batch: Batch) -> Tensor:
        """Returns the log-probability of each target token, fp32, shape (N,)."""
        if not self.traits.plain_head:
            return self._logps_of_full_logits(batch)
        hidden_ND = self.hidden_states(batch).flatten(0, 1).index_select(0, batch.source_N)
        head_VD = self.causal_lm.get_output_embeddings().weight
        return target_logps(hidden_ND, head_VD.to(hidden_ND.dtype), batch.target_N)
