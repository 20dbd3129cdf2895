"""The config: what is accepted, what is refused in one line, and what bears identity."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from selfreward.config import (
    EngineConfig,
    GeneratorConfig,
    LoraConfig,
    ModelConfig,
    RunConfig,
    ScriptedConfig,
    TrainingConfig,
)
from selfreward.config_loading import (
    dump_config,
    identity,
    known_keys,
    load_config,
    parse_as,
    parse_config,
)
from selfreward.config_serving import ServiceConfig
from selfreward.errors import ConfigError


def refusal(*overrides: str, raw: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw or {}, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("# nothing\n")
    assert load_config(path) == RunConfig()


def test_a_resolved_config_reads_back_equal(tmp_path: Path) -> None:
    config = parse_config(
        {"generator": {"model": {"name": "big"}}, "training": {"lora": {"rank": 4}}},
        ["evaluation.labelled_pairs=[a.jsonl, b.jsonl]", "engine.engine_kwargs.seed=3"],
    )
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    dumped = yaml.safe_load(path.read_text())
    assert dumped["training"]["betas"] == [0.9, 0.95], "every default is filled in"
    assert dumped["generator"]["engine"]["replicas"] == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("engin.kind=vllm", "unknown key engin; did you mean engine?"),
        ("training.lerning_rate=1", "training.lerning_rate; did you mean training.learning_rate?"),
        ("judge.temperature=1", "judge.temperature; did you mean judge.sampling.temperature?"),
        ("training.lora.rnk=8", "training.lora.rnk; did you mean training.lora.rank?"),
        ("engine.scripted.skil=1", "engine.scripted.skil; did you mean engine.scripted.skill?"),
        ("pool.columns.mesages=m", "pool.columns.mesages; did you mean pool.columns.messages?"),
        ("num_draws=3", "unknown key num_draws; did you mean judge.num_draws?"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(override: str, said: str) -> None:
    assert said in refusal(override)


def test_unknown_keys_of_an_optional_section_are_told_before_missing_ones() -> None:
    text = refusal(raw={"generator": {"modle": {"name": "x"}}})
    assert "unknown key generator.modle; did you mean generator.model? (and 1 more)" in text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.batch_size=abc", "training.batch_size='abc': input should be a valid integer"),
        ("training.epochs=1.5", "training.epochs=1.5: input should be a valid integer"),
        ("loop.iterations=0", "loop.iterations=0: input should be greater than or equal to 1"),
        ("judge.sampling.top_p=1.5", "judge.sampling.top_p=1.5: input should be less than or"),
        (
            "engine.kind=llama",
            "engine.kind='llama': input should be 'vllm', 'classifier' or 'scripted'",
        ),
        ("promotion.enabled=maybe", "promotion.enabled='maybe': input should be a valid boolean"),
        ("judge=5", "judge=5: input should be a valid dictionary"),
        ("engine.max_model_len.x=3", "engine.max_model_len={'x': 3}: input should be a valid int"),
        ("evaluation.labelled_pairs=a.jsonl", "evaluation.labelled_pairs='a.jsonl': input should"),
        ("training.lora.target_modules=5", "training.lora.target_modules=5: input should be"),
        ("training.betas=[0.9]", "training.betas.1=[0.9]: field required"),
        ("training.learning_rate=.inf", "training.learning_rate=inf: input should be a finite"),
        ("training.learning_rate=.nan", "training.learning_rate=nan: input should be"),
        ("corrupt.methods={foo: 1}", "corrupt.methods.foo='foo': input should be 'modified_"),
        ("corrupt.methods={rewrite: .inf}", "corrupt.methods.rewrite=inf: input should be a fin"),
    ],
)
def test_a_wrong_value_names_its_key_and_what_was_given(override: str, said: str) -> None:
    assert said in refusal(override)


def test_a_section_that_does_not_fit_is_not_quoted() -> None:
    overrides = [
        "serving.auth.enabled=false",
        "serving.host=0.0.0.0",
        "serving.review.database_url=postgresql://ada:secret@host/db",
    ]
    with pytest.raises(ConfigError) as caught:
        parse_as(ServiceConfig, {}, overrides, "serve")
    assert "serving: auth.enabled=false is for loopback only" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["select.drop_all_right=true"], "select.drop_all_right needs judge.adaptive=false"),
        (["corrupt.methods={}"], "corrupt.methods needs at least one method"),
        (["corrupt.methods={rewrite: 0}"], "corrupt.methods needs at least one method"),
        (["corrupt.methods={rewrite: -1, reference: 2}"], "corrupt.methods has a share below 0"),
        (
            ["judge.sampling.max_tokens=128", "engine.max_model_len=128"],
            "judge.sampling.max_tokens=128 leaves no room",
        ),
        (
            ["engine.kind=scripted", "judge.sampling.temperature=0"],
            "judge.sampling.temperature must be above 0",
        ),
        (
            ["select_instructions.min_complexity=7", "select_instructions.max_complexity=3"],
            "min_complexity=7 is above max_complexity=3",
        ),
    ],
)
def test_values_that_do_not_fit_together(overrides: list[str], said: str) -> None:
    text = refusal(*overrides)
    assert text.startswith("config: ")
    assert said in text


def test_overrides_of_every_kind() -> None:
    raw: dict[str, Any] = {"training": {"learning_rate": 1e-3}}
    config = parse_config(
        raw,
        [
            "training.learning_rate=1e-6",
            "training.betas=[0.8, 0.99]",
            "training.lora.rank=4",
            "evaluation.labelled_pairs=[a.jsonl, 's3://b/c.parquet']",
            "pool.max_instructions=null",
            "pool.path=data/x=1/*.jsonl",
            "engine.engine_kwargs.rope_scale=-1e-6",
            "engine.engine_kwargs.label='1e-6'",
            "corrupt.methods={rewrite: 1, modified_instruction: 3}",
            "engine.enforce_eager=no",
            "model.revision='1234567'",
        ],
    )
    assert config.training.learning_rate == 1e-6
    assert config.training.betas == (0.8, 0.99)
    assert config.training.lora == LoraConfig(rank=4)
    assert config.evaluation.labelled_pairs == ("a.jsonl", "s3://b/c.parquet")
    assert config.pool.max_instructions is None
    assert config.pool.path == "data/x=1/*.jsonl"
    assert config.engine.engine_kwargs == {"rope_scale": -1e-6, "label": "1e-6"}
    assert config.corrupt.methods == {"rewrite": 1.0, "modified_instruction": 3.0}
    assert config.engine.enforce_eager is False
    assert config.model.revision == "1234567"
    assert raw == {"training": {"learning_rate": 1e-3}}, "the caller's data is left alone"


def test_the_last_override_wins_and_null_sections_can_be_filled() -> None:
    config = parse_config({"training": None}, ["training.epochs=2", "training.epochs=3"])
    assert config.training.epochs == 3


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epochs", "write it as section.key=value"),
        ("=3", "write it as section.key=value"),
        ("run_dir=[", "the value is not readable as YAML"),
        ("pool.path=2026-13-45", "the value is not readable as YAML"),
    ],
)
def test_an_override_that_cannot_be_read_is_quoted(override: str, said: str) -> None:
    text = refusal(override)
    assert repr(override) in text
    assert said in text


def test_an_override_below_a_value_is_refused() -> None:
    text = refusal("run_dir.x=1", raw={"run_dir": "runs/a"})
    assert text == "override 'run_dir.x=1': run_dir is a value, not a section"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model:\n  name: [x\n", "not readable as YAML; mend the syntax"),
        (b"a: b: c\n", "line 1: not readable as YAML"),
        (b"\xff\xfe\x00", "not readable as YAML"),
        (b"pool: {path: 2026-13-45}\n", "not readable as YAML"),
        (b"- a\n- b\n", "a config is a mapping of sections, not list"),
        (b"training: {epochs: x}\n", "training.epochs='x': input should be a valid integer"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert said in text
    assert "\n" not in text


def test_a_missing_file_says_where_recipes_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config file at .*x\.yaml; recipes are in ray_jobs"):
        load_config(tmp_path / "x.yaml")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("{}")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match=r"recipe\.yaml: Permission denied"):
        load_config(path)


RECIPES = sorted((Path(__file__).parent.parent / "ray_jobs" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_every_shipped_recipe_can_be_used(path: Path) -> None:
    load_config(path)


def test_recipes_are_shipped() -> None:
    assert RECIPES


def test_sections_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().loop.iterations = 3  # type: ignore[misc]


def operational_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for key in known_keys(model, prefix):
        pieces, here = key.split("."), model
        field = None
        for piece in pieces:
            field = here.model_fields[piece]
            members = (field.annotation, *getattr(field.annotation, "__args__", ()))
            sections = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
            here = sections[0] if sections else here
        assert field is not None
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("operational"):
            yield key


def keys_of(data: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in data.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")


def test_identity_leaves_out_what_says_where_and_how_fast_at_every_depth() -> None:
    lora = {"lora": LoraConfig(), "curriculum": "margin"}
    config = RunConfig.model_validate(
        {
            "generator": GeneratorConfig(model=ModelConfig()),
            "seed_training": lora,
            "training": lora,
            "select": {"min_likelihood_margin": 0.5},
            "preferences": {"positives_with_seeds": True},
            "custom_llm": {
                stage: {"training": lora}
                for stage in (
                    *("pretraining", "continued_pretraining", "finetuning", "instruction_tuning"),
                    *("rankings", "reward_model", "online"),
                )
            },
        }
    )
    kept = set(keys_of(identity(config)))
    operational = set(operational_keys(RunConfig))
    assert {
        "run_dir",
        "ray.address",
        "engine.replicas",
        "engine.scripted.delay_s",
        "generator.engine.replicas",
        "training.num_workers",
    } <= operational
    assert not kept & operational
    # Everything else is kept: nothing that changes what is made can slip out.
    assert kept | operational == set(known_keys(RunConfig)) | {
        "corrupt.methods.modified_instruction"
    }


def test_identity_sees_recipes_and_not_machines() -> None:
    base = EngineConfig()
    faster = EngineConfig(
        replicas=8, tensor_parallel_size=4, device="cuda", scripted=ScriptedConfig(delay_s=1)
    )
    assert identity(faster) == identity(base)
    assert identity(EngineConfig(max_model_len=4096)) != identity(base)
    assert identity(EngineConfig(scripted=ScriptedConfig(skill=1))) != identity(base)
    assert identity(TrainingConfig(num_workers=4)) == identity(TrainingConfig())
    assert identity(TrainingConfig())["betas"] == [0.9, 0.95]


def test_data_is_found_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks of a cluster run in another folder than the command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pool.jsonl").write_text("")
    (tmp_path / "pairs").mkdir()
    names = ["pairs", "absent.jsonl", "sample:ranked", "org/name", "s3://b/x.jsonl", ""]
    config = parse_config(
        {
            "pool": {"path": "./pool.jsonl"},
            "evaluation": {"labelled_pairs": names},
            "seeds": {"ift": ["*.jsonl", "p?.jsonl"]},
        }
    )
    assert config.pool.path == str(tmp_path / "pool.jsonl")
    assert config.evaluation.labelled_pairs == (str(tmp_path / "pairs"), *names[1:])
    assert config.seeds.ift == (str(tmp_path / "*.jsonl"), "p?.jsonl")
