"""AdamW's parameter groups, the learning-rate schedule and clipping."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from selfreward.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, num_steps: int) -> float:
    """The rate of optimizer step `step` (from 0): linear warmup, then half a cosine down to
    `learning_rate * final_lr_ratio`, which the step after the last would have."""
    warmup = math.ceil(config.warmup_ratio * num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.learning_rate * (config.final_lr_ratio + (1.0 - config.final_lr_ratio) * cosine)


def make_adamw(
    named: Iterable[tuple[str, Tensor]], config: TrainingConfig, fused: bool
) -> torch.optim.AdamW:
    """AdamW over the given parameters; norms and biases (one-dimensional) do not decay."""
    parameters = list(named)
    groups = [
        {"params": [p for _, p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for _, p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        fused=fused or None,
    )


def clip_(gradients: Sequence[Tensor], norm: float, max_norm: float) -> None:
    """Scales the gradients down to `max_norm` in place where their global `norm` is above it."""
    if norm > max_norm:
        torch._foreach_mul_(list(gradients), max_norm / (norm + 1e-6))
