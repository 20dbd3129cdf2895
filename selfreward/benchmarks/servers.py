"""Servers that are measured, as processes of this machine: the judge service, and `vllm serve`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import yaml

from selfreward.config_serving import ServiceConfig
from selfreward.engines.models import resolve_model
from selfreward.engines.replica_env import replica_env
from selfreward.engines.vllm_engine import engine_arguments

START_LIMIT_S = 300.0
PORT, RAW_PORT = 18010, 18011


@contextmanager
def judge_service(
    config: ServiceConfig, folder: Path, *overrides: str
) -> Iterator[tuple[str, int]]:
    """The address and the process of `selfreward serve`, with its state in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "service.yaml"
    settings.write_text(yaml.safe_dump(config.model_dump(mode="json", include={"model", "engine"})))
    command = [
        *(sys.executable, "-m", "selfreward", "serve", "--config", str(settings), "--no-auth"),
        f"serving.port={PORT}",
        f"serving.state_dir={folder}",
        "serving.limits.rate=null",
        f"ray.num_cpus={max(4, os.cpu_count() or 1)}",
        *overrides,
    ]
    base = f"http://127.0.0.1:{PORT}"
    with _process(command, {"RAY_ADDRESS": ""}, f"{base}/readyz") as pid:
        yield base, pid


@contextmanager
def vllm_server(config: ServiceConfig) -> Iterator[str]:
    """The address of vLLM's own server with the same model and engine settings."""
    folder = resolve_model(config.model.name)
    device = "cuda" if shutil.which("nvidia-smi") and config.engine.device != "cpu" else "cpu"
    arguments = engine_arguments(folder, config.engine, device)
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--host", "127.0.0.1", "--port", str(RAW_PORT), "--served-model-name", "judge"),
        *("--disable-uvicorn-access-log",),
    ]
    for name, value in arguments.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            command.append(option)
        elif value is False:
            command.append(option.replace("--", "--no-", 1))
        else:
            command += [option, json.dumps(value) if isinstance(value, dict) else str(value)]
    base = f"http://127.0.0.1:{RAW_PORT}"
    with _process(command, replica_env(config.engine, device), f"{base}/health"):
        yield base


@contextmanager
def _process(command: list[str], env: dict[str, str], ready: str) -> Iterator[int]:
    """Runs a server until the block ends; waits until `ready` answers 200."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env=os.environ | env,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + START_LIMIT_S
            while not answers(ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(
                        f"{command[2]} did not come up: {log.read()[-2000:].decode()}"
                    )
                time.sleep(0.5)
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)


def answers(url: str) -> bool:
    """Whether a server is up: this address answers 200."""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def engine_processes(pid: int) -> list[psutil.Process]:
    """The engine's replicas under a process that serves."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        # By its class once it has worked, by its actor's name before.
        if "ServeReplica:selfreward:engine" in title or "selfreward#engine#" in title:
            found.append(process)
    return found


def memory_mib(pid: int) -> int:
    """What a process and all below it hold for themselves."""
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            info = process.memory_info()
            # Ray's object store is shared: each process would count it again.
            total += info.rss - info.shared
        except psutil.Error:
            continue
    return total >> 20
