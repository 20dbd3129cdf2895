"""Which weights a training worker starts from at a URL, and what it says of a full disk."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.local import LocalFileSystem
from ray.train import ControllerError, WorkerGroupError
from safetensors.numpy import save_file

from selfreward.engines.models import model_fingerprint
from selfreward.errors import StorageError, TrainingError
from selfreward.records import ModelRef, TrainingExample
from selfreward.training import loop, on_ray
from selfreward.training.data import read_records
from selfreward.training.online import loop as online_loop
from selfreward.training.online.worker import OnlineJob, run_online_worker
from selfreward.training.parallel import together
from selfreward.training.ray_train import explained
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


def job_from(shelf: Shelf, tmp_path: Path) -> TrainingJob:
    return TrainingJob(
        name="iteration-01",
        model=URL,
        data=(),
        record="TrainingExample",
        config=make_config("sft"),
        output=str(tmp_path / "checkpoint"),
        storage_path=str(tmp_path / "state"),
        model_fingerprint=shelf.put(1.0),
    )


def raise_no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/model.safetensors")


def write_to_a_full_disk() -> None:
    torch.save({"w": torch.zeros(1 << 20)}, "/dev/full")


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (raise_no_space, "No space left on device (/scratch/model.safetensors)"),
        (write_to_a_full_disk, "No space left on device"),
    ],
)
def test_a_full_disk_is_told_and_not_tried_again(
    shelf: Shelf,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    write: Callable[[], None],
    why: str,
) -> None:
    # As a checkpoint is written, by all workers alike.
    monkeypatch.setattr(loop, "run_training", lambda *_, **__: together(write))
    job = job_from(shelf, tmp_path)
    assert run_worker({"job": job, "deadline": None}) == {
        "error": "StorageError",
        "message": f"training cannot go on: {why}; free some space or set run_dir, or TMPDIR where"
        " the path is a node's own, elsewhere",
    }


def test_what_may_pass_is_left_to_the_retries(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    monkeypatch.setattr(loop, "run_training", unreachable)
    job = job_from(shelf, tmp_path)
    with pytest.raises(ConnectionResetError):
        run_worker({"job": job, "deadline": None})


def test_what_ray_train_says_of_a_full_disk_is_the_users_to_mend() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for error in (
        ControllerError(full),
        WorkerGroupError("worker 0", {0: RuntimeError(f"wrapped\n{full}")}),
    ):
        told = explained("iteration-01", make_config("sft"), error)
        assert isinstance(told, StorageError)
        assert "No space left on device; free some space" in str(told)


def test_storage_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(LocalFileSystem, "cat_file", refuse)
    with pytest.raises(StorageError, match=r"^cannot read .*/rows.parquet: Permission denied; "):
        read_records([str(tmp_path / "rows.parquet")], TrainingExample)
