"""What every replica shares, whichever engine it drives: its spec, the board, the weights gate."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from selfreward.config import EngineConfig
from selfreward.engines.protocol import ReplicaHealth
from selfreward.errors import EngineError, EngineTimeoutError, StaleWeightsError
from selfreward.records import ModelRef

BOARD_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """Everything a replica must know to start, except which weights to hold (the board says).

    Example: `ReplicaSpec(name="judge-0", device="cpu", engine=EngineConfig())`
    """

    name: str
    device: str
    """`cpu` or `cuda`."""
    engine: EngineConfig
    trust_remote_code: bool = False


@dataclass(slots=True)
class Wanted:
    """The weights a pool's replicas should hold."""

    model: ModelRef
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A replica that ended by itself and was started anew.

    Example: `Loss(replica="judge-0", said="EngineDeadError: EngineCore is gone")`
    """

    replica: str
    said: str
    """Its last words; empty where it had no time for any."""


@dataclass(slots=True)
class WeightsBoard:
    """Holds, outside the replicas, which weights they should hold and how often they started.

    A replica that Ray restarts is built with its first arguments again; it reads here what the
    pool wants by now.
    """

    wanted: Wanted
    starts: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    expected: set[str] = field(default_factory=set)
    """Replicas that the pool is starting."""
    losses: list[Loss] = field(default_factory=list)

    def expect(self, replicas: Sequence[str]) -> None:
        """Notes whose next start is the pool's own."""
        self.expected.update(replicas)

    def list_losses(self) -> list[Loss]:
        return self.losses

    def set_wanted(self, wanted: Wanted) -> None:
        self.wanted = wanted

    def begin_start(self, replica: str) -> Wanted:
        """Counts an engine start and says which weights to start with; what the replica said of
        an earlier end is no word on the next."""
        self.starts += 1
        said = self.failures.pop(replica, "")
        if replica in self.expected:
            self.expected.discard(replica)
        else:
            self.losses.append(Loss(replica=replica, said=said))
        return self.wanted

    def num_starts(self) -> int:
        return self.starts

    def note_failure(self, replica: str, text: str) -> None:
        self.failures[replica] = text

    def last_failure(self, replica: str) -> str:
        """What the replica last said of its end; empty if it had no time to say anything."""
        return self.failures.get(replica, "")


class Board(Protocol):
    """Where a replica learns which weights to start with, and says why it ended."""

    def begin_start(self, replica: str) -> Wanted: ...

    def note_failure(self, replica: str, text: str) -> None: ...


class BoardClient:
    """The pool's board as a replica sees it: plain calls with a time limit.

    Found by its actor name, because Ray warns of restartable actors built with a handle.
    """

    def __init__(self, actor_name: str) -> None:
        self._actor_name = actor_name

    def _ask(self, method: str, *args: Any) -> Any:
        import ray

        try:
            board = ray.get_actor(self._actor_name)
            # Ray warns of a plain ray.get in any thread of an async actor.
            return getattr(board, method).remote(*args).future().result(BOARD_TIMEOUT_S)
        except (ray.exceptions.RayError, TimeoutError, ValueError) as error:
            raise EngineError(f"the weights board did not answer {method}: {error}") from error

    def begin_start(self, replica: str) -> Wanted:
        wanted: Wanted = self._ask("begin_start", replica)
        return wanted

    def note_failure(self, replica: str, text: str) -> None:
        self._ask("note_failure", replica, text)


class WeightsGate:
    """Lets requests in while the weights stand still, and keeps them out while they change.

    Lives in one event loop. Nothing in flight is aborted by a change of weights: requests already
    in finish first, later ones wait until the change is over.
    """

    def __init__(self, replica: str, model: ModelRef) -> None:
        self.model = model
        self.served = 0
        self._replica = replica
        self._in_flight = 0
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._changing = asyncio.Lock()

    @asynccontextmanager
    async def request(self, expected_fingerprint: str | None) -> AsyncIterator[ModelRef]:
        """Admits one request that wants certain weights; None takes those that are there.

        Raises:
            StaleWeightsError: the replica holds other weights.
        """
        while not self._open.is_set():
            await self._open.wait()
        if expected_fingerprint not in (None, self.model.fingerprint):
            raise StaleWeightsError(
                f"replica {self._replica} holds weights {self.model.fingerprint} (iteration"
                f" {self.model.iteration}), the request wants {expected_fingerprint}"
            )
        self._in_flight += 1
        self._idle.clear()
        try:
            yield self.model
            self.served += 1
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()

    @asynccontextmanager
    async def change(self, timeout_s: float) -> AsyncIterator[None]:
        """Keeps new requests out and waits for those in flight; the caller sets `model` inside.

        Raises:
            EngineTimeoutError: requests in flight did not finish in time.
        """
        async with self._changing:
            self._open.clear()
            try:
                try:
                    await asyncio.wait_for(self._idle.wait(), timeout_s)
                except TimeoutError:
                    raise EngineTimeoutError(
                        f"replica {self._replica}: {self._in_flight} requests still in flight"
                        f" after {timeout_s:.0f} s, weights not changed"
                    ) from None
                yield
            finally:
                self._open.set()

    def health(self, num_starts: int, stalled_s: float = 0.0) -> ReplicaHealth:
        return ReplicaHealth(
            replica=self._replica,
            pid=os.getpid(),
            node=os.uname().nodename,
            model=self.model,
            num_starts=num_starts,
            requests_served=self.served,
            stalled_s=stalled_s,
        )
