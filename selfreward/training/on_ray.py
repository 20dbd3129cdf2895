"""What a training worker does with Ray Train, whichever loop it runs."""

from pathlib import Path

import ray.train
import torch

from selfreward.training.setup import quiet_libraries, set_threads


def begin_worker(is_gpu: bool) -> torch.device:
    """Sets this worker's process up and returns where it computes."""
    quiet_libraries()
    set_threads(ray.train.get_context().get_local_world_size())
    if not is_gpu:
        return torch.device("cpu")
    from ray.train.torch import get_device

    device: torch.device = get_device()
    torch.cuda.set_device(device)
    return device


def report(metrics: dict[str, float], folder: Path | None) -> None:
    """Reports metrics, and at checkpoints the folder to keep."""
    checkpoint = ray.train.Checkpoint.from_directory(str(folder)) if folder else None
    ray.train.report(metrics, checkpoint=checkpoint)
