"""What a client does with a replica that is late: ends it if it hangs, leaves it if it is slow."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError

from selfreward.engines import client as client_module
from selfreward.engines.client import EngineClient
from selfreward.engines.protocol import Completion, Draw, GenerationRequest, Sampling
from selfreward.errors import EngineError, EngineTimeoutError
from selfreward.records import Message, ModelRef

MODEL = ModelRef(name="m", iteration=0, fingerprint="f")
REQUEST_TIMEOUT_S = 0.1
# As Ray words it, in short: the last line says nothing of the pool.
KILLED = "Task was killed due to the node running low on memory.\nRefer to the documentation"


def _taken_away() -> ActorDiedError:
    """Of an actor whose node was drained, and which Ray brings up elsewhere."""
    error = ActorDiedError()
    error._preempted = True
    return error


class Replica:
    """Answers at once while it is well; `hangs` says how it does not."""

    def __init__(self, hangs: str | None = None, mends: bool = True) -> None:
        self.hangs, self.mends = hangs, mends
        self.asked: list[str] = []
        self.probes = self.kills = 0
        self.generate = SimpleNamespace(remote=self._generate)
        self.health = SimpleNamespace(remote=self._health)

    async def _generate(self, request: GenerationRequest, fingerprint: str) -> Completion:
        self.asked.append(request.id)
        if self.hangs == "out of memory":
            raise OutOfMemoryError(KILLED)
        if self.hangs == "away":
            raise ActorUnavailableError("it is starting anew", None)
        if self.hangs == "taken away":
            self.hangs = None
            raise _taken_away()
        if self.hangs is not None:
            await asyncio.sleep(60)
        draw = Draw(text="x", finish_reason="stop", num_tokens=1)
        return Completion(request_id=request.id, model=MODEL, draws=(draw,), num_prompt_tokens=1)

    async def _health(self) -> Any:
        self.probes += 1
        if self.hangs == "whole":
            await asyncio.sleep(60)
        if self.hangs == "out of memory":
            if not self.mends:
                raise OutOfMemoryError(KILLED)
            self.hangs = None
        if self.hangs == "restarting":
            self.hangs = None
            raise ActorUnavailableError("it is starting anew", None)
        return SimpleNamespace(stalled_s=60.0 if self.hangs == "engine" else 0.0)

    def end(self) -> None:
        self.kills += 1
        self.hangs = None if self.mends else self.hangs


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(replica: Replica, *, no_restart: bool) -> None:
        assert not no_restart
        replica.end()

    monkeypatch.setattr(
        client_module, "ray", SimpleNamespace(kill=kill, cancel=lambda reference: None)
    )
    monkeypatch.setattr(client_module, "PROBE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.001)


async def _nothing_said(name: str) -> str:
    return ""


def ask(replicas: list[Replica], count: int = 1) -> list[Completion]:
    client = EngineClient(
        replicas={f"judge-{i}": replica for i, replica in enumerate(replicas)},
        board=SimpleNamespace(last_failure=SimpleNamespace(remote=_nothing_said)),
        model=MODEL,
        request_timeout_s=REQUEST_TIMEOUT_S,
        recovery_timeout_s=30.0,
    )
    requests = [
        GenerationRequest(
            id=f"r-{i}",
            purpose="respond",
            messages=(Message(role="user", content="Hi"),),
            sampling=Sampling(temperature=0, max_tokens=1),
        )
        for i in range(count)
    ]
    return asyncio.run(client.generate(requests))


@pytest.mark.parametrize("how", ["whole", "engine"])
def test_a_replica_that_hangs_is_ended_once_and_its_requests_are_sent_again(how: str) -> None:
    hanging, well = Replica(how), Replica()
    completions = ask([hanging, well], count=8)
    assert [c.request_id for c in completions] == [f"r-{i}" for i in range(8)]
    assert len(hanging.asked) >= 4
    assert (hanging.kills, hanging.probes) == (1, 1), "requests that are late together ask once"
    assert (well.kills, well.probes) == (0, 0)


def test_requests_of_a_replica_killed_for_memory_go_to_it_again_or_to_another() -> None:
    back = Replica("out of memory")
    assert len(ask([back])) == 1
    assert back.asked == ["r-0", "r-0"], "Ray had started it anew"
    gone, well = Replica("out of memory", mends=False), Replica()
    assert len(ask([gone, well], count=4)) == 4


def test_replicas_killed_for_memory_for_good_end_the_run_with_what_to_lower() -> None:
    with pytest.raises(EngineError, match=r"judge-0 died for good: .* lower engine\.kv_cache_gib"):
        ask([Replica("out of memory", mends=False)])


def test_a_replica_that_is_being_started_anew_does_not_draw_the_requests() -> None:
    away, well = Replica("away"), Replica()
    # One after the other, so that it would be the least busy each time.
    for number in range(3):
        assert len(ask([away, well], count=20)) == 20, number
    # Half of the first requests of each client, before it knew.
    assert len(away.asked) <= 3 * 10


def test_a_replica_whose_node_was_taken_away_is_not_dead() -> None:
    replica = Replica("taken away")
    assert len(ask([replica])) == 1
    assert replica.asked == ["r-0", "r-0"]


def test_a_replica_that_somebody_else_has_ended_is_not_ended_again() -> None:
    replica = Replica("restarting")
    assert len(ask([replica])) == 1
    assert replica.kills == 0


def test_a_replica_that_is_only_slow_is_left_alone_and_named() -> None:
    replica = Replica("slow")
    with pytest.raises(
        EngineTimeoutError,
        match=r"^replica judge-0 did not answer request r-0 within engine.request_timeout_s=0$",
    ):
        ask([replica])
    assert (replica.kills, replica.probes) == (0, 1)


def test_a_request_that_hangs_every_replica_ends_the_run() -> None:
    replicas = [Replica("whole", mends=False) for _ in range(3)]
    with pytest.raises(EngineTimeoutError, match=r"request r-0 .*; it hung, as judge-\d did"):
        ask(replicas)
    assert sum(r.kills for r in replicas) == 2
