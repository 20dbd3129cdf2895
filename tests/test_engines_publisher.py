"""New weights for replicas of which one is being restarted meanwhile."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError

from selfreward.config import EngineConfig
from selfreward.engines import publisher
from selfreward.engines.protocol import ReplicaHealth
from selfreward.engines.publisher import Replicas
from selfreward.engines.replica import Wanted
from selfreward.errors import EngineError, EngineTimeoutError
from selfreward.records import ModelRef

M0, M1 = (ModelRef(name="m", iteration=i, fingerprint=f"f{i}") for i in range(2))


class Remote:
    """A method whose call is made where its result is asked for."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def remote(self, *arguments: Any) -> Callable[[], Any]:
        return lambda: self._call(*arguments)


class Restarting:
    """A replica that is being restarted while it is told first: it asked the board before that, and
    comes back with what it held."""

    def __init__(self, name: str, unheard: int) -> None:
        self.name, self.unheard, self.told = name, unheard, 0
        self.model = M0
        self.swap, self.health = Remote(self._swap), Remote(self._health)

    def _swap(self, model: ModelRef, folder: str, timeout_s: float) -> float:
        assert (folder, timeout_s) == ("weights", 0.5)
        self.told += 1
        if self.told <= self.unheard:
            raise ActorUnavailableError("The actor is restarting.", None)
        self.model = model
        return 0.1

    def _health(self) -> ReplicaHealth:
        return ReplicaHealth(
            replica=self.name,
            pid=1,
            node="n",
            model=self.model,
            num_starts=1,
            requests_served=0,
        )


def replicas(monkeypatch: pytest.MonkeyPatch, *actors: Restarting) -> Replicas:
    monkeypatch.setattr(publisher, "ray", SimpleNamespace(get=lambda ref, timeout: ref()))
    monkeypatch.setattr(publisher, "POLL_S", 0.01)
    return Replicas(
        actors={actor.name: actor for actor in actors},
        board=SimpleNamespace(
            set_wanted=Remote(lambda wanted: None), last_failure=Remote(lambda name: "")
        ),
        engine=EngineConfig(swap_timeout_s=0.5),
        device="cpu",
    )


def test_a_replica_that_did_not_hear_of_new_weights_is_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steady, restarting = Restarting("judge-0", unheard=0), Restarting("judge-1", unheard=2)
    replicas(monkeypatch, steady, restarting).swap(Wanted(model=M1, folder="weights"))
    assert (steady.model, restarting.model) == (M1, M1)
    # Only who still has other weights is told again.
    assert (steady.told, restarting.told) == (1, 3)


def test_a_replica_that_never_takes_them_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = replicas(monkeypatch, Restarting("judge-0", 0), Restarting("judge-1", 10**9))
    with pytest.raises(EngineTimeoutError, match=r"^judge-1 did not take the weights f1 within"):
        pool.swap(Wanted(model=M1, folder="weights"))


def test_a_board_that_is_gone_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(wanted: Wanted) -> None:
        raise ActorDiedError()

    pool = replicas(monkeypatch, Restarting("judge-0", 0))
    pool.board.set_wanted = Remote(gone)
    with pytest.raises(EngineError, match=r"^the weights board of judge-0 did not answer within"):
        pool.swap(Wanted(model=M1, folder="weights"))


@pytest.mark.parametrize("times", [1, 2])
def test_a_replica_killed_for_memory_is_waited_for_until_it_is_dead_for_good(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    killed = Restarting("judge-0", unheard=0)
    well, left = killed._health, [OutOfMemoryError("Refer to the documentation")] * times

    def health() -> ReplicaHealth:
        if left:
            raise left.pop()
        return well()

    killed.health = Remote(health)
    pool = replicas(monkeypatch, killed)
    if times == 1:
        assert pool.wait_healthy(1.0, "to start")[0].replica == "judge-0"
        return
    # Said of one call after the other: it has used up its restarts.
    with pytest.raises(
        EngineError, match=r"^replica judge-0 failed to start: .* ran out of memory"
    ):
        pool.wait_healthy(1.0, "to start")
