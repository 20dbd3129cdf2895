"""Running the command line as a user does, watching it, killing parts of it, reading results."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfreward import cli

RUN_LIMIT_S = 420


def start_run(recipe: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts `selfreward run` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "selfreward", "run", str(recipe), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"RAY_ADDRESS": "", "PYTHONUNBUFFERED": "1"},
    )


def run_here(recipe: Path, *arguments: str, code: int = 0) -> str:
    """Runs `selfreward run` in this process, on its Ray; returns all that it printed."""
    out = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        pytest.raises(SystemExit) as stop,
    ):
        patch.setattr("sys.argv", ["selfreward", "run", str(recipe), *arguments])
        cli.main()
    assert stop.value.code == code, out.getvalue()
    return out.getvalue()


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for a run and returns its output; fails with it if the run failed."""
    out, _ = process.communicate(timeout=RUN_LIMIT_S)
    assert process.returncode == 0, out
    return out


def wait_until(what: str, ready: Callable[[], bool], limit_s: float = 240) -> None:
    deadline = time.monotonic() + limit_s
    while not ready():
        assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
        time.sleep(0.05)


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def find_worker(pid: int, name: str) -> psutil.Process | None:
    """The Ray worker under a driver whose process title holds `name`."""
    for process in descendants(pid):
        try:
            if any(name in part for part in process.cmdline()):
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def is_ray_agent(process: psutil.Process) -> bool:
    try:
        return "Agent" in process.name()
    except psutil.NoSuchProcess:
        return False


def kill_driver(process: subprocess.Popen[str]) -> None:
    """kill -9, then waits until nothing of what it had started is left.

    Ray's two agents of the node are not waited for: they look for their parent about once a minute.
    """
    started = [p for p in descendants(process.pid) if not is_ray_agent(p)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    if process.stdout is not None:
        process.stdout.close()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive, f"left behind after kill -9: {alive}"


def records(run: Path) -> dict[str, pa.Table]:
    """Every sealed shard of a run, by its path in the run."""
    paths = sorted(p for p in run.rglob("shard-*.parquet") if "_parts" not in p.parts)
    return {str(p.relative_to(run)): pq.read_table(p).replace_schema_metadata() for p in paths}


def assert_same_records(run: Path, unbroken: Path) -> None:
    """None lost, none twice, none different."""
    got, wanted = records(run), records(unbroken)
    assert got.keys() == wanted.keys()
    for name, table in wanted.items():
        assert got[name].equals(table), f"{name} differs from the unbroken run"


def part_rows(stage: Path) -> set[str]:
    """Ids of the rows a stage has made durable in parts that are not sealed yet."""
    done: set[str] = set()
    for path in stage.glob("_parts/*/*.parquet"):
        meta = json.loads(pq.read_schema(path).metadata[b"selfreward"])
        done |= {row["row_id"] for row in meta["rows"]}
    return done


def durable_rows(stage: Path) -> set[str]:
    """Ids of the pairs whose judgments are on storage, in parts or in sealed shards."""
    done = part_rows(stage)
    for path in stage.glob("shard-*.parquet"):
        done |= set(pq.read_table(path, columns=["pair_id"])["pair_id"].to_pylist())
    return done


def journal(folder: Path) -> dict[str, Counter[str]]:
    """Request ids each replica process served, by its journal file."""
    return {
        p.name: Counter(line.split("\t")[0] for line in p.read_text().splitlines())
        for p in folder.glob("*.log")
    }
