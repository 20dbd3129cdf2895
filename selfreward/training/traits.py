"""Finds out what a model allows by computing a few tokens in more than one way."""

from dataclasses import replace

import numpy as np
import torch

from selfreward.training.attention import NAME as RAGGED_ATTENTION
from selfreward.training.collate import Batch, collate
from selfreward.training.encoding import EncodedRow
from selfreward.training.policy import Policy, Traits, layer_types, sliding_window
from selfreward.training.reward_policy import RewardPolicy

REFUSALS = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError)
"""How models say that their layers cannot take the mask or option they were given."""
RAGGED_SAMPLE = ((5, 12), (12, 15), (15, 19), (19, 22), (22, 24))
"""Token ranges: a prompt, two completions; another prompt and its completion."""


def _single_sequence(ids: list[int], device: torch.device) -> Batch:
    ids_BT = torch.tensor([ids], device=device)
    return Batch(
        input_ids_BT=ids_BT,
        real_L=torch.arange(len(ids), device=device),
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
        real_L=torch.arange(14, device=device),
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
    except REFUSALS:
        return False
    return bool((alone_TD - together_TD).norm() <= 0.05 * alone_TD.norm())


def _runs_ragged(policy: Policy, device: torch.device) -> bool:
    """Whether sequences in one row get the hidden states they have in padded rows."""
    config = policy.config
    if (
        config._attn_implementation != RAGGED_ATTENTION
        or not layer_types(config) <= {"full_attention"}  # others run on from row to row
        or sliding_window(config) is not None
    ):
        return False
    tokens = [np.arange(start, stop, dtype=np.int32) for start, stop in RAGGED_SAMPLE]
    rows = [
        EncodedRow(id="a", pair_id="a", prompt=tokens[0], completions=(tokens[1], tokens[2])),
        EncodedRow(id="b", pair_id="b", prompt=tokens[3], completions=(tokens[4],)),
    ]
    other = replace(rows[0], prompt=tokens[0][::-1].copy())
    batches = [
        collate([first, rows[1]], 0, policy.traits.shares_prompt).to(device)
        for first in (rows[0], other)
    ]
    try:
        padded_BTD = policy.hidden_states(batches[0])
        ragged_BTD, changed_BTD = (policy.ragged_hidden_states(batch) for batch in batches)
    except REFUSALS:
        return False
    real_L = batches[0].real_L
    padded_LD, ragged_LD = (x.flatten(0, 1)[real_L].float() for x in (padded_BTD, ragged_BTD))
    agrees = (ragged_LD - padded_LD).norm() <= 0.05 * padded_LD.norm()
    # What stands in the first row must not reach the last one, however little.
    last, again = (x[-1, : sum(map(len, tokens[3:]))].float() for x in (ragged_BTD, changed_BTD))
    return bool(agrees) and torch.allclose(last, again, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def measure(policy: Policy, device: torch.device) -> Traits:
    """Finds out on a few tokens what a model allows, since configs say such things differently in
    each model family; sets them on `policy` and returns them.

    A `RewardPolicy` has no other head than a plain one.
    """
    policy.eval()
    policy.traits = Traits()
    plain_head = isinstance(policy, RewardPolicy) or _has_plain_head(policy, device)
    policy.traits = Traits(plain_head=plain_head, shares_prompt=can_share_prompt(policy, device))
    if plain_head and _runs_ragged(policy, device):
        policy.traits = replace(policy.traits, ragged=True)
    return policy.traits
