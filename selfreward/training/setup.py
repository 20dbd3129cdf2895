"""Builds what a training worker needs of its task: tokenizer, model, and how it is spread."""

import logging
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from selfreward.config import TrainingConfig
from selfreward.errors import ConfigError
from selfreward.training.attention import register as register_cpu_attention
from selfreward.training.model import (
    ModelSource,
    add_lora,
    load_causal_lm,
    stored_dtype,
)
from selfreward.training.parallel import Parallel, Replicated, rank, together
from selfreward.training.policy import Policy, measure
from selfreward.training.sharded import Sharded


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
    source: ModelSource, config: TrainingConfig, seed: int, device: torch.device
) -> Policy:
    lm = load_causal_lm(source, dtype=torch.float32, attention=attention_of(device))
    if config.lora is not None:
        lm = add_lora(lm, config.lora, seed)
    return Policy(lm)


def _enable_checkpointing(policy: Policy, config: TrainingConfig) -> None:
    if config.activation_checkpointing:
        policy.causal_lm.activation_checkpointing_enable({"use_reentrant": False})


def build(
    source: ModelSource, config: TrainingConfig, *, seed: int, device: torch.device
) -> Trainee:
    """Loads the model and spreads it over the workers of the process group.

    Raises:
        ModelNotFoundError: no model at the source.
        ConfigError: LoRA targets or the strategy do not fit the model or the workers.
    """
    dtype = together(lambda: stored_dtype(source))
    if strategy_of(config) == "fsdp2":
        return Trainee(parallel=_sharded(source, config, seed=seed, device=device), dtype=dtype)
    policy = together(lambda: _assemble(source, config, seed, device))
    policy.plain_head, policy.shares_prompt = measure(policy, torch.device("cpu"))
    _enable_checkpointing(policy, config)
    keep_frozen = config.lora is not None and dtype not in (torch.bfloat16, torch.float16)
    parallel = Replicated(policy, config, device=device, keep_frozen=keep_frozen)
    return Trainee(parallel=parallel, dtype=dtype)


def _sharded(
    source: ModelSource, config: TrainingConfig, *, seed: int, device: torch.device
) -> Sharded:
    if not dist.is_initialized():
        raise ConfigError("training.strategy=fsdp2 needs a process group; use ddp in one process")
    loaded = together(lambda: _assemble(source, config, seed, device) if rank() == 0 else None)
    facts = [(True, True)]
    if loaded is not None:
        facts = [measure(loaded, torch.device("cpu"))]
    dist.broadcast_object_list(facts, src=0)
    with torch.device("meta"):
        policy = _skeleton(source, config, seed, device)
    policy.plain_head, policy.shares_prompt = facts[0]
    _enable_checkpointing(policy, config)
    return Sharded(policy, loaded, config, device=device)


def _skeleton(
    source: ModelSource, config: TrainingConfig, seed: int, device: torch.device
) -> Policy:
    from transformers import AutoConfig, AutoModelForCausalLM

    model_config = AutoConfig.from_pretrained(source.path, **source.options)
    model_config.use_cache = False
    lm = AutoModelForCausalLM.from_config(
        model_config,
        dtype=torch.float32,
        attn_implementation=attention_of(device),
        trust_remote_code=source.trust_remote_code,
    )
    if config.lora is not None:
        lm = add_lora(lm, config.lora, seed)
    return Policy(lm)
