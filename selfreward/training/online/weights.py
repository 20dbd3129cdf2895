"""The folders through which a training run hands its weights to the engines."""

from pathlib import Path
from typing import Any

from selfreward.engines.models import model_fingerprint
from selfreward.layout import join
from selfreward.storage import files
from selfreward.training.checkpoint import commit_folder, is_complete, mark_complete, write_model
from selfreward.training.model import ModelSource
from selfreward.training.online.rollouts import Weights
from selfreward.training.setup import Trainee

_PREFIX = "step-"


def folder_of(root: str, step: int) -> str:
    """URL of the weights after `step`."""
    return join(root, f"{_PREFIX}{step:06d}")


def write_weights(
    folder: Path,
    state: dict[str, Any],
    trainee: Trainee,
    *,
    source: ModelSource,
    tokenizer: Any,
    lora: Any,
    root: str,
    step: int,
) -> Weights:
    """Writes a model folder at the local `folder` and a copy of it for the engines below `root`."""
    lm: Any = trainee.parallel.policy.lm
    write_model(
        folder,
        state,
        source=source,
        tokenizer=tokenizer,
        dtype=trainee.dtype,
        lora=lora,
        peft_config=lm.peft_config["default"] if lora is not None else None,
    )
    mark_complete(folder, {"step": step})
    url = folder_of(root, step)
    commit_folder(str(folder), url)
    return Weights(step=step, folder=url, fingerprint=model_fingerprint(str(folder)))


def bring_back(checkpoint: Path, root: str, step: int, fingerprint: str) -> Weights:
    """The weights of a checkpoint, copied below `root` where they are no longer there."""
    url = folder_of(root, step)
    if not is_complete(url):
        commit_folder(str(checkpoint), url)
    return Weights(step=step, folder=url, fingerprint=fingerprint)


def keep_last_two(root: str, step: int) -> None:
    """Deletes all weights but those of `step` and the ones before it.

    Called once the engines hold those of `step`: a replica that starts anew a moment earlier may
    still be reading the ones before. Weights of later steps are of an attempt that was cut off.
    """
    names = [name for name in files.list_names(root) if _is_weights(name)]
    steps = {int(name.removeprefix(_PREFIX)): name for name in names}
    before = [s for s in steps if s < step]
    kept = {step, max(before)} if before else {step}
    for number, name in steps.items():
        if number not in kept:
            files.remove(join(root, name))


def _is_weights(name: str) -> bool:
    return name.startswith(_PREFIX) and name.removeprefix(_PREFIX).isdecimal()
