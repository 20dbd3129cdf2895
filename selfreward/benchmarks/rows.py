"""Training on rows and on rollouts: our trainer, a bare PyTorch loop and TRL in turns."""

from typing import Any

from selfreward.benchmarks.data import make_preferences
from selfreward.training.benchmark_online import compare_updates
from selfreward.training.benchmark_rows import compare_trainers

MAX_LENGTH = 1024


def training_on_rows(model_path: str) -> dict[str, Any]:
    """The figures of `compare_trainers` by objective, and those of `compare_updates` as
    `policy_gradient`, on made-up pairs of 64 instructions."""
    from transformers import AutoConfig

    positions = getattr(AutoConfig.from_pretrained(model_path), "max_position_embeddings", None)
    max_length = min(MAX_LENGTH, positions or MAX_LENGTH)
    rows = make_preferences(64)
    figures: dict[str, Any] = compare_trainers(model_path, rows, max_length=max_length)
    return figures | {"policy_gradient": compare_updates(model_path, rows, max_length=max_length)}
