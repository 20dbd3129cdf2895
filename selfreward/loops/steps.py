"""One step of a loop: open its folders, skip what is complete, run the rest, seal the manifests."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from selfreward import interrupts
from selfreward.config import RunConfig
from selfreward.engines.client import EngineClient
from selfreward.layout import Layout
from selfreward.loops.pools import Pools
from selfreward.reports.progress import Display
from selfreward.stages.progress import BoardHandle
from selfreward.stages.runner import ShardJob, ShardTask, StageLogic, run_shards
from selfreward.storage.manifest import Manifest, complete, open_stage, write_manifest
from selfreward.storage.shards import ShardSummary, sealed_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What every step of a loop needs."""

    config: RunConfig
    layout: Layout
    pools: Pools
    display: Display
    board: BoardHandle


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One folder a step fills: shard i is made of `inputs[i]`."""

    folder: str
    inputs: Sequence[tuple[str, ...]]
    recipe: Mapping[str, Any]
    num_rows: int


@dataclass(slots=True)
class _Open:
    output: Output
    manifest: Manifest
    summaries: list[ShardSummary] = field(default_factory=list)


def shards_of(*folders: str) -> list[tuple[str, ...]]:
    """Inputs of a step made of stages whose shards correspond one to one."""
    return list(zip(*(sealed_shards(folder) for folder in folders), strict=True))


def run_step(
    run: Run,
    title: str,
    logic: StageLogic[Any, Any],
    outputs: Sequence[Output],
    engine: Callable[[], EngineClient] | None = None,
) -> list[Manifest]:
    """Fills the outputs and returns their manifests, in order; complete ones cost nothing.

    `engine` is called only if there is something to do, so a finished run starts no engine.
    """
    manifests = {o.folder: open_stage(o.folder, logic.name, o.recipe) for o in outputs}
    todo = {
        o.folder: _Open(o, manifests[o.folder])
        for o in outputs
        if not manifests[o.folder].is_complete
    }
    if not todo:
        return list(manifests.values())
    interrupts.check()
    jobs = [
        ShardJob(folder=folder, index=index, inputs=inputs)
        for folder, part in todo.items()
        for index, inputs in enumerate(part.output.inputs)
    ]
    client = engine() if engine is not None and jobs else None
    begin = time.monotonic()
    try:
        _run_jobs(run, title, logic, jobs, todo, client)
    except BaseException:
        # The time counts even if the stage is taken up again later.
        elapsed = (time.monotonic() - begin) / len(todo)
        for folder, part in todo.items():
            seconds = round(part.manifest.seconds + elapsed, 2)
            write_manifest(folder, replace(part.manifest, seconds=seconds))
        raise
    elapsed = time.monotonic() - begin
    num_rows = max(1, sum(part.output.num_rows for part in todo.values()))
    for folder, part in todo.items():
        share = elapsed * part.output.num_rows / num_rows
        manifests[folder] = complete(folder, part.manifest, part.summaries, share)
    return list(manifests.values())


def _run_jobs(
    run: Run,
    title: str,
    logic: StageLogic[Any, Any],
    jobs: Sequence[ShardJob],
    todo: Mapping[str, _Open],
    client: EngineClient | None,
) -> None:
    if not jobs:
        return
    ray_config = run.config.ray
    tell = run.board.open(f"{title} {jobs[0].folder}")
    task = ShardTask(
        logic, client.generate if client is not None else None, ray_config.rows_per_call, tell
    )
    num_rows = sum(part.output.num_rows for part in todo.values())
    with run.display.stage(title, num_rows, run.board.read):
        sealed = run_shards(
            jobs, task, ray_config, run.config.open_shards, run.board.read, run.display.line
        )
        for folder, summary in sealed:
            todo[folder].summaries.append(summary)
