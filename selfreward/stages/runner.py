"""Runs a stage's logic over shards with Ray Data: one task a shard, bounded, resumable.

A stage's logic is a plain object that turns rows into results with the help of `generate`; it
knows neither Ray nor storage. A shard task reads its input shard, skips the rows that an earlier
attempt finished, sends the rest to the engines in small chunks that all run at once, and makes
each chunk durable as soon as it is done. The driver only sees one summary row a shard.

Back-pressure: at most `shards_in_flight` shards are open, so at most that many times the shard's
rows wait at the engines.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import ray.data

from selfreward import errors
from selfreward.config import RayConfig
from selfreward.engines.protocol import Completion, Generate, GenerationRequest, Ledger
from selfreward.errors import own_error_in
from selfreward.interrupts import iterate_in_thread
from selfreward.stages.stall import StallWatch
from selfreward.storage.shards import RowResult, ShardSummary, ShardWriter

InT = TypeVar("InT")
OutT = TypeVar("OutT")


class StageLogic(Protocol[InT, OutT]):
    """What a stage is: how to read its rows, and what to make of some of them."""

    @property
    def name(self) -> str: ...

    @property
    def out_type(self) -> type[OutT]: ...

    def read(self, inputs: Sequence[str]) -> list[InT]:
        """Reads the rows of one shard from its input files; each row has an `id`."""

    async def process(self, rows: Sequence[InT], generate: Generate) -> list[RowResult[OutT]]:
        """Returns one result for each row, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard to make: where it goes and what it is made of."""

    folder: str
    index: int
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a shard task tells the driver while it works."""

    rows: int
    ledger: dict[str, Any]


class ShardTask:
    """The callable Ray Data runs on each row `{folder, index, inputs}`."""

    def __init__(
        self,
        logic: StageLogic[Any, Any],
        generate: Generate | None,
        rows_per_call: int,
        tell: Callable[[Progress], None],
    ) -> None:
        self._logic = logic
        self._generate = generate
        self._rows_per_call = rows_per_call
        self._tell = tell

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        job = ShardJob(folder=row["folder"], index=row["index"], inputs=tuple(row["inputs"]))
        try:
            summary = asyncio.run(self._run(job))
        except Exception as error:
            own = own_error_in(error)
            if own is None:
                raise
            # As a value: on its way through Ray Data an exception loses what caused it.
            return _row(job, "", type(own).__name__, str(own))
        # Drops and ledger vary from shard to shard: a column of text keeps one schema.
        return _row(job, json.dumps(asdict(summary)), "", "")

    async def _run(self, job: ShardJob) -> ShardSummary:
        writer = ShardWriter(job.folder, job.index, self._logic.out_type)
        sealed = writer.summary_if_sealed()
        if sealed is not None:
            self._tell(Progress(rows=sealed.num_inputs, ledger={}))
            return sealed
        rows = self._logic.read(job.inputs)
        finished = writer.finished_ids()
        todo = [row for row in rows if row.id not in finished]
        if finished:
            self._tell(Progress(rows=len(finished), ledger={}))
        size = self._rows_per_call
        chunks = [todo[i : i + size] for i in range(0, len(todo), size)]
        async with asyncio.TaskGroup() as group:
            for chunk in chunks:
                group.create_task(self._chunk(chunk, writer))
        return writer.seal([row.id for row in rows])

    async def _chunk(self, rows: list[Any], writer: ShardWriter[Any]) -> None:
        ledger = Ledger()

        async def generate(requests: list[GenerationRequest]) -> list[Completion]:
            if self._generate is None:
                raise RuntimeError(f"stage {self._logic.name} was given no engine")
            completions = await self._generate(requests)
            for request, completion in zip(requests, completions, strict=True):
                ledger.add(request, completion)
            return completions

        results = await self._logic.process(rows, generate)
        await asyncio.to_thread(writer.add, results, asdict(ledger))
        self._tell(Progress(rows=len(rows), ledger=asdict(ledger)))


def run_shards(
    jobs: Sequence[ShardJob],
    task: ShardTask,
    ray_config: RayConfig,
    shards_in_flight: int,
    told: Callable[[], Any] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, ShardSummary]]:
    """Yields (folder, summary) as shards are sealed, in the order they finish.

    `told` returns what tasks told so far, and `warn` takes a line, where nothing moves.

    Raises:
        ResourceError: nothing has moved for `ray.stall_timeout_s`.
        SelfRewardError: what a shard task raised, as it raised it.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    rows = [{"folder": j.folder, "index": j.index, "inputs": list(j.inputs)} for j in jobs]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        task,
        num_cpus=ray_config.stage_task_cpus,
        compute=ray.data.TaskPoolStrategy(size=min(shards_in_flight, len(rows))),
    )
    watch = StallWatch(ray_config, told, warn)
    for row in iterate_in_thread(dataset.iter_rows(), "stage", watch.check):
        watch.moved()
        if row["error"]:
            raise getattr(errors, row["error"])(row["detail"])
        yield row["folder"], ShardSummary(**json.loads(row["summary"]))


def _row(job: ShardJob, summary: str, error: str, detail: str) -> dict[str, Any]:
    return {"folder": job.folder, "summary": summary, "error": error, "detail": detail}
