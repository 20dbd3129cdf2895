"""Ray Train on the driver's side, whichever loop its workers run: what it reads from the
environment, the trainer of a job, its time limit, and what its errors say.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from selfreward import interrupts
from selfreward.config_training import TrainingConfig
from selfreward.errors import TrainingError
from selfreward.storage import files
from selfreward.training.faults import fault_of_ray_train

STOP_GRACE_S = 120.0
"""How long after its time limit a run may take to stop by itself."""

Worker = Callable[[dict[str, Any]], dict[str, Any]]


def fit(
    worker: Worker,
    job: Any,
    config: TrainingConfig,
    *,
    is_gpu: bool,
    best_by: str | None,
    section: str,
) -> Any:
    """Trains a job, which has a `name` and a `storage_path`, and returns Ray Train's result.

    `best_by` names the metric whose largest values are kept; None keeps the newest checkpoints.
    `section` is where a user finds the settings.

    It runs on a thread: Ray Train waits without a limit, and on the main thread it would replace
    the process's handler of Ctrl-C for good.

    Raises:
        StorageError: a full disk, or one that may not be written.
        TrainingError: training failed after its retries, or ran out of time.
    """
    with _environment(config):
        trainer = _trainer(worker, job, config, is_gpu, best_by)
        try:
            return interrupts.run_in_thread(
                trainer.fit, f"train-{job.name}", config.timeout_s + STOP_GRACE_S
            )
        except interrupts.LimitReachedError:
            raise TrainingError(
                f"training job {job.name} did not end within {section}.timeout_s="
                f"{config.timeout_s:g} seconds"
            ) from None
        except Exception as error:
            raise explained(job.name, config, error) from error


@contextmanager
def _environment(config: TrainingConfig) -> Iterator[None]:
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


def _trainer(
    worker: Worker, job: Any, config: TrainingConfig, is_gpu: bool, best_by: str | None
) -> Any:
    from ray.train import (
        CheckpointConfig,
        FailureConfig,
        LoggingConfig,
        RunConfig,
        ScalingConfig,
    )
    from ray.train.torch import TorchConfig

    storage_path, filesystem = _storage_of(job.storage_path)
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


def _storage_of(storage_path: str) -> tuple[str, Any]:
    """Ray's storage path and file system, which is the one all other files go through."""
    if "://" not in storage_path or storage_path.startswith("file://"):
        return storage_path, None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    fs, path = files.filesystem(storage_path)
    return path, PyFileSystem(FSSpecHandler(fs))
