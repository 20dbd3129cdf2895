"""What the trainings of stages follow: a reward model that is there, a judge by its weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.layout import Layout
from selfreward.loops import llm_online, llm_stages
from selfreward.loops.llm_data import Splits
from selfreward.loops.llm_measure import Yardsticks
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source
from selfreward.records import ModelRef


def placed(fingerprint: str) -> PlacedModel:
    ref = ModelRef(name="a model", iteration=0, fingerprint=fingerprint)
    return PlacedModel(ref=ref, location="at/it")


def run_of(folder: Path, **section: Any) -> Any:
    data = {"loop": {"kind": "custom_llm"}, "custom_llm": section}
    return SimpleNamespace(config=RunConfig.model_validate(data), layout=Layout(str(folder)))


@pytest.mark.parametrize(
    ("path", "trained"),
    [(None, ["the reward model", "stage 5 prefer"]), ("/models/reward", ["stage 5 prefer"])],
)
def test_a_named_reward_model_is_not_trained(
    path: str | None, trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(folder="f", fingerprint="s", num_records=4)
    found: list[str] = []
    monkeypatch.setattr(llm_stages, "ranking_preferences", lambda *_: source)
    monkeypatch.setattr(llm_stages, "sealed_shards", lambda _: ["f/0"])
    monkeypatch.setattr(llm_stages, "train_model", lambda _r, _s, what: found.append(what.model))
    run = run_of(tmp_path, reward_model={"path": path})
    sticks = Yardsticks(rankings=Splits(train=source, heldout=source))
    llm_stages.StageTraining(run, sticks, None).train("prefer", placed("f0"))
    assert found == trained


def test_another_judge_of_the_same_name_is_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes: list[dict[str, Any]] = []

    def open_stage(_folder: str, _stage: str, recipe: dict[str, Any]) -> Any:
        recipes.append(recipe)
        return SimpleNamespace(is_complete=True)

    monkeypatch.setattr(llm_online, "open_stage", open_stage)
    run = run_of(tmp_path, online={"reward": "judge"})
    for fingerprint in ("f1", "f2"):
        monkeypatch.setattr(llm_online, "place_reward_judge", lambda _, f=fingerprint: placed(f))
        llm_online.train_by_reward(
            run, 6, placed("f0"), rankings=None, instructions=None, reward_model=None
        )
    assert [recipe["judge"]["model"] for recipe in recipes] == ["f1", "f2"]
