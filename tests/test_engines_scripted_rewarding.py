"""What the scripted engine writes for the self-rewarding loop: tasks, scores, likelihoods."""

import math
import re
from typing import Any

import pytest

from selfreward.config import ScriptedConfig
from selfreward.config_self_rewarding import SelfInstructConfig
from selfreward.engines.protocol import GenerationRequest, Sampling
from selfreward.engines.scripted_draws import draw, scored
from selfreward.judging.best_of import (
    best_of_choices,
    best_of_regex,
    best_of_rubric,
    parse_best_of,
    render_best_of,
)
from selfreward.judging.instruction_filters import filter_reason
from selfreward.judging.pointwise import get_pointwise_rubric, render_pointwise
from selfreward.judging.pointwise_scores import parse_pointwise
from selfreward.judging.self_instruct import split_creation
from selfreward.records import Message, ModelRef

SEED_MODEL = ModelRef(name="scripted", iteration=0, fingerprint="seed")
NEXT_MODEL = ModelRef(name="scripted", iteration=1, fingerprint="next")
RUBRIC = get_pointwise_rubric("pointwise_additive")
TASK = (Message(role="user", content="Why?"),)


def asked(purpose: str, messages: tuple[Message, ...] = TASK, **sampling: Any) -> GenerationRequest:
    values: dict[str, Any] = {"temperature": 0.7, "max_tokens": 64, "seed": 0} | sampling
    return GenerationRequest(
        id=purpose, purpose=purpose, messages=messages, sampling=Sampling(**values)
    )


def written(request: GenerationRequest, **config: Any) -> str:
    return draw(request, 0, SEED_MODEL, ScriptedConfig(**config)).text


def test_created_instructions_pass_the_filters_and_differ() -> None:
    texts = {written(asked("create", seed=i)) for i in range(50)}
    assert len(texts) == 50
    for text in texts:
        assert split_creation(text, "stop", "split").texts == (text,)
        assert filter_reason(text, SelfInstructConfig()) is None


def rated(quality: int, **sampling: Any) -> GenerationRequest:
    messages = render_pointwise(RUBRIC, TASK, f"(quality {quality}) Because.")
    return asked("rate", messages, regex=RUBRIC.guided_regex, **sampling)


@pytest.mark.parametrize(("quality", "score"), [(0, 0), (3, 2), (6, 3), (9, 5)])
def test_a_skilled_rater_reads_the_mark_on_the_rubrics_scale(quality: int, score: int) -> None:
    # 5 / 9 of the mark, rounded.
    text = written(rated(quality), skill=1.0)
    verdict = parse_pointwise(RUBRIC, text, "stop")
    assert verdict.score == score
    assert re.fullmatch(rated(quality).sampling.regex or "", text)


def test_ratings_fail_and_carry_probabilities_as_asked() -> None:
    assert "Score" not in written(rated(9), unparsed_share=1.0)
    labels = ("0", "1", "2", "3", "4", "5")
    (place,) = draw(rated(9, logps_of=labels), 0, SEED_MODEL, ScriptedConfig(skill=1.0)).logps
    logps = place.logps
    assert sum(math.exp(p) for p in logps.values()) == pytest.approx(1.0)
    assert max(logps, key=lambda label: logps[label]) == "5"


def test_a_likelihood_grows_with_quality_and_with_training() -> None:
    task = asked("score")
    good, bad = "(quality 9) one two", "(quality 1) one two"
    better, worse = (scored(task, text, SEED_MODEL).score for text in (good, bad))
    # Four words each: 4 * (2 - 0.9) and 4 * (2 - 0.1).
    assert (better, worse) == (pytest.approx(-4.4), pytest.approx(-7.6))
    trained = scored(task, good, NEXT_MODEL).score
    assert trained is not None and better is not None and trained > better


@pytest.mark.parametrize("wants_reason", [False, True])
def test_the_best_of_four_is_named_as_often_as_the_skill_says(wants_reason: bool) -> None:
    rubric = best_of_rubric(wants_reason)
    marks = [f"(quality {q}) Because." for q in (3, 2, 9, 4)]
    messages = render_best_of(rubric, TASK, marks)
    guided = {"choices": best_of_choices(rubric, 4), "regex": best_of_regex(rubric, 4)}
    slots = [
        parse_best_of(
            rubric, 4, written(asked("best_of", messages, seed=i, **guided), skill=0.6), "stop"
        ).slot
        for i in range(400)
    ]
    # 0.6 with skill and a quarter of the rest: 0.7 of 400, within four standard errors.
    assert slots.count(2) == pytest.approx(280, abs=37)
    assert slots.count(None) == 0 and set(slots) == {0, 1, 2, 3}
    failed = written(asked("best_of", messages), unparsed_share=1.0)
    assert parse_best_of(rubric, 4, failed, "stop").outcome == "unparsed"
