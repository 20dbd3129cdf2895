"""What is checked of a recipe of one's own LLM before anything is started."""

import json
from pathlib import Path

from selfreward.config import RunConfig
from selfreward.config_custom_llm import Stage
from selfreward.errors import ConfigError
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.loops.pools import PlacedModel
from selfreward.loops.reward_judge import check_reward_judge
from selfreward.loops.rubrics import load_pointwise_rubric

_RAW_TEXT: tuple[Stage, ...] = ("pretrain", "continue")
"""Stages that read text without turns."""


def check_stages(config: RunConfig) -> None:
    """Looks up what a recipe names and whether its stages fit.

    Raises:
        ConfigError: a rubric is unknown, a stage lacks what another one would have made,
            sequences are longer than the context of the model that `pretrain` makes, or a
            tokenizer is named for a model that has one.
    """
    section = config.custom_llm
    online = section.online
    if config.engine.kind == "classifier":
        raise ConfigError("engine.kind=classifier scores and writes nothing: stages need vllm")
    if "reinforce" in section.stages:
        trains_one = "prefer" in section.stages or section.reward_model.path is not None
        if online.reward == "reward_model" and not trains_one:
            raise ConfigError(
                "custom_llm.online.reward=reward_model needs a reward model: name one in"
                " custom_llm.reward_model.path, add prefer to custom_llm.stages, which trains one,"
                " or choose another reward"
            )
        if online.reward == "verdict":
            get_pairwise_rubric(config.judge.rubric)
            if not online.prompts:
                raise ConfigError(
                    "custom_llm.online.reward=verdict trains a judge on labelled pairs; name files"
                    " of {prompt, chosen, rejected} in custom_llm.online.prompts"
                )
        check_reward_judge(config)
        if online.reward == "judge":
            load_pointwise_rubric(config.rating.rubric)
    if "pretrain" in section.stages:
        context = section.architecture.context_length
        _check_lengths(config, context, f"custom_llm.architecture.context_length={context}")
    elif section.tokenizer.path is not None:
        raise ConfigError(
            "custom_llm.tokenizer.path is for the model that pretrain makes; without pretrain the"
            f" run starts from {config.model.name} and its own tokenizer: leave the setting out"
        )


def check_start(config: RunConfig, start: PlacedModel) -> None:
    """Whether what the stages read fits into the model they start from.

    Raises:
        ConfigError: sequences are longer than its context, or it has no chat template and a stage
            after the texts reads or writes turns.
    """
    turns = [stage for stage in config.custom_llm.stages if stage not in _RAW_TEXT]
    if turns and not _has_chat_template(Path(start.location)):
        raise ConfigError(
            f"{start.ref.name} has no chat template, which the stage {turns[0]} needs: put a"
            " chat_template.jinja of tokens it knows into a copy of the model's folder, and name"
            " that folder in model.name"
        )
    said = json.loads((Path(start.location) / "config.json").read_text(encoding="utf-8"))
    context = said.get("max_position_embeddings")
    if isinstance(context, int):
        _check_lengths(config, context, f"the context of {start.ref.name} ({context} tokens)")


def _has_chat_template(folder: Path) -> bool:
    """As transformers looks for one: in a file of its own, or in the tokenizer's settings."""
    files = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
    if any((folder / name).exists() for name in files):
        return True
    settings = folder / "tokenizer_config.json"
    if not settings.is_file():
        return False
    return bool(json.loads(settings.read_text(encoding="utf-8")).get("chat_template"))


def _check_lengths(config: RunConfig, context: int, what: str) -> None:
    for setting, length in _lengths(config).items():
        if length > context:
            raise ConfigError(f"{what} is below {setting}={length}")


def _lengths(config: RunConfig) -> dict[str, int]:
    """Tokens of the longest sequence of each chosen stage and of the engines, by their setting."""
    section = config.custom_llm
    of_stages: dict[Stage, dict[str, int]] = {
        "pretrain": {"pretraining.sequence_length": section.pretraining.sequence_length},
        "continue": {
            "continued_pretraining.sequence_length": section.continued_pretraining.sequence_length
        },
        "finetune": {"finetuning.training.max_length": section.finetuning.training.max_length},
        "instruct": {
            "instruction_tuning.training.max_length": section.instruction_tuning.training.max_length
        },
        "prefer": {"rankings.training.max_length": section.rankings.training.max_length},
        "reinforce": {"online.training.max_length": section.online.training.max_length},
    }
    # The reward model is made of the stage's own model, unless one is named.
    if section.reward_model.path is None:
        of_stages["prefer"]["reward_model.training.max_length"] = (
            section.reward_model.training.max_length
        )
    found = {"engine.max_model_len": config.engine.max_model_len}
    for stage in section.stages:
        found |= {f"custom_llm.{name}": length for name, length in of_stages[stage].items()}
    return found
