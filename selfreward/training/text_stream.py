"""Reads the packed sequences of the coming steps while the model trains on those of this one.

A step is dealt out in blocks, so that what one worker takes lies side by side in a file and each
sequence is read by one worker only; what a step holds does not depend on how many there are.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

from selfreward import interrupts
from selfreward.errors import TrainingError
from selfreward.storage.token_shards import PackedRow
from selfreward.training.text_plan import Place, read_sequences

T = TypeVar("T")

Chunk = list[list[Place]]
"""One worker's sequences of a few steps, a list for each step: what is read at once."""
Reader = Callable[[Sequence[Chunk]], Iterator[list[list[PackedRow]]]]
"""Reads chunks in order."""

ROWS_PER_READ = 128
MAX_GAP = 256
"""Sequences of other workers that are read along rather than opening the file once more: about a
row group."""
READ_AHEAD = 2
"""Chunks that wait, read, for their steps."""


def block_of(places: Sequence[T], rank: int, world_size: int) -> Sequence[T]:
    """Worker `rank`'s part of a step; parts differ by one sequence at most."""
    count = len(places)
    return places[count * rank // world_size : count * (rank + 1) // world_size]


class Chunks(Sequence[Chunk]):
    """What one worker reads from step `start` on, made when it is asked for."""

    def __init__(self, plan: Sequence[Sequence[Place]], *, start: int, rank: int, world_size: int):
        self._plan, self._start = plan, start
        self._rank, self._world_size = rank, world_size
        num_places = len(plan[start]) if start < len(plan) else 1
        self._steps_per_read = max(1, ROWS_PER_READ * world_size // num_places)

    def __len__(self) -> int:
        return -(-(len(self._plan) - self._start) // self._steps_per_read)

    def __getitem__(self, index: int) -> Chunk:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = self._start + index * self._steps_per_read
        steps = range(first, min(first + self._steps_per_read, len(self._plan)))
        return [list(block_of(self._plan[s], self._rank, self._world_size)) for s in steps]


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cuts sorted row numbers into [start, stop) with no large gap inside."""
    start = previous = rows[0]
    for row in rows[1:]:
        if row - previous > MAX_GAP:
            yield start, previous + 1
            start = row
        previous = row
    yield start, previous + 1


def read_chunk(chunk: Chunk) -> list[list[PackedRow]]:
    """Reads the sequences of a chunk, those near each other at once, and puts them in its order.

    Raises:
        DataError, StorageError: a shard is gone or unreadable.
    """
    wanted: dict[str, set[int]] = {}
    for url, row in (place for step in chunk for place in step):
        wanted.setdefault(url, set()).add(row)
    found: dict[Place, PackedRow] = {}
    for url, rows in wanted.items():
        for start, stop in _runs(sorted(rows)):
            for row, packed in enumerate(read_sequences(url, start, stop), start):
                if row in rows:
                    found[url, row] = packed
    return [[found[place] for place in step] for step in chunk]


def read_plainly(chunks: Sequence[Chunk]) -> Iterator[list[list[PackedRow]]]:
    """A `Reader` that reads in this process."""
    return (read_chunk(chunk) for chunk in chunks)


def read_ahead(items: Iterable[T], *, depth: int, limit_s: float) -> Generator[T, None, None]:
    """Yields `items`, which a thread of its own asks for, at most `depth` of them in advance.

    An error of `items` is raised here. The thread ends when the iterator is closed.

    Raises:
        TrainingError: an item took longer than `limit_s` seconds.
    """
    ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def put(what: str, value: T | BaseException | None) -> None:
        while not closed.is_set():
            try:
                return ready.put((what, value), timeout=interrupts.NAP_S)
            except queue.Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put("item", item)
                if closed.is_set():
                    return
        except BaseException as error:  # handed to the waiting thread, which raises it
            put("error", error)
        else:
            put("end", None)

    def take() -> tuple[str, T | BaseException | None]:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            interrupts.check()
            try:
                return ready.get(timeout=interrupts.NAP_S)
            except queue.Empty:
                continue
        raise TrainingError(f"no training text came for {limit_s:g} seconds")

    threading.Thread(target=run, name="read-ahead", daemon=True).start()
    try:
        while True:
            what, value = take()
            if what == "end":
                return
            if isinstance(value, BaseException):
                raise value
            yield value  # type: ignore[misc]
    finally:
        closed.set()


def packed_stream(
    plan: Sequence[Sequence[Place]],
    *,
    start: int,
    rank: int,
    world_size: int,
    limit_s: float,
    read: Reader = read_plainly,
) -> Generator[list[PackedRow], None, None]:
    """Yields this worker's sequences of each step of `plan` from `start` on, read ahead.

    Raises:
        DataError: a shard is gone or unreadable.
        TrainingError: a read took longer than `limit_s` seconds.
    """
    chunks = Chunks(plan, start=start, rank=rank, world_size=world_size)
    with closing(read_ahead(read(chunks), depth=READ_AHEAD, limit_s=limit_s)) as ready:
        for steps in ready:
            yield from steps
