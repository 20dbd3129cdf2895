"""What Ray Train runs on each worker, and the job it is handed."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfreward.config import TrainingConfig
from selfreward.engines.models import resolve_model
from selfreward.training.data import Record
from selfreward.training.faults import as_result
from selfreward.training.task import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training run.

    Example: `TrainingJob(name="iter_01", model="HuggingFaceTB/SmolLM2-135M-Instruct",
    data=("runs/a/iter_01/examples/00000.parquet",), record="TrainingExample",
    config=TrainingConfig(), output="runs/a/iter_01/checkpoint",
    storage_path="runs/a/iter_01/training")`
    """

    name: str
    model: str
    """A name each worker's node can resolve: a shared folder or URL, a hub id, `embedded:…`."""
    data: tuple[str, ...]
    """URLs of Parquet shards of `record` rows (token shards for "PackedText"); workers read
    them."""
    record: Record
    config: TrainingConfig
    output: str
    """URL of the folder the best checkpoint is published as."""
    storage_path: str
    """URL of Ray Train's own state, shared by all nodes."""
    validation: tuple[str, ...] = ()
    """URLs of Parquet shards of TrainingExample rows; of Preference rows where a reward model is
    trained; token shards for text."""
    choose: Choice = "best"
    """Which checkpoint is published."""
    replay: tuple[str, ...] = ()
    """Text: URLs of token shards that are mixed in, against forgetting."""
    replay_share: float = 0.0
    """Text: share of the sequences that come from `replay`."""
    token_budget: int | None = None
    """Text: tokens to train on, padding included; None: `config.epochs` passes over `data`."""
    tokenizer: str | None = None
    seed: int = 0
    reference_cache: str | None = None
    model_fingerprint: str = ""
    """Of what `model` leads to; without it a URL's first download is taken for good."""
    reference_model: str | None = None
    """DPO with `config.dpo_reference` "first": the model that stays the reference, named as `model`
    is (a hub revision stands behind an `@`). It must share the tokenizer. Else it is not read."""
    reference_fingerprint: str = ""
    device_is_gpu: bool | None = None
    """None: `config.use_gpu`."""
    revision: str | None = None
    trust_remote_code: bool = False
    say: Callable[[str], None] | None = None
    """Picklable; worker 0 tells it every few seconds how far it is."""

    @property
    def is_gpu(self) -> bool:
        return self.config.use_gpu if self.device_is_gpu is None else self.device_is_gpu

    @property
    def needs_reference_model(self) -> bool:
        return self.config.needs_first_model


def run_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """What Ray Train runs on each worker.

    A mistake of the user's (a full disk too) is returned, not raised: raised, it would be retried.
    """
    import ray.train

    # Loaded here so that the driver needs no torch to describe a job.
    from selfreward.training.loop import run_training
    from selfreward.training.model import ModelSource
    from selfreward.training.on_ray import begin_worker, report
    from selfreward.training.parallel import together
    from selfreward.training.ray_stream import read_with_ray_data
    from selfreward.training.task import TrainingTask

    job: TrainingJob = settings["job"]
    device = begin_worker(job.is_gpu)
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="selfreward-"))
        last = ray.train.get_checkpoint()
        try:
            # On this node: the driver's cache of models is not every node's. By the fingerprint: a
            # model that was trained anew lies at the URL of the old one, which is cached here.
            path = together(
                lambda: resolve_model(job.model, job.revision, key=job.model_fingerprint)
            )
            reference = None
            if job.needs_reference_model and (name := job.reference_model) is not None:
                reference = ModelSource(
                    path=together(lambda: resolve_model(name, key=job.reference_fingerprint)),
                    trust_remote_code=job.trust_remote_code,
                )
            result = run_training(
                TrainingTask(
                    source=ModelSource(
                        path=path,
                        tokenizer=job.tokenizer,
                        trust_remote_code=job.trust_remote_code,
                    ),
                    data=job.data,
                    record=job.record,
                    config=job.config,
                    validation=job.validation,
                    choose=job.choose,
                    replay=job.replay,
                    replay_share=job.replay_share,
                    token_budget=job.token_budget,
                    seed=job.seed,
                    reference_cache=job.reference_cache,
                    model_fingerprint=job.model_fingerprint,
                    reference_source=reference,
                    reference_fingerprint=job.reference_fingerprint,
                    deadline=settings["deadline"],
                ),
                device=device,
                scratch=Path(scratch),
                report=report,
                resume_from=Path(stack.enter_context(last.as_directory())) if last else None,
                read=read_with_ray_data,
                say=job.say,
            )
        except Exception as error:
            return as_result(error)
    return asdict(result)
