"""Single targets to learn: rows of TrainingExample, objective `sft`."""

from selfreward.records import TrainingExample
from selfreward.training.data import read_records
from selfreward.training.encoding import encode_examples
from selfreward.training.material import Setting
from selfreward.training.objective import Objective
from selfreward.training.row_material import RowMaterial
from selfreward.training.row_steps import HeldOutExamples
from selfreward.training.task import Metrics


class Examples(RowMaterial):
    """A `Material`: the loss of a step is the mean NLL of its target tokens."""

    def __init__(self, setting: Setting):
        """Raises:
        DataError: no rows to train on.
        """
        task = setting.task
        encoded = encode_examples(
            setting.tokenizer, read_records(task.data, TrainingExample), task.config.max_length
        )
        self._held_out = HeldOutExamples(setting)
        super().__init__(setting, encoded, self._held_out.too_long)

    def _make_objective(self) -> Objective:
        return Objective(self._setting.task.config, self._rows, None)

    def metrics(self, means: Metrics) -> Metrics:
        return means | {"train/nll": means["train/loss"]}

    def evaluate(self) -> Metrics:
        return self._held_out.evaluate(self._parallel)
