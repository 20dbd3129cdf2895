"""How shard tasks, wherever they run, tell the driver what they finished.

A tiny actor adds up; the driver polls it. Losing it never stops a stage: progress is for people,
the shards on storage are the truth.
"""

from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

if TYPE_CHECKING:  # the board's process would load Ray Data with it
    from selfreward.stages.runner import Progress

POLL_TIMEOUT_S = 10.0


class ProgressBoard:
    """Adds up rows and tokens of the stage that is running, and keeps what it said last; a Ray
    actor."""

    def __init__(self) -> None:
        self._stage, self._rows, self._tokens, self._said = "", 0, 0, ""

    def open(self, stage: str) -> None:
        """Begins a stage; what is told of another one is dropped from then on."""
        self._stage, self._rows, self._tokens, self._said = stage, 0, 0, ""

    def say(self, stage: str, text: str) -> None:
        if self._is_open(stage):
            self._said = text

    def _is_open(self, stage: str) -> bool:
        # A board that Ray has started anew learns from the tasks which stage is running.
        if not self._stage:
            self._stage = stage
        return stage == self._stage

    def said(self) -> str:
        return self._said

    def add(self, stage: str, rows: int, tokens: int) -> None:
        if self._is_open(stage):
            self._rows += rows
            self._tokens += tokens

    def read(self) -> tuple[int, int]:
        return self._rows, self._tokens


class BoardHandle:
    """Driver's side of the board; `teller(stage)` is what shard tasks call."""

    def __init__(self) -> None:
        self._actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(ProgressBoard).remote()

    def open(self, stage: str) -> "Teller":
        self._actor.open.remote(stage)
        return Teller(self._actor, stage)

    def read(self) -> tuple[int, int] | None:
        """Rows and completion tokens so far, None where the board does not answer."""
        try:
            rows, tokens = ray.get(self._actor.read.remote(), timeout=POLL_TIMEOUT_S)
        except RayError:
            return None
        return rows, tokens

    def said(self) -> str:
        """What the work said last in words; empty where it or the board says nothing."""
        try:
            text: str = ray.get(self._actor.said.remote(), timeout=POLL_TIMEOUT_S)
        except RayError:
            return ""
        return text

    def stop(self) -> None:
        ray.kill(self._actor)


class Teller:
    """Picklable: sends a task's progress to the board without waiting."""

    def __init__(self, actor: Any, stage: str) -> None:
        self._actor = actor
        self._stage = stage

    def __call__(self, progress: "Progress") -> None:
        tokens = int(progress.ledger.get("completion_tokens", 0))
        self._actor.add.remote(self._stage, progress.rows, tokens)

    def say(self, text: str) -> None:
        """Tells in words how far a piece of work is that has no rows."""
        self._actor.say.remote(self._stage, text)
