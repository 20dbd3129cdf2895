"""A stage folder to read from, and the plain ways to fill one: by one task, or from another one."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from selfreward.engines.client import EngineClient
from selfreward.errors import EngineTimeoutError, own_error_in
from selfreward.loops.steps import Output, Run, run_step, shards_of
from selfreward.stages.runner import StageLogic
from selfreward.storage.manifest import Manifest, complete, open_stage
from selfreward.storage.shards import ShardSummary

# Reading, deduplicating and writing a pool; a day is more than any file of instructions takes.
TASK_TIMEOUT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A stage folder to read from, with what a later recipe needs of it."""

    folder: str
    fingerprint: str
    num_records: int

    @classmethod
    def of(cls, folder: str, manifest: Manifest) -> "Source":
        return cls(
            folder=folder, fingerprint=manifest.fingerprint, num_records=manifest.num_records
        )


def on_cluster(run: Run, function: Any, *args: Any) -> Any:
    """Runs a plain function as one Ray task, so that its memory is not the driver's.

    Raises:
        SelfRewardError: as the function raised it.
        EngineTimeoutError: it took longer than a day.
    """
    task = ray.remote(num_cpus=run.config.ray.stage_task_cpus)(function).remote(*args)
    try:
        return ray.get(task, timeout=TASK_TIMEOUT_S)
    except ray.exceptions.GetTimeoutError:
        raise EngineTimeoutError(f"{function.__name__} took longer than a day") from None
    except ray.exceptions.RayTaskError as error:
        raise own_error_in(error) or error from None


def build_folder(
    run: Run,
    folder: str,
    stage: str,
    recipe: Mapping[str, Any],
    build: Callable[..., Iterable[ShardSummary]],
    *args: Any,
    told: Callable[[Manifest], str] | None = None,
) -> Manifest:
    """Fills a stage folder with what `build` writes there as one task; a complete one is left.

    `told` says in a line what was built.
    """
    manifest = open_stage(folder, stage, recipe)
    if manifest.is_complete:
        return manifest
    begin = time.monotonic()
    made = on_cluster(run, build, *args)
    manifest = complete(folder, manifest, made, time.monotonic() - begin)
    if told is not None:
        run.display.line(told(manifest))
    return manifest


def output_of(folder: str, source: Source, recipe: Mapping[str, Any]) -> Output:
    """The output of a step that makes one shard of each of a source's, known by that source."""
    return Output(
        folder=folder,
        inputs=shards_of(source.folder),
        recipe={**recipe, "input": source.fingerprint},
        num_rows=source.num_records,
    )


def fill(
    run: Run,
    title: str,
    logic: StageLogic[Any, Any],
    output: Output,
    engine: Callable[[], EngineClient] | None = None,
) -> Source:
    """Runs a step that has one output, and returns that as what later steps read."""
    (done,) = run_step(run, title, logic, [output], engine)
    return Source.of(output.folder, done)
