"""A trained model of a run as a plain Hugging Face folder, or its LoRA adapter as a PEFT folder."""

import shutil
from typing import Any

from selfreward.errors import DataError
from selfreward.layout import Layout, absolute_path, join
from selfreward.loops.export import pick_iteration, read_run
from selfreward.storage import files
from selfreward.storage.new_folder import new_folder

COMPLETE = "COMPLETE"
"""Marker of a checkpoint that was written to its end; as in `training.checkpoint`."""
ADAPTER = "adapter"
COPY_CHUNK_BYTES = 1 << 24


def export_model(run_dir: str, what: str, iteration: str, out: str) -> tuple[int, str]:
    """Copies a model into the new folder `out`; returns its iteration and where it is.

    `what` is `model`, the weights with any adapter merged in, or `adapter`, what LoRA trained.

    Raises:
        DataError: there is no run, no such model, or no adapter since LoRA was not trained.
        UserError: `out` is there already.
    """
    layout = Layout(absolute_path(run_dir))

    def state(number: int) -> str:
        url = layout.checkpoint(number)
        return "complete" if files.exists(join(url, COMPLETE)) else "absent"

    number = pick_iteration(layout, "model", iteration, read_run(layout), state)
    source, target = layout.checkpoint(number), absolute_path(out)
    if what == ADAPTER:
        source = join(source, ADAPTER)
        if not files.exists(join(source, "adapter_config.json")):
            raise DataError(
                f"run {layout.root}: iteration {number} was trained without training.lora, it has"
                " no adapter; use --what model"
            )
    with new_folder(target) as folder:
        _copy(source, folder, leave_out=None if what == ADAPTER else ADAPTER)
    return number, target


def _copy(source: str, target: str, leave_out: str | None) -> None:
    """Copies a folder; copies, since linked files would change with the run's."""
    fs, path = files.filesystem(source)
    for found in fs.find(path):
        name = found[len(path.rstrip("/")) + 1 :]
        if name == COMPLETE or name.partition("/")[0] == leave_out:
            continue
        with fs.open(found, "rb") as reader, _created(join(target, name)) as file:
            shutil.copyfileobj(reader, file, COPY_CHUNK_BYTES)


def _created(url: str) -> Any:
    fs, path = files.filesystem(url)
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    return fs.open(path, "wb")
