"""Steps and micro-batches of encoded rows that lie in memory: examples and preferences."""

from collections.abc import Generator, Iterator, Sequence

from selfreward.errors import DataError
from selfreward.records import TrainingExample
from selfreward.training.batching import plan_batches, plan_step
from selfreward.training.collate import collate
from selfreward.training.data import read_records
from selfreward.training.encoding import EncodedRow, encode_examples
from selfreward.training.material import Piece, Setting, Share
from selfreward.training.objective import RowObjective
from selfreward.training.parallel import Parallel, rank, world_size
from selfreward.training.scoring import evaluate
from selfreward.training.task import Metrics, TrainingTask


def require_rows(task: TrainingTask, rows: Sequence[EncodedRow], too_long: int) -> None:
    """Raises:
    DataError: there are no rows to train on.
    """
    if rows:
        return
    found = f"nothing to train on: {len(task.data)} file(s) of {task.record} rows"
    limit = task.config.max_length
    raise DataError(
        f"{found} hold {too_long} row(s), all longer than training.max_length={limit} tokens"
        if too_long
        else f"{found} are empty"
    )


class HeldOutExamples:
    """The validation rows of a task: targets, each with its counter target where there is one."""

    def __init__(self, setting: Setting):
        task = setting.task
        self._setting = setting
        self._rows, self.too_long = encode_examples(
            setting.tokenizer,
            read_records(task.validation, TrainingExample),
            task.config.max_length,
            with_counter_target=True,
        )

    def evaluate(self, parallel: Parallel) -> Metrics:
        if not self._rows:
            return {}
        return evaluate(
            parallel,
            self._rows,
            pad_id=self._setting.pad_id,
            max_padded_tokens=self._setting.task.config.tokens_per_micro_batch,
            device=self._setting.device,
        )


def margins_of(task: TrainingTask, rows: Sequence[EncodedRow]) -> list[float | None] | None:
    """The margins that decide the rows' order; None where they have no say.

    Raises:
        DataError: they are to decide, and no row has one.
    """
    if task.config.curriculum == "none":
        return None
    margins = [row.margin for row in rows]
    if all(margin is None for margin in margins):
        raise DataError(
            f"training.curriculum={task.config.curriculum}: none of {len(rows)} {task.record} rows"
            " has a verdict_margin, which rows selected by an earlier version lack; select them"
            " again with --force select, or set training.curriculum=none"
        )
    return margins


def plan_rows(
    task: TrainingTask, rows: Sequence[EncodedRow], margins: Sequence[float | None] | None
) -> list[list[int]]:
    """The row indices of each optimizer step, over all workers; `margins` as in `margins_of`."""
    return plan_batches(
        [r.pair_id for r in rows],
        batch_size=task.config.batch_size,
        epochs=task.config.epochs,
        seed=task.seed,
        max_steps=task.config.max_steps,
        margins=margins,
    )


class RowBatches:
    """Lays rows out for one model on this worker."""

    def __init__(self, rows: Sequence[EncodedRow], setting: Setting, parallel: Parallel):
        self._rows = rows
        self._pad_id = setting.pad_id
        self._max_padded_tokens = setting.task.config.tokens_per_micro_batch
        self._parallel = parallel
        self._shares_prompt = parallel.policy.traits.shares_prompt
        self._lengths = [r.padded_length(self._shares_prompt) for r in rows]

    def pieces(self, indices: Sequence[int]) -> Iterator[Piece]:
        """This worker's micro-batches of the rows, each laid out when it is asked for."""
        pieces = plan_step(
            indices,
            self._lengths,
            num_workers=world_size(),
            rank=rank(),
            max_padded_tokens=self._max_padded_tokens,
            overhead_tokens=self._parallel.overhead_tokens,
            equal_counts=self._parallel.equal_counts,
            pads=not self._parallel.policy.traits.ragged,
        )
        for piece in pieces:
            rows = [self._rows[i] for i in piece]
            yield collate(rows, self._pad_id, self._shares_prompt), piece

    def steps(
        self, plan: Sequence[Sequence[int]], start: int, objective: RowObjective
    ) -> Generator[Share, None, None]:
        """This worker's shares of the steps of `plan` from `start` on."""
        for indices in plan[start:]:
            yield Share(
                pieces=self.pieces(indices),
                count=objective.count(indices),
                num_tokens=sum(self._rows[i].num_sequence_tokens for i in indices),
            )
