"""The loss of rollouts: a clipped policy gradient and the distance to a reference.

Shape suffixes: _N target tokens of a micro-batch, _S sequences (one rollout each).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LossOver = Literal["tokens", "sequences"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTerms:
    """Sums over a micro-batch, scalars; only `loss` carries a gradient.

    `loss` and `kl` divided by the number of tokens (`loss_over="tokens"`) or of rollouts
    (`"sequences"`) of the whole step are means over all workers; `num_clipped` counts tokens.
    """

    loss: Tensor
    kl: Tensor
    num_clipped: Tensor


def kl_estimate(logps_N: Tensor, reference_logps_N: Tensor) -> Tensor:
    """Estimates KL(policy || reference) at each sampled token: exp(d) - d - 1, where d is the
    reference's log-probability minus the policy's.

    Never negative, and right on average over the policy's own samples (arXiv 2402.03300,
    equation 4; "k3" in J. Schulman, Approximating KL divergence, 2020).
    """
    difference_N = reference_logps_N - logps_N
    return torch.exp(difference_N) - difference_N - 1.0


def policy_terms(
    logps_N: Tensor,
    *,
    old_logps_N: Tensor,
    reference_logps_N: Tensor,
    advantages_S: Tensor,
    sequence_N: Tensor,
    lengths_S: Tensor,
    clip_low: float,
    clip_high: float,
    kl_weight: float,
    loss_over: LossOver,
) -> PolicyTerms:
    """Returns -min(ratio A, clip(ratio) A) + kl_weight KL of each token, summed.

    The ratio is that of the token's probabilities now and when the rollouts were made
    (arXiv 1707.06347, equation 7), clipped to 1 - clip_low .. 1 + clip_high, which need not be
    alike (arXiv 2503.14476, section 3.1). With `loss_over="sequences"` each token weighs
    1 / its rollout's length (arXiv 2402.03300, equation 3), with `"tokens"` all weigh the same.

    Args:
        logps_N: log-probabilities of the tokens, in nats, with a gradient.
        old_logps_N: the same under the weights that made the rollouts.
        reference_logps_N: the same under the reference.
        advantages_S: one for each rollout.
        sequence_N: the rollout that each token belongs to.
        lengths_S: tokens of each rollout.
    """
    advantages_N = advantages_S[sequence_N]
    ratio_N = torch.exp(logps_N - old_logps_N)
    bounded_N = ratio_N.clamp(1.0 - clip_low, 1.0 + clip_high)
    surrogate_N = torch.minimum(ratio_N * advantages_N, bounded_N * advantages_N)
    kl_N = kl_estimate(logps_N, reference_logps_N)
    weights_N = torch.ones_like(logps_N)
    if loss_over == "sequences":
        weights_N = 1.0 / lengths_S[sequence_N]
    clipped_N = ((ratio_N < 1.0 - clip_low) & (advantages_N < 0)) | (
        (ratio_N > 1.0 + clip_high) & (advantages_N > 0)
    )
    return PolicyTerms(
        loss=((kl_weight * kl_N - surrogate_N) * weights_N).sum(),
        kl=(kl_N * weights_N).sum().detach(),
        num_clipped=clipped_N.sum().detach(),
    )
