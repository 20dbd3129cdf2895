"""A shard task, called without Ray: what is finished stays, and the order is the input's."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.data
from fsspec.implementations.memory import MemoryFileSystem

from selfreward import errors
from selfreward.config import RayConfig
from selfreward.engines.protocol import (
    Completion,
    Draw,
    Generate,
    GenerationRequest,
    Sampling,
)
from selfreward.errors import EngineError, ResourceError, StorageError, own_error_in
from selfreward.records import DroppedRow, DropReason, Instruction, Message, ModelRef
from selfreward.stages import stall
from selfreward.stages.runner import Progress, ShardJob, ShardTask, run_shards
from selfreward.storage import files
from selfreward.storage.shards import RowResult, ShardSummary, read_records, write_records

MODEL = ModelRef(name="m", iteration=0, fingerprint="f")
ROWS = [
    Instruction.new(messages=(Message(role="user", content=f"Task {i}"),), source="s")
    for i in range(7)
]
PLACE = {row.id: i for i, row in enumerate(ROWS)}


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        MemoryFileSystem.store.clear()
        return "memory://run"
    return str(tmp_path)


@dataclass
class Echo:
    """Asks one request a row and keeps the row; row 3 is dropped instead."""

    name: str = "echo"
    out_type: type[Instruction] = Instruction

    def read(self, inputs: Sequence[str]) -> list[Instruction]:
        return read_records(inputs[0], Instruction)

    async def process(
        self, rows: Sequence[Instruction], generate: Generate
    ) -> list[RowResult[Instruction]]:
        await generate(
            [
                GenerationRequest(
                    id=row.id,
                    purpose="respond",
                    messages=row.messages,
                    sampling=Sampling(temperature=0, max_tokens=1),
                )
                for row in rows
            ]
        )
        return [
            RowResult(
                row.id, [], [DroppedRow(row_id=row.id, stage="e", reason=DropReason.TOO_LONG)]
            )
            if PLACE[row.id] == 3
            else RowResult(row.id, [row])
            for row in rows
        ]


@dataclass
class Engine:
    """Answers later rows first; fails at the rows in `fails` once all others are durable."""

    fails: dict[int, Exception] = field(default_factory=dict)
    served: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    told: list[Progress] = field(default_factory=list)

    async def __call__(self, requests: list[GenerationRequest]) -> list[Completion]:
        places = [PLACE[r.id] for r in requests]
        self.waiting += places
        for place in set(places) & set(self.fails):
            await until(lambda: sum(p.rows for p in self.told) == len(ROWS) - len(places))
            raise self.fails[place]
        await asyncio.sleep(0)  # every chunk has asked by then
        later = {p for p in self.waiting if p > max(places)}
        await until(lambda: bool(self.fails) or later <= set(self.served))
        self.served += places
        draw = Draw(text="x y", finish_reason="stop", num_tokens=2)
        return [
            Completion(request_id=r.id, model=MODEL, draws=(draw,), num_prompt_tokens=5)
            for r in requests
        ]


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not ready():
            await asyncio.sleep(0.001)


def run(
    root: str, engine: Engine | None, rows_per_call: int = 2
) -> tuple[dict[str, Any], list[Progress]]:
    told: list[Progress] = engine.told if engine is not None else []
    write_records(f"{root}/in.parquet", ROWS, Instruction)
    task = ShardTask(Echo(), engine, rows_per_call, told.append)
    row = {"folder": f"{root}/out", "index": 4, "inputs": [f"{root}/in.parquet"]}
    return task(row), told


def sealed(root: str) -> list[int]:
    return [PLACE[i.id] for i in read_records(f"{root}/out/shard-00004.parquet", Instruction)]


def test_a_shard_is_in_the_order_of_its_input_whatever_finishes_first(root: str) -> None:
    engine = Engine()
    row, told = run(root, engine)
    assert engine.served == [6, 4, 5, 2, 3, 0, 1], "later rows were answered first"
    assert sealed(root) == [0, 1, 2, 4, 5, 6]
    assert (row["folder"], row["error"], row["detail"]) == (f"{root}/out", "", "")
    assert ShardSummary(**json.loads(row["summary"])) == ShardSummary(
        index=4,
        num_inputs=7,
        num_records=6,
        drops={"too_long": 1},
        ledger={
            "requests": 7,
            "draws": 7,
            "prompt_tokens": 35,
            "completion_tokens": 14,
            "by_purpose": {"respond": 14},
        },
    )
    assert sum(p.rows for p in told) == 7
    assert sum(p.ledger["completion_tokens"] for p in told) == 14


def test_rows_that_were_finished_are_not_asked_again(root: str) -> None:
    broken = Engine(fails={2: EngineError("all replicas are gone")})
    row, _ = run(root, broken)
    assert (row["error"], row["detail"]) == ("EngineError", "all replicas are gone")
    assert sorted(broken.served) == [0, 1, 4, 5, 6], "all chunks but the failing one"
    assert not files.exists(f"{root}/out/shard-00004.parquet")
    # Another number of rows a call: what is finished counts by row, not by chunk.
    engine = Engine()
    row, told = run(root, engine, rows_per_call=3)
    assert sorted(engine.served) == [2, 3]
    assert row["error"] == ""
    assert sealed(root) == [0, 1, 2, 4, 5, 6]
    assert sum(p.rows for p in told) == 7, "finished rows count as progress"
    assert told[0] == Progress(rows=5, ledger={})
    # The ledger covers both attempts, and nothing twice.
    assert json.loads(row["summary"])["ledger"]["requests"] == 7


def test_a_sealed_shard_is_not_touched(root: str) -> None:
    first, _ = run(root, Engine())
    data = files.read_bytes(f"{root}/out/shard-00004.parquet")
    engine = Engine()
    again, told = run(root, engine)
    assert (again, engine.served) == (first, [])
    assert files.read_bytes(f"{root}/out/shard-00004.parquet") == data
    assert told == [Progress(rows=7, ledger={})]


def test_an_interrupted_shard_equals_an_unbroken_one(root: str, tmp_path: Path) -> None:
    run(root, Engine(fails={0: EngineError("x")}))
    run(root, Engine(fails={1: EngineError("x")}), rows_per_call=1)
    run(root, Engine())
    other = str(tmp_path / "unbroken")
    run(other, Engine())
    assert files.read_bytes(f"{root}/out/shard-00004.parquet") == files.read_bytes(
        f"{other}/out/shard-00004.parquet"
    )


def test_an_own_error_comes_back_as_a_value(root: str) -> None:
    task = ShardTask(Echo(), Engine(), 2, lambda _: None)
    files.write_bytes(f"{root}/in.parquet", b"no parquet")
    row = task({"folder": f"{root}/out", "index": 0, "inputs": [f"{root}/in.parquet"]})
    assert (row["summary"], row["error"]) == ("", "StorageError")
    assert "in.parquet is not readable as Parquet" in row["detail"]
    assert isinstance(getattr(errors, row["error"])(row["detail"]), StorageError)


def test_any_other_error_is_raised_as_it_is(root: str) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        run(root, Engine(fails={0: ZeroDivisionError("a fault of ours")}))
    assert [type(e) for e in caught.value.exceptions] == [ZeroDivisionError]


def test_a_stage_that_asks_without_an_engine_says_so(root: str) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        run(root, None)
    assert "stage echo was given no engine" in str(caught.value.exceptions[0])


def test_own_errors_are_found_however_they_are_wrapped() -> None:
    own = StorageError("full")
    assert own_error_in(own) is own
    assert own_error_in(ExceptionGroup("tasks", [ValueError(), ExceptionGroup("x", [own])])) is own
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = own
    assert own_error_in(wrapped) is own
    as_ray_does = RuntimeError("task failed")
    as_ray_does.cause = ExceptionGroup("g", [own])  # type: ignore[attr-defined]
    assert own_error_in(as_ray_does) is own
    assert own_error_in(ValueError("other")) is None
    loop = RuntimeError("a")
    loop.__context__ = RuntimeError("b")
    loop.__context__.__context__ = loop
    assert own_error_in(loop) is None


def test_an_error_class_made_on_the_fly_is_not_taken_for_ours() -> None:
    own = StorageError("full")
    made = type("RayTaskError(StorageError)", (StorageError,), {"__module__": "ray.exceptions"})
    copy = made("a traceback of many lines")
    copy.cause = own
    assert own_error_in(copy) is own


def test_a_stage_that_stands_still_is_told_and_then_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray waits for free CPUs without a word and without a limit."""
    monkeypatch.setattr(stall.ray, "available_resources", lambda: {"memory": 1.0})
    monkeypatch.setattr(stall.ray, "cluster_resources", lambda: {"CPU": 4.0})
    clock, told, lines = [1000.0], [(0, 0)], list[str]()
    monkeypatch.setattr(stall.time, "monotonic", lambda: clock[0])
    watch = stall.StallWatch(
        RayConfig(stall_timeout_s=100, stage_task_cpus=0.5), lambda: told[0], lines.append
    )

    def wait(seconds: int) -> None:
        for _ in range(seconds):
            clock[0] += 1
            watch.check()

    wait(99)
    needs = "a shard task needs 0.5 CPUs, the cluster has 0 of 4 free"
    assert lines == [f"no row was finished for 10 s; {needs}"]
    told[0] = (8, 100)  # a row in an open shard
    wait(99)
    assert len(lines) == 2, "once each time it stands still"
    watch.moved()  # a sealed shard
    wait(99)
    with pytest.raises(ResourceError) as caught:
        wait(2)
    assert str(caught.value) == (
        f"no row was finished for ray.stall_timeout_s=100 seconds; {needs}: free CPUs or bring"
        " nodes up, or raise ray.stall_timeout_s, and run again to go on"
    )


def test_shards_that_are_never_scheduled_end_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    def waiting_for_ever() -> Iterator[dict[str, Any]]:
        threading.Event().wait()
        yield {}

    unscheduled = SimpleNamespace(map=lambda *_, **__: SimpleNamespace(iter_rows=waiting_for_ever))
    monkeypatch.setattr(ray.data, "from_items", lambda *_, **__: unscheduled)
    monkeypatch.setattr(stall.ray, "available_resources", dict)
    monkeypatch.setattr(stall.ray, "cluster_resources", dict)
    job = ShardJob(folder="out", index=0, inputs=())
    task = ShardTask(Echo(), None, 1, lambda _: None)
    with pytest.raises(ResourceError, match=r"the cluster has 0 of 0 free"):
        list(run_shards([job], task, RayConfig(stall_timeout_s=0.5), 1))
