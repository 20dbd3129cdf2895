"""Which packed sequences make each optimizer step: known without reading them.

    shards of an epoch, shuffled:   [ shard 2 | shard 0 | shard 1 ][ shard 1 | shard 2 | …
    positions:                        0  1  2   3  4  5   6  7  8    9 …
    steps of 4:                      [    0    ][    1    ][    2    ]

Documents were shuffled when the shards were written, so inside a shard the order is the file's.
"""

import bisect
import hashlib
import itertools
import math
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from selfreward.errors import ConfigError, DataError
from selfreward.storage.token_shards import PackedRow, num_sequences, read_rows
from selfreward.text.mixing import MixedOrder, mixed_order
from selfreward.training.task import TrainingTask

Place = tuple[str, int]
"""A token shard's URL and the number of a sequence in it."""

READERS = 16
"""Shards that are looked at together at the start; it is mostly waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenShard:
    """What is known of a token shard.

    Example: `TokenShard(url="runs/a/tokens/00000.parquet", num_sequences=1024,
    sequence_length=512, digest="9f3c…")`
    """

    url: str
    num_sequences: int
    sequence_length: int
    digest: str
    """Of its first sequence."""


def read_sequences(url: str, start: int, stop: int) -> list[PackedRow]:
    """Reads sequences of a token shard.

    Raises:
        DataError: it is gone or holds something else.
        StorageError: it is unreadable.
    """
    try:
        return read_rows(url, start, stop)
    except FileNotFoundError as error:
        raise DataError(f"no training text at {url}") from error


def _measure(url: str) -> TokenShard:
    try:
        count = num_sequences(url)
    except FileNotFoundError as error:
        raise DataError(f"no training text at {url}") from error
    if not count:
        return TokenShard(url=url, num_sequences=0, sequence_length=0, digest="")
    (first,) = read_sequences(url, 0, 1)
    digest = hashlib.sha256(first.tokens.tobytes() + first.lengths.tobytes()).hexdigest()
    return TokenShard(
        url=url, num_sequences=count, sequence_length=len(first.tokens), digest=digest
    )


def measure_shards(urls: Sequence[str]) -> list[TokenShard]:
    """Looks at token shards, in their order; reads one sequence of each.

    Raises:
        DataError: one is missing or unreadable, or they hold sequences of different lengths.
    """
    with ThreadPoolExecutor(READERS) as pool:
        shards = list(pool.map(_measure, urls))
    lengths = sorted({s.sequence_length for s in shards if s.num_sequences})
    if len(lengths) > 1:
        raise DataError(
            f"token shards hold sequences of {lengths[0]} and of {lengths[-1]} tokens; pack them"
            " with one sequence_length"
        )
    return shards


class EpochOrder:
    """All sequences of some shards, one epoch after the other without end.

    Epoch e goes through the shards in an order shuffled by (seed, e).
    """

    def __init__(self, shards: Sequence[TokenShard], seed: int):
        self._shards = [s for s in shards if s.num_sequences]
        self._seed = seed
        self.num_sequences = sum(s.num_sequences for s in self._shards)
        self._epoch = self._shuffled(0)

    def _shuffled(self, epoch: int) -> tuple[int, list[TokenShard], list[int]]:
        """The epoch, its shards in order, and the position at which each of them ends."""
        shards = list(self._shards)
        random.Random(f"{self._seed}/{epoch}").shuffle(shards)
        return epoch, shards, list(itertools.accumulate(s.num_sequences for s in shards))

    def __getitem__(self, position: int) -> Place:
        epoch, offset = divmod(position, self.num_sequences)
        known, shards, ends = self._epoch
        if known != epoch:
            self._epoch = known, shards, ends = self._shuffled(epoch)
        index = bisect.bisect_right(ends, offset)
        return shards[index].url, offset - (ends[index - 1] if index else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Other sequences mixed in between, evenly.

    Example: `Replay(order=EpochOrder(general, 0), mixture=mixed_order(700, 300, 0.3, 0, 1000))`
    """

    order: EpochOrder
    mixture: MixedOrder
    """Says at which positions; the sequences themselves come in the order of `order`, since
    shuffled ones would each have to be read alone."""


class TextPlan(Sequence[list[Place]]):
    """The sequences of each step, over all workers, made when they are asked for."""

    def __init__(
        self,
        order: EpochOrder,
        *,
        total: int,
        batch_size: int,
        max_steps: int | None = None,
        replay: Replay | None = None,
    ):
        """`total` sequences make up all steps; the last step may have fewer than `batch_size`."""
        self._order, self._replay = order, replay
        self._batch_size = batch_size
        num_steps = math.ceil(total / batch_size)
        self._num_steps = num_steps if max_steps is None else min(num_steps, max_steps)
        self._total = min(total, self._num_steps * batch_size)

    def __len__(self) -> int:
        return self._num_steps

    def _place(self, position: int) -> Place:
        if self._replay is None:
            return self._order[position]
        num_before = self._replay.mixture.num_general_in(position)
        if self._replay.mixture.num_general_in(position + 1) > num_before:
            return self._replay.order[num_before]
        return self._order[position - num_before]

    def __getitem__(self, step: int) -> list[Place]:  # type: ignore[override]
        if not 0 <= step < self._num_steps:
            raise IndexError(f"step {step} of {self._num_steps}")
        start = step * self._batch_size
        return [self._place(p) for p in range(start, min(start + self._batch_size, self._total))]


def _num_within_budget(task: TrainingTask, sequence_length: int) -> int | None:
    """Sequences of the full steps that meet the task's token budget; None without one."""
    if task.token_budget is None:
        return None
    batch_size = task.config.batch_size
    return math.ceil(task.token_budget / (batch_size * sequence_length)) * batch_size


def make_text_plan(
    task: TrainingTask, shards: Sequence[TokenShard], replay: Sequence[TokenShard]
) -> TextPlan:
    """Plans a task's steps over its `shards`, with `replay` where `task.replay_share` asks for it.

    A `token_budget` is met in full steps, over as many epochs as that takes; without one there are
    `config.epochs` passes over `shards`, and as much replay beside them as makes its share.

    Raises:
        DataError: there are no sequences.
        ConfigError: a share of replay that there is nothing for.
    """
    config, share = task.config, task.replay_share
    order = EpochOrder(shards, task.seed)
    if not order.num_sequences:
        raise DataError(f"nothing to train on: {len(shards)} token shard(s) hold no sequence")
    total = _num_within_budget(task, next(s.sequence_length for s in shards if s.num_sequences))
    passes = config.epochs * order.num_sequences
    if share == 0:
        return TextPlan(
            order,
            total=passes if total is None else total,
            batch_size=config.batch_size,
            max_steps=config.max_steps,
        )
    general = EpochOrder(replay, task.seed)
    if not general.num_sequences:
        raise ConfigError(f"replay_share={share:g} needs text to replay, and there is none")
    if share == 1 and total is None:
        raise ConfigError("replay_share=1 leaves nothing else, so it needs a token_budget")
    mixture = mixed_order(passes, general.num_sequences, share, task.seed, total)
    return TextPlan(
        order,
        total=len(mixture),
        batch_size=config.batch_size,
        max_steps=config.max_steps,
        replay=Replay(order=general, mixture=mixture),
    )
