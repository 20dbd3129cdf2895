"""What trainers measured side by side have in common: their turns, and how they are timed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

IGNORED = -100
"""The label of a position that nothing is learnt from, as in transformers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One trainer's run: seconds and loss of each step.

    Example: `Turn(seconds=[0.9, 0.4, 0.4], losses=[5.8, 5.7, 5.7])`
    """

    seconds: list[float]
    losses: list[float]


def this_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait_for_device() -> None:
    """Waits until a GPU has done what it was asked: a call returns when its work is queued."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Appends the seconds of what is done inside."""
    wait_for_device()
    begin = time.perf_counter()
    yield
    wait_for_device()
    seconds.append(time.perf_counter() - begin)


def clock_steps(trainer: Any, seconds: list[float]) -> None:
    """Makes transformers' Trainer (or one of TRL's) append the seconds of each step, and print
    nothing: a benchmark's output is one JSON document."""
    from transformers import PrinterCallback, TrainerCallback

    class Clock(TrainerCallback):
        begin = 0.0

        def on_step_begin(self, *given: Any, **more: Any) -> None:
            wait_for_device()
            self.begin = time.perf_counter()

        def on_step_end(self, *given: Any, **more: Any) -> None:
            wait_for_device()
            seconds.append(time.perf_counter() - self.begin)

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())


def tokens_per_s(turns: Sequence[Turn], num_tokens: Sequence[int]) -> float:
    """Of all steps but each turn's first, which pays for what is done once."""
    seconds = sum(sum(turn.seconds[1:]) for turn in turns)
    return len(turns) * sum(num_tokens[1:]) / seconds


def largest_difference(losses: Sequence[Sequence[float]], others: Sequence[float]) -> float:
    """The largest distance of a step's loss from that of the same step in `others`."""
    return max(abs(a - b) for turn in losses for a, b in zip(turn, others, strict=True))
