"""The warm engine pool, seen from the driver: start, change of weights, release, stop."""

import uuid
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from selfreward.config import EngineConfig
from selfreward.engines.classifier_replica import ClassifierReplica
from selfreward.engines.client import EngineClient
from selfreward.engines.protocol import ReplicaHealth
from selfreward.engines.publisher import Replicas, WeightsPublisher
from selfreward.engines.replica import BOARD_TIMEOUT_S, Loss, ReplicaSpec, Wanted, WeightsBoard
from selfreward.engines.replica_env import actor_options, resolve_device
from selfreward.engines.scripted_replica import ScriptedReplica
from selfreward.engines.vllm_replica import VLLMReplica
from selfreward.errors import EngineError
from selfreward.records import ModelRef

REPLICA_CLASSES: dict[str, type] = {
    "vllm": VLLMReplica,
    "classifier": ClassifierReplica,
    "scripted": ScriptedReplica,
}

TELL_TIMEOUT_S = 10.0
"""How long the board may take to say what is only told to people."""


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

    def losses(self) -> list[Loss]:
        """Replicas that ended by themselves so far and were started anew, the latest last; none
        where the board is gone."""
        try:
            found: list[Loss] = ray.get(self._board.list_losses.remote(), timeout=TELL_TIMEOUT_S)
        except RayError:
            return []
        return found

    def client(self) -> EngineClient:
        """A picklable client that expects the weights the pool holds now.

        Raises:
            EngineError: the pool is released or stopped.
        """
        if not self._replicas:
            raise EngineError(f"engine pool {self._role!r} is not started")
        return self._running().client(self.model)

    def ensure_started(self) -> None:
        """Starts the replicas if none are up (first start, or after `release`)."""
        if self._stopped:
            raise EngineError(f"engine pool {self._role!r} is stopped")
        if self._replicas:
            return
        remote_class: Any = ray.remote(REPLICA_CLASSES[self._engine.kind])
        names = [f"{self._role}-{index}" for index in range(self._engine.replicas)]
        ray.get(self._board.expect.remote(names), timeout=BOARD_TIMEOUT_S)
        for name in names:
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
            self._running().wait_healthy(self._engine.start_timeout_s, "to start")
        except BaseException:
            self.release()
            raise

    def health(self, timeout_s: float = BOARD_TIMEOUT_S) -> list[ReplicaHealth]:
        """What every replica says of itself; waits for those that are being restarted.

        Raises:
            EngineError: a replica is dead for good.
            EngineTimeoutError: one did not answer in time.
        """
        return self._running().wait_healthy(timeout_s, "to answer")

    def swap(self, model: ModelRef, folder: str) -> float:
        """Changes the weights of every replica in place; returns the seconds it took.

        The board is told first, so that a replica which dies meanwhile comes back with the new
        weights. A released pool only notes them for its next start.

        Raises:
            EngineError: a replica cannot load the weights or is dead for good.
            EngineTimeoutError: not done within `engine.swap_timeout_s`.
        """
        self._wanted = Wanted(model=model, folder=folder)
        return self._running().swap(self._wanted)

    def publisher(self) -> WeightsPublisher:
        """A picklable handle with which another process changes this pool's weights.

        Raises:
            EngineError: the pool is released or stopped.
        """
        if not self._replicas:
            raise EngineError(f"engine pool {self._role!r} is not started")
        return WeightsPublisher(
            model=self._wanted.model, folder=self._wanted.folder, replicas=self._running()
        )

    def adopt(self, model: ModelRef, folder: str) -> None:
        """Notes the weights that a publisher gave the replicas last; nothing is loaded.

        Clients made from now on expect them.
        """
        self._wanted = Wanted(model=model, folder=folder)

    def _running(self) -> Replicas:
        return Replicas(
            actors=dict(self._replicas),
            board=self._board,
            engine=self._engine,
            device=self._device,
        )

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
