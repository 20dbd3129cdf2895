"""Joining Ray, and checking before anything starts that the cluster can hold the run."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray
from ray.autoscaler.sdk import request_resources

from selfreward import interrupts
from selfreward.config import RayConfig, RunConfig, TrainingConfig
from selfreward.config_custom_llm import Stage
from selfreward.engines.outside_judge import outside_holder
from selfreward.engines.replica_env import resources_needed, scorer_engine
from selfreward.errors import ConfigError, ResourceError

Bundle = dict[str, float]

# Ray sets it for what `ray job submit` starts.
SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"

# Ray Data keeps blocks of summaries only: a small store is enough and leaves memory to engines.
LOCAL_OBJECT_STORE_BYTES = 512 * 1024**2
START_ATTEMPTS = 3


def check_place(folder: str, setting: str) -> None:
    """Checks that what a submitted job writes to `folder` can be found again.

    Raises:
        ConfigError: it is relative to the job's working folder, a temporary copy on one node.
    """
    expanded = os.path.expanduser(folder)
    if SUBMITTED in os.environ and "://" not in folder and not os.path.isabs(expanded):
        raise ConfigError(
            f"{setting}={folder} is relative to the temporary folder of a submitted job: give"
            f" {setting} as a URL or an absolute path that every node reaches"
        )


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Joins the configured cluster, or starts a local one for the block's duration.

    A cluster that was already joined is used as it is and left running.
    """
    if ray.is_initialized():
        yield
        return
    _quiet()
    address = cluster_address(config)
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        else:
            start_local(config.num_cpus)
    except ConnectionError as error:
        raise ResourceError(f"no Ray cluster at {address}: {error}") from None
    interrupts.take_back()
    try:
        yield
    finally:
        ray.shutdown()


def cluster_address(config: RayConfig) -> str | None:
    """The cluster that a run joins; None where it starts a local one."""
    return config.address or os.environ.get("RAY_ADDRESS") or None


def start_local(num_cpus: int | None) -> None:
    """Starts a local Ray; on a busy machine its 30 seconds for coming up are too few at times.

    `num_cpus` is what the node offers, by default the machine's.

    Raises:
        ResourceError: it did not come up in three attempts.
    """
    for _ in range(START_ATTEMPTS):
        try:
            ray.init(
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            )
            return
        except Exception as error:  # Ray has no class of its own for it
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    raise ResourceError(
        f"a local Ray did not come up in {START_ATTEMPTS} attempts of 30 s each; the machine is too"
        " busy: try again, or join a running cluster with ray.address"
    )


def _quiet() -> None:
    """Keeps what Ray tells its own developers away from a user's terminal."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for name in ("ray.data", "ray.train", "ray.tune", "ray.serve", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)


def bundles_needed(config: RunConfig) -> list[Bundle]:
    """What a run holds at its largest moment (most GPUs, then CPUs); see `phases`."""
    return max(phases(config), key=_weight)


def phases(config: RunConfig) -> tuple[list[Bundle], ...]:
    """What a run holds while generating and while training, each kind of training by itself.

    One bundle for what must share a node.
    """
    if config.loop.kind == "custom_llm":
        return _phases_of_stages(config)
    pools = [config.engine, *([config.generator.engine] if config.generator else [])]
    if config.loop.kind == "self_rewarding" and outside_holder(config) == "outsider":
        pools.append(config.engine)
    engines = [bundle for pool in pools for bundle in resources_needed(pool)]
    kept = [b for p in pools if p.placement == "dedicated" for b in resources_needed(p)]
    tasks: list[Bundle] = [{"CPU": config.ray.stage_task_cpus}] * config.open_shards
    # Shard tasks and trainers never run at once.
    return engines + tasks, *(kept + _trainers(training) for training in trainings(config))


def trainings(config: RunConfig) -> list[TrainingConfig]:
    """How a run trains, each kind of training once; never two of them at a time."""
    if config.loop.kind == "self_rewarding":
        return [config.training, config.seed_training]
    if config.loop.kind == "self_taught":
        return [config.training]
    section = config.custom_llm
    of_stages: dict[Stage, tuple[TrainingConfig, ...]] = {
        "pretrain": (section.pretraining.training,),
        "continue": (section.continued_pretraining.training,),
        "finetune": (section.finetuning.training,),
        "instruct": (section.instruction_tuning.training,),
        "prefer": (section.rankings.training, section.reward_model.training),
        "reinforce": (section.online.training,),
    }
    return [training for stage in section.stages for training in of_stages.get(stage, ())]


def _phases_of_stages(config: RunConfig) -> tuple[list[Bundle], ...]:
    """The same of one's own LLM: each stage trains by itself; engines answer between them, and
    write beside the trainers while it learns from its own answers."""
    section = config.custom_llm
    engines = resources_needed(config.engine)
    kept = engines if config.engine.placement == "dedicated" else []
    tasks: list[Bundle] = [{"CPU": config.ray.stage_task_cpus}] * config.open_shards
    online = section.online.training
    found = [kept + _trainers(t) for t in trainings(config) if t is not online]
    # Once started, a reward model stays: it measures what preferences and rewards have changed.
    reward = section.online.reward
    scores = "prefer" in section.stages or section.reward_model.path is not None
    scorer = resources_needed(scorer_engine(config.engine)) if scores else []
    if scorer:
        found.append(engines + scorer)
    if "reinforce" in section.stages:
        judge = engines if reward == "judge" else []  # another model: a pool of its own
        found.append(engines + scorer + judge + _trainers(online))
    return engines + tasks, *found


def _trainers(training: TrainingConfig) -> list[Bundle]:
    trainer: Bundle = {"CPU": training.num_cpus_per_worker}
    if training.use_gpu:
        trainer["GPU"] = training.gpus_per_worker
    return [trainer] * training.num_workers


def _weight(bundles: Sequence[Bundle]) -> tuple[float, float]:
    return (sum(b.get("GPU", 0) for b in bundles), sum(b.get("CPU", 0) for b in bundles))


def shortfall(bundles: Sequence[Bundle], nodes: Sequence[Bundle]) -> str | None:
    """Says what is missing when the bundles are packed onto the nodes, None if all fit.

    First fit, largest first: each bundle goes to one node whole.
    """
    free = [dict(node) for node in nodes]
    for kind in ("GPU", "CPU"):
        wanted = sum(b.get(kind, 0) for b in bundles)
        have = sum(n.get(kind, 0) for n in nodes)
        if wanted > have + 1e-9:
            return f"the run needs {wanted:g} {kind}s, the cluster has {have:g}"
    for bundle in sorted(bundles, key=lambda b: _weight([b]), reverse=True):
        for node in free:
            if all(node.get(kind, 0) + 1e-9 >= amount for kind, amount in bundle.items()):
                for kind, amount in bundle.items():
                    node[kind] = node.get(kind, 0) - amount
                break
        else:
            asked = " and ".join(f"{amount:g} {kind}s" for kind, amount in bundle.items())
            return f"no node has {asked} left for one process of the run"
    return None


def release_resources(config: RunConfig) -> None:
    """Takes back what was asked of an autoscaler, which would keep the nodes up for ever."""
    if config.ray.autoscaling:
        request_resources(bundles=[])


def evaluation_bundles(config: RunConfig, with_engine: bool) -> list[list[Bundle]]:
    """What an evaluation holds: its engines, if any, and the tasks that feed them."""
    engines = resources_needed(config.engine) if with_engine else []
    tasks: list[Bundle] = [{"CPU": config.ray.stage_task_cpus}] * config.open_shards
    return [engines + tasks]


def check_resources(
    config: RunConfig, wanted: Sequence[Sequence[Bundle]] | None = None, *, ask: bool = True
) -> str | None:
    """Compares the run, or what is `wanted` at once in its place, with the cluster joined.

    Returns None where it fits, else what is missing and the autoscaler is asked for. Whoever asks
    calls `release_resources` in the end; without `ask` nothing is asked for.

    Raises:
        ResourceError: naming what is missing, before anything was started.
    """
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    # The phase with more GPUs may be the one with fewer CPUs: both have to fit.
    for bundles in wanted if wanted is not None else phases(config):
        missing = shortfall(bundles, nodes)
        if missing is not None:
            break
    else:
        return None
    if config.ray.autoscaling:
        if ask:
            request_resources(bundles=list(bundles))
        return missing
    raise ResourceError(
        f"{missing}; lower engine.replicas, engine.num_cpus or training.num_workers, use"
        " engine.placement=shared, or join a larger cluster (ray.autoscaling=true asks for nodes)"
    )
