"""What the doctor says of a machine, without starting anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward import doctor, preflight
from selfreward.config import RunConfig
from selfreward.config_loading import parse_config
from selfreward.errors import UserError

GIB = 1024**3


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 GiB free; the model m of 4 GiB and g of 10 GiB."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, size in (("m", 4), ("g", 10)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.truncate(size * GIB)  # a sparse file: no disk is used
    monkeypatch.setattr(doctor, "resolve_model", lambda name, revision: str(tmp_path / name))
    memory = SimpleNamespace(available=16 * GIB)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: memory)


def recipe(*overrides: str, generator: dict[str, Any] | None = None) -> RunConfig:
    raw: dict[str, Any] = {"model": {"name": "m"}, "training": {"use_gpu": True}}
    if generator is not None:
        raw["generator"] = {"model": {"name": "g"}, "engine": generator}
    return parse_config(raw, ["engine.device=cpu", *overrides])


def test_engines_on_cpu_hold_weights_and_cache() -> None:
    assert doctor._memory(recipe()).startswith("6.0 GiB wanted on one machine, 16.0 GiB")
    assert doctor._memory(recipe("engine.replicas=2")).startswith("12.0 GiB wanted")
    with pytest.raises(UserError, match=r"^18\.0 GiB wanted"):
        doctor._memory(recipe(generator={"device": "cpu"}))
    # Trainers hold 16 bytes for each of 2 G parameters.
    with pytest.raises(UserError, match=r"^38\.0 GiB wanted"):
        doctor._memory(recipe("training.use_gpu=false"))


def test_engines_on_a_gpu_hold_nothing_in_main_memory() -> None:
    assert doctor._memory(recipe("engine.device=cuda", "engine.replicas=8")).startswith("0.0 GiB")
    line = doctor._memory(recipe("engine.replicas=2", generator={"device": "cuda"}))
    assert line.startswith("12.0 GiB wanted")


def test_a_cluster_has_memory_that_is_not_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = recipe("engine.replicas=40")
    with pytest.raises(UserError):
        doctor._memory(wanted)
    assert "head:6379" in doctor._memory(recipe("engine.replicas=40", "ray.address=head:6379"))
    monkeypatch.setenv("RAY_ADDRESS", "ray://other:10001")
    assert "ray://other:10001" in doctor._memory(wanted)


def test_nodes_that_are_missing_are_said_and_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    @contextmanager
    def joined(config: Any) -> Iterator[None]:
        yield

    nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}]
    monkeypatch.setattr(doctor, "ray_session", joined)
    monkeypatch.setattr(preflight.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(preflight, "request_resources", lambda bundles: asked.append(bundles))
    assert doctor._resources(recipe("training.use_gpu=false")).endswith("the cluster has them")
    line = doctor._resources(recipe("ray.autoscaling=true"))
    assert "the run needs 1 GPUs, the cluster has 0: the rest will be asked of the autoscaler" in (
        line
    )
    assert asked == []
