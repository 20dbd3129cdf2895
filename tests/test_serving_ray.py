"""`selfreward serve` on a real Ray Serve with the scripted engine: swaps, lost replicas, Ctrl-C."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from selfreward.benchmarks.load import Answered, run_load
from selfreward.benchmarks.servers import answers, engine_processes
from tests.loop_tools import wait_until
from tests.serving_tools import PAIR, free_port, start_serving
from tests.tiny_model import make_tiny_model

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Running:
    address: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("state")
    port = free_port()
    process = start_serving(
        str(tiny_model),
        "--no-auth",
        f"serving.port={port}",
        f"serving.state_dir={state}",
        "serving.limits.rate=null",
        "serving.autoscaling.min_replicas=2",
        "serving.autoscaling.max_replicas=2",
        "engine.kind=scripted",
        "engine.num_cpus=0.25",
        "engine.max_model_len=4096",
        "engine.scripted.skill=1.0",
        "engine.scripted.delay_s=0.05",
        "ray.num_cpus=3",
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(
            "the service to be ready",
            lambda: process.poll() is not None or answers(f"{address}/readyz"),
        )
        assert process.poll() is None, process.stdout and process.stdout.read()
        yield Running(address, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(120)


def pairs(number: int) -> dict[str, Any]:
    return PAIR | {"prompt": f"Ask number {number}"}


def load_while(address: str, change: Any, seconds: float) -> tuple[list[Answered], Any]:
    """Eight clients, and `change` (a coroutine function) in the middle of it."""

    async def drive() -> tuple[list[Answered], Any]:
        url = f"{address}/v1/judge/pairwise"
        load = asyncio.create_task(run_load(url, pairs, clients=8, seconds=seconds))
        await asyncio.sleep(seconds / 3)
        changed = await change()
        return await load, changed

    return asyncio.run(drive())


def versions_of(found: list[Answered]) -> list[int]:
    assert [a.status for a in found] == [200] * len(found), [a for a in found if a.status != 200]
    assert all(a.body["outcome"] == "choice" for a in found)
    return [a.body["judge"]["version"] for a in found]


def test_a_promotion_under_load_fails_nothing_and_mixes_nothing(
    running: Running, tmp_path: Path, tiny_model: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)

    async def promote() -> float:
        async with httpx.AsyncClient(timeout=60) as http:
            answer = await http.post(f"{running.address}/admin/promote", json={"model": str(other)})
            assert answer.json()["judge"]["version"] == 2
        return 0.0

    found, _ = load_while(running.address, promote, seconds=6)
    assert versions_of(found)[:8] == [1] * 8
    # Once the promotion is confirmed nobody is judged by the version before it.
    after = asyncio.run(
        run_load(f"{running.address}/v1/judge/pairwise", pairs, clients=8, seconds=2)
    )
    assert set(versions_of(after)) == {2}
    assert set(versions_of(found)) == {1, 2}
    names = {1: str(tiny_model), 2: str(other)}
    for each in [*found, *after]:
        assert each.body["judge"]["model"] == names[each.body["judge"]["version"]]


def current_version(running: Running) -> int:
    history = httpx.get(f"{running.address}/v1/version", timeout=30).json()
    version: int = history["current"]["judge"]["version"]
    return version


def test_a_killed_replica_costs_no_request_and_its_successor_serves_the_current_version(
    running: Running,
) -> None:
    before = engine_processes(running.process.pid)
    assert len(before) == 2
    version = current_version(running)

    async def kill() -> None:
        before[0].kill()

    found, _ = load_while(running.address, kill, seconds=6)
    assert set(versions_of(found)) == {version}
    wait_until(
        "two replicas again",
        lambda: (
            len(engine_processes(running.process.pid)) == 2
            and before[0] not in engine_processes(running.process.pid)
        ),
    )
    after = asyncio.run(
        run_load(f"{running.address}/v1/judge/pairwise", pairs, clients=8, seconds=3)
    )
    assert set(versions_of(after)) == {version}


def test_a_batch_is_of_one_version_while_judges_change(running: Running, tmp_path: Path) -> None:
    # A batch is held up by no change, and none of them is judged by two versions.
    other = str(make_tiny_model(tmp_path / "other", seed=2))
    httpx.post(f"{running.address}/admin/promote", json={"model": other}, timeout=60)

    async def back_and_forth() -> list[int]:
        numbers = []
        async with httpx.AsyncClient(timeout=60) as http:
            for _ in range(4):
                answer = await http.post(f"{running.address}/admin/rollback")
                numbers.append(answer.json()["judge"]["version"])
                await asyncio.sleep(0.5)
        return numbers

    async def drive() -> tuple[list[Answered], list[int]]:
        url = f"{running.address}/v1/judge/pairwise"
        load = asyncio.create_task(
            run_load(url, lambda n: {"batch": [pairs(n)] * 6}, clients=4, seconds=5)
        )
        await asyncio.sleep(1)
        numbers = await back_and_forth()
        return await load, numbers

    found, numbers = asyncio.run(drive())
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    for each in found:
        assert each.status == 200
        assert len({j["judge"]["version"] for j in each.body["batch"]}) == 1
    assert len({each.body["batch"][0]["judge"]["version"] for each in found}) > 1


def test_the_page_and_the_documents_are_there(running: Running) -> None:
    assert "<html" in httpx.get(f"{running.address}/").text
    assert httpx.get(f"{running.address}/docs/swagger-ui-bundle.js").status_code == 200
    assert httpx.get(f"{running.address}/openapi.json").json()["info"]["title"]


def test_a_taken_port_is_told_and_ctrl_c_ends_it_all(running: Running, tiny_model: Path) -> None:
    port = running.address.rpartition(":")[2]
    second = start_serving(
        str(tiny_model), "--no-auth", f"serving.port={port}", "engine.kind=scripted"
    )
    out, _ = second.communicate(timeout=120)
    assert second.returncode == 2
    assert f"serving.port={port} on 127.0.0.1" in out
    started = psutil.Process(running.process.pid).children(recursive=True)
    running.process.send_signal(signal.SIGINT)
    out, _ = running.process.communicate(timeout=120)
    assert running.process.returncode == 130, out
    wait_until("all processes to end", lambda: not any(p.is_running() for p in started))
