"""Preferences learnt as scores: rows of Preference, objective `reward_model`."""

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from selfreward.records import Preference
from selfreward.training.collate import Batch
from selfreward.training.data import read_records
from selfreward.training.encoding import encode_preferences, labelled_digest
from selfreward.training.material import Setting, Share
from selfreward.training.model import ModelKind, ModelSource
from selfreward.training.parallel import Parallel, all_reduce_sum
from selfreward.training.reward_objective import RewardObjective
from selfreward.training.row_steps import RowBatches, plan_rows, require_rows
from selfreward.training.task import Metrics


class RankedPairs:
    """A `Material`: the loss of a step is the mean Bradley-Terry loss of its pairs."""

    kind: ModelKind = "reward_model"
    reference_s = 0.0

    def __init__(self, setting: Setting):
        """Raises:
        DataError: no rows to train on, or a label confidence that is none.
        """
        self._setting, task = setting, setting.task
        limit = task.config.max_length
        self._rows, too_long = encode_preferences(
            setting.tokenizer, read_records(task.data, Preference), limit
        )
        require_rows(task, self._rows, too_long)
        self._held_out, held_out_too_long = encode_preferences(
            setting.tokenizer, read_records(task.validation, Preference), limit
        )
        self.dropped = {"too_long": too_long, "validation_too_long": held_out_too_long}
        self.digest = labelled_digest(self._rows)
        self.num_rows = len(self._rows)
        self._plan = plan_rows(task, self._rows)
        self.num_steps = len(self._plan)
        self._objective = RewardObjective(task.config, self._rows)

    def prepare(self, load: Callable[[ModelSource], Parallel]) -> None:
        """Nothing: a score needs no reference."""

    def attach(self, parallel: Parallel) -> None:
        self._parallel = parallel
        self._batches = RowBatches(self._rows, self._setting, parallel)

    def names(self) -> tuple[str, ...]:
        return self._objective.names()

    def steps(self, start: int) -> Generator[Share, None, None]:
        return self._batches.steps(self._plan, start, self._objective)

    def loss(self, outputs: Tensor, batch: Batch, piece: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self._objective(outputs, batch, piece)

    def metrics(self, means: Metrics) -> Metrics:
        return means

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
