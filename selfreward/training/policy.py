"""The trained model as a function from a micro-batch to target log-probabilities."""

from typing import Any

import torch
from torch import Tensor, nn

from selfreward.training.collate import Batch, segment_mask
from selfreward.training.losses import target_logps

Masks = Tensor | dict[str, Tensor] | None


class Policy(nn.Module):
    """Wraps a causal language model of transformers, or a PEFT model around one.

    It is the root that sharding is applied to: every weight is used inside `forward`.
    """

    def __init__(self, lm: nn.Module, *, plain_head: bool = True, shares_prompt: bool = True):
        """`plain_head` and `shares_prompt` say what the model's family allows; see `measure`."""
        super().__init__()
        self.lm = lm
        self.plain_head = plain_head
        self.shares_prompt = shares_prompt

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
        window = getattr(self.config, "sliding_window", None)
        kinds = set(getattr(self.config, "layer_types", None) or ())
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
        uses_window = not kinds or kinds == {"sliding_attention"}
        if uses_window and not getattr(self.config, "use_sliding_window", True):
            uses_window = False
        return segment_mask(
            batch.segments_BT, batch.position_ids_BT, window if uses_window else None
        )

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        return {
            "input_ids": batch.input_ids_BT,
            "attention_mask": self._masks(batch),
            "position_ids": batch.position_ids_BT,
            "use_cache": False,
        }

    def hidden_states(self, batch: Batch) -> Tensor:
        """Final hidden states, shape (B, T, D)."""
        hidden_BTD: Tensor = self.causal_lm.get_decoder()(**self._inputs(batch)).last_hidden_state
        return hidden_BTD

    def _logps_of_full_logits(self, batch: Batch) -> Tensor:
        logits_BTV = self.causal_lm(**self._inputs(batch)).logits
        logits_NV = logits_BTV.flatten(0, 1).index_select(0, batch.source_N).float()
        logps_NV = torch.log_softmax(logits_NV, dim=-1)
        return logps_NV.gather(1, batch.target_N[:, None]).squeeze(1)

    def forward(self, batch: Batch) -> Tensor:
        """Returns the log-probability of each target token, fp32, shape (N,)."""
        if not self.plain_head:
            return self._logps_of_full_logits(batch)
        hidden_ND = self.hidden_states(batch).flatten(0, 1).index_select(0, batch.source_N)
        head_VD = self.causal_lm.get_output_embeddings().weight
        return target_logps(hidden_ND, head_VD.to(hidden_ND.dtype), batch.target_N)


def _single_sequence(ids: list[int], device: torch.device) -> Batch:
    ids_BT = torch.tensor([ids], device=device)
    return Batch(
        input_ids_BT=ids_BT,
        position_ids_BT=None,
        segments_BT=None,
        source_N=torch.arange(len(ids) - 1, device=device),
        target_N=ids_BT[0, 1:],
        sequence_N=torch.zeros(len(ids) - 1, dtype=torch.long, device=device),
        lengths_S=torch.tensor([float(len(ids) - 1)], device=device),
    )


def _has_plain_head(policy: Policy, device: torch.device) -> bool:
    head = policy.causal_lm.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        return False
    batch = _single_sequence(list(range(5, 17)), device)
    logits_TV = policy.causal_lm(input_ids=batch.input_ids_BT, use_cache=False).logits[0, :-1]
    logps_TV = torch.log_softmax(logits_TV.float(), -1)
    wanted_T = logps_TV.gather(1, batch.target_N[:, None])[:, 0]
    difference = (policy(batch) - wanted_T).abs().max()
    return bool(difference <= 0.02 * wanted_T.abs().max())


@torch.no_grad()
def can_share_prompt(policy: Policy, device: torch.device) -> bool:
    """Whether two completions behind one prompt get the hidden states each has alone, measured on a
    few tokens; layers with a running state, and attention that takes no ready mask, give others.
    """
    policy.eval()
    prompt, first, second = list(range(5, 12)), [12, 13, 14], [15, 16, 17, 18]
    positions = [*range(7), *range(7, 10), *range(7, 11)]
    one = torch.ones(1, dtype=torch.long, device=device)
    shared = Batch(
        input_ids_BT=torch.tensor([prompt + first + second], device=device),
        position_ids_BT=torch.tensor([positions], device=device),
        segments_BT=torch.tensor([[0] * 7 + [1] * 3 + [2] * 4], device=device),
        source_N=one,
        target_N=one,
        sequence_N=one,
        lengths_S=one.float(),
    )
    alone_TD = policy.hidden_states(_single_sequence(prompt + second, device))[0, 7:].float()
    try:
        together_TD = policy.hidden_states(shared)[0, 10:].float()
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError):
        return False  # a model whose layers cannot take the mask says so in one of these ways
    return bool((alone_TD - together_TD).norm() <= 0.05 * alone_TD.norm())


@torch.no_grad()
def measure(policy: Policy, device: torch.device) -> tuple[bool, bool]:
    """Returns (plain_head, shares_prompt) of a model, measured on a few tokens.

    plain_head: its logits are its hidden states times its head, with no cap, scale or bias.
    shares_prompt: see `can_share_prompt`. Measured, because configs say such things differently in
    each model family.
    """
    policy.eval()
    return _has_plain_head(policy, device), can_share_prompt(policy, device)
