"""What a recipe of one's own LLM is refused for before anything starts, and how it samples."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.config_loading import load_config, parse_config
from selfreward.errors import ConfigError
from selfreward.loops.llm_checks import check_stages, check_start
from selfreward.loops.pools import PlacedModel
from selfreward.records import ModelRef

RECIPES = Path(__file__).parent.parent / "ray_jobs" / "configs"


def refused(config: RunConfig, context: int | None = None, folder: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        if context is None:
            check_stages(config)
        else:
            check_start(config, start_of(folder, context))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def start_of(folder: Path | None, context: int) -> PlacedModel:
    assert folder is not None
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context}))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    ref = ModelRef(name="base", iteration=0, fingerprint="f0")
    return PlacedModel(ref=ref, location=str(folder))


def small(*overrides: str, **section: Any) -> RunConfig:
    data = {"loop": {"kind": "custom_llm"}, "engine": {"max_model_len": 512}}
    return parse_config(data | {"custom_llm": section}, overrides)


@pytest.mark.parametrize("name", ["custom_llm_cpu", "custom_llm_7b"])
def test_a_shipped_recipe_fits_with_all_its_stages_and_each_alone(name: str) -> None:
    check_stages(load_config(RECIPES / f"{name}.yaml"))
    for stage in ("pretrain", "continue", "finetune", "instruct", "prefer"):
        check_stages(load_config(RECIPES / f"{name}.yaml", [f"custom_llm.stages=[{stage}]"]))


@pytest.mark.parametrize("name", ["custom_llm_cpu", "custom_llm_7b"])
def test_reinforce_alone_takes_a_reward_model_that_is_there(name: str) -> None:
    alone = ["custom_llm.stages=[reinforce]"]
    told = refused(load_config(RECIPES / f"{name}.yaml", alone))
    assert "custom_llm.reward_model.path" in told
    named = [*alone, "custom_llm.reward_model.path=/models/reward"]
    check_stages(load_config(RECIPES / f"{name}.yaml", named))


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("continue", "continued_pretraining.sequence_length"),
        ("finetune", "finetuning.training.max_length"),
        ("instruct", "instruction_tuning.training.max_length"),
        ("prefer", "rankings.training.max_length"),
        ("prefer", "reward_model.training.max_length"),
    ],
)
def test_sequences_of_every_chosen_stage_fit_the_context(
    stage: str, key: str, tmp_path: Path
) -> None:
    path, long = RECIPES / "custom_llm_cpu.yaml", f"custom_llm.{key}=600"
    told = refused(load_config(path, [long, f"custom_llm.stages=[pretrain,{stage}]"]))
    assert told == f"custom_llm.architecture.context_length=512 is below custom_llm.{key}=600"
    check_stages(load_config(path, [long, "custom_llm.stages=[pretrain]"]))
    alone = load_config(path, [long, f"custom_llm.stages=[{stage}]"])
    told = refused(alone, 512, tmp_path)
    assert told == f"the context of base (512 tokens) is below custom_llm.{key}=600"
    check_start(alone, start_of(tmp_path, 600))


def test_a_tokenizer_is_named_for_a_new_model_only() -> None:
    told = refused(small("custom_llm.tokenizer.path=/t", "model.name=/base", stages=["continue"]))
    assert told.startswith("custom_llm.tokenizer.path is for the model that pretrain makes")
    assert "starts from /base and its own tokenizer" in told
    check_stages(small("custom_llm.tokenizer.path=/t", stages=["pretrain"]))


def test_a_start_without_chat_template_is_for_text_alone(tmp_path: Path) -> None:
    start, settings = start_of(tmp_path, 4096), tmp_path / "tokenizer_config.json"
    (tmp_path / "chat_template.jinja").unlink()
    settings.write_text("{}")
    check_start(small(stages=["continue"]), start)
    with pytest.raises(ConfigError, match=r"^base has no chat template, which the stage instruct"):
        check_start(small(stages=["continue", "instruct"]), start)
    settings.write_text(json.dumps({"chat_template": "{{ messages[0].content }}"}))
    check_start(small(stages=["continue", "instruct"]), start)


def test_one_field_of_sampling_leaves_the_others(tmp_path: Path) -> None:
    names = ("finetuning", "instruction_tuning", "online")
    section = small(*(f"custom_llm.{n}.sampling.max_tokens=64" for n in names)).custom_llm
    found = [getattr(section, name).sampling for name in names]
    assert [s.temperature for s in found] == [0.0, 0.0, 1.0]
    assert [s.max_tokens for s in found] == [64, 64, 64]


@pytest.mark.parametrize("given", ["temperature=0.7", "top_p=0.9", "top_k=20", "min_p=0.1"])
def test_rollouts_come_from_the_whole_distribution(given: str) -> None:
    with pytest.raises(ConfigError, match="whole distribution at temperature 1") as caught:
        small(f"custom_llm.online.sampling.{given}")
    assert given in str(caught.value)
    assert "\n" not in str(caught.value)
