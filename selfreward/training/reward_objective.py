"""The Bradley-Terry loss of a micro-batch of preferences, with the sums its metrics are made of."""

from collections.abc import Sequence

import torch
from torch import Tensor

from selfreward.config import TrainingConfig
from selfreward.training.collate import Batch
from selfreward.training.encoding import EncodedRow
from selfreward.training.losses import soft_preference_loss


def bradley_terry_loss(
    *,
    chosen_scores_P: Tensor,
    rejected_scores_P: Tensor,
    label_confidence_P: Tensor,
    centering: float,
) -> Tensor:
    """Returns -log sigmoid(score chosen - score rejected) + centering * (their sum)^2, shape (P,).

    The first term is the negative log-likelihood of the Bradley-Terry model (arXiv 2203.02155,
    equation 1, of one comparison), with the soft labels of `soft_preference_loss` where a label is
    not sure. It knows differences of scores only; the second term keeps the scores around 0 (arXiv
    2312.09244).
    """
    preference_P = soft_preference_loss(chosen_scores_P - rejected_scores_P, label_confidence_P)
    return preference_P + centering * (chosen_scores_P + rejected_scores_P).square()


class RewardObjective:
    """Bradley-Terry over the scores of chosen and rejected completions."""

    def __init__(self, config: TrainingConfig, rows: Sequence[EncodedRow]):
        self._centering = config.reward_centering
        self._confidence = torch.tensor([r.label_confidence for r in rows])

    def names(self) -> tuple[str, ...]:
        return ("train/loss", "train/accuracy", "train/score_chosen", "train/score_rejected")

    def count(self, indices: Sequence[int]) -> int:
        """What the loss of a whole step is divided by: pairs."""
        return len(indices)

    def __call__(
        self, scores_S: Tensor, batch: Batch, piece: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss, summed, and the sums behind `names`."""
        if not piece:  # the empty micro-batch still runs backward, with gradients of zero
            return scores_S.sum() * 0.0, scores_S.new_zeros(len(self.names()))
        chosen_P, rejected_P = scores_S[0::2], scores_S[1::2]
        loss_P = bradley_terry_loss(
            chosen_scores_P=chosen_P,
            rejected_scores_P=rejected_P,
            label_confidence_P=self._confidence[list(piece)].to(scores_S.device),
            centering=self._centering,
        )
        parts = (
            loss_P.detach(),
            (chosen_P > rejected_P).float(),
            chosen_P.detach(),
            rejected_P.detach(),
        )
        return loss_P.sum(), torch.stack([p.sum() for p in parts])
