"""From rollouts with advantages to a change of weights, and token log-probabilities on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfreward.config_custom_llm import OnlineConfig
from selfreward.errors import TrainingError
from selfreward.training.batching import micro_batches
from selfreward.training.collate import collate
from selfreward.training.encoding import EncodedRow
from selfreward.training.online.losses import policy_terms
from selfreward.training.online.reference import Reference
from selfreward.training.optimizer import learning_rate
from selfreward.training.parallel import Parallel, all_reduce_sum, rank, world_size
from selfreward.training.policy import Policy
from selfreward.training.task import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A rollout to learn from: its tokens, its advantage, and in which of the step's updates.

    Example: `Sample(row=EncodedRow(…), advantage=0.5, part=0)`
    """

    row: EncodedRow
    advantage: float
    part: int


class Learner:
    """Updates one policy; every worker has one and they act together."""

    def __init__(
        self,
        parallel: Parallel,
        reference: Reference,
        config: OnlineConfig,
        *,
        pad_id: int,
        device: torch.device,
    ) -> None:
        self._parallel, self._reference, self._config = parallel, reference, config
        self._pad_id, self._device = pad_id, device

    def _pieces(self, indices: Sequence[int], rows: Sequence[EncodedRow]) -> list[list[int]]:
        """Micro-batches of this worker, as many as on every other one where they must be."""
        lengths = [row.padded_length(False) for row in rows]
        pieces = micro_batches(
            indices,
            lengths,
            self._config.training.tokens_per_micro_batch,
            self._parallel.overhead_tokens,
            pads=not self._parallel.policy.traits.ragged,
        )
        if not self._parallel.equal_counts:
            return pieces
        counts = torch.zeros(world_size(), device=self._device)
        counts[rank()] = len(pieces)
        most = int(all_reduce_sum(counts).max())
        return pieces + [[] for _ in range(most - len(pieces))]

    @torch.no_grad()
    def _token_logps(self, policy: Policy, rows: Sequence[EncodedRow]) -> list[Tensor]:
        """Log-probabilities of each row's completion, token by token."""
        policy.eval()
        out = [torch.empty(0)] * len(rows)
        for piece in self._pieces(range(len(rows)), rows):
            batch = collate([rows[i] for i in piece], self._pad_id, False).to(self._device)
            logps_N = policy(batch)
            if piece:
                parts = logps_N.split([rows[i].num_targets for i in piece])
                for i, part in zip(piece, parts, strict=True):
                    out[i] = part
        return out

    def update(self, samples: Sequence[Sample], first_update: int, num_updates: int) -> Metrics:
        """Makes the updates of one step; `first_update` of the run's `num_updates` is the first.

        Each sample is in one update. `train/kl` is of the update's own start, so with several it
        is their mean. An update without samples on any worker changes nothing.

        Raises:
            TrainingError: the loss or the gradients are not finite.
        """
        rows = [sample.row for sample in samples]
        with self._reference.policy() as frozen:
            reference = self._token_logps(frozen, rows)
        count = self._config.updates_per_step
        # A single update begins with the very weights that made the rollouts: its own
        # log-probabilities are the old ones.
        old = self._token_logps(self._parallel.policy, rows) if count > 1 else None
        done = [
            self._one_update(samples, part, old, reference, first_update + part, num_updates)
            for part in range(count)
        ]
        made = [metrics for metrics in done if metrics]
        if not made:
            return {}
        return {name: sum(m[name] for m in made) / len(made) for name in made[0]}

    def _one_update(
        self,
        samples: Sequence[Sample],
        part: int,
        old: Sequence[Tensor] | None,
        reference: Sequence[Tensor],
        update: int,
        num_updates: int,
    ) -> Metrics:
        config, training = self._config, self._config.training
        rows = [sample.row for sample in samples]
        indices = [i for i, sample in enumerate(samples) if sample.part == part]
        local = [sum(rows[i].num_targets for i in indices), len(indices)]
        counts = torch.tensor(local, dtype=torch.float64, device=self._device)
        num_tokens, num_sequences = all_reduce_sum(counts).tolist()
        if not num_sequences:
            return {}
        count = num_tokens if config.loss_over == "tokens" else num_sequences
        policy = self._parallel.policy
        policy.train()
        sums = torch.zeros(3, device=self._device)
        for piece in self._pieces(indices, rows):
            batch = collate([rows[i] for i in piece], self._pad_id, False).to(self._device)
            logps_N = policy(batch)
            if not piece:  # the empty micro-batch still runs backward, with gradients of zero
                (logps_N.sum() * 0.0).backward()
                continue
            terms = policy_terms(
                logps_N,
                old_logps_N=logps_N.detach() if old is None else _joined(old, piece),
                reference_logps_N=_joined(reference, piece),
                advantages_S=torch.tensor(
                    [samples[i].advantage for i in piece], device=self._device
                ),
                sequence_N=batch.sequence_N,
                lengths_S=batch.lengths_S,
                clip_low=config.clip_low,
                clip_high=config.clip_high,
                kl_weight=config.kl_weight,
                loss_over=config.loss_over,
            )
            (terms.loss / count).backward()
            sums += torch.stack([terms.loss.detach(), terms.kl, terms.num_clipped])
        rate = learning_rate(training, update, num_updates)
        norm = self._parallel.finish_gradients(training.max_grad_norm)
        loss, kl, clipped = all_reduce_sum(sums).tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"loss {loss / count} and gradient norm {norm} at update {update + 1} are not"
                " finite; lower online.training.learning_rate or set"
                " online.training.precision=fp32"
            )
        self._parallel.step(rate)
        return {
            "train/loss": loss / count,
            "train/kl": kl / count,
            "train/clip_share": clipped / num_tokens,
            "train/grad_norm": norm,
            "train/lr": rate,
        }


def _joined(parts: Sequence[Tensor], piece: Sequence[int]) -> Tensor:
    return torch.cat([parts[i] for i in piece])
