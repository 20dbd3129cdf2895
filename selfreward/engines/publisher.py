"""Changing the weights of a pool's replicas in place, from whichever process has the new ones.

The driver's pool and a training worker's `WeightsPublisher` do the same: the board learns first
what is wanted, so that a replica which dies meanwhile comes back with the new weights; then every
replica changes, and what each holds is read back.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayError

from selfreward.config import EngineConfig
from selfreward.engines.client import EngineClient
from selfreward.engines.deaths import GONE, death_words, is_back_soon, last_line
from selfreward.engines.protocol import ReplicaHealth
from selfreward.engines.replica import BOARD_TIMEOUT_S, Wanted
from selfreward.engines.replica_env import replica_resources
from selfreward.errors import EngineError, EngineTimeoutError, TransientEngineError
from selfreward.records import ModelRef

POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """The running replicas of a pool with their board; picklable.

    Example: `Replicas(actors={"judge-0": <handle>}, board=<handle>, engine=EngineConfig(),
    device="cpu")`
    """

    actors: dict[str, Any]
    board: Any
    engine: EngineConfig
    device: str
    """`cpu` or `cuda`."""

    def client(self, model: ModelRef) -> EngineClient:
        """A client that expects these weights."""
        return EngineClient(
            replicas=dict(self.actors),
            board=self.board,
            model=model,
            request_timeout_s=self.engine.request_timeout_s,
            recovery_timeout_s=self.engine.recovery_timeout_s,
        )

    def swap(self, wanted: Wanted) -> float:
        """Changes the weights of every replica in place; returns the seconds it took.

        Raises:
            EngineError: a replica cannot load the weights or is dead for good.
            EngineTimeoutError: not done within `engine.swap_timeout_s`.
        """
        start = time.monotonic()
        limit_s = self.engine.swap_timeout_s
        model = wanted.model
        self._ask(self.board.set_wanted.remote(wanted))
        stale = list(self.actors)
        while True:
            self._call_swap(stale, wanted, start + limit_s)
            left = max(POLL_S, start + limit_s - time.monotonic())
            healths = self.wait_healthy(left, "to take new weights")
            # One that was starting when it was told may have asked the board before that: it is
            # back with the weights of before, and is told again.
            stale = [h.replica for h in healths if h.model.fingerprint != model.fingerprint]
            if not stale:
                return time.monotonic() - start
            if time.monotonic() - start > limit_s:
                raise EngineTimeoutError(
                    f"{', '.join(stale)} did not take the weights {model.fingerprint} within"
                    f" engine.swap_timeout_s={limit_s:.0f}"
                )
            time.sleep(POLL_S)

    def _call_swap(self, names: Sequence[str], wanted: Wanted, deadline: float) -> None:
        """Tells replicas to load weights; one that is being restarted is passed over."""
        model, folder, limit_s = wanted.model, wanted.folder, self.engine.swap_timeout_s
        calls = {n: self.actors[n].swap.remote(model, folder, limit_s) for n in names}
        for name, call in calls.items():
            left = max(0.1, deadline - time.monotonic())
            try:
                ray.get(call, timeout=left)
            except GetTimeoutError:
                raise EngineTimeoutError(
                    f"replica {name} did not take the weights {model.fingerprint} within"
                    f" engine.swap_timeout_s={limit_s:.0f}"
                ) from None
            except (*GONE, TransientEngineError):
                continue
            except RayError as error:
                raise EngineError(
                    f"replica {name} could not load {folder!r}: {last_line(error)}"
                ) from error

    def wait_healthy(self, timeout_s: float, for_what: str) -> list[ReplicaHealth]:
        """What every replica says of itself; waits for those that are being restarted.

        Raises:
            EngineError: a replica is dead for good.
            EngineTimeoutError: one did not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        return [
            self._wait_for(name, replica, deadline, timeout_s, for_what)
            for name, replica in self.actors.items()
        ]

    def _wait_for(
        self, name: str, replica: Any, deadline: float, timeout_s: float, for_what: str
    ) -> ReplicaHealth:
        was_out_of_memory = False
        while True:
            try:
                left = max(POLL_S, deadline - time.monotonic())
                health: ReplicaHealth = ray.get(replica.health.remote(), timeout=left)
                return health
            except GetTimeoutError:
                pass
            except GONE as error:
                # Out of memory is said once of a call that the replica was ended with, and of
                # every call after it has used up its restarts.
                is_first = isinstance(error, OutOfMemoryError) and not was_out_of_memory
                if not (is_back_soon(error) or is_first):
                    raise EngineError(
                        f"replica {name} failed {for_what}: {self._why(name, error)}"
                    ) from error
                was_out_of_memory = is_first
                if time.monotonic() < deadline:
                    time.sleep(POLL_S)
                    continue
            needs = replica_resources(self.engine, self.device)
            raise EngineTimeoutError(
                f"waited {timeout_s:.0f} s for replica {name} {for_what}; it needs {needs}, free in"
                f" the cluster: {_free(needs)}"
            )

    def _why(self, name: str, error: Exception) -> str:
        said: str = self._ask(self.board.last_failure.remote(name))
        return said or death_words(error)

    def _ask(self, call: Any) -> Any:
        try:
            return ray.get(call, timeout=BOARD_TIMEOUT_S)
        except RayError as error:
            raise EngineError(
                f"the weights board of {', '.join(self.actors)} did not answer within"
                f" {BOARD_TIMEOUT_S:.0f} s or is gone: {last_line(error)}"
            ) from error


def _free(needs: dict[str, float]) -> dict[str, float]:
    available = ray.available_resources()
    return {name: round(available.get(name, 0.0), 3) for name in needs}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsPublisher:
    """Changes a pool's weights from any process; made by `EnginePool.publisher`, picklable.

    The pool it came from does not notice: its owner calls `EnginePool.adopt` with the last
    weights, or `EnginePool.swap`.
    """

    model: ModelRef
    """The weights the pool held when this was made."""
    folder: str
    replicas: Replicas

    def swap(self, model: ModelRef, folder: str) -> EngineClient:
        """Changes the weights of every replica in place; returns a client that expects them.

        Raises:
            EngineError: a replica cannot load the weights or is dead for good.
            EngineTimeoutError: not done within `engine.swap_timeout_s`.
        """
        self.replicas.swap(Wanted(model=model, folder=folder))
        return self.client(model)

    def client(self, model: ModelRef) -> EngineClient:
        """A client that expects weights which somebody else has published or will."""
        return self.replicas.client(model)
