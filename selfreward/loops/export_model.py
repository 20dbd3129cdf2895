"""A trained model of a run as a plain Hugging Face folder, or its LoRA adapter as a PEFT folder."""

import shutil
from typing import Any

from selfreward.errors import DataError, UserError
from selfreward.layout import Layout, absolute_path, join
from selfreward.loops.export import LATEST, pick_iteration, read_run
from selfreward.storage import files
from selfreward.storage.checkpoints import COMPLETE, read_current
from selfreward.storage.new_folder import new_folder

ADAPTER = "adapter"
CURRENT = "current"
"""The iteration that `current.json` points to, which is not always the last one trained."""
COPY_CHUNK_BYTES = 1 << 24


def export_model(run_dir: str, what: str, iteration: str, out: str) -> tuple[int, str]:
    """Copies a model into the new folder `out`; returns its iteration and where it is.

    `what` is `model`, the weights with any adapter merged in, or `adapter`, what LoRA trained.
    `iteration` is `current`, `latest` or a number.

    Raises:
        DataError: there is no run, no such model, or no adapter since LoRA was not trained.
        UserError: `out` is there already, or the current model is the seed.
    """
    layout = Layout(absolute_path(run_dir))

    def state(number: int) -> str:
        url = layout.checkpoint(number)
        return "complete" if files.exists(join(url, COMPLETE)) else "absent"

    record = read_run(layout)
    if iteration == CURRENT:
        iteration = str(_current(layout))
    number = pick_iteration(layout, "model", iteration, record, state, (CURRENT, LATEST))
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


def beside_current(run_dir: str, iteration: int) -> str:
    """Which model is current, to be said of an exported one that is not; empty if it is."""
    current = read_current(Layout(absolute_path(run_dir)))
    if current is None or current.iteration == iteration:
        return ""
    name = f"M{current.iteration}" if current.iteration else f"the seed, {current.checkpoint}"
    return f"not the current model, which is {name}"


def _current(layout: Layout) -> int:
    current = read_current(layout)
    if current is None:
        raise DataError(f"run {layout.root} has no current model yet; choose one with --iteration")
    if current.iteration == 0:
        raise UserError(
            f"the current model of run {layout.root} is its seed, {current.checkpoint}; to export"
            f" one that was trained choose --iteration {LATEST} or a number from 1"
        )
    return current.iteration


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
