"""Builds what a training worker needs of its task: tokenizer, model, and how it is spread."""

import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from selfreward.config import TrainingConfig
from selfreward.errors import ConfigError
from selfreward.training.attention import register as register_cpu_attention
from selfreward.training.model import (
    ModelKind,
    ModelSource,
    add_lora,
    load_causal_lm,
    stored_dtype,
)
from selfreward.training.parallel import Parallel, Replicated, rank, together
from selfreward.training.policy import Policy, Traits
from selfreward.training.reward_model import empty_reward_model, load_reward_model
from selfreward.training.reward_policy import RewardPolicy
from selfreward.training.rms_norm import speed_up_norms
from selfreward.training.sharded import Sharded
from selfreward.training.traits import measure


def attention_of(device: torch.device) -> str:
    """transformers' name of the attention kernel to train with."""
    return register_cpu_attention() if device.type == "cpu" else "sdpa"


def set_threads(workers_on_node: int) -> int:
    """Gives this process its share of the node's cores, at least one; returns the number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = max(1, (cores or 1) // max(1, workers_on_node))
    torch.set_num_threads(threads)
    return threads


def quiet_libraries() -> None:
    """Silences the progress bars and notices of libraries in a worker; their errors stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("ray.train").setLevel(logging.WARNING)


def strategy_of(config: TrainingConfig) -> str:
    if config.strategy == "auto":
        return "fsdp2" if config.use_gpu and config.num_workers > 1 else "ddp"
    return config.strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """A model ready to train, and the dtype its checkpoints are stored in."""

    parallel: Parallel
    dtype: torch.dtype


def _assemble(
    source: ModelSource, config: TrainingConfig, seed: int, device: torch.device, kind: ModelKind
) -> Policy:
    attention = attention_of(device)
    if kind == "causal_lm":
        lm = load_causal_lm(source, dtype=torch.float32, attention=attention)
    else:
        lm = load_reward_model(source, dtype=torch.float32, attention=attention, seed=seed)
    return _wrap(lm, config, seed, kind)


def _wrap(lm: Any, config: TrainingConfig, seed: int, kind: ModelKind) -> Policy:
    if config.lora is not None:
        lm = add_lora(lm, config.lora, seed, kind)
    return Policy(lm) if kind == "causal_lm" else RewardPolicy(lm)


def _enable_checkpointing(policy: Policy, config: TrainingConfig) -> None:
    if config.activation_checkpointing:
        policy.causal_lm.activation_checkpointing_enable({"use_reentrant": False})


def build(
    source: ModelSource,
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
    kind: ModelKind = "causal_lm",
) -> Trainee:
    """Loads the model and spreads it over the workers of the process group.

    A "reward_model" takes its score head from `source`, or a new one where it has none; its
    `parallel.policy` is a `RewardPolicy`.

    Raises:
        ModelNotFoundError: no model of this kind at the source.
        ConfigError: LoRA targets or the strategy do not fit the model or the workers.
    """
    dtype = together(lambda: stored_dtype(source))
    if strategy_of(config) == "fsdp2":
        sharded = _sharded(source, config, seed=seed, device=device, kind=kind)
        return Trainee(parallel=sharded, dtype=dtype)
    policy = together(lambda: _assemble(source, config, seed, device, kind))
    if device.type == "cpu":
        speed_up_norms(policy.lm)
    measure(policy, torch.device("cpu"))
    _enable_checkpointing(policy, config)
    keep_frozen = config.lora is not None and dtype not in (torch.bfloat16, torch.float16)
    parallel = Replicated(policy, config, device=device, keep_frozen=keep_frozen)
    return Trainee(parallel=parallel, dtype=dtype)


def _sharded(
    source: ModelSource,
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
    kind: ModelKind,
) -> Sharded:
    if not dist.is_initialized():
        raise ConfigError("training.strategy=fsdp2 needs a process group; use ddp in one process")
    loaded = together(
        lambda: _assemble(source, config, seed, device, kind) if rank() == 0 else None
    )
    traits = [Traits()]
    if loaded is not None:
        traits = [measure(loaded, torch.device("cpu"))]
    dist.broadcast_object_list(traits, src=0)
    with torch.device("meta"):
        policy = _wrap(_skeleton(source, device, kind), config, seed, kind)
    policy.traits = traits[0]
    _enable_checkpointing(policy, config)
    return Sharded(policy, loaded, config, device=device)


def _skeleton(source: ModelSource, device: torch.device, kind: ModelKind) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    attention = attention_of(device)
    if kind == "reward_model":
        model = empty_reward_model(source, dtype=torch.float32, attention=attention)
        model.config.use_cache = False
        return model
    model_config = AutoConfig.from_pretrained(source.path, **source.options)
    model_config.use_cache = False
    return AutoModelForCausalLM.from_config(
        model_config,
        dtype=torch.float32,
        attn_implementation=attention,
        trust_remote_code=source.trust_remote_code,
    )
