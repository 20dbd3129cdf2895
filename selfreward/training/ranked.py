"""Preferences learnt as scores: rows of Preference, objective `reward_model`."""

import torch

from selfreward.records import Preference
from selfreward.training.data import read_records
from selfreward.training.encoding import encode_preferences
from selfreward.training.material import Setting
from selfreward.training.model import ModelKind
from selfreward.training.parallel import all_reduce_sum
from selfreward.training.reward_objective import RewardObjective
from selfreward.training.row_material import RowMaterial
from selfreward.training.row_steps import RowBatches
from selfreward.training.task import Metrics


class RankedPairs(RowMaterial):
    """A `Material`: the loss of a step is the mean Bradley-Terry loss of its pairs."""

    kind: ModelKind = "reward_model"

    def __init__(self, setting: Setting):
        """Raises:
        DataError: no rows to train on, or a label confidence that is none.
        """
        task = setting.task
        encoded, (self._held_out, held_out_too_long) = (
            encode_preferences(
                setting.tokenizer, read_records(files, Preference), task.config.max_length
            )
            for files in (task.data, task.validation)
        )
        super().__init__(setting, encoded, held_out_too_long)

    def _make_objective(self) -> RewardObjective:
        return RewardObjective(self._setting.task.config, self._rows)

    @torch.no_grad()
    def evaluate(self) -> Metrics:
        """`eval/loss`, and `eval/accuracy`: the share of pairs whose chosen one scores higher."""
        if not self._held_out:
            return {}
        device = self._setting.device
        objective = RewardObjective(self._setting.task.config, self._held_out)
        batches = RowBatches(self._held_out, self._setting, self._parallel)
        indices = range(len(self._held_out))
        policy = self._parallel.policy
        policy.eval()
        sums = torch.zeros(2, device=device, dtype=torch.float64)
        for batch, piece in batches.pieces(indices):
            batch = batch.to(device)
            scores_S = policy(batch)
            loss, _ = objective(scores_S, batch, piece)
            if piece:
                sums[0] += loss
                sums[1] += (scores_S[0::2] > scores_S[1::2]).sum()
        loss_sum, num_right = all_reduce_sum(sums).tolist()
        return {
            "eval/loss": loss_sum / objective.count(indices),
            "eval/accuracy": num_right / len(indices),
        }
