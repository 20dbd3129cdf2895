"""The loss of a micro-batch, for each record type, with the sums its metrics are made of."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from selfreward.config import TrainingConfig
from selfreward.training.collate import Batch
from selfreward.training.encoding import EncodedRow
from selfreward.training.losses import dpo_terms, nll_sum, sequence_logps


class RowObjective(Protocol):
    """What rows are trained for."""

    def names(self) -> tuple[str, ...]:
        """The metrics whose sums a call returns; the first is `train/loss`."""

    def count(self, indices: Sequence[int]) -> int:
        """What the loss of a whole step over these rows is divided by."""

    def __call__(
        self, outputs: Tensor, batch: Batch, piece: Sequence[int], /
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss of the micro-batch with the rows `piece`, summed, and the sums behind
        `names`."""


class Objective:
    """SFT, or DPO+NLL where there are `reference` log-probabilities, shape (rows, 2)."""

    def __init__(
        self, config: TrainingConfig, rows: Sequence[EncodedRow], reference: Tensor | None
    ):
        self._config = config
        self._rows = rows
        self._reference = reference
        self._confidence = torch.tensor([r.label_confidence for r in rows])

    def names(self) -> tuple[str, ...]:
        if self._reference is None:
            return ("train/loss",)
        return (
            "train/loss",
            "train/preference_loss",
            "train/nll",
            "train/reward_chosen",
            "train/reward_rejected",
            "train/accuracy",
            "train/logps_chosen",
            "train/logps_rejected",
        )

    def count(self, indices: Sequence[int]) -> int:
        """What the loss of a whole step is divided by: target tokens (SFT) or pairs (DPO)."""
        if self._reference is None:
            return sum(self._rows[i].num_targets for i in indices)
        return len(indices)

    def __call__(
        self, logps_N: Tensor, batch: Batch, piece: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss, summed, and the sums behind `names`."""
        if not piece:  # the empty micro-batch still runs backward, with gradients of zero
            return logps_N.sum() * 0.0, logps_N.new_zeros(len(self.names()))
        if self._reference is None:
            loss = nll_sum(logps_N)
            return loss, loss.detach()[None]
        logps_S = sequence_logps(logps_N, batch.sequence_N, batch.num_sequences)
        reference_PC = self._reference[list(piece)].to(logps_S.device)
        confidence_P = self._confidence[list(piece)].to(logps_S.device)
        terms = dpo_terms(
            chosen_logps_P=logps_S[0::2],
            rejected_logps_P=logps_S[1::2],
            reference_chosen_logps_P=reference_PC[:, 0],
            reference_rejected_logps_P=reference_PC[:, 1],
            chosen_lengths_P=batch.lengths_S[0::2],
            label_confidence_P=confidence_P,
            beta=self._config.dpo_beta,
            nll_weight=self._config.nll_weight,
        )
        parts = (
            terms.loss_P.detach(),
            terms.preference_loss_P,
            terms.nll_P,
            terms.chosen_reward_P,
            terms.rejected_reward_P,
            (terms.chosen_reward_P > terms.rejected_reward_P).float(),
            logps_S[0::2].detach(),
            logps_S[1::2].detach(),
        )
        return terms.loss_P.sum(), torch.stack([p.sum() for p in parts])
