"""What online training changed in its own reward: items of the first and the last evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import EvaluationConfig
from selfreward.evaluation.online_figures import online_figures, verdict_shares
from selfreward.evaluation.stage_figures import Measured, stage_figures
from selfreward.records import Message, ModelRef, Response
from selfreward.records_custom_llm import TaskAnswer, TaskItem
from selfreward.storage.manifest import complete, open_stage
from tests.run_folders import write_stage

CONFIG = EvaluationConfig(bootstrap_samples=200)


def trained(folder: Path, reward: str, *evaluations: Mapping[str, float | None]) -> str:
    recipe = {"online": {"reward": reward, "consistency_bonus": 0.5}}
    manifest = open_stage(str(folder), "reinforce", recipe)
    told: list[dict[str, Any]] = [
        {"step": 10 * n, "rewards": rewards, "num_tokens": 9}
        for n, rewards in enumerate(evaluations)
    ]
    complete(str(folder), manifest, [], 0.0, {"evaluations": told})
    return str(folder)


def test_the_last_evaluation_is_compared_with_the_first_prompt_by_prompt(tmp_path: Path) -> None:
    first = {"a": 0.0, "b": 0.5, "c": None, "d": 0.0}
    last = {"a": 1.0, "b": 0.5, "c": 1.0, "d": 1.0}
    folder = trained(tmp_path, "checks", first, {"a": 9.0, "b": 9.0, "c": 9.0, "d": 9.0}, last)
    change, details = online_figures(folder, CONFIG, 0)
    assert change is not None and change.ci is not None
    assert change.difference == pytest.approx(2 / 3)  # c had no reward before
    assert change.ci[0] <= change.difference <= change.ci[1]
    assert "checks" in change.what
    assert details["n"] == 3 and details["steps"] == [0, 20]
    assert details["mean_reward"] == pytest.approx([0.5 / 3, 2.5 / 3])


def test_of_a_judge_pairs_are_the_items(tmp_path: Path) -> None:
    first = {"p/chosen_first": 0.5, "p/rejected_first": 0.0, "q/chosen_first": 0.0}
    first["q/rejected_first"] = 0.0
    last = dict.fromkeys(first, 1.0)
    folder = trained(tmp_path, "verdict", first, last)
    now = Measured(stage="6 reinforce", online=folder)
    report = stage_figures(now, Measured(stage="start"), "online", CONFIG, 0)
    online = report["details"]["online"]
    assert online["n"] == 2
    assert online["accuracy"] == [0.25, 1.0]
    assert online["right_in_both_orders"] == [0.0, 1.0]
    assert report["figures"]["change"]["difference"] == pytest.approx(0.875)
    assert "6 reinforce: accuracy 0.250 to 1.000" in report["notes"]


def test_what_a_reward_does_not_tell_is_not_made_up(tmp_path: Path) -> None:
    # With a bonus of 1 a right verdict alone earns nothing.
    told = verdict_shares({"p/a": 0.0, "p/b": 0.0, "q/a": 1.0, "q/b": 1.0}, 1.0)
    assert told == {"accuracy": None, "right_in_both_orders": 0.5}
    assert verdict_shares({"p/a": None, "p/b": 0.5}, 0.5)["right_in_both_orders"] is None
    assert online_figures(trained(tmp_path, "judge", {"a": 1.0}), CONFIG, 0) == (None, {})


def test_answers_cut_at_the_limit_are_told_beside_the_figure(tmp_path: Path) -> None:
    item = TaskItem.new(
        task="t", template="t", messages=(Message(role="user", content="Why?"),), target="So"
    )
    answers = [
        TaskAnswer(
            id=f"a{n}",
            item=item,
            response=Response(
                id=f"r{n}",
                instruction_id="i",
                text="So",
                model=ModelRef(name="m", iteration=3, fingerprint="f"),
                draw=0,
                finish_reason="length" if n == 0 else "stop",
                num_tokens=1,
            ),
        )
        for n in range(4)
    ]
    write_stage(str(tmp_path), "answer_tasks", answers)
    now = Measured(stage="3 finetune", tasks=str(tmp_path))
    report = stage_figures(now, None, None, CONFIG, 0)
    assert report["details"]["truncated"] == {"tasks": 0.25}
    assert report["notes"] == ["3 finetune: 1 of 4 answers to tasks were cut at max_tokens"]
