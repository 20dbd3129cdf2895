"""How far a training is, told to whoever waits for it."""

import time
from collections.abc import Callable

from selfreward.training.parallel import rank
from selfreward.training.task import Metrics

Say = Callable[[str], None]
"""Takes a line about the training; must not block."""

EVERY_S = 5.0


class Telling:
    """Says the step, the loss or reward, the speed and the time left; worker 0 does, seldom."""

    def __init__(self, say: Say | None, num_steps: int, first_step: int) -> None:
        self._say = say if rank() == 0 else None
        self._num_steps, self._first_step = num_steps, first_step
        self._begin = self._last = time.monotonic()

    def step(self, done: int, metrics: Metrics) -> None:
        """`done` steps are done, the last one with these metrics."""
        now = time.monotonic()
        if self._say is None or now - self._last < EVERY_S:
            return
        self._last = now
        left = (now - self._begin) / (done - self._first_step) * (self._num_steps - done)
        told = [f"step {done}/{self._num_steps}"]
        for name in ("train/loss", "rollout/reward"):
            if name in metrics:
                told.append(f"{name.partition('/')[2]} {metrics[name]:.3f}")
        told += [f"{metrics.get('train/tokens_per_s', 0.0):.0f} tok/s", f"{left:.0f} s left"]
        self._say(", ".join(told))
