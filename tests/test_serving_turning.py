"""A replica that changes its weights under traffic: slow, failing and hanging changes."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfreward.engines.engine_loop import EngineLoop
from selfreward.engines.models import model_fingerprint
from selfreward.engines.replica import Wanted
from selfreward.engines.scripted_replica import ScriptedReplica
from selfreward.errors import DataError, ModelNotFoundError, TransientEngineError
from selfreward.records import ModelRef
from selfreward.serving import service as service_module
from selfreward.serving import turning
from selfreward.serving.engine import JudgeEngine
from selfreward.serving.http_errors import ApiError
from selfreward.serving.judge_wire import PairwiseRequest
from selfreward.serving.keeper import Served, VersionKeeper
from selfreward.serving.replicas import OneBoard
from selfreward.serving.service import Service
from selfreward.serving.turning import ReplicaLostError
from selfreward.serving.versions import ServedVersion
from selfreward.serving.weights import check_fits, check_weights
from tests.serving_tools import PAIR, scripted_spec, serving_config
from tests.tiny_model import make_tiny_model


def version_of(folder: Path, number: int) -> ServedVersion:
    model = ModelRef(name=f"M{number}", iteration=0, fingerprint=model_fingerprint(str(folder)))
    return ServedVersion(number=number, model=model, folder=str(folder), since="", by="start")


class Replica(ScriptedReplica):
    """Fetches and loads when it is told to, and stands still when it is told to."""

    def __init__(self, version: ServedVersion) -> None:
        super().__init__(
            scripted_spec(), OneBoard(Wanted(model=version.model, folder=version.folder))
        )
        self.fetched, self.loaded = asyncio.Event(), asyncio.Event()
        self.failure: Exception | None = None
        self.num_fetches = 0
        self.stalled = 0.0

    async def fetch(self, model: ModelRef, folder: str) -> None:
        self.num_fetches += 1
        if self.failure is not None:
            raise self.failure
        await self.fetched.wait()

    async def swap(self, model: ModelRef, folder: str, timeout_s: float) -> float:
        await self.loaded.wait()
        return await super().swap(model, folder, timeout_s)

    def stalled_s(self) -> float:
        return self.stalled


@pytest.fixture
def two(tmp_path: Path, tiny_model: Path) -> tuple[ServedVersion, ServedVersion]:
    other = make_tiny_model(tmp_path / "other", seed=1)
    return version_of(tiny_model, 1), version_of(other, 2)


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(turning, "TURN_GRACE_S", 0.05)
    yield


async def judged_by(engine: JudgeEngine, wanted: ServedVersion, **options: Any) -> tuple[str, int]:
    request = PairwiseRequest.model_validate(PAIR | options)
    (judgment,) = await engine.judge([request], wanted, "r")
    return judgment.outcome, judgment.judge.version


def test_requests_go_on_while_weights_are_fetched(
    two: tuple[ServedVersion, ServedVersion],
) -> None:
    old, new = two

    async def run() -> None:
        replica = Replica(old)
        replica.loaded.set()
        engine = JudgeEngine(replica, old, serving_config())
        for _ in range(3):
            assert await judged_by(engine, new, timeout_s=1) == ("choice", 1)
        replica.fetched.set()
        while (await judged_by(engine, new)) != ("choice", 2):
            await asyncio.sleep(0.01)
        assert replica.num_fetches == 1

    asyncio.run(asyncio.wait_for(run(), 30))


def test_what_cannot_be_fetched_leaves_the_old_version_in_service(
    two: tuple[ServedVersion, ServedVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = two
    told: list[str] = []

    async def run() -> None:
        replica = Replica(old)
        replica.loaded.set()
        replica.failure = ModelNotFoundError("this node does not see it")
        engine = JudgeEngine(replica, old, serving_config(), told.append)
        for _ in range(4):
            assert await judged_by(engine, new) == ("choice", 1)
        # Not with every request anew.
        assert (replica.num_fetches, told) == (1, ["load ModelNotFoundError"])
        # A later version does not wait for the next try of the one before.
        replica.failure = None
        replica.fetched.set()
        back = replace(old, number=3)
        while (await judged_by(engine, back)) != ("choice", 3):
            await asyncio.sleep(0.01)
        monkeypatch.setattr(turning, "RETRY_S", 0.0)
        replica.failure = DataError("broken")
        newer = replace(new, number=4)
        assert await judged_by(engine, newer) == ("choice", 3)
        replica.failure = None
        while (await judged_by(engine, newer)) != ("choice", 4):
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_waiting_for_a_change_counts_against_the_requests_own_limit(
    two: tuple[ServedVersion, ServedVersion],
) -> None:
    old, new = two

    async def run() -> None:
        replica = Replica(old)
        replica.fetched.set()
        engine = JudgeEngine(replica, old, serving_config())
        assert await judged_by(engine, new, timeout_s=0.3) == ("timed_out", 1)
        patient = asyncio.ensure_future(judged_by(engine, new))
        await asyncio.sleep(0.05)
        replica.loaded.set()
        assert await patient == ("choice", 2)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_weights_that_are_others_here_are_not_loaded(
    two: tuple[ServedVersion, ServedVersion],
) -> None:
    old, new = two
    wrong = replace(new, folder=old.folder)
    with pytest.raises(DataError, match="holds other weights here"):
        check_weights(wrong)
    told: list[str] = []

    async def run() -> None:
        replica = Replica(old)
        replica.fetched.set()
        replica.loaded.set()
        engine = JudgeEngine(replica, old, serving_config(), told.append)
        assert await judged_by(engine, wrong) == ("choice", 1)
        while not told:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 30))
    assert told == ["load DataError"]


def test_another_tokenizer_or_chat_template_does_not_fit(
    two: tuple[ServedVersion, ServedVersion],
) -> None:
    old, new = two
    check_fits(new, old)
    tokenizer = Path(new.folder, "tokenizer.json")
    content = tokenizer.read_text()
    # Written by another release: the same tokens in other bytes.
    tokenizer.write_text(content + "\n")
    check_fits(new, old)
    tokenizer.write_text(content.replace("<|im_end|>", "<|turn_end|>"))
    with pytest.raises(DataError, match="its tokenizer has other tokens"):
        check_fits(new, old)
    tokenizer.write_text(content)
    Path(new.folder, "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(DataError, match="its chat template is another; serve it by a service"):
        check_fits(new, old)


def test_an_engine_that_stands_still_is_found(
    two: tuple[ServedVersion, ServedVersion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "PROBE_INTERVAL_S", 0.02)
    monkeypatch.setattr(service_module, "READY_FOR_S", 0.2)
    old, _ = two

    async def run() -> None:
        replica = Replica(old)
        config = serving_config()
        engine = JudgeEngine(replica, old, config)
        keeper = VersionKeeper(
            Served(layout=None, model=old.folder, state_dir=str(tmp_path / "state")), config
        )
        service = Service(config, engine, keeper)
        await service.start()
        try:
            await asyncio.sleep(0.05)
            engine.check_health()
            service.check_ready()
            replica.stalled = 2 * config.limits.request_timeout_s
            with pytest.raises(ReplicaLostError, match="done nothing for 600 s"):
                engine.check_health()
            await asyncio.sleep(0.4)
            with pytest.raises(ApiError):
                service.check_ready()
            replica.stalled = 0.0
            await asyncio.sleep(0.2)
            service.check_ready()
        finally:
            await service.stop()

    asyncio.run(asyncio.wait_for(run(), 30))


class StuckEngine:
    """Never ends a step, and never a change, before it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.has_work = False

    def add_request(self, request_id: str, prompt: Any, params: Any) -> None:
        self.has_work = True

    def abort_request(self, request_ids: list[str]) -> None:
        self.has_work = False

    def has_unfinished_requests(self) -> bool:
        return self.has_work

    def step(self) -> list[Any]:
        self.go.wait(20)
        return []


def test_the_engines_thread_tells_for_how_long_it_has_done_nothing() -> None:
    engine = StuckEngine()
    loop = EngineLoop(lambda: engine, lambda text: None, 10)

    async def run() -> None:
        await asyncio.sleep(0.1)
        assert loop.stalled_s() == 0.0
        asked = asyncio.ensure_future(loop.generate("p", None))
        await asyncio.sleep(0.2)
        assert 0.1 < loop.stalled_s() < 5
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        engine.go.set()
        while loop.stalled_s():
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_change_that_hangs_ends_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(EngineLoop, "_die", lambda self, error: ended.append(str(error)))
    engine = StuckEngine()
    loop = EngineLoop(lambda: engine, lambda text: None, 10)

    async def run() -> None:
        with pytest.raises(TransientEngineError, match="not changed within"):
            await loop.change(lambda engine: engine.step() and None, 0.05)

    asyncio.run(asyncio.wait_for(run(), 30))
    engine.go.set()
    assert len(ended) == 1
