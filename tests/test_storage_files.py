"""Files: whole or absent, one kind of error, the same on a disk and in an object store."""

import errno
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
import tenacity
from fsspec.implementations.memory import MemoryFileSystem

from selfreward.errors import StorageError
from selfreward.layout import Layout, join, manifest_of
from selfreward.storage import checkpoints, files


@pytest.fixture(params=["local", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        MemoryFileSystem.store.clear()
        return "memory://run"
    return f"file://{tmp_path}/run" if request.param == "file" else f"{tmp_path}/run"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "wait_exponential", lambda **_: tenacity.wait_none())


def test_what_was_written_is_read_listed_and_removed(root: str) -> None:
    files.write_bytes(f"{root}/a/two.json", b"2")
    files.write_bytes(f"{root}/a/one.json", b"1")
    files.write_bytes(f"{root}/a/one.txt", b"x")
    files.write_bytes(f"{root}/a/deep/three.json", b"3")
    assert files.read_bytes(f"{root}/a/two.json") == b"2"
    assert files.list_files(f"{root}/a", ".json") == ["one.json", "two.json"]
    assert files.list_files(f"{root}/a") == ["one.json", "one.txt", "two.json"]
    assert files.exists(f"{root}/a")
    files.write_bytes(f"{root}/a/one.json", b"new")
    assert files.read_bytes(f"{root}/a/one.json") == b"new"
    files.remove(f"{root}/a/one.json")
    assert not files.exists(f"{root}/a/one.json")
    files.remove(f"{root}/a")
    assert not files.exists(f"{root}/a")
    assert not files.exists(f"{root}/a/deep/three.json")


def test_what_is_not_there(root: str) -> None:
    assert not files.exists(f"{root}/none")
    assert files.list_files(f"{root}/none") == []
    files.remove(f"{root}/none")
    with pytest.raises(FileNotFoundError):
        files.read_bytes(f"{root}/none")


def test_json_round_trip_and_what_is_no_json(root: str) -> None:
    files.write_json(f"{root}/a.json", {"größe": [1, None]})
    assert files.read_json(f"{root}/a.json") == {"größe": [1, None]}
    assert "größe" in files.read_bytes(f"{root}/a.json").decode()
    for broken in (b"{", b"", b"\xff\xfe"):
        files.write_bytes(f"{root}/a.json", broken)
        with pytest.raises(StorageError, match=r"a\.json is not readable as JSON; remove it"):
            files.read_json(f"{root}/a.json")


def refuse(number: int) -> Any:
    def call(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target = tmp_path / "run" / "shard.parquet"
    files.write_bytes(str(target), b"old")
    monkeypatch.setattr(os, step, refuse(errno.ENOSPC))
    with pytest.raises(StorageError) as caught:
        files.write_bytes(str(target), b"new")
    assert str(caught.value) == (
        f"cannot write {target}: No space left on device; free some space or set run_dir elsewhere"
    )
    assert [p.name for p in target.parent.iterdir()] == ["shard.parquet"]
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_place_that_may_not_be_written_is_one_line_with_a_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    calls: list[object] = []

    def refusing(*arguments: object, **_: object) -> None:
        calls.append(arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "makedirs", refusing)
    with pytest.raises(StorageError) as caught:
        files.write_bytes(f"{tmp_path}/run/a.json", b"x")
    text = str(caught.value)
    assert os.strerror(number) in text
    assert text.endswith("change its permissions or set run_dir elsewhere")
    assert "\n" not in text
    assert len(calls) == 1, "what no retry mends is not tried again"


def test_a_run_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(StorageError, match=r"cannot write .*run/pool/a\.json"):
        files.write_bytes(f"{tmp_path}/run/pool/a.json", b"x")


def test_a_transient_fault_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, faults = os.replace, [OSError(errno.EIO, "flaky"), OSError(errno.ESTALE, "stale")]

    def flaky(source: str, target: str) -> None:
        if faults:
            raise faults.pop()
        replace(source, target)

    monkeypatch.setattr(os, "replace", flaky)
    files.write_bytes(f"{tmp_path}/a", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    monkeypatch.setattr(os, "replace", refuse(errno.EIO))
    with pytest.raises(StorageError, match="Input/output error"):
        files.write_bytes(f"{tmp_path}/b", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_interruption_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(f"{tmp_path}/a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_file_of_a_killed_process_is_no_file_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "shard-00000.parquet.1a2b3c4d.tmp").write_bytes(b"half")
    assert files.list_files(str(tmp_path), ".parquet") == []


class BrokenStore(MemoryFileSystem):
    """An object store with exceptions of its own, as some have."""

    protocol = "broken"
    cachable = False
    calls = 0

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        type(self).calls += 1
        raise RuntimeError("Unable to locate credentials\nlong story")

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> bytes:
        type(self).calls += 1
        raise PermissionError("Access Denied")


def test_an_object_store_speaks_through_one_kind_of_error() -> None:
    fsspec.register_implementation("broken", BrokenStore, clobber=True)
    with pytest.raises(StorageError) as caught:
        files.write_bytes("broken://bucket/a", b"x")
    assert str(caught.value) == "cannot write broken://bucket/a: Unable to locate credentials"
    assert BrokenStore.calls == files.ATTEMPTS
    BrokenStore.calls = 0
    with pytest.raises(StorageError, match="Access Denied; change its permissions"):
        files.read_bytes("broken://bucket/a")
    assert BrokenStore.calls == 1


def test_a_missing_bucket_is_a_storage_error_when_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", missing)
    with pytest.raises(StorageError, match=r"cannot write .*bucket does not exist"):
        files.write_bytes("memory://nowhere/a", b"x")


def test_an_unknown_protocol_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match=r"cannot use nope://bucket/a"):
        files.write_bytes("nope://bucket/a", b"x")


@pytest.mark.parametrize(
    ("root", "wanted"),
    [
        ("runs/a", "runs/a/iter_03/judgments"),
        ("runs/a/", "runs/a/iter_03/judgments"),
        ("/", "/iter_03/judgments"),
        ("s3://bucket/run/", "s3://bucket/run/iter_03/judgments"),
        ("memory://run", "memory://run/iter_03/judgments"),
        ("memory://", "memory:///iter_03/judgments"),
    ],
)
def test_layout_joins_any_root(root: str, wanted: str) -> None:
    assert Layout(root).judgments(3) == wanted


def test_every_path_of_a_run_is_another_one() -> None:
    layout = Layout("r")
    once = [layout.config, layout.run_json, layout.current, layout.pool, layout.categorised]
    once += [layout.instructions, layout.split("heldout", "pairs"), layout.iteration(1)]
    names = "responses pairs judgments selected examples preferences training checkpoint evaluation"
    each = [getattr(layout, name)(i) for name in names.split() for i in (1, 2, 100)]
    assert len({*once, *each}) == len(once) + len(each)
    assert manifest_of(layout.pool) == "r/pool/manifest.json"
    assert join("a/", "/b/", "c") == "a/b/c"


def test_the_pointer_to_the_judge_keeps_its_history(root: str) -> None:
    layout = Layout(root)
    assert checkpoints.read_current(layout) is None
    for iteration in range(3):
        judge = checkpoints.CurrentJudge(
            iteration=iteration, checkpoint="c", fingerprint="f", accuracy=None, reason="better"
        )
        checkpoints.write_current(layout, judge)
    current = checkpoints.read_current(layout)
    assert current is not None
    assert (current.iteration, bool(current.promoted_at)) == (2, True)
    history = files.read_json(layout.current)["history"]
    assert [h["iteration"] for h in history] == [0, 1]
