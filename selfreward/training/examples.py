"""Single targets to learn: rows of TrainingExample, objective `sft`."""

from collections.abc import Callable, Generator, Sequence

from torch import Tensor

from selfreward.records import TrainingExample
from selfreward.training.collate import Batch
from selfreward.training.data import read_records
from selfreward.training.encoding import encode_examples, labelled_digest
from selfreward.training.material import Setting, Share
from selfreward.training.model import ModelKind, ModelSource
from selfreward.training.objective import Objective
from selfreward.training.parallel import Parallel
from selfreward.training.row_steps import HeldOutExamples, RowBatches, plan_rows, require_rows
from selfreward.training.task import Metrics


class Examples:
    """A `Material`: the loss of a step is the mean NLL of its target tokens."""

    kind: ModelKind = "causal_lm"
    reference_s = 0.0

    def __init__(self, setting: Setting):
        """Raises:
        DataError: no rows to train on.
        """
        self._setting, task = setting, setting.task
        self._rows, too_long = encode_examples(
            setting.tokenizer, read_records(task.data, TrainingExample), task.config.max_length
        )
        require_rows(task, self._rows, too_long)
        self._held_out = HeldOutExamples(setting)
        self.dropped = {"too_long": too_long, "validation_too_long": self._held_out.too_long}
        self.digest = labelled_digest(self._rows)
        self.num_rows = len(self._rows)
        self._plan = plan_rows(task, self._rows)
        self.num_steps = len(self._plan)
        self._objective = Objective(task.config, self._rows, None)

    def prepare(self, load: Callable[[ModelSource], Parallel]) -> None:
        """Nothing: examples are compared with no other model."""

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
        return means | {"train/nll": means["train/loss"]}

    def evaluate(self) -> Metrics:
        return self._held_out.evaluate(self._parallel)
