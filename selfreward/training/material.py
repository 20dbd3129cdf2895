"""What is trained on, as the loop sees it: steps made of micro-batches, a loss, a measurement.

The loop knows neither rows nor files. Each kind of material is a class in a file of its own.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from selfreward.training.collate import Batch
from selfreward.training.model import ModelKind, ModelSource
from selfreward.training.parallel import Parallel
from selfreward.training.task import Metrics, TrainingTask
from selfreward.training.text_stream import Reader

Piece = tuple[Batch, Sequence[int]]
"""A micro-batch on the CPU, and which rows are in it; no rows where it only keeps the number of
micro-batches equal over workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """This worker's share of an optimizer step.

    Example: `Share(pieces=iter([(batch, [3, 0])]), count=57, num_tokens=212)`
    """

    pieces: Iterator[Piece]
    count: int
    """What the loss of the whole step, over all workers, is divided by."""
    num_tokens: int
    """Tokens of the whole step, over all workers, without padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a material is made from.

    Example: `Setting(task=task, tokenizer=tokenizer, device=torch.device("cpu"),
    read=read_plainly)`
    """

    task: TrainingTask
    tokenizer: Any
    device: torch.device
    read: Reader
    """How packed text is read."""

    @property
    def pad_id(self) -> int:
        pad_id: int | None = self.tokenizer.pad_token_id
        end_id: int = self.tokenizer.eos_token_id
        return end_id if pad_id is None else pad_id


class Material(Protocol):
    """What is trained on. Every worker calls the same methods in the same order.

    Made from a `Setting`, which is when data is read (or measured, where it is streamed).
    """

    @property
    def kind(self) -> ModelKind:
        """The kind of model it trains."""

    @property
    def num_rows(self) -> int: ...

    @property
    def num_steps(self) -> int: ...

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, by reason."""

    @property
    def digest(self) -> str:
        """Tells these data from any other."""

    @property
    def reference_s(self) -> float:
        """Seconds spent on reference log-probabilities."""

    def prepare(self, load: Callable[[ModelSource], Parallel]) -> None:
        """Does what needs another model, before the trained one takes its memory."""

    def attach(self, parallel: Parallel) -> None:
        """Takes the model to train, before any update."""

    def names(self) -> tuple[str, ...]:
        """The metrics that `loss` returns sums of; the first is `train/loss`."""

    def steps(self, start: int) -> Generator[Share, None, None]:
        """The steps from `start` on."""

    def loss(self, outputs: Tensor, batch: Batch, piece: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns the loss of a micro-batch, summed, and the sums behind `names`."""

    def metrics(self, means: Metrics) -> Metrics:
        """Returns the metrics of a step from the means of `names`."""

    def evaluate(self) -> Metrics:
        """Measures held-out data; empty without any."""
