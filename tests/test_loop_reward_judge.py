"""Whose scores online training learns from."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.errors import ConfigError, DataError
from selfreward.layout import Layout
from selfreward.loops import reward_judge, rubric_checks
from selfreward.loops.llm_checks import check_stages
from selfreward.loops.pools import PlacedModel
from selfreward.loops.reward_judge import (
    check_reward_judge,
    check_reward_tokens,
    place_reward_judge,
)
from selfreward.records import ModelRef
from selfreward.storage import files
from selfreward.storage.checkpoints import CurrentJudge, write_current


def recipe(judge: str | None, reward: str = "judge") -> RunConfig:
    online = {"reward": reward, "judge": judge, "prompts": ["p.jsonl"]}
    return RunConfig.model_validate(
        {
            "loop": {"kind": "custom_llm"},
            "custom_llm": {"stages": ["reinforce"], "online": online},
            "model": {"name": "the/policy"},
        }
    )


@pytest.fixture
def run(tmp_path: Path) -> Layout:
    """A run of another seed whose current judge is that of iteration 2 of 3."""
    layout = Layout(str(tmp_path / "judge_run"))
    files.write_json(layout.run_json, {})
    files.write_bytes(layout.config, b"model: {name: the/judge, revision: abc}\n")
    for iteration in (2, 3):
        files.write_json(f"{layout.checkpoint(iteration)}/config.json", {})
    write_current(
        layout,
        CurrentJudge(
            iteration=2,
            checkpoint=layout.checkpoint(2),
            fingerprint="f",
            accuracy=None,
            reason="better",
        ),
    )
    return layout


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked for: a model, or a run, its seed and an iteration."""
    asked: list[Any] = []

    def answer(*what: Any) -> PlacedModel:
        asked.append(what)
        return PlacedModel(ref=ModelRef(name="j", iteration=0, fingerprint="f"), location="at")

    monkeypatch.setattr(reward_judge, "place", lambda model: answer(model.name))
    monkeypatch.setattr(
        reward_judge,
        "run_model",
        lambda layout, seed, iteration: answer(layout.root, seed.name, seed.revision, iteration),
    )
    return asked


def test_a_run_lends_its_current_judge(run: Layout, placed: list[Any]) -> None:
    check_reward_judge(recipe(run.root))
    place_reward_judge(recipe(run.root))
    place_reward_judge(recipe(f"{run.root}@3"))
    assert placed == [
        (run.root, "the/judge", "abc", 2),
        (run.root, "the/judge", "abc", 3),
    ]


def test_a_model_judges_by_its_name_and_else_the_recipes_own(placed: list[Any]) -> None:
    place_reward_judge(recipe("some/judge"))
    place_reward_judge(recipe(None))
    assert placed == [("some/judge",), ("the/policy",)]


def test_what_cannot_reward_is_told_before_anything_starts(run: Layout) -> None:
    with pytest.raises(DataError, match="no trained judge of iteration 7"):
        check_stages(recipe(f"{run.root}@7"))
    with pytest.raises(ConfigError, match=r"judge=baseline:longest: it is a model, or a run"):
        check_stages(recipe("baseline:longest"))
    with pytest.raises(ConfigError, match=r"judge=some/judge is read with .*reward=judge"):
        check_stages(recipe("some/judge", reward="checks"))


@pytest.mark.parametrize(
    ("reward", "expected", "stops"),
    [("judge", True, True), ("judge", False, False), ("checks", True, False)],
)
def test_scores_that_have_no_probability_stop_a_run_at_its_start(
    reward: str,
    expected: bool,
    stops: bool,
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # To the tiny model, whose tokens are bytes, "10" is two.
    monkeypatch.setattr(rubric_checks, "on_cluster", lambda _, function, *args: function(*args))
    rubric = tmp_path / "ten.yaml"
    statements = "".join(f"\n- It has quality {n}." for n in range(10))
    rubric.write_text(f"id: ten\nstatements:{statements}\n")
    config = recipe(str(tiny_model) if reward == "judge" else None, reward)
    rating = config.rating.model_copy(update={"rubric": str(rubric), "expected": expected})
    run: Any = SimpleNamespace(config=config.model_copy(update={"rating": rating}))
    if not stops:
        check_reward_tokens(run)
        return
    with pytest.raises(ConfigError, match=r"^rating\.expected=true .* '10' is 2 tokens"):
        check_reward_tokens(run)
