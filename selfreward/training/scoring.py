"""Passes over rows without gradients: reference log-probabilities and held-out evaluation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from selfreward.training.batching import plan_step
from selfreward.training.collate import collate
from selfreward.training.encoding import EncodedRow
from selfreward.training.losses import sequence_logps
from selfreward.training.parallel import Parallel, all_reduce_sum, rank, world_size


@torch.no_grad()
def completion_logps(
    parallel: Parallel,
    rows: Sequence[EncodedRow],
    *,
    pad_id: int,
    max_padded_tokens: int,
    device: torch.device,
) -> Tensor:
    """Returns log p(completion | prompt) in nats of the first two completions of each row.

    Shape (rows, 2), fp32 on the CPU, the same on every worker; the second column is 0 where a row
    has one completion. The rows are shared out over the workers.
    """
    policy = parallel.policy
    policy.eval()
    shares = policy.traits.shares_prompt
    lengths = [r.padded_length(shares) for r in rows]
    pieces = plan_step(
        range(len(rows)),
        lengths,
        num_workers=world_size(),
        rank=rank(),
        max_padded_tokens=max_padded_tokens,
        overhead_tokens=parallel.overhead_tokens,
        equal_counts=parallel.equal_counts,
        pads=not policy.traits.ragged,
    )
    out = torch.zeros(len(rows), 2)
    for piece in pieces:
        batch = collate([rows[i] for i in piece], pad_id, shares).to(device)
        logps_N = policy(batch)
        logps_S = sequence_logps(logps_N, batch.sequence_N, max(1, batch.num_sequences)).tolist()
        cursor = 0
        for index in piece:
            count = len(rows[index].completions)
            for column in range(min(2, count)):
                out[index, column] = logps_S[cursor + column]
            cursor += count
    return all_reduce_sum(out.to(device)).cpu()


def evaluate(
    parallel: Parallel,
    rows: Sequence[EncodedRow],
    *,
    pad_id: int,
    max_padded_tokens: int,
    device: torch.device,
) -> dict[str, float]:
    """Measures held-out rows (target, counter target).

    Returns `eval/loss`, the mean NLL in nats of a target token, and, where rows have a counter
    target, `eval/accuracy`, the share of them whose target is more likely than the counter target.
    """
    logps = completion_logps(
        parallel, rows, pad_id=pad_id, max_padded_tokens=max_padded_tokens, device=device
    )
    num_tokens = sum(r.num_targets for r in rows)
    metrics = {"eval/loss": -float(logps[:, 0].double().sum()) / num_tokens}
    labelled = torch.tensor([len(r.completions) > 1 for r in rows])
    if labelled.any():
        right = (logps[:, 0] > logps[:, 1])[labelled]
        metrics["eval/accuracy"] = float(right.double().mean())
    return metrics
