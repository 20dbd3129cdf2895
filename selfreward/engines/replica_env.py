"""Environment and Ray resources of a replica: what must be settled before its process starts."""

import glob
import os
import sys
from pathlib import Path
from typing import Any

from selfreward.config import EngineConfig

VLLM_SETTINGS = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # vLLM gives a pattern 5 s. That of a reason with its verdict takes 3 s of one core, and ten
    # times as long where other work wants the cores too. The model goes on with other requests.
    "VLLM_REGEX_COMPILATION_TIMEOUT_S": "120",
}
_TCMALLOC = (
    "/usr/lib/*/libtcmalloc_minimal.so.4",
    "/usr/lib*/libtcmalloc_minimal.so.4",
    "/usr/local/lib/libtcmalloc_minimal.so.4",
)


def resolve_device(engine: EngineConfig) -> str:
    """Returns `cpu` or `cuda`; `auto` is `cuda` where the connected Ray cluster has GPUs."""
    if engine.device != "auto":
        return engine.device
    if engine.kind == "scripted":
        return "cpu"
    import ray

    return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "cpu"


def replica_resources(engine: EngineConfig, device: str) -> dict[str, float]:
    """Returns the Ray resources one replica reserves, e.g. `{"CPU": 1.0, "GPU": 4.0}`.

    All of them lie on one node: tensor parallelism stays inside a node.
    """
    resources = {"CPU": engine.num_cpus}
    if device == "cuda":
        resources["GPU"] = float(engine.tensor_parallel_size)
    return resources


def resources_needed(engine: EngineConfig, device: str | None = None) -> list[dict[str, float]]:
    """Returns one bundle per replica, for a check before the run starts."""
    return [replica_resources(engine, device or resolve_device(engine))] * engine.replicas


def replica_env(engine: EngineConfig, device: str) -> dict[str, str]:
    """Returns the environment variables of a vLLM replica's process."""
    env = dict(VLLM_SETTINGS)
    if device != "cpu":
        return env
    cores = _cores(engine.cpu_threads_bind)
    # In one process the engine steps in the thread that owns it: no hop between processes for
    # every token, and OpenMP's workers belong to that thread.
    env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    env["VLLM_CPU_OMP_THREADS_BIND"] = engine.cpu_threads_bind or "nobind"
    # Ray would set this to the replica's reserved CPUs, i.e. to 1 on a laptop.
    env["OMP_NUM_THREADS"] = str(cores)
    preload = _preload()
    if preload:
        env["LD_PRELOAD"] = ":".join(preload)
        # A waiting thread gives its core back after 5 ms instead of 200, as vLLM sets it for its
        # own worker processes: on a few cores the driver and the trainer need them too.
        env["KMP_BLOCKTIME"] = "5"
        env["KMP_TPAUSE"] = "0"
        if engine.cpu_threads_bind not in (None, "auto", "nobind"):
            env["KMP_AFFINITY"] = f"granularity=fine,explicit,proclist=[{engine.cpu_threads_bind}]"
    return env


def _cores(bind: str | None) -> int:
    """Number of cores a binding such as `0-3,8` names; all of the node's without one."""
    if bind is None or bind in ("auto", "nobind"):
        return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    total = 0
    for part in bind.split("|")[0].split(","):
        low, _, high = part.partition("-")
        total += int(high or low) - int(low) + 1
    return total


def _preload() -> list[str]:
    """Intel's OpenMP and tcmalloc, where installed: a few percent of throughput on CPU."""
    found = [p for pattern in _TCMALLOC for p in glob.glob(pattern)][:1]
    iomp = Path(sys.prefix) / "lib" / "libiomp5.so"
    return found + ([str(iomp)] if iomp.is_file() else [])


def actor_options(engine: EngineConfig, device: str, name: str) -> dict[str, Any]:
    """Returns the Ray options of one replica's actor."""
    resources = replica_resources(engine, device)
    options: dict[str, Any] = {
        "name": name,
        "num_cpus": resources["CPU"],
        "num_gpus": resources.get("GPU", 0),
        "max_restarts": engine.max_restarts,
        "max_concurrency": 10_000,
    }
    if engine.kind == "vllm":
        options["runtime_env"] = {"env_vars": replica_env(engine, device)}
    return options


def scorer_engine(engine: EngineConfig) -> EngineConfig:
    """The engine of a reward model: one replica beside those that write."""
    return engine.model_copy(update={"kind": "classifier", "replicas": 1})
