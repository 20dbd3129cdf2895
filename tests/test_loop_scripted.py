"""The whole loop on the scripted engine and a real local Ray: unbroken, broken, and run again.

What is to be killed is a process with a Ray of its own; the rest runs in this one.
"""

import json
import re
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.conftest import write_recipe
from tests.loop_tools import (
    assert_same_records,
    descendants,
    durable_rows,
    find_worker,
    finish,
    journal,
    kill_driver,
    part_rows,
    records,
    run_here,
    start_run,
    wait_until,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def recipe_in(folder: Path, recipe: dict, **scripted: object) -> Path:
    recipe = json.loads(json.dumps(recipe))
    recipe["run_dir"] = str(folder / "run")
    recipe["engine"]["scripted"] |= {"journal": str(folder / "journal"), **scripted}
    return write_recipe(folder, recipe)


@pytest.fixture(scope="module")
def unbroken(
    tmp_path_factory: pytest.TempPathFactory, scripted_recipe: dict, local_ray: None
) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run_here(recipe_in(folder, scripted_recipe))


def test_a_run_ends_with_its_table_and_files(unbroken: tuple[Path, str]) -> None:
    folder, out = unbroken
    run = folder / "run"
    # 80 instructions: 8 for validation, 16 held out, 56 to train on, in 4 shards of 16.
    assert re.search(r"pool\s*│\s*56 │\s*56 │", out)
    assert re.search(r"judge 1\s*│\s*56 │", out)
    assert "M1 (promoted)" in out or "not promoted" in out
    assert len(list((run / "iter_01" / "judgments").glob("shard-*.parquet"))) == 4
    assert (run / "iter_01" / "checkpoint" / "model.safetensors").is_file()
    assert (run / "config.yaml").is_file()
    current = json.loads((run / "current.json").read_text())
    assert current["current"]["iteration"] in (0, 1)
    # A before b: as many examples with the first as with the second answer better.
    golds = [
        gold
        for name, table in records(run).items()
        if name.startswith("iter_01/examples/shard")
        for gold in table["gold"].to_pylist()
    ]
    assert golds.count("first") == golds.count("second") > 0


def test_one_engine_start_a_run_and_every_request_served_once(unbroken: tuple[Path, str]) -> None:
    folder, _ = unbroken
    served = journal(folder / "journal")
    assert len(served) == 1
    (requests,) = served.values()
    # 24 pairs aside, in both orders, are read by M0 and by M1; nothing else is asked twice.
    twice = [request for request, count in requests.items() if count == 2]
    assert len(twice) == 48
    assert max(requests.values()) == 2
    (attempt,) = json.loads((folder / "run" / "run.json").read_text())["attempts"]
    assert attempt["engine_starts"] == 1
    assert len(attempt["swap_seconds"]) == 1


def test_the_same_command_again_does_nothing_twice(unbroken: tuple[Path, str]) -> None:
    folder, _ = unbroken
    before = {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("shard-*.parquet")}
    out = run_here(folder / "recipe.yaml")
    assert "starting" not in out
    assert "train M1" not in out
    assert len(journal(folder / "journal")) == 1
    assert {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("shard-*.parquet")} == before


def test_a_changed_recipe_stops_with_what_differs(unbroken: tuple[Path, str]) -> None:
    folder, _ = unbroken
    out = run_here(folder / "recipe.yaml", "judge.num_draws=7", code=2)
    assert "judge.num_draws: 6 -> 7" in out
    assert "--force judge" in out
    assert "starting" not in out


def test_killed_three_times_gives_the_records_of_an_unbroken_run(
    tmp_path: Path, scripted_recipe: dict, unbroken: tuple[Path, str]
) -> None:
    """kill -9 of the driver while it judges; then, in the run that goes on, of an engine replica
    while it judges and of the training worker after its first checkpoint."""
    path = recipe_in(tmp_path, scripted_recipe, delay_s=0.5)
    run, served = tmp_path / "run", tmp_path / "journal"
    judgments = run / "iter_01" / "judgments"
    driver = start_run(path)
    wait_until("some judged rows", lambda: len(durable_rows(judgments)) >= 8)
    kill_driver(driver)
    durable = durable_rows(judgments)
    before = set(journal(served))

    driver = start_run(path)
    wait_until("a new replica at work", lambda: any(journal(served).keys() - before))
    (name,) = journal(served).keys() - before
    replica = int(re.findall(r"-(\d+)\.log$", name)[0])
    next(p for p in descendants(driver.pid) if p.pid == replica).send_signal(signal.SIGKILL)
    storage = run / "iter_01" / "training"
    wait_until("a checkpoint", lambda: bool(list(storage.rglob("trainer_state.json"))))
    worker = find_worker(driver.pid, "RayTrainWorker")
    assert worker is not None
    worker.send_signal(signal.SIGKILL)
    finish(driver)

    after = {k: v for k, v in journal(served).items() if k not in before}
    assert len(after) == 2, "the killed replica did not come back"
    again = {request.split("/")[0] for requests in after.values() for request in requests}
    assert durable
    assert not durable & again, "finished rows were judged again"
    assert_same_records(run, unbroken[0] / "run")
    weights, wanted = (
        load_file(r / "iter_01" / "checkpoint" / "model.safetensors")
        for r in (run, unbroken[0] / "run")
    )
    assert_close(weights, wanted, rtol=0, atol=1e-6)


def test_interrupt_leaves_a_resumable_run_and_no_process(
    tmp_path: Path, scripted_recipe: dict
) -> None:
    path = recipe_in(tmp_path, scripted_recipe, delay_s=0.3)
    process = start_run(path)
    parts = tmp_path / "run" / "iter_01" / "responses"
    wait_until("some responses", lambda: len(part_rows(parts)) >= 8)
    started = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 130, out
    assert "run the same command again" in out
    wait_until("all processes to end", lambda: not any(p.is_running() for p in started))
