"""From a model's name to a folder, and from a folder to a fingerprint."""

import errno
import json
import os
import re
import shutil
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from selfreward.engines import models
from selfreward.engines.models import (
    fetch_folder,
    folder_on_this_node,
    model_fingerprint,
    resolve_model,
)
from selfreward.errors import ModelNotFoundError, StorageError
from selfreward.records import ModelRef


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"w": np.arange(1000, dtype=np.float32)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("embedded:gpt-9", "embedded:smollm2-135m-instruct"),
        ("./nowhere/model", "no such folder"),
        ("/nowhere/model", "no such folder"),
        ("a/b/c", "no such folder"),
        ("not a valid id!", "neither an existing folder"),
        ("memory://empty-bucket/model", "nothing at this URL"),
        ("nosuchprotocol://bucket/model", "cannot be read"),
    ],
)
def test_a_name_that_leads_nowhere_gives_one_line_with_the_name(name: str, says: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model(name)
    message = str(caught.value)
    assert name in message
    assert says in message
    assert "\n" not in message


def test_a_hub_id_without_network_and_cache_names_the_id_and_the_mends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model("some-org/some-model", revision="v2")
    message = str(caught.value)
    assert "some-org/some-model" in message
    assert "'v2'" in message
    assert "embedded:smollm2-135m-instruct" in message
    assert "\n" not in message


def test_a_local_folder_is_itself(model_folder: Path) -> None:
    assert resolve_model(str(model_folder)) == str(model_folder)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_config_or_weights_is_refused(model_folder: Path, missing: str) -> None:
    (model_folder / missing).unlink()
    with pytest.raises(ModelNotFoundError, match=r"config\.json|weights"):
        resolve_model(str(model_folder))


def test_the_fingerprint_changes_with_one_byte_of_the_weights(model_folder: Path) -> None:
    before = model_fingerprint(str(model_folder))
    weights = model_folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    assert model_fingerprint(str(model_folder)) != before


def test_the_fingerprint_is_of_the_model_not_of_its_place(
    model_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(model_folder, copy)
    (copy / "manifest.json").write_text('{"seconds": 3}')
    (copy / ".lock").write_text("")
    os.utime(copy / "model.safetensors", (0, 0))
    assert model_fingerprint(str(copy)) == model_fingerprint(str(model_folder))


def test_a_large_file_is_sampled_up_to_its_last_byte(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 40,000 bytes with a limit of 10,000: 1,000 of head, 4 blocks of 100, the last one at the end.
    monkeypatch.setattr(models, "WHOLE_FILE_BYTES", 10_000)
    monkeypatch.setattr(models, "HEAD_BYTES", 1_000)
    monkeypatch.setattr(models, "BLOCK_BYTES", 100)
    monkeypatch.setattr(models, "NUM_BLOCKS", 4)
    weights = model_folder / "model.safetensors"
    content = bytearray(40_000)
    weights.write_bytes(content)
    before = model_fingerprint(str(model_folder))
    content[-1] = 1
    weights.write_bytes(content)
    assert model_fingerprint(str(model_folder)) != before


def test_a_cloud_folder_is_downloaded_once(model_folder: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(model_folder), "/bucket/model", recursive=True)
    url = "memory://bucket/model"
    local = fetch_folder(url, cache_dir=str(tmp_path / "cache"))
    assert model_fingerprint(local) == model_fingerprint(str(model_folder))
    memory.rm("/bucket/model", recursive=True)
    assert resolve_model(url, cache_dir=str(tmp_path / "cache")) == local


def test_a_model_that_was_trained_anew_is_downloaded_anew(
    model_folder: Path, tmp_path: Path
) -> None:
    memory, cache = fsspec.filesystem("memory"), str(tmp_path / "cache")
    memory.put(str(model_folder), "/bucket/trained", recursive=True)
    url, old = "memory://bucket/trained", model_fingerprint(str(model_folder))
    resolve_model(url, cache_dir=cache, key=old)
    save_file({"w": np.ones(1000, dtype=np.float32)}, model_folder / "model.safetensors")
    memory.rm("/bucket/trained", recursive=True)
    memory.put(str(model_folder), "/bucket/trained", recursive=True)
    new = model_fingerprint(str(model_folder))
    assert model_fingerprint(resolve_model(url, cache_dir=cache, key=new)) == new != old


def test_a_failed_conversion_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken(target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise RuntimeError("killed in the middle")

    with pytest.raises(RuntimeError):
        models._cached(str(tmp_path), "some-model", broken)
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == []


def test_a_full_or_closed_cache_is_told_as_such(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(model_folder), "/bucket/large", recursive=True)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(memory), "get_file", full)
    cache = tmp_path / "cache"
    mend = "free some space or set SELFREWARD_CACHE elsewhere"
    says = re.escape(f"model cache {cache}: No space left on device; {mend}")
    with pytest.raises(StorageError, match=f"^{says}$"):
        fetch_folder("memory://bucket/large", cache_dir=str(cache))
    assert [p for p in cache.iterdir() if p.is_dir()] == []

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"Permission denied .*set SELFREWARD_CACHE elsewhere"):
        fetch_folder("memory://bucket/large", cache_dir=str(tmp_path / "closed"))


def test_many_at_once_make_a_model_once(tmp_path: Path, model_folder: Path) -> None:
    made: list[Path] = []

    def make(target: Path) -> None:
        made.append(target)
        shutil.copytree(model_folder, target, dirs_exist_ok=True)

    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(models._cached(str(tmp_path), "m", make)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert set(results) == {str(tmp_path / "m")}


def test_a_node_that_does_not_see_a_trained_folder_says_so() -> None:
    trained = ModelRef(name="m", iteration=1, fingerprint="f")
    with pytest.raises(ModelNotFoundError, match="run_dir on storage that every node shares"):
        folder_on_this_node(trained, "/nowhere/iter_01/checkpoint")


@pytest.mark.real
def test_the_embedded_model_is_a_chat_model() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve_model("embedded:smollm2-135m-instruct")
    assert resolve_model("embedded:smollm2-135m-instruct") == folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.generate(**ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0][ids["input_ids"].shape[1] :])
