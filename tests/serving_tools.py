"""Judge services: one in this process without Ray, and `selfreward serve` as users start it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from selfreward.config import EngineConfig, ScriptedConfig
from selfreward.config_serving import AuthConfig, ReviewConfig, ServingConfig
from selfreward.engines.models import model_fingerprint
from selfreward.engines.replica import ReplicaSpec
from selfreward.records import ModelRef
from selfreward.serving.access import Access
from selfreward.serving.app import build_app
from selfreward.serving.engine import JudgeEngine
from selfreward.serving.keeper import Served, VersionKeeper
from selfreward.serving.replicas import start_replica
from selfreward.serving.review_desk import open_desk
from selfreward.serving.service import Service
from selfreward.serving.shadow import Shadow
from selfreward.serving.versions import ServedVersion
from tests.tiny_model import make_tiny_model

GOOD, BAD = "(quality 9) a careful answer", "(quality 2) a hasty answer"
PAIR = {"prompt": "Ask number 1", "first": GOOD, "second": BAD}


def serving_config(**changes: Any) -> ServingConfig:
    settings: dict[str, Any] = {
        "auth": AuthConfig(enabled=False),
        "review": ReviewConfig(enabled=False),
        "follow_interval_s": 0.05,
    }
    return ServingConfig(**(settings | changes))


def scripted_spec(**scripted: Any) -> ReplicaSpec:
    engine = EngineConfig(
        kind="scripted", max_model_len=4096, scripted=ScriptedConfig(**({"skill": 1.0} | scripted))
    )
    return ReplicaSpec(name="judge", device="cpu", engine=engine)


def scripted_engine(version: ServedVersion, config: ServingConfig, **scripted: Any) -> JudgeEngine:
    return JudgeEngine(start_replica(scripted_spec(**scripted), version), version, config)


def shadow_of(service: Service, folder: Path, **scripted: Any) -> Shadow:
    """A candidate beside a service, which reads every pair."""
    made = make_tiny_model(folder / "candidate", seed=7)
    ref = ModelRef(name="candidate", iteration=0, fingerprint=model_fingerprint(str(made)))
    version = ServedVersion(number=0, model=ref, folder=str(made), since="", by="start")
    engine = scripted_engine(version, service.config, **scripted)
    return Shadow(engine, version, share=1.0, timeout_s=10, telemetry=service.telemetry)


def local_app(
    served: Served, config: ServingConfig, **scripted: Any
) -> tuple[FastAPI, Service, VersionKeeper]:
    """The whole application, with what it works on."""
    keeper = VersionKeeper(served, config)
    engine = scripted_engine(keeper.book.current, config, **scripted)
    service = Service(config, engine, keeper)
    app = build_app(service, Access.of(config), open_desk(served, config))
    return app, service, keeper


@contextmanager
def local_service(
    model: Path, folder: Path, config: ServingConfig | None = None, **scripted: Any
) -> Iterator[tuple[TestClient, Service, VersionKeeper]]:
    """A client of the application that serves a model, with what it works on."""
    served = Served(layout=None, model=str(model), state_dir=str(folder / "state"))
    app, service, keeper = local_app(served, config or serving_config(), **scripted)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client, service, keeper


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and data of each event of a stream."""
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in blocks
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start_serving(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "selfreward", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"RAY_ADDRESS": "", "PYTHONUNBUFFERED": "1"},
    )
