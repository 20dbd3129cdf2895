"""Notices that a stage stands still, which Ray says nothing of: it waits for free CPUs for ever."""

import time
from collections.abc import Callable
from typing import Any

import ray

from selfreward.config import RayConfig
from selfreward.errors import ResourceError

WARN_SHARE = 0.1
"""The part of the time limit after which standing still is told."""
LOOK_SHARE = 0.01


class StallWatch:
    """Counts how long neither a shard nor what tasks tell has moved.

    `told` is asked for what tasks told so far; None is no news. `warn` gets one line before the
    stage fails.

    Example: `StallWatch(config.ray, told=board.read, warn=display.line).check()`
    """

    def __init__(
        self,
        config: RayConfig,
        told: Callable[[], Any] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._told = told
        self._warn = warn
        self._last: Any = None
        self._looked = 0.0
        self.moved()

    def moved(self) -> None:
        """Begins to count anew."""
        self._since = time.monotonic()
        self._warned = False

    def check(self) -> None:
        """Called again and again by who waits.

        Raises:
            ResourceError: nothing has moved for `ray.stall_timeout_s`.
        """
        limit_s = self._config.stall_timeout_s
        now = time.monotonic()
        if now - self._looked < LOOK_SHARE * limit_s:
            return
        self._looked = now
        found = self._told() if self._told is not None else None
        if found is not None and found != self._last:
            self._last = found
            self.moved()
            return
        idle = now - self._since
        if idle >= limit_s:
            raise ResourceError(
                f"no row was finished for ray.stall_timeout_s={limit_s:g} seconds; {self._cpus()}:"
                " free CPUs or bring nodes up, or raise ray.stall_timeout_s, and run again to go on"
            )
        if idle >= WARN_SHARE * limit_s and not self._warned and self._warn is not None:
            self._warned = True
            self._warn(f"no row was finished for {idle:.0f} s; {self._cpus()}")

    def _cpus(self) -> str:
        free = ray.available_resources().get("CPU", 0.0)
        there = ray.cluster_resources().get("CPU", 0.0)
        return (
            f"a shard task needs {self._config.stage_task_cpus:g} CPUs, the cluster has"
            f" {free:g} of {there:g} free"
        )
