"""What Ray Train runs on each worker of online training, and the job it is handed."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfreward.config_custom_llm import OnlineConfig
from selfreward.engines.models import folder_on_this_node
from selfreward.engines.publisher import WeightsPublisher
from selfreward.layout import join
from selfreward.training.faults import as_result
from selfreward.training.online.rollouts import EngineRollouts, RolloutPrompt, Weights
from selfreward.training.online.scorers import Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineJob:
    """One run of online training, which starts from the weights that the pool holds.

    Example: `OnlineJob(name="reinforce", prompts=prompts, eval_prompts=others,
    config=config.custom_llm.online, publisher=pool.publisher(),
    scorer=RewardModelScorer(ask=scorer_pool.client()), iteration=6,
    output="runs/a/iter_06/checkpoint", storage_path="runs/a/iter_06/training")`
    """

    name: str
    prompts: tuple[RolloutPrompt, ...]
    eval_prompts: tuple[RolloutPrompt, ...]
    """All of them are answered at each evaluation."""
    config: OnlineConfig
    publisher: WeightsPublisher
    """Of the pool that writes the rollouts, whose weights change with each step."""
    scorer: Scorer
    iteration: int
    """What the weights made here are called by in a `ModelRef`; 1 or more."""
    output: str
    """URL of the folder the model after the last step is published as."""
    storage_path: str
    """URL of Ray Train's own state, shared by all nodes, engines' too: weights go through it."""
    tokenizer: str | None = None
    seed: int = 0
    device_is_gpu: bool | None = None
    """None: `config.training.use_gpu`."""
    trust_remote_code: bool = False
    say: Callable[[str], None] | None = None
    """Picklable; worker 0 tells it every few seconds how far it is."""

    @property
    def is_gpu(self) -> bool:
        return self.config.training.use_gpu if self.device_is_gpu is None else self.device_is_gpu

    @property
    def weights_root(self) -> str:
        return join(self.storage_path, self.name, "weights")


def run_online_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """What Ray Train runs on each worker.

    A mistake of the user's, and an engine that cannot be mended, are returned, not raised: raised,
    they would be retried.
    """
    import ray.train

    # Loaded here so that the driver needs no torch to describe a job.
    from selfreward.training.model import ModelSource
    from selfreward.training.on_ray import begin_worker, report
    from selfreward.training.online.loop import run_online
    from selfreward.training.online.task import OnlineTask
    from selfreward.training.parallel import together

    job: OnlineJob = settings["job"]
    device = begin_worker(job.is_gpu)
    config, publisher = job.config, job.publisher
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="selfreward-"))
        last = ray.train.get_checkpoint()
        try:
            # On this node: the driver's cache of models is not every node's. By the fingerprint: a
            # model that was trained anew lies at the URL of the old one, which is cached here.
            path = together(lambda: folder_on_this_node(publisher.model, publisher.folder))
            progress = run_online(
                OnlineTask(
                    source=ModelSource(
                        path=path,
                        tokenizer=job.tokenizer,
                        trust_remote_code=job.trust_remote_code,
                    ),
                    start=Weights(
                        step=0,
                        folder=publisher.folder,
                        fingerprint=publisher.model.fingerprint,
                    ),
                    prompts=job.prompts,
                    eval_prompts=job.eval_prompts,
                    config=config,
                    weights_root=job.weights_root,
                    seed=job.seed,
                    deadline=settings["deadline"],
                ),
                rollouts=EngineRollouts(
                    publisher=publisher,
                    name=job.name,
                    iteration=job.iteration,
                    purpose="judge" if config.reward == "verdict" else "respond",
                    sampling=config.sampling,
                    group_size=config.group_size,
                    seed=job.seed,
                    timeout_s=config.rollout_timeout_s,
                ),
                scorer=job.scorer,
                device=device,
                scratch=Path(scratch),
                report=report,
                resume_from=Path(stack.enter_context(last.as_directory())) if last else None,
                say=job.say,
            )
        except Exception as error:
            return as_result(error)
    return asdict(progress)
