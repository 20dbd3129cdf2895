"""The driver's side of training: starts the workers on Ray Train, publishes the best checkpoint.

The driver reads no data and holds no weights. Ray Train restarts workers from the last checkpoint
when one of them dies; the same job run again goes on where it stopped, or returns at once when its
output is there.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from selfreward import errors, interrupts
from selfreward.config import TrainingConfig
from selfreward.errors import ConfigError, DataError, TrainingError
from selfreward.layout import join
from selfreward.storage import files
from selfreward.training.checkpoint import TRAINER_PREFIX, commit_folder, is_complete
from selfreward.training.data import RECORD_OF
from selfreward.training.faults import fault_of_ray_train
from selfreward.training.worker import TrainingJob, run_worker

__all__ = ["TrainingJob", "TrainingResult", "train"]

STOP_GRACE_S = 120.0
"""How long after its time limit a run may take to stop by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What came of a training run."""

    checkpoint: str
    steps: int
    metrics: dict[str, float]
    """The metrics of the published checkpoint."""
    history: list[dict[str, float]]
    """The metrics of every step; also in `STORAGE_PATH/NAME/metrics.jsonl`."""
    num_examples: int
    num_tokens: int
    """Tokens of the sequences trained on, prompts included."""
    tokens_per_s: float
    dropped: dict[str, int]
    seconds: float


def absolute(path: str) -> str:
    """Local paths become absolute: Ray Train's workers run in a folder of their own."""
    return path if "://" in path else os.path.abspath(path)


def absolute_model(model: str) -> str:
    """The same of a model's name, where it is a folder here."""
    return os.path.abspath(model) if os.path.isdir(model) else model


def train(job: TrainingJob) -> TrainingResult:
    """Trains on the Ray cluster this process is connected to, and publishes the best checkpoint.

    The best checkpoint has the highest `eval/accuracy`, among equals the lowest `eval/loss`, among
    equals the later step; without validation rows it is the last.

    Raises:
        UserError: nothing to train on, no such model, or settings that do not fit.
        TrainingError: training failed after its retries, or ran out of time.
    """
    job = replace(
        job,
        model=absolute_model(job.model),
        tokenizer=absolute_model(job.tokenizer) if job.tokenizer else None,
        reference_model=absolute_model(job.reference_model) if job.reference_model else None,
        data=tuple(map(absolute, job.data)),
        validation=tuple(map(absolute, job.validation)),
        replay=tuple(map(absolute, job.replay)),
        output=absolute(job.output),
        storage_path=absolute(job.storage_path),
        reference_cache=absolute(job.reference_cache) if job.reference_cache else None,
    )
    result_url = join(job.storage_path, job.name, "result.json")
    if is_complete(job.output):
        return _read_result(job, result_url)
    if not job.data:
        raise DataError(f"training job {job.name} has no data files")
    wanted = RECORD_OF[job.config.objective]
    if job.record != wanted:
        raise ConfigError(
            f"training.objective={job.config.objective} reads {wanted} rows, not {job.record}"
        )
    if job.needs_reference_model and job.reference_model is None:
        raise ConfigError(
            f"training.dpo_reference=first needs a reference_model, which training job {job.name}"
            " does not name; name it or set training.dpo_reference=start"
        )
    with ray_train_environment(job.config):
        fitted = _fit_within(job)
    loop = fitted.return_value
    if loop is None:
        raise TrainingError(f"training job {job.name} ended without a result")
    if "error" in loop:
        raise getattr(errors, loop["error"])(loop["message"])
    best, metrics = max(fitted.best_checkpoints, key=lambda c: c[1]["selection_score"])
    result = TrainingResult(
        checkpoint=job.output,
        steps=loop["steps"],
        metrics=metrics,
        history=loop["history"],
        num_examples=loop["num_examples"],
        num_tokens=loop["num_tokens"],
        tokens_per_s=loop["num_tokens"] / loop["seconds"] if loop["seconds"] else 0.0,
        dropped=loop["dropped"],
        seconds=loop["seconds"],
    )
    lines = "".join(json.dumps(row) + "\n" for row in result.history)
    files.write_bytes(join(job.storage_path, job.name, "metrics.jsonl"), lines.encode())
    files.write_bytes(result_url, json.dumps(asdict(result)).encode())
    commit_folder(url_of(best, job.storage_path), job.output)
    forget_resume_state([url_of(c, job.storage_path) for c, _ in fitted.best_checkpoints])
    return result


def _read_result(job: TrainingJob, url: str) -> TrainingResult:
    return TrainingResult(**read_result(job.output, url))


def read_result(output: str, url: str) -> dict[str, Any]:
    """What was written at `url` of a training whose output is complete.

    Raises:
        TrainingError: it is gone.
    """
    try:
        result: dict[str, Any] = files.read_json(url)
    except FileNotFoundError:
        raise TrainingError(
            f"{output} is complete but {url} is gone; remove {output} to train again"
        ) from None
    return result


def storage_of(storage_path: str) -> tuple[str, Any]:
    """Ray's storage path and file system, which is the one all other files go through."""
    if "://" not in storage_path or storage_path.startswith("file://"):
        return storage_path, None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    fs, path = files.filesystem(storage_path)
    return path, PyFileSystem(FSSpecHandler(fs))


def url_of(checkpoint: Any, storage_path: str) -> str:
    scheme = storage_path.partition("://")[0] if "://" in storage_path else "file"
    return f"{scheme}://{checkpoint.path}"


def forget_resume_state(urls: list[str]) -> None:
    """Deletes the optimizer's state, the largest part of a checkpoint, once nothing resumes."""
    for url in urls:
        for name in files.list_names(url):
            if name.startswith(TRAINER_PREFIX) and not name.endswith(".json"):
                files.remove(join(url, name))


@contextmanager
def ray_train_environment(config: TrainingConfig) -> Iterator[None]:
    """Sets what Ray Train reads from the driver's environment: time limits, and whether to watch
    for nodes about to be taken away, which on a single node is only one more process."""
    import ray

    wanted = {
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": str(int(len(ray.nodes()) > 1)),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(config.worker_start_timeout_s),
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(config.collective_timeout_s),
        # How often workers are looked at; of Ray's 2 s half is lost at the end of each training.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_TRAIN_V2_ENABLED": "1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _fit_within(job: TrainingJob) -> Any:
    """Runs the trainer with a time limit.

    It runs on a thread: Ray Train waits without a limit, and on the main thread it would replace
    the process's handler of Ctrl-C for good.
    """
    trainer = make_trainer(run_worker, job, job.config, job.is_gpu, "selection_score")
    try:
        return interrupts.run_in_thread(
            trainer.fit, f"train-{job.name}", job.config.timeout_s + STOP_GRACE_S
        )
    except interrupts.LimitReachedError:
        raise TrainingError(
            f"training job {job.name} did not end within training.timeout_s="
            f"{job.config.timeout_s:g} seconds"
        ) from None
    except Exception as error:
        raise explained(job.name, job.config, error) from error


def explained(name: str, config: TrainingConfig, error: BaseException) -> BaseException:
    """What Ray Train raised for a training job, in one line."""
    from ray.train import ControllerError, WorkerGroupError

    if (fault := fault_of_ray_train(error)) is not None:
        return fault
    if isinstance(error, WorkerGroupError):
        rank, cause = next(iter(sorted(error.worker_failures.items())))
        lines = [line for line in str(cause).strip().splitlines() if line.strip()]
        return TrainingError(
            f"training job {name} failed after {config.max_failures} retries; worker"
            f" {rank}: {lines[-1] if lines else type(cause).__name__}"
        )
    if isinstance(error, ControllerError):
        lines = str(error.controller_failure).strip().splitlines()
        return TrainingError(f"training job {name} could not run: {lines[0]}")
    return error


def make_trainer(
    worker: Callable[[dict[str, Any]], dict[str, Any]],
    job: Any,
    config: TrainingConfig,
    is_gpu: bool,
    best_by: str | None,
) -> Any:
    """Ray Train's trainer of a job, which has a `name` and a `storage_path`.

    `best_by` names the metric whose largest values are kept; None keeps the newest checkpoints.
    """
    from ray.train import (
        CheckpointConfig,
        FailureConfig,
        LoggingConfig,
        RunConfig,
        ScalingConfig,
    )
    from ray.train.torch import TorchConfig

    storage_path, filesystem = storage_of(job.storage_path)
    resources: dict[str, float] = {"CPU": config.num_cpus_per_worker}
    if is_gpu:
        resources["GPU"] = config.gpus_per_worker
    kept = {} if best_by is None else {"checkpoint_score_attribute": best_by}
    return _lean_trainer()(
        worker,
        train_loop_config={"job": job, "deadline": time.time() + config.timeout_s},
        torch_config=TorchConfig(timeout_s=int(config.collective_timeout_s)),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=is_gpu,
            resources_per_worker=resources,
            placement_strategy="SPREAD" if config.num_workers > 1 else "PACK",
        ),
        run_config=RunConfig(
            name=job.name,
            storage_path=storage_path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(
                max_failures=config.max_failures, controller_failure_limit=config.max_failures
            ),
            checkpoint_config=CheckpointConfig(
                num_to_keep=config.num_checkpoints, checkpoint_score_order="max", **kept
            ),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _lean_trainer() -> Any:
    """Ray Train's trainer without two helpers that a job here has no use for, each a process that
    takes seconds to start: what manages datasets, of which it is given none, and, where the
    cluster is one node and ends with the run, what frees placement groups of a lost controller.

    The names are Ray's own and may change; then both are started again.
    """
    import ray
    from ray.train.torch import TorchTrainer

    unneeded = {"DatasetsCallback"}
    if len(ray.nodes()) == 1:
        unneeded.add("PlacementGroupCleanerCallback")

    class LeanTrainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            made = super()._create_default_callbacks()
            return [callback for callback in made if type(callback).__name__ not in unneeded]

    return LeanTrainer
