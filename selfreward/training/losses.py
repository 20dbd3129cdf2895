"""Training losses as pure functions of log-probabilities, and those log-probabilities.

Shape suffixes: _B rows, _T positions of a padded row, _N target tokens of a micro-batch (all rows
in one line), _C target tokens of a chunk, _D hidden size, _V vocabulary, _S sequences, _P pairs.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_ELEMENTS = 1 << 23
"""fp32 numbers worked on at once: 32 MiB, whatever the vocabulary."""
KEEP_ELEMENTS = 1 << 28
"""Up to so many logits are kept from forward to backward (512 MiB of bf16); beyond that each
chunk is computed again, so that memory does not grow with the length of the targets."""


def _chunks(num_targets: int, vocab_size: int) -> list[slice]:
    size = max(1, CHUNK_ELEMENTS // vocab_size)
    return [slice(start, start + size) for start in range(0, num_targets, size)]


def _slope(logits_CV: Tensor, target_C: Tensor, grad_C: Tensor) -> Tensor:
    """grad * d logp / d logits = grad * (onehot(target) - softmax(logits)), in fp32."""
    slope_CV = torch.softmax(logits_CV, dim=-1, dtype=torch.float32)
    slope_CV.mul_(-grad_C[:, None])
    return slope_CV.scatter_add_(1, target_C[:, None], grad_C[:, None])


class _TargetLogps(torch.autograd.Function):
    """log softmax(hidden @ head.T)[target], with no more than one chunk of fp32 logits alive.

    Softmax and its logarithm are torch's fused kernels, which read 16-bit logits and compute in
    fp32: on a CPU a tenth of the time that widening, exp and sums take one after the other.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, target_N: Tensor) -> Tensor:
        num_targets, vocab_size = hidden_ND.shape[0], head_VD.shape[0]
        keeps = any(ctx.needs_input_grad) and num_targets * vocab_size <= KEEP_ELEMENTS
        logits_NV = hidden_ND @ head_VD.T if keeps else None
        logps = []
        for rows in _chunks(num_targets, vocab_size):
            logits_CV = hidden_ND[rows] @ head_VD.T if logits_NV is None else logits_NV[rows]
            logps_CV = torch.log_softmax(logits_CV, dim=-1, dtype=torch.float32)
            logps.append(logps_CV.gather(1, target_N[rows, None]).squeeze(1))
        ctx.save_for_backward(hidden_ND, head_VD, target_N)
        ctx.logits_NV = logits_NV
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad_N,) = grads
        hidden_ND, head_VD, target_N = ctx.saved_tensors
        needs_hidden, needs_head, _ = ctx.needs_input_grad
        chunks = _chunks(hidden_ND.shape[0], head_VD.shape[0])
        if ctx.logits_NV is not None:
            # Over the logits, which nothing else holds and no second backward may ask for.
            slope_NV, ctx.logits_NV = ctx.logits_NV, None
            for rows in chunks:
                slope_NV[rows] = _slope(slope_NV[rows], target_N[rows], grad_N[rows])
            return (
                slope_NV @ head_VD if needs_hidden else None,
                slope_NV.T @ hidden_ND if needs_head else None,
                None,
            )
        parts: list[Tensor] = []
        head_grad_VD: Tensor | None = None
        for rows in chunks:
            hidden_CD = hidden_ND[rows]
            slope_CV = _slope(hidden_CD @ head_VD.T, target_N[rows], grad_N[rows])
            narrow_CV = slope_CV.to(hidden_ND.dtype)
            if needs_hidden:
                parts.append(narrow_CV @ head_VD)
            if needs_head:
                part_VD = narrow_CV.T @ hidden_CD
                head_grad_VD = part_VD if head_grad_VD is None else head_grad_VD.add_(part_VD)
        return (torch.cat(parts) if needs_hidden else None), head_grad_VD, None


def target_logps(hidden_ND: Tensor, head_VD: Tensor, target_N: Tensor) -> Tensor:
    """Returns the fp32 log-probability of each target token, shape (N,), in nats.

    `hidden_ND` holds only the hidden states that predict a target, so logits exist nowhere else.
    Works for tied and untied heads without a bias.
    """
    out: Tensor = _TargetLogps.apply(hidden_ND, head_VD, target_N)  # type: ignore[no-untyped-call]
    return out


def sequence_logps(logps_N: Tensor, sequence_N: Tensor, num_sequences: int) -> Tensor:
    """Sums token log-probabilities by the sequence they belong to, shape (S,)."""
    return logps_N.new_zeros(num_sequences).index_add(0, sequence_N, logps_N)


def nll_sum(logps_N: Tensor) -> Tensor:
    """Negative log-likelihood summed over target tokens.

    The SFT loss of a batch is this, over all its micro-batches and workers, divided by the number
    of target tokens of the whole batch.
    """
    return -logps_N.sum()


def soft_preference_loss(margin_P: Tensor, label_confidence_P: Tensor) -> Tensor:
    """Returns C * -log sigmoid(margin) + (1 - C) * -log sigmoid(-margin) of each pair, shape (P,).

    DPO with soft labels: a share C of the label says that the chosen completion is the better one,
    the rest says the opposite (arXiv 2410.12735). C is in 0..1; at 1 it is DPO (arXiv 2305.18290,
    equation 7). The slope over the margin is sigmoid(margin) - C, so the loss is lowest
    at margin = log(C / (1 - C)): at C = 0.5 a pair pulls its margin to 0, below 0.5 it is turned
    round. Nothing is divided by 2C - 1, as the "robust" loss of arXiv 2403.00409 does, which has no
    value at C = 0.5.
    """
    as_labelled_P = -functional.logsigmoid(margin_P)
    reversed_P = -functional.logsigmoid(-margin_P)
    return label_confidence_P * as_labelled_P + (1.0 - label_confidence_P) * reversed_P


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoTerms:
    """What DPO+NLL says of each pair, shape (P,) each; only `loss_P` carries a gradient."""

    loss_P: Tensor
    preference_loss_P: Tensor
    nll_P: Tensor
    """Length-normalised NLL of the chosen completion."""
    chosen_reward_P: Tensor
    """beta * (policy - reference) log-probability."""
    rejected_reward_P: Tensor


def dpo_terms(
    *,
    chosen_logps_P: Tensor,
    rejected_logps_P: Tensor,
    reference_chosen_logps_P: Tensor,
    reference_rejected_logps_P: Tensor,
    chosen_lengths_P: Tensor,
    label_confidence_P: Tensor,
    beta: float,
    nll_weight: float,
) -> DpoTerms:
    """Returns preference loss(reward margin) + nll_weight * NLL(chosen) / |chosen| of each pair.

    With sure labels (`label_confidence_P` of 1) the sum of both terms is arXiv 2404.19733,
    equations 1 and 2; the first alone is `soft_preference_loss`. Log-probabilities are sums over a
    completion, in nats.

    The NLL does not depend on the confidence: it keeps the chosen completion from becoming less
    likely while the margin moves, which a pair needs however sure its label is, and `nll_weight`
    then means the same in every row. Where that is not wanted, `nll_weight` is 0.
    """
    chosen_reward_P = beta * (chosen_logps_P - reference_chosen_logps_P)
    rejected_reward_P = beta * (rejected_logps_P - reference_rejected_logps_P)
    preference_loss_P = soft_preference_loss(
        chosen_reward_P - rejected_reward_P, label_confidence_P
    )
    nll_P = -chosen_logps_P / chosen_lengths_P
    return DpoTerms(
        loss_P=preference_loss_P + nll_weight * nll_P,
        preference_loss_P=preference_loss_P.detach(),
        nll_P=nll_P.detach(),
        chosen_reward_P=chosen_reward_P.detach(),
        rejected_reward_P=rejected_reward_P.detach(),
    )
