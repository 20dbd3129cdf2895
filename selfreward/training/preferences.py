"""Preferences learnt by DPO against a reference model: rows of Preference, objective `dpo`."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from selfreward.records import Preference
from selfreward.training.data import read_records
from selfreward.training.encoding import encode_preferences
from selfreward.training.material import Setting
from selfreward.training.model import ModelSource
from selfreward.training.objective import Objective
from selfreward.training.parallel import Parallel
from selfreward.training.reference import reference_key, reference_logps
from selfreward.training.row_material import RowMaterial
from selfreward.training.row_steps import HeldOutExamples
from selfreward.training.task import Metrics


class Preferences(RowMaterial):
    """A `Material`: the loss of a step is the mean DPO+NLL loss of its pairs."""

    def __init__(self, setting: Setting):
        """Raises:
        DataError: no rows to train on, or a label confidence that is none.
        """
        task = setting.task
        encoded = encode_preferences(
            setting.tokenizer, read_records(task.data, Preference), task.config.max_length
        )
        self._held_out = HeldOutExamples(setting)
        super().__init__(setting, encoded, self._held_out.too_long)
        self._reference: Tensor | None = None

    def prepare(self, load: Callable[[ModelSource], Parallel]) -> None:
        """Computes the reference where it is another model, which has come and gone before the
        trained model takes its memory."""
        other = self._setting.task.other_reference
        if other is not None:
            self._reference = self._logps(lambda: load(other))

    def _make_objective(self) -> Objective:
        if self._reference is None:  # the trained model before any update
            self._reference = self._logps(lambda: self._parallel)
        return Objective(self._setting.task.config, self._rows, self._reference)

    def _logps(self, load: Callable[[], Parallel]) -> Tensor:
        """Reference log-probabilities (rows, 2); 0 for rows that no step uses."""
        started = time.perf_counter()
        task = self._setting.task
        used = sorted({i for step in self._plan for i in step})
        rows = [self._rows[i] for i in used]
        key = reference_key(
            rows,
            model_fingerprint=task.reference_identity,
            max_length=task.config.max_length,
            precision=task.config.precision,
        )
        reference = torch.zeros(len(self._rows), 2)
        reference[used] = reference_logps(
            load,
            rows,
            cache=task.reference_cache,
            key=key,
            pad_id=self._setting.pad_id,
            max_padded_tokens=task.config.tokens_per_micro_batch,
            device=self._setting.device,
        )
        self.reference_s = time.perf_counter() - started
        return reference

    def metrics(self, means: Metrics) -> Metrics:
        margin = means["train/reward_chosen"] - means["train/reward_rejected"]
        return means | {"train/reward_margin": margin}

    def evaluate(self) -> Metrics:
        return self._held_out.evaluate(self._parallel)
