"""The driver's side of training: starts the workers on Ray Train, publishes the best checkpoint.

The driver reads no data and holds no weights. Ray Train restarts workers from the last checkpoint
when one of them dies; the same job run again goes on where it stopped, or returns at once when its
output is there.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import Any

from selfreward import errors
from selfreward.errors import ConfigError, DataError, TrainingError
from selfreward.layout import join
from selfreward.storage import files
from selfreward.training.checkpoint import TRAINER_PREFIX, commit_folder, is_complete
from selfreward.training.data import RECORD_OF
from selfreward.training.ray_train import fit
from selfreward.training.worker import TrainingJob, run_worker

__all__ = ["TrainingJob", "TrainingResult", "train"]


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
    fitted = fit(
        run_worker,
        job,
        job.config,
        is_gpu=job.is_gpu,
        best_by="selection_score",
        section="training",
    )
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


def url_of(checkpoint: Any, storage_path: str) -> str:
    scheme = storage_path.partition("://")[0] if "://" in storage_path else "file"
    return f"{scheme}://{checkpoint.path}"


def forget_resume_state(urls: list[str]) -> None:
    """Deletes the optimizer's state, the largest part of a checkpoint, once nothing resumes."""
    for url in urls:
        for name in files.list_names(url):
            if name.startswith(TRAINER_PREFIX) and not name.endswith(".json"):
                files.remove(join(url, name))
