"""Which weights a training worker starts from, where they lie at a URL."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from selfreward.engines.models import model_fingerprint
from selfreward.errors import TrainingError
from selfreward.records import ModelRef
from selfreward.training import loop, on_ray
from selfreward.training.online import loop as online_loop
from selfreward.training.online.worker import OnlineJob, run_online_worker
from selfreward.training.worker import TrainingJob, run_worker
from tests.online_tools import make_online_config
from tests.training_data import make_config, play_ray_train

URL = "memory://bucket/iter_01/checkpoint"


class Shelf:
    """A URL whose model is changed, as training into the same folder again does."""

    def __init__(self, tmp_path: Path) -> None:
        self._folder = tmp_path / "model"
        self._folder.mkdir()
        (self._folder / "config.json").write_text("{}")

    def put(self, weight: float) -> str:
        """Publishes weights and returns their fingerprint."""
        save_file({"w": np.full(4, weight)}, self._folder / "model.safetensors")
        memory, path = fsspec.filesystem("memory"), URL.removeprefix("memory:/")
        if memory.exists(path):
            memory.rm(path, recursive=True)
        memory.put(str(self._folder), path, recursive=True)
        return model_fingerprint(str(self._folder))


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shelf:
    monkeypatch.setenv("SELFREWARD_CACHE", str(tmp_path / "cache"))
    play_ray_train(monkeypatch)
    monkeypatch.setattr(on_ray, "begin_worker", lambda _: torch.device("cpu"))
    return Shelf(tmp_path)


def caught(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    """The tasks that would be trained."""
    tasks: list[Any] = []

    def keep(task: Any, **_: Any) -> Any:
        tasks.append(task)
        raise TrainingError("far enough")

    monkeypatch.setattr(module, name, keep)
    return tasks


def test_a_model_that_was_trained_anew_is_what_the_next_training_starts_from(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tasks = caught(monkeypatch, loop, "run_training")
    job = TrainingJob(
        name="iteration-02",
        model=URL,
        data=(),
        record="Preference",
        config=make_config("dpo", dpo_reference="first"),
        output=str(tmp_path / "checkpoint"),
        storage_path=str(tmp_path / "state"),
        reference_model=URL,
    )
    for weight in (1.0, 2.0):
        made = shelf.put(weight)
        wanted = replace(job, model_fingerprint=made, reference_fingerprint=made)
        run_worker({"job": wanted, "deadline": None})
        source, reference = tasks[-1].source, tasks[-1].reference_source
        assert [model_fingerprint(s.path) for s in (source, reference)] == [made, made]


def test_online_training_starts_from_what_its_pool_holds(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tasks = caught(monkeypatch, online_loop, "run_online")
    unused: Any = None
    for weight in (1.0, 2.0):
        made = shelf.put(weight)
        held = ModelRef(name="m", iteration=5, fingerprint=made)
        publisher: Any = SimpleNamespace(folder=URL, model=held, client=lambda _: None)
        job = OnlineJob(
            name="online",
            prompts=(),
            eval_prompts=(),
            config=make_online_config(),
            publisher=publisher,
            scorer=unused,
            iteration=6,
            output=str(tmp_path / "checkpoint"),
            storage_path=str(tmp_path / "state"),
        )
        run_online_worker({"job": job, "deadline": None})
        assert model_fingerprint(tasks[-1].source.path) == made
