"""Rubrics whose verdict could never be read, refused before a model is asked."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.errors import ConfigError
from selfreward.judging.pointwise import additive_rubric, get_pointwise_rubric
from selfreward.loops import rubric_checks
from selfreward.loops.pools import PlacedModel
from selfreward.loops.rubric_checks import check_score_tokens
from selfreward.loops.self_rewarding import check_recipe
from selfreward.loops.self_taught import check_names
from selfreward.records import ModelRef

FEW: dict[str, Any] = {"sampling": {"temperature": 1.0, "max_tokens": 8}}


def rewarding(**sections: Any) -> RunConfig:
    loop = {"kind": "self_rewarding", "iterations": 3}
    return RunConfig.model_validate({"loop": loop, "training": {"objective": "dpo"}} | sections)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"rating": FEW | {"rubric": "pointwise_choice"}},
            "rating.rubric=pointwise_choice writes a reason before its verdict, and"
            " rating.sampling.max_tokens=8 cuts it off; set rating.sampling.max_tokens to 64 or"
            " more, or rating.rubric=pointwise_choice_short",
        ),
        # The default has a reason, and so has the judge's.
        ({"rating": FEW}, "or rating.rubric=pointwise_additive_short"),
        (
            {"evaluation": FEW},
            "judge.rubric=pairwise_reasoned writes a reason before its verdict, and"
            " evaluation.sampling.max_tokens=8 cuts it off; set evaluation.sampling.max_tokens to"
            " 64 or more, or judge.rubric=pairwise_verdict_only",
        ),
        (
            {"meta_judge": {"enabled": True, "rubric": "meta_reasoned"}},
            "meta_judge.sampling.max_tokens=8 cuts it off; set meta_judge.sampling.max_tokens to 64"
            " or more, or meta_judge.rubric=meta_verdict_only",
        ),
    ],
)
def test_a_reason_without_room_is_refused(sections: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_recipe(rewarding(**sections))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rubric_of_ones_own_is_mended_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("id: mine\nstatements: [It is kind.]\n")
    with pytest.raises(ConfigError, match=rf"or wants_reason: false in {path}$"):
        check_recipe(rewarding(rating=FEW | {"rubric": str(path)}))
    path.write_text("id: mine\nstatements: [It is kind.]\nwants_reason: false\n")
    assert check_recipe(rewarding(rating=FEW | {"rubric": str(path)})).scale == (0, 1)


def test_verdicts_alone_need_no_room() -> None:
    for rubric in ("pointwise_choice_short", "pointwise_additive_short"):
        sections = {
            "rating": FEW | {"rubric": rubric, "expected": True, "num_draws": 1},
            "judge": {"rubric": "pairwise_verdict_only"},
            "evaluation": FEW,
            "meta_judge": {"enabled": False, "rubric": "meta_reasoned"},
        }
        assert check_recipe(rewarding(**sections)).id == rubric


@pytest.mark.parametrize("section", ["judge", "evaluation"])
def test_the_other_loop_is_checked_too(section: str) -> None:
    with pytest.raises(ConfigError, match=rf"{section}\.sampling\.max_tokens=8 cuts it off"):
        check_names(RunConfig.model_validate({section: FEW}))
    letter = {"rubric": "pairwise_verdict_only"}
    short = {"judge": FEW | letter, "evaluation": FEW}
    check_names(RunConfig.model_validate(short))


# --- expected scores -----------------------------------------------------------------------------


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Any:
    """Checks a rubric against the tiny model's tokenizer, whose tokens are bytes."""
    asked = []

    def here(_run: Any, function: Any, *args: Any) -> Any:
        asked.append(args)
        return function(*args)

    monkeypatch.setattr(rubric_checks, "on_cluster", here)
    ref = ModelRef(name="tiny", iteration=0, fingerprint="t")
    model = PlacedModel(ref=ref, location=str(tiny_model))

    def run(rubric: Any, **settings: Any) -> int:
        sections = {"rating": {"expected": True} | settings.pop("rating", {}), **settings}
        run: Any = SimpleNamespace(config=RunConfig.model_validate(sections))
        check_score_tokens(run, model, rubric)
        return len(asked)

    return run


def test_a_score_of_two_tokens_has_no_probability_to_read(check: Any) -> None:
    ten = additive_rubric("ten", [f"It has quality {n}." for n in range(10)])
    with pytest.raises(ConfigError) as caught:
        check(ten)
    assert str(caught.value) == (
        "rating.expected=true reads the probability of each score of ten (0 to 10), and '10' is 2"
        " tokens to the tokenizer of tiny; set rating.expected=false, or a rubric whose scores are"
        " one token each"
    )


def test_scores_of_one_digit_pass_and_written_scores_are_not_looked_at(check: Any) -> None:
    assert check(get_pointwise_rubric("pointwise_choice_short")) == 1
    ten = additive_rubric("ten", [f"It has quality {n}." for n in range(10)])
    assert check(ten, rating={"expected": False}) == 1
    assert check(ten, engine={"kind": "scripted"}) == 1, "it has no tokens"


def test_a_reason_behind_its_verdict_may_be_cut() -> None:
    judge = {"rubric": "pairwise_verdict_first"}
    assert check_recipe(rewarding(judge=judge, evaluation=FEW)).wants_reason
