"""The driver's side of online training: starts the workers on Ray Train, publishes the last model.

The engines keep running beside the trainers. When this returns they hold the published model.
"""

import json
from dataclasses import asdict, dataclass, replace

from selfreward import errors
from selfreward.config_training import TrainingConfig
from selfreward.errors import TrainingError
from selfreward.layout import join
from selfreward.records import ModelRef
from selfreward.storage import files
from selfreward.training.checkpoint import commit_folder, is_complete
from selfreward.training.online.task import Evaluation
from selfreward.training.online.worker import OnlineJob, run_online_worker
from selfreward.training.ray_train import fit
from selfreward.training.trainer import (
    absolute,
    absolute_model,
    forget_resume_state,
    read_result,
    url_of,
)

__all__ = ["OnlineJob", "OnlineResult", "train_online"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineResult:
    """What came of a run of online training."""

    checkpoint: str
    """The output folder of the job."""
    model: ModelRef
    """The weights in it, which every replica of the pool now holds: `pool.adopt(result.model,
    result.checkpoint)` tells the pool."""
    steps: int
    history: list[dict[str, float]]
    """The metrics of every step; also in `STORAGE_PATH/NAME/metrics.jsonl`."""
    evaluations: list[Evaluation]
    """Before the first step, every `eval_every` steps and after the last."""
    num_rollouts: int
    num_tokens: int
    """Tokens of the sequences trained on, prompts included."""
    seconds: float


def train_online(job: OnlineJob) -> OnlineResult:
    """Trains on the Ray cluster this process is connected to, and publishes the last model.

    The same job run again goes on where it stopped, or returns at once when its output is there.

    Raises:
        UserError: prompts or settings that do not fit.
        EngineError: the engines failed in a way that retries did not mend.
        TrainingError: training failed after its retries, or ran out of time.
    """
    job = replace(
        job,
        tokenizer=absolute_model(job.tokenizer) if job.tokenizer else None,
        output=absolute(job.output),
        storage_path=absolute(job.storage_path),
    )
    result_url = join(job.storage_path, job.name, "result.json")
    if is_complete(job.output):
        result = _read_result(job, result_url)
        job.publisher.swap(result.model, job.output)
        return result
    fitted = fit(
        run_online_worker,
        job,
        _patient(job),
        is_gpu=job.is_gpu,
        best_by=None,
        section="online.training",
    )
    progress = fitted.return_value
    if progress is None:
        raise TrainingError(f"training job {job.name} ended without a result")
    if "error" in progress:
        raise getattr(errors, progress["error"])(progress["message"])
    result = OnlineResult(
        checkpoint=job.output,
        model=ModelRef(name=job.name, iteration=job.iteration, fingerprint=progress["fingerprint"]),
        steps=progress["step"],
        history=progress["history"],
        evaluations=[Evaluation(**row) for row in progress["evaluations"]],
        num_rollouts=progress["num_rollouts"],
        num_tokens=progress["num_tokens"],
        seconds=progress["seconds"],
    )
    lines = "".join(json.dumps(row) + "\n" for row in result.history)
    files.write_bytes(join(job.storage_path, job.name, "metrics.jsonl"), lines.encode())
    files.write_bytes(result_url, json.dumps(asdict(result)).encode())
    last, _ = max(fitted.best_checkpoints, key=lambda c: c[1]["step"])
    commit_folder(url_of(last, job.storage_path), job.output)
    forget_resume_state([url_of(c, job.storage_path) for c, _ in fitted.best_checkpoints])
    # The replicas hold these weights already; from now on they find them in the output.
    job.publisher.swap(result.model, job.output)
    files.remove(job.weights_root)
    return result


def _read_result(job: OnlineJob, url: str) -> OnlineResult:
    data = read_result(job.output, url)
    return OnlineResult(
        **data
        | {
            "model": ModelRef(**data["model"]),
            "evaluations": [Evaluation(**row) for row in data["evaluations"]],
        }
    )


def _patient(job: OnlineJob) -> TrainingConfig:
    """The settings of training whose workers also wait for each other's rollouts and rewards, and
    for the engines to take new weights."""
    training = job.config.training
    waits = 2 * job.config.rollout_timeout_s + job.publisher.replicas.engine.swap_timeout_s
    return training.model_copy(
        update={"collective_timeout_s": training.collective_timeout_s + waits}
    )
