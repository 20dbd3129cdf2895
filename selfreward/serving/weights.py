"""Weights before they are loaded: that they are those that were named, and that they fit."""

import json
import shutil
from pathlib import Path
from typing import Any

from selfreward.engines.models import folder_on_this_node, model_fingerprint
from selfreward.errors import DataError
from selfreward.serving.versions import ServedVersion


def check_weights(version: ServedVersion) -> None:
    """Brings the weights of a version to this node and makes sure that they are those it names.

    Raises:
        ModelNotFoundError: this node does not see them.
        DataError: the folder holds others.
    """
    model = version.model
    local = folder_on_this_node(model, version.folder)
    found = model_fingerprint(local)
    if found == model.fingerprint:
        return
    if "://" in version.folder:
        # Or it would be found again once the URL holds the right ones.
        shutil.rmtree(local, ignore_errors=True)
    raise DataError(
        f"{version.folder} holds other weights here ({found}) than version {version.number},"
        f" {model.name} ({model.fingerprint})"
    )


def check_fits(new: ServedVersion, served: ServedVersion) -> None:
    """Makes sure that an engine which runs can change from one version to another.

    Only weights change in a running engine: it keeps its shapes, its tokenizer and its chat
    template. Told before a change, since an engine that failed half way would have to start anew.

    Raises:
        DataError: a tensor is missing, new or of another shape; tokenizer or chat template differ;
            or a file cannot be read.
        ModelNotFoundError: the weights are not to be had.
    """
    new_folder = Path(folder_on_this_node(new.model, new.folder))
    old_folder = Path(folder_on_this_node(served.model, served.folder))
    shapes, old_shapes = _shapes(new_folder), _shapes(old_folder)
    for name in sorted(shapes.keys() | old_shapes.keys()):
        if shapes.get(name) != old_shapes.get(name):
            raise _does_not_fit(
                new,
                f"tensor {name} is {shapes.get(name, 'missing')} and not"
                f" {old_shapes.get(name, 'missing')}",
            )
    if _tokens(new_folder) != _tokens(old_folder):
        raise _does_not_fit(new, "its tokenizer has other tokens")
    if _chat_template(new_folder) != _chat_template(old_folder):
        raise _does_not_fit(new, "its chat template is another")


def _does_not_fit(version: ServedVersion, why: str) -> DataError:
    return DataError(
        f"{version.folder} does not fit the served model: {why}; serve it by a service of its own"
    )


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - it is no dict
                    shapes[name] = tuple(tensors.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
    return shapes


def _tokens(folder: Path) -> Any:
    """Vocabulary and added tokens. Not the file's bytes: every release of the tokenizer's library
    writes the same tokenizer a little differently."""
    tokenizer = _read(folder / "tokenizer.json")
    added = [[token.get("id"), token.get("content")] for token in tokenizer.get("added_tokens", [])]
    return tokenizer.get("model", {}).get("vocab"), added


def _chat_template(folder: Path) -> str:
    """From its own file, where newer models have it, or from the tokenizer's config."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return str(_read(folder / "tokenizer_config.json").get("chat_template", "")).strip()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is no JSON object")
    return content
