"""Preferences learnt by DPO against a reference model: rows of Preference, objective `dpo`."""

import time
from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from selfreward.records import Preference
from selfreward.training.collate import Batch
from selfreward.training.data import read_records
from selfreward.training.encoding import encode_preferences, labelled_digest
from selfreward.training.material import Setting, Share
from selfreward.training.model import ModelKind, ModelSource
from selfreward.training.objective import Objective
from selfreward.training.parallel import Parallel
from selfreward.training.reference import reference_key, reference_logps
from selfreward.training.row_steps import HeldOutExamples, RowBatches, plan_rows, require_rows
from selfreward.training.task import Metrics


class Preferences:
    """A `Material`: the loss of a step is the mean DPO+NLL loss of its pairs."""

    kind: ModelKind = "causal_lm"

    def __init__(self, setting: Setting):
        """Raises:
        DataError: no rows to train on, or a label confidence that is none.
        """
        self._setting, task = setting, setting.task
        self._rows, too_long = encode_preferences(
            setting.tokenizer, read_records(task.data, Preference), task.config.max_length
        )
        require_rows(task, self._rows, too_long)
        self._held_out = HeldOutExamples(setting)
        self.dropped = {"too_long": too_long, "validation_too_long": self._held_out.too_long}
        self.digest = labelled_digest(self._rows)
        self.num_rows = len(self._rows)
        self._plan = plan_rows(task, self._rows)
        self.num_steps = len(self._plan)
        self.reference_s = 0.0
        self._reference: Tensor | None = None

    def prepare(self, load: Callable[[ModelSource], Parallel]) -> None:
        """Computes the reference where it is another model, which has come and gone before the
        trained model takes its memory."""
        other = self._setting.task.other_reference
        if other is not None:
            self._reference = self._logps(lambda: load(other))

    def attach(self, parallel: Parallel) -> None:
        self._parallel = parallel
        self._batches = RowBatches(self._rows, self._setting, parallel)
        if self._reference is None:  # the trained model before any update
            self._reference = self._logps(lambda: parallel)
        self._objective = Objective(self._setting.task.config, self._rows, self._reference)

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

    def names(self) -> tuple[str, ...]:
        return self._objective.names()

    def steps(self, start: int) -> Generator[Share, None, None]:
        return self._batches.steps(self._plan, start, self._objective)

    def loss(self, outputs: Tensor, batch: Batch, piece: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self._objective(outputs, batch, piece)

    def metrics(self, means: Metrics) -> Metrics:
        margin = means["train/reward_chosen"] - means["train/reward_rejected"]
        return means | {"train/reward_margin": margin}

    def evaluate(self) -> Metrics:
        return self._held_out.evaluate(self._parallel)
