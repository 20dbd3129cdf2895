"""Who compares the answers of two models, and which engines of a run hold it."""

from typing import Literal

from selfreward.config import ModelConfig, RunConfig
from selfreward.engines.models import model_fingerprint, resolve_model

Holder = Literal["judge", "generator", "outsider"]
"""A pool of engines: of the models of the run, of the generator, or one of its own."""


def outside_model(config: RunConfig) -> ModelConfig | None:
    """The model that `evaluation.head_to_head_judge` names; None for the frozen seed and for an
    endpoint."""
    name = config.evaluation.head_to_head_judge
    if name is None or is_endpoint(name):
        return None
    return config.model.model_copy(update={"name": name, "revision": None})


def is_endpoint(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def outside_holder(config: RunConfig) -> Holder | None:
    """Which pool answers for the judge of the head-to-heads; None for an endpoint.

    A judge with the weights of the generator or of the seed, under whatever name, is asked where
    they are loaded: a second copy would take as many GPUs again. Names are compared first, since
    they settle most cases without a look at any weights.

    Raises:
        ModelNotFoundError: one of the names leads nowhere.
    """
    judge = outside_model(config)
    if judge is None:
        return "judge" if config.evaluation.head_to_head_judge is None else None
    # The generator first: its engines never change weights.
    holders: list[tuple[Holder, ModelConfig]] = [("judge", config.model)]
    if config.generator is not None:
        holders.insert(0, ("generator", config.generator.model))
    for holder, model in holders:
        if full_name(model) == full_name(judge):
            return holder
    wanted = _fingerprint(judge)
    for holder, model in holders:
        if _fingerprint(model) == wanted:
            return holder
    return "outsider"


def full_name(model: ModelConfig) -> str:
    """The name with its revision behind it: any node finds the same model by this name alone."""
    return f"{model.name}@{model.revision}" if model.revision else model.name


def _fingerprint(model: ModelConfig) -> str:
    return model_fingerprint(resolve_model(full_name(model)))
