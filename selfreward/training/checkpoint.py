"""Checkpoint folders: a plain Hugging Face model, trainer state beside it, a marker written last.

A folder without its marker does not exist for any reader. On a local disk a folder appears by one
rename; on an object store the marker is what makes it appear.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfreward.config import LoraConfig
from selfreward.errors import StorageError
from selfreward.layout import join
from selfreward.storage import files
from selfreward.storage.checkpoints import COMPLETE
from selfreward.training.model import ModelKind, ModelSource, adapter_state, merge_lora
from selfreward.training.reward_model import empty_reward_model, pooled_at_end_of_turn

TRAINER_PREFIX = "trainer_"
"""Files and folders of a checkpoint that only a resumed training needs."""
COPY_CHUNK_BYTES = 1 << 24


def is_complete(url: str) -> bool:
    """True where `url` is a folder that was written to its end."""
    return files.exists(join(url, COMPLETE))


def _is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def write_model(
    folder: Path,
    state: dict[str, Tensor],
    *,
    source: ModelSource,
    tokenizer: Any,
    dtype: torch.dtype,
    lora: LoraConfig | None = None,
    peft_config: Any = None,
    kind: ModelKind = "causal_lm",
) -> None:
    """Writes weights as a folder that `AutoModelForCausalLM` and vLLM load; those of a reward model
    as one for `AutoModelForSequenceClassification`, which reads the score where training did.

    `state` holds the language model's weights by its own names; with `lora` it is a PEFT model's,
    whose merged weights are written here and whose adapter goes into `folder/adapter`.
    """
    from safetensors.torch import save_file

    if lora is not None:
        adapter = folder / "adapter"
        adapter.mkdir(parents=True, exist_ok=True)
        peft_config.save_pretrained(adapter)
        contiguous = {n: w.contiguous() for n, w in adapter_state(state).items()}
        save_file(contiguous, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
        state = merge_lora(state, lora)
    with torch.device("meta"):  # only its class, config and names of tied weights are used
        if kind == "reward_model":
            skeleton = empty_reward_model(source, dtype=dtype)
        else:
            skeleton = _empty_causal_lm(source, dtype)
    if kind == "reward_model":
        tokenizer = pooled_at_end_of_turn(skeleton.config, tokenizer)
    skeleton.save_pretrained(
        folder, state_dict={n: w.to(dtype).contiguous() for n, w in state.items()}
    )
    tokenizer.save_pretrained(folder)


def _empty_causal_lm(source: ModelSource, dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(source.path, **source.options)
    model = AutoModelForCausalLM.from_config(
        config, dtype=dtype, trust_remote_code=source.trust_remote_code
    )
    try:
        model.generation_config = GenerationConfig.from_pretrained(
            source.path, revision=source.revision
        )
    except OSError:  # the model ships none; the one derived from its config is saved
        model.generation_config = GenerationConfig.from_model_config(config)
    return model


def mark_complete(folder: Path, facts: dict[str, Any]) -> None:
    """Writes the marker of a local folder, with a few facts about it as JSON."""
    (folder / COMPLETE).write_text(json.dumps(facts, sort_keys=True) + "\n")


def _for_engine(relative: str) -> bool:
    return not relative.split("/", 1)[0].startswith(TRAINER_PREFIX)


def commit_folder(source: str, target: str, keep: Callable[[str], bool] = _for_engine) -> None:
    """Copies the folder at URL `source` to URL `target`, which then exists whole or not at all.

    `keep` is asked with each relative path; by default trainer state stays behind. Files on the
    same local disk are linked, not copied.

    Raises:
        StorageError: `source` has no completion marker, or one of both cannot be used (full,
            unreachable, not permitted).
    """
    source_fs, source_path = files.filesystem(source)
    target_fs, target_path = files.filesystem(target)
    source_path, target_path = source_path.rstrip("/"), target_path.rstrip("/")
    if not is_complete(source):
        raise StorageError(f"{source} is not a complete checkpoint")
    found = files.guarded("list", source, lambda: source_fs.find(source_path))
    names = sorted(name for path in found if keep(name := path[len(source_path) + 1 :]))
    names.sort(key=lambda name: name == COMPLETE)  # the marker goes last
    local = _is_local(target_fs)
    written = f"{target_path}.{uuid.uuid4().hex}.tmp" if local else target_path
    if not local:
        files.remove(join(target, COMPLETE))
    try:
        for name in names:
            copy = partial(
                _copy_file, source_fs, f"{source_path}/{name}", target_fs, f"{written}/{name}"
            )
            files.guarded("write", join(target, name), copy)
        if local:
            files.remove(target)
            files.guarded("write", target, lambda: os.replace(written, target_path))
    finally:
        if local and os.path.isdir(written):
            shutil.rmtree(written, ignore_errors=True)


def _copy_file(source_fs: Any, source: str, target_fs: Any, target: str) -> None:
    target_fs.makedirs(target_fs._parent(target), exist_ok=True)
    if _is_local(source_fs) and _is_local(target_fs):
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(source, target)
            return
    with source_fs.open(source, "rb") as reader, target_fs.open(target, "wb") as writer:
        while chunk := reader.read(COPY_CHUNK_BYTES):
            writer.write(chunk)
