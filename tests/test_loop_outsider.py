"""Who compares the answers of two models: where it is loaded already, no engine starts for it."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.config_loading import load_config, parse_config
from selfreward.engines.outside_judge import outside_holder
from selfreward.errors import ModelNotFoundError
from selfreward.loops import outsider as outsiders
from selfreward.loops.outsider import Outsider
from selfreward.loops.session import place
from selfreward.preflight import bundles_needed, phases

CONFIGS = Path(__file__).parent.parent / "ray_jobs" / "configs"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Folders with the models `seed`, `chat` and `other`, and copies of the first two."""
    for name in ("seed", "chat", "other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(f"weights of {name}")
    for name in ("seed", "chat"):
        shutil.copytree(tmp_path / name, tmp_path / f"{name}_copy")
    return tmp_path


def recipe(models: Path, judge: str | None, generator: str | None = "chat") -> RunConfig:
    """A judge that is a folder's name stands for that folder."""
    named = str(models / judge) if judge and (models / judge).is_dir() else judge
    data: dict[str, Any] = {
        "model": {"name": str(models / "seed")},
        "engine": {"device": "cpu"},
        "loop": {"kind": "self_rewarding"},
        "evaluation": {"head_to_head_judge": named},
    }
    if generator is not None:
        data["generator"] = {
            "model": {"name": str(models / generator)},
            "engine": {"device": "cpu", "num_cpus": 4},
        }
    return parse_config(data)


def asked_pool(config: RunConfig) -> tuple[str, str]:
    """Which pool of a run is asked, and for which model."""
    asked: list[tuple[str, str]] = []

    def pool(name: str) -> Any:
        return lambda model: asked.append((name, model.ref.name.rpartition("/")[2]))

    pools = SimpleNamespace(**{n: pool(n) for n in ("judge", "generator", "outsider")})
    run: Any = SimpleNamespace(config=config, pools=pools)
    Outsider(run, place(config.model)).client()
    return asked[0]


@pytest.mark.parametrize(
    ("judge", "pool", "cpus"),
    [
        # Engines of 1 and 4 CPUs and two shard tasks of 0.1; a pool of its own is 1 CPU more.
        (None, ("judge", "seed"), 5.2),
        ("seed", ("judge", "seed"), 5.2),
        ("seed_copy", ("judge", "seed"), 5.2),
        ("chat", ("generator", "chat"), 5.2),
        ("chat_copy", ("generator", "chat"), 5.2),
        ("other", ("outsider", "other"), 6.2),
    ],
)
def test_a_judge_is_asked_where_its_weights_are_loaded_and_counted_once(
    judge: str | None, pool: tuple[str, str], cpus: float, models: Path
) -> None:
    config = recipe(models, judge)
    assert asked_pool(config) == pool
    assert sum(bundle["CPU"] for bundle in phases(config)[0]) == pytest.approx(cpus)


def test_without_a_generator_only_the_seed_is_loaded(models: Path) -> None:
    assert asked_pool(recipe(models, "seed_copy", None)) == ("judge", "seed")
    assert asked_pool(recipe(models, "chat", None)) == ("outsider", "chat")


def test_an_endpoint_takes_no_engine(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipe(models, "https://host/v1#strong")
    assert outside_holder(config) is None
    assert sum(bundle["CPU"] for bundle in phases(config)[0]) == pytest.approx(5.2)
    run: Any = SimpleNamespace(config=config, pools=None)
    outsider = Outsider(run, place(config.model))
    assert outsider.client() is outsider.endpoint
    assert outsider.name == "https://host/v1/chat/completions#strong"
    monkeypatch.setattr(outsiders, "first_model", lambda _: "first")
    run.config = recipe(models, "https://host/v1")
    assert Outsider(run, place(config.model)).name.endswith("/v1/chat/completions#first")


def test_a_judge_that_is_nowhere_is_one_line_before_any_engine(models: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="'/nowhere/judge' looks like a path"):
        phases(recipe(models, "/nowhere/judge"))


def test_revisions_are_part_of_a_name(models: Path) -> None:
    data = {"model": {"name": "org/m", "revision": "v1"}, "loop": {"kind": "self_rewarding"}}
    named = {"evaluation": {"head_to_head_judge": "org/m@v1"}}
    assert outside_holder(parse_config(data | named)) == "judge"


def test_the_chat_model_of_the_70b_recipe_compares_on_the_same_16_gpus() -> None:
    config = load_config(CONFIGS / "self_rewarding_70b.yaml")
    assert config.generator is not None
    assert config.evaluation.head_to_head_judge == config.generator.model.name
    assert sum(bundle.get("GPU", 0) for bundle in bundles_needed(config)) == 16
