"""What the materials of encoded rows share: examples, preferences and ranked pairs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence

from torch import Tensor

from selfreward.records import content_id
from selfreward.training.collate import Batch
from selfreward.training.encoding import EncodedRow, labelled_digest
from selfreward.training.material import Setting, Share
from selfreward.training.model import ModelKind, ModelSource
from selfreward.training.objective import RowObjective
from selfreward.training.parallel import Parallel
from selfreward.training.row_steps import RowBatches, margins_of, plan_rows, require_rows
from selfreward.training.task import Metrics


class RowMaterial(ABC):
    """A `Material` of rows that lie in memory, but for what it measures on held-out ones.

    A subclass hands its objective over in `_make_objective`, which is called with the model to
    train attached and before any update.
    """

    kind: ModelKind = "causal_lm"
    reference_s = 0.0

    def __init__(
        self, setting: Setting, encoded: tuple[Sequence[EncodedRow], int], held_out_too_long: int
    ):
        """`encoded` are the rows and the number of those too long to be among them.

        Raises:
            DataError: there are no rows to train on, or none with a margin to order them by.
        """
        self._setting, task = setting, setting.task
        self._rows, too_long = encoded
        require_rows(task, self._rows, too_long)
        self.dropped = {"too_long": too_long, "validation_too_long": held_out_too_long}
        self.digest = labelled_digest(self._rows)
        margins = margins_of(task, self._rows)
        if margins is not None:
            # A run resumed on rows of other margins would go on in another order.
            self.digest = content_id("ordered", self.digest, margins)
        self.num_rows = len(self._rows)
        self._plan = plan_rows(task, self._rows, margins)
        self.num_steps = len(self._plan)

    @abstractmethod
    def _make_objective(self) -> RowObjective: ...

    def prepare(  # noqa: B027 - most need nothing
        self, load: Callable[[ModelSource], Parallel]
    ) -> None:
        """Nothing, where no other model is asked."""

    def attach(self, parallel: Parallel) -> None:
        self._parallel = parallel
        self._batches = RowBatches(self._rows, self._setting, parallel)
        self._objective = self._make_objective()

    def names(self) -> tuple[str, ...]:
        return self._objective.names()

    def steps(self, start: int) -> Generator[Share, None, None]:
        return self._batches.steps(self._plan, start, self._objective)

    def loss(self, outputs: Tensor, batch: Batch, piece: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self._objective(outputs, batch, piece)

    def metrics(self, means: Metrics) -> Metrics:
        return means
