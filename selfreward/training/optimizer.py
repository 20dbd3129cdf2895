"""AdamW's parameter groups, the learning-rate schedules and clipping."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from selfreward.config import TrainingConfig


def _cosine(config: TrainingConfig, step: int, warmup: int, num_steps: int) -> float:
    progress = (step - warmup) / max(1, num_steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _linear(config: TrainingConfig, step: int, warmup: int, num_steps: int) -> float:
    return 1.0 - (step - warmup) / max(1, num_steps - warmup)


def _constant(config: TrainingConfig, step: int, warmup: int, num_steps: int) -> float:
    return 1.0


def _warmup_stable_decay(config: TrainingConfig, step: int, warmup: int, num_steps: int) -> float:
    decay = min(math.ceil(config.decay_ratio * num_steps), num_steps - warmup)
    left = num_steps - step
    return 1.0 if left >= decay else left / decay


_SHAPES: dict[str, Callable[[TrainingConfig, int, int, int], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
    "wsd": _warmup_stable_decay,
}
"""What is left, from 1 to 0, of the way between the peak and the final rate, after the warm-up."""


def learning_rate(config: TrainingConfig, step: int, num_steps: int) -> float:
    """The rate of optimizer step `step` (from 0): a line up over the warm-up, whose last step has
    `learning_rate`, then the shape of `lr_schedule` down to `learning_rate * final_lr_ratio`,
    which the step after the last would have. wsd is arXiv 2404.06395, section 4, with a line."""
    warmup = math.ceil(config.warmup_ratio * num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    left = _SHAPES[config.lr_schedule](config, step, warmup, num_steps)
    return config.learning_rate * (config.final_lr_ratio + (1.0 - config.final_lr_ratio) * left)


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
