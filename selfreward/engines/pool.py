"""The warm engine pool, seen from the driver: start, change of weights, release, stop."""

import time
import uuid
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from selfreward.config import EngineConfig
from selfreward.engines.classifier_replica import ClassifierReplica
from selfreward.engines.client import EngineClient, last_line
from selfreward.engines.protocol import ReplicaHealth
from selfreward.engines.replica import BOARD_TIMEOUT_S, ReplicaSpec, Wanted, WeightsBoard
from selfreward.engines.replica_env import actor_options, replica_resources, resolve_device
from selfreward.engines.scripted import ScriptedReplica
from selfreward.engines.vllm_replica import VLLMReplica
from selfreward.errors import EngineError, EngineTimeoutError, TransientEngineError
from selfreward.records import ModelRef

REPLICA_CLASSES: dict[str, type] = {
    "vllm": VLLMReplica,
    "classifier": ClassifierReplica,
    "scripted": ScriptedReplica,
}
POLL_S = 0.5


class EnginePool:
    """Replicas of one model, kept warm over all stages and iterations of a run.

    Example:
        `with EnginePool.start(role="judge", run_id="r1", model=ref, folder=folder,
        engine=config.engine) as pool: asyncio.run(pool.client().generate(requests))`
    """

    def __init__(
        self,
        *,
        role: str,
        run_id: str,
        model: ModelRef,
        folder: str,
        engine: EngineConfig,
        trust_remote_code: bool = False,
    ) -> None:
        self._role = role
        self._run_id = run_id
        self._engine = engine
        self._device = resolve_device(engine)
        self._trust_remote_code = trust_remote_code
        self._wanted = Wanted(model=model, folder=folder)
        self._replicas: dict[str, Any] = {}
        # Beside the driver, whose end is the pool's end anyway: losing another node loses no board.
        self._board_name = f"{run_id}/{role}-board-{uuid.uuid4().hex[:8]}"
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._board: Any = (
            ray.remote(WeightsBoard)
            .options(name=self._board_name, num_cpus=0, scheduling_strategy=here)
            .remote(self._wanted)
        )
        self._stopped = False
        self._final_starts = 0

    @classmethod
    def start(
        cls,
        *,
        role: str,
        run_id: str,
        model: ModelRef,
        folder: str,
        engine: EngineConfig,
        trust_remote_code: bool = False,
    ) -> Self:
        """Starts the replicas and waits until every one has answered.

        Raises:
            EngineError: a replica could not start; the message ends with its cause.
            EngineTimeoutError: not all were up within `engine.start_timeout_s`.
        """
        pool = cls(
            role=role,
            run_id=run_id,
            model=model,
            folder=folder,
            engine=engine,
            trust_remote_code=trust_remote_code,
        )
        try:
            pool.ensure_started()
        except BaseException:
            pool.stop()
            raise
        return pool

    @property
    def model(self) -> ModelRef:
        """The weights the pool holds, or will hold when it is started again."""
        return self._wanted.model

    @property
    def starts(self) -> int:
        """Engine starts so far, restarts after a crash included."""
        if self._stopped:
            return self._final_starts
        starts: int = ray.get(self._board.num_starts.remote(), timeout=BOARD_TIMEOUT_S)
        return starts

    def client(self) -> EngineClient:
        """A picklable client that expects the weights the pool holds now.

        Raises:
            EngineError: the pool is released or stopped.
        """
        if not self._replicas:
            raise EngineError(f"engine pool {self._role!r} is not started")
        return EngineClient(
            replicas=dict(self._replicas),
            board=self._board,
            model=self.model,
            request_timeout_s=self._engine.request_timeout_s,
            recovery_timeout_s=self._engine.recovery_timeout_s,
        )

    def ensure_started(self) -> None:
        """Starts the replicas if none are up (first start, or after `release`)."""
        if self._stopped:
            raise EngineError(f"engine pool {self._role!r} is stopped")
        if self._replicas:
            return
        remote_class: Any = ray.remote(REPLICA_CLASSES[self._engine.kind])
        for index in range(self._engine.replicas):
            name = f"{self._role}-{index}"
            spec = ReplicaSpec(
                name=name,
                device=self._device,
                engine=self._engine,
                trust_remote_code=self._trust_remote_code,
            )
            unique = f"{self._run_id}/{name}-{uuid.uuid4().hex[:8]}"
            options = actor_options(self._engine, self._device, unique)
            self._replicas[name] = remote_class.options(**options).remote(spec, self._board_name)
        try:
            self._wait_healthy(self._engine.start_timeout_s, "to start")
        except BaseException:
            self.release()
            raise

    def health(self, timeout_s: float = BOARD_TIMEOUT_S) -> list[ReplicaHealth]:
        """What every replica says of itself; waits for those that are being restarted.

        Raises:
            EngineError: a replica is dead for good.
            EngineTimeoutError: one did not answer in time.
        """
        return self._wait_healthy(timeout_s, "to answer")

    def swap(self, model: ModelRef, folder: str) -> float:
        """Changes the weights of every replica in place; returns the seconds it took.

        The board is told first, so that a replica which dies meanwhile comes back with the new
        weights. A released pool only notes them for its next start.

        Raises:
            EngineError: a replica cannot load the weights or is dead for good.
            EngineTimeoutError: not done within `engine.swap_timeout_s`.
        """
        start = time.monotonic()
        limit_s = self._engine.swap_timeout_s
        self._wanted = Wanted(model=model, folder=folder)
        ray.get(self._board.set_wanted.remote(self._wanted), timeout=BOARD_TIMEOUT_S)
        calls = {n: r.swap.remote(model, folder, limit_s) for n, r in self._replicas.items()}
        for name, call in calls.items():
            left = max(0.1, start + limit_s - time.monotonic())
            try:
                ray.get(call, timeout=left)
            except GetTimeoutError:
                raise EngineTimeoutError(
                    f"replica {name} did not take the weights {model.fingerprint} within"
                    f" engine.swap_timeout_s={limit_s:.0f}"
                ) from None
            except (RayActorError, TransientEngineError):
                # It comes back with what the board says; the check below waits for that.
                continue
            except RayError as error:
                raise EngineError(
                    f"replica {name} could not load {folder!r}: {last_line(error)}"
                ) from error
        while True:
            left = max(POLL_S, start + limit_s - time.monotonic())
            healths = self._wait_healthy(left, "to take new weights")
            stale = [h.replica for h in healths if h.model.fingerprint != model.fingerprint]
            if not stale:
                return time.monotonic() - start
            if time.monotonic() - start > limit_s:
                raise EngineTimeoutError(
                    f"{', '.join(stale)} did not take the weights {model.fingerprint} within"
                    f" engine.swap_timeout_s={limit_s:.0f}"
                )
            time.sleep(POLL_S)

    def _wait_healthy(self, timeout_s: float, for_what: str) -> list[ReplicaHealth]:
        deadline = time.monotonic() + timeout_s
        return [
            self._wait_for(name, replica, deadline, timeout_s, for_what)
            for name, replica in self._replicas.items()
        ]

    def _wait_for(
        self, name: str, replica: Any, deadline: float, timeout_s: float, for_what: str
    ) -> ReplicaHealth:
        while True:
            try:
                left = max(POLL_S, deadline - time.monotonic())
                health: ReplicaHealth = ray.get(replica.health.remote(), timeout=left)
                return health
            except ActorUnavailableError:
                if time.monotonic() < deadline:
                    time.sleep(POLL_S)
                    continue
            except GetTimeoutError:
                pass
            except RayActorError as error:
                raise EngineError(
                    f"replica {name} failed {for_what}: {self._why(name, error)}"
                ) from error
            needs = replica_resources(self._engine, self._device)
            raise EngineTimeoutError(
                f"waited {timeout_s:.0f} s for replica {name} {for_what}; it needs {needs}, free in"
                f" the cluster: {_free(needs)}"
            )

    def _why(self, name: str, error: RayActorError) -> str:
        said: str = ray.get(self._board.last_failure.remote(name), timeout=BOARD_TIMEOUT_S)
        return said or last_line(error)

    def release(self) -> None:
        """Stops the replicas and frees what they reserve; the wanted weights are remembered."""
        for replica in self._replicas.values():
            ray.kill(replica, no_restart=True)
        self._replicas = {}

    def stop(self) -> None:
        """Stops the pool for good; may be called twice."""
        if self._stopped:
            return
        self.release()
        try:
            self._final_starts = self.starts
        except RayError:
            self._final_starts = 0
        ray.kill(self._board, no_restart=True)
        self._stopped = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _free(needs: dict[str, float]) -> dict[str, float]:
    available = ray.available_resources()
    return {name: round(available.get(name, 0.0), 3) for name in needs}
