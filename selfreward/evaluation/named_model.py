"""What MODEL names on the command line: a model, or the model of a stage of a run."""

from typing import get_args

import yaml

from selfreward.config_custom_llm import Stage
from selfreward.config_loading import parse_config
from selfreward.errors import ConfigError, DataError
from selfreward.evaluation.judges import parse_judge
from selfreward.layout import Layout, join
from selfreward.storage import files
from selfreward.storage.checkpoints import read_current


def named_model(text: str) -> str:
    """Returns the name that `resolve_model` takes.

    `RUN@3` is what stage (or iteration) 3 of a run trained and `RUN@0` what the run began with;
    `RUN` is its current judge, or what its last stage trained where it has none. All else is a
    model's own name: a folder, a hub id, `embedded:…`.

    Raises:
        ConfigError: no name, or one of something that is no model (a baseline, an endpoint).
        DataError: the run has no such model.
    """
    if not text.strip():
        raise ConfigError("the model's name is empty: name a model, a folder or RUN@STAGE")
    spec = parse_judge(text)
    if spec.kind == "model":
        return spec.name
    if spec.kind != "run":
        raise ConfigError(f"{text!r} is no model to load: name a model, a folder or RUN@STAGE")
    layout = Layout(spec.name)
    if spec.iteration == 0:
        return _first(layout)
    if spec.iteration is not None:
        return _stage(layout, spec.iteration)
    current = read_current(layout)
    if current is not None:
        return current.checkpoint
    return _stage(layout, max(_stages(layout), default=1))


def _stages(layout: Layout) -> list[int]:
    """The stages that have a model."""
    last = max(files.read_json(layout.run_json).get("iterations", 0), len(get_args(Stage)))
    return [n for n in range(1, last + 1) if _holds_model(layout.checkpoint(n))]


def _holds_model(folder: str) -> bool:
    return files.exists(join(folder, "config.json"))


def _stage(layout: Layout, number: int) -> str:
    folder = layout.checkpoint(number)
    if _holds_model(folder):
        return folder
    there = ", ".join(f"{layout.root}@{n}" for n in _stages(layout))
    raise DataError(
        f"run {layout.root} has no model of stage {number}; there is {there or 'none yet'}"
    )


def _first(layout: Layout) -> str:
    initial = join(layout.root, "initial")
    if _holds_model(initial):
        return initial
    model = parse_config(yaml.safe_load(files.read_bytes(layout.config))).model
    return f"{model.name}@{model.revision}" if model.revision else model.name
