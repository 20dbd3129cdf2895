"""The engine pools of a run: started when first needed, kept warm, swapped in place.

Nothing is started for a run whose stages are all complete.
"""

from dataclasses import dataclass

from selfreward.config import GeneratorConfig, RunConfig
from selfreward.engines.client import EngineClient
from selfreward.engines.deaths import OUT_OF_MEMORY
from selfreward.engines.pool import EnginePool
from selfreward.engines.publisher import WeightsPublisher
from selfreward.engines.replica_env import scorer_engine
from selfreward.errors import EngineError
from selfreward.records import ModelRef
from selfreward.reports.progress import Display


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedModel:
    """Weights and where any node can load them from (a name, a folder or a URL)."""

    ref: ModelRef
    location: str


class Pools:
    """Hands out clients that are bound to the wanted weights."""

    def __init__(self, config: RunConfig, run_id: str, display: Display) -> None:
        self._config = config
        self._run_id = run_id
        self._display = display
        self._judge: EnginePool | None = None
        self._generator: EnginePool | None = None
        self._outsider: EnginePool | None = None
        self._scorer: EnginePool | None = None
        self._judge_released = False
        self._losses_told: dict[int, int] = {}
        self.swap_seconds: list[float] = []

    @property
    def engine_starts(self) -> int:
        """Engine starts of this run so far, over all replicas of both pools."""
        return sum(pool.starts for pool in self._pools() if pool is not None)

    def _pools(self) -> tuple[EnginePool | None, ...]:
        return self._judge, self._generator, self._outsider, self._scorer

    def tell_losses(self) -> None:
        """Says which replicas ended by themselves since it was last asked, and why, or what it
        usually is."""
        for pool in self._pools():
            found = [] if pool is None else pool.losses()
            told = self._losses_told.get(id(pool), 0)
            for loss in found[told:]:
                why = loss.said or f"without a word; most often {OUT_OF_MEMORY}"
                self._display.line(f"replica {loss.replica} ended and was started anew: {why}")
            self._losses_told[id(pool)] = max(told, len(found))

    def _start(
        self, role: str, model: PlacedModel, section: RunConfig | GeneratorConfig
    ) -> EnginePool:
        return EnginePool.start(
            role=role,
            run_id=self._run_id,
            model=model.ref,
            folder=model.location,
            engine=section.engine,
            trust_remote_code=section.model.trust_remote_code,
        )

    def judge(self, model: PlacedModel) -> EngineClient:
        """A client of the judge pool, which then holds `model`."""
        self.tell_losses()
        if self._judge is None:
            with self._display.waiting(f"starting {self._config.engine.replicas} engine(s)"):
                self._judge = self._start("judge", model, self._config)
        pool = self._judge
        if self._judge_released:
            # Weights first: the engines then start straight from the wanted ones.
            pool.swap(model.ref, model.location)
            with self._display.waiting("starting the engines again after training"):
                pool.ensure_started()
            self._judge_released = False
        if pool.model.fingerprint != model.ref.fingerprint:
            seconds = pool.swap(model.ref, model.location)
            self.swap_seconds.append(seconds)
            self._display.line(f"weights of iteration {model.ref.iteration} in {seconds:.1f} s")
        return pool.client()

    def generator(self, model: PlacedModel) -> EngineClient:
        """A client for writing answers: the generator's own pool, else the judge's."""
        if self._config.generator is None:
            return self.judge(model)
        if self._generator is None:
            with self._display.waiting("starting the generator's engines"):
                self._generator = self._start("generator", model, self._config.generator)
        self._generator.ensure_started()
        return self._generator.client()

    def outsider(self, model: PlacedModel) -> EngineClient:
        """A client of a pool of its own for a judge that no other pool holds: another
        architecture cannot be swapped in place."""
        if self._outsider is None:
            with self._display.waiting(f"starting the engines of {model.ref.name}"):
                self._outsider = self._start("outsider", model, self._config)
        self._outsider.ensure_started()
        return self._outsider.client()

    def scorer(self, model: PlacedModel) -> EngineClient:
        """A client of the pool of a reward model, which scores responses and writes nothing."""
        if self._scorer is None:
            with self._display.waiting("starting the reward model"):
                self._scorer = EnginePool.start(
                    role="scorer",
                    run_id=self._run_id,
                    model=model.ref,
                    folder=model.location,
                    engine=scorer_engine(self._config.engine),
                    trust_remote_code=self._config.model.trust_remote_code,
                )
        self._scorer.ensure_started()
        return self._scorer.client()

    def publisher(self) -> WeightsPublisher:
        """What changes the weights of the judge pool from another process, a training worker's.

        Raises:
            EngineError: the pool is not started.
        """
        if self._judge is None:
            raise EngineError("the engine pool is not started")
        return self._judge.publisher()

    def adopt(self, model: ModelRef, folder: str) -> None:
        """Notes which weights another process gave the judge pool last."""
        if self._judge is not None:
            self._judge.adopt(model, folder)

    def release_for_training(self) -> None:
        """Frees what the trainers need, where the pools share it with them."""
        if self._judge is not None and self._config.engine.placement == "shared":
            self._judge.release()
            self._judge_released = True
        for pool in (self._outsider, self._scorer):
            if pool is not None and self._config.engine.placement == "shared":
                pool.release()
        generator = self._config.generator
        if (
            self._generator is not None
            and generator is not None
            and generator.engine.placement == "shared"
        ):
            self._generator.release()

    def stop(self) -> None:
        self.tell_losses()
        for pool in self._pools():
            if pool is not None:
                pool.stop()
