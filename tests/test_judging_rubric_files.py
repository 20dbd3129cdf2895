"""Rubrics of the user's own: both forms, every mistake in one line, and what a recipe keeps."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from selfreward.config_loading import parse_config
from selfreward.errors import ConfigError
from selfreward.evaluation.judges import parse_judge
from selfreward.judging.pointwise import (
    POINTWISE_RUBRICS,
    additive_rubric,
    get_pointwise_rubric,
    render_pointwise,
    score_labels,
)
from selfreward.judging.pointwise_scores import parse_pointwise
from selfreward.judging.rubric_files import (
    parse_rubric,
    rubric_from_text,
    rubric_of_recipe,
    rubric_recipe,
)
from selfreward.loops.evaluate_request import EvaluateRequest, check, default_work, settings_of
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.records import Message
from selfreward.storage import files

STATEMENTS: dict[str, Any] = {"id": "mine", "statements": ["It is kind.", "It is {short}."]}
TEMPLATE = (
    "<t-{tag}>{task}</t-{tag}>\n<r-{tag}>{response}</r-{tag}>\n"
    'Reply {{"like this"}}, then the last line Score: <1 to 7>'
)
WHOLE: dict[str, Any] = {
    "id": "one_to_seven",
    "system": "You score replies.",
    "template": TEMPLATE,
    "scale": [1, 7],
}
TASK = (Message(role="user", content="Say hello."),)


def refusal(data: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_rubric(data, "mine.yaml")
    line = str(caught.value)
    assert line.startswith("mine.yaml: ") and "\n" not in line
    return line


def test_statements_make_an_additive_rubric() -> None:
    made = parse_rubric(STATEMENTS, "mine.yaml")
    assert made == additive_rubric("mine", STATEMENTS["statements"])
    assert (made.scale, made.wants_reason) == ((0, 2), True)
    short = parse_rubric(STATEMENTS | {"wants_reason": False}, "mine.yaml")
    assert short == additive_rubric("mine", STATEMENTS["statements"], wants_reason=False)


def test_a_statement_wrapped_over_lines_is_one_line_of_the_prompt() -> None:
    text = "id: mine\nstatements:\n  - It names\n    the product.\n  - |\n    It is\n    kind.\n"
    prompt = render_pointwise(rubric_from_text(text, "mine.yaml"), TASK, "Hello.")[1].content
    assert "\n1. It names the product.\n2. It is kind.\n" in prompt


def test_a_whole_template() -> None:
    made = parse_rubric(WHOLE, "mine.yaml")
    assert (made.scale, made.wants_reason, made.takes_reference) == ((1, 7), True, False)
    system, user = render_pointwise(made, TASK, "Hello {there}.")
    assert system.content == "You score replies."
    tag = re.match(r"<t-([0-9a-f]{8})>", user.content)
    assert tag is not None
    assert user.content == (
        f"<t-{tag[1]}>Say hello.</t-{tag[1]}>\n<r-{tag[1]}>Hello {{there}}.</r-{tag[1]}>\n"
        'Reply {"like this"}, then the last line Score: <1 to 7>'
    )
    assert parse_pointwise(made, "It is fine.\nScore: 6", "stop").score == 6
    assert parse_pointwise(made, "It is fine.\nScore: 8", "stop").score is None
    with pytest.raises(ConfigError, match="takes no reference"):
        render_pointwise(made, TASK, "Hello.", reference="Hi!")


@pytest.mark.parametrize(("low", "high"), [(1, 7), (0, 10), (1, 100), (95, 100)])
@pytest.mark.parametrize("wants_reason", [True, False])
def test_the_guide_that_is_made_lets_every_score_through_and_no_other(
    low: int, high: int, wants_reason: bool
) -> None:
    made = parse_rubric(WHOLE | {"scale": [low, high], "wants_reason": wants_reason}, "mine.yaml")
    assert made.guided_regex is not None
    reason = "It answers the question well.\n" if wants_reason else ""
    allowed = [n for n in range(-1, 120) if re.fullmatch(made.guided_regex, f"{reason}Score: {n}")]
    assert allowed == list(range(low, high + 1))
    assert [str(n) for n in allowed] == list(score_labels(made))
    assert all(parse_pointwise(made, f"{reason}Score: {n}", "stop").score == n for n in allowed)


def test_a_guide_of_ones_own_and_none() -> None:
    own = parse_rubric(WHOLE | {"guided_regex": r"[a-z ]+\nScore: [1-7]"}, "mine.yaml")
    assert own.guided_regex == r"[a-z ]+\nScore: [1-7]"
    assert parse_rubric(WHOLE | {"guided_regex": None}, "mine.yaml").guided_regex is None


TAGGED = WHOLE | {
    "template": "<t-{tag}>{task}</t-{tag}> <r-{tag}>{response}</r-{tag}> End in <score>n</score>.",
    "score_pattern": "<score> ?([0-9.]+)</score>",
    "guided_regex": "[^\\n]{5,80}<score>[1-7]</score>",
}


@pytest.mark.parametrize(
    ("text", "finish_reason", "outcome", "score"),
    [
        ("Kind and short. <score>6</score>", "stop", "score", 6.0),
        ("<score>6.5</score> as said", "stop", "score", 6.5),
        # The last line decides between different ones, as it does of `Score:`.
        ("Not <score>2</score>.\nRather <score> 5</score>", "stop", "score", 5.0),
        ("<score>8</score>", "stop", "unparsed", None),  # off the scale
        ("<score>1.2.3</score>", "stop", "unparsed", None),
        ("Score: 6", "stop", "unparsed", None),  # the form of other rubrics
        ("6", "stop", "unparsed", None),
        ("Kind. <score>6</sco", "length", "truncated", None),
    ],
)
def test_a_score_in_a_form_of_ones_own(
    text: str, finish_reason: str, outcome: str, score: float | None
) -> None:
    rubric = parse_rubric(TAGGED, "mine.yaml")
    verdict = parse_pointwise(rubric, text, finish_reason)
    assert (verdict.outcome.value, verdict.score) == (outcome, score)


def test_an_open_form_reads_ranges_as_the_shipped_one_does() -> None:
    rubric = parse_rubric(TAGGED | {"score_pattern": "Grade ([0-9]+)"}, "mine.yaml")
    assert parse_pointwise(rubric, "Grade 4", "stop").score == 4
    assert parse_pointwise(rubric, "Grade 4-5", "stop").score is None
    assert parse_pointwise(rubric, "Grade 4/10", "stop").score is None
    assert rubric_recipe(rubric)["score_pattern"] == "Grade ([0-9]+)"  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"score_pattern": "<score>[0-9]</score>"}, "a regular expression with one group"),
        ({"score_pattern": "(a)(b)"}, "a regular expression with one group"),
        ({"score_pattern": 7}, "a regular expression with one group"),
        ({"score_pattern": "("}, "score_pattern does not compile"),
        ({"guided_regex": ...}, "say in guided_regex how a guided completion ends in one"),
    ],
)
def test_mistakes_in_a_form_of_ones_own(change: dict[str, Any], told: str) -> None:
    assert told in refusal({k: v for k, v in (TAGGED | change).items() if v is not ...})


def test_a_template_with_a_reference_takes_one() -> None:
    with_one = WHOLE | {"template": "{reference}" + TEMPLATE}
    made = parse_rubric(with_one, "mine.yaml")
    assert made.takes_reference
    assert made == parse_rubric(with_one | {"takes_reference": True}, "mine.yaml")
    assert "Hi!" in render_pointwise(made, TASK, "Hello.", reference="Hi!")[1].content
    assert "takes_reference is false, but the template has a {reference}" in refusal(
        with_one | {"takes_reference": False}
    )
    assert "takes_reference is true, but the template has no {reference}" in refusal(
        WHOLE | {"takes_reference": True}
    )


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in WHOLE.items() if k != key}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "a rubric is a mapping of keys, not NoneType; write {id, statements"),
        (["id"], "not list"),
        # Keys.
        (STATEMENTS | {"want_reason": True}, "unknown key want_reason; did you mean wants_reason?"),
        (WHOLE | {"sytem": "x"}, "unknown key sytem; did you mean system?"),
        ({"id": "mine", "statments": ["x"]}, "unknown key statments; did you mean statements?"),
        (WHOLE | {5: "x"}, "unknown key 5; did you mean"),
        (STATEMENTS | {"scale": [1, 5]}, "scale does not go with statements"),
        (WHOLE | {"statements": ["x"]}, "system does not go with statements"),
        ({"statements": ["x"]}, "the rubric has no id"),
        ({"id": "mine"}, "the rubric has no system (or `statements` alone)"),
        (without("scale"), "the rubric has no scale"),
        # Values.
        (STATEMENTS | {"id": 5}, "id=5: an id is a word"),
        (STATEMENTS | {"id": "my rubric"}, "id='my rubric': an id is a word"),
        (STATEMENTS | {"id": "pointwise_additive"}, "is a shipped rubric's; choose another"),
        (STATEMENTS | {"wants_reason": "no"}, "wants_reason='no': it is true or false"),
        (STATEMENTS | {"statements": []}, "a list of 1 to 10 texts about the response, not 0 of"),
        (STATEMENTS | {"statements": ["x"] * 11}, "not 11 of them"),
        (STATEMENTS | {"statements": "It is kind."}, "not str"),
        (STATEMENTS | {"statements": ["x", {"a": "b"}]}, "statement 2 is no text, or empty; quote"),
        (STATEMENTS | {"statements": [" "]}, "statement 1 is no text, or empty"),
        (WHOLE | {"system": ""}, "system is no text, or empty"),
        (WHOLE | {"template": ["x"]}, "template is no text, or empty"),
        # Templates.
        (WHOLE | {"template": "{task} {tag} Score: 1"}, "template: there is no {response}"),
        (
            WHOLE | {"template": "{task} {response} Score: 1"},
            "there is no {tag}; without the tag in its delimiters a response could close",
        ),
        (WHOLE | {"template": TEMPLATE + "{respons}"}, "{respons} is no field; did you mean {resp"),
        (WHOLE | {"template": TEMPLATE + "{}"}, "{} is no field"),
        (WHOLE | {"template": TEMPLATE + "{task!r}"}, "{task!r} is no field; did you mean {task}"),
        (WHOLE | {"template": TEMPLATE + "{tag:>9}"}, "{tag:>9} is no field"),
        (WHOLE | {"template": TEMPLATE + "{task.x}"}, "{task.x} is no field"),
        (WHOLE | {"template": TEMPLATE + "{"}, "double a brace that is text: {{ and }}"),
        (WHOLE | {"template": TEMPLATE + "}"}, "double a brace that is text: {{ and }}"),
        (
            WHOLE | {"template": TEMPLATE.replace("Score:", "Grade:")},
            "neither system nor template asks for a line `Score: <number>`",
        ),
        # Scales and guides.
        *(
            (WHOLE | {"scale": scale}, f"scale={scale!r}: it is [lowest, highest], two whole")
            for scale in (
                *([5, 1], [3, 3], [1], [1, 3, 5], [-2, 2], [1, 101], [0.5, 5], [1, float("inf")]),
                *([float("nan"), 5], [True, 5], ["1", "5"], "1-5", 5, None),
            )
        ),
        (WHOLE | {"guided_regex": "(["}, "guided_regex does not compile: "),
        (WHOLE | {"guided_regex": 5}, "guided_regex=5: it is a regular expression or null"),
    ],
)
def test_mistakes(data: object, told: str) -> None:
    assert told in refusal(data)


def test_yaml_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"^mine.yaml, line 2: not readable as YAML"):
        rubric_from_text("id: mine\nstatements: [a", "mine.yaml")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        rubric_from_text("id: 2024-13-45\n", "mine.yaml")


def test_what_is_named_is_loaded(tmp_path: Path) -> None:
    assert load_pointwise_rubric("pointwise_choice") is get_pointwise_rubric("pointwise_choice")
    path = tmp_path / "mine.yml"
    path.write_text("\ufeff" + json.dumps(WHOLE), encoding="utf-8")
    assert load_pointwise_rubric(str(path)) == parse_rubric(WHOLE, "x")
    files.write_bytes("memory://rubrics/mine.yaml", json.dumps(STATEMENTS).encode())
    assert load_pointwise_rubric("memory://rubrics/mine.yaml") == parse_rubric(STATEMENTS, "x")
    with pytest.raises(ConfigError, match=f"^no rubric file at {tmp_path}/none.yaml; set rating"):
        load_pointwise_rubric(f"{tmp_path}/none.yaml")
    with pytest.raises(ConfigError, match="did you mean 'pointwise_choice'"):
        load_pointwise_rubric("pointwise_choise")
    path.write_bytes(b"id: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_pointwise_rubric(str(path))


def test_a_recipe_holds_the_id_of_a_shipped_rubric_and_the_content_of_another() -> None:
    assert {rubric_recipe(rubric) for rubric in POINTWISE_RUBRICS.values() if rubric.id} == set(
        POINTWISE_RUBRICS
    )
    made = parse_rubric(WHOLE, "mine.yaml")
    kept = rubric_recipe(made)
    assert isinstance(kept, dict)
    assert rubric_of_recipe(json.loads(json.dumps(kept))) == made
    assert rubric_of_recipe("pointwise_choice").scale == (1, 5)
    with pytest.raises(ConfigError, match="stored by another version"):
        rubric_of_recipe({"id": "one_to_seven", "scale": [1, 7]})
    assert (kept["template"], kept["scale"]) == (TEMPLATE, [1, 7])
    assert json.loads(json.dumps(kept)) == kept
    assert pickle.loads(pickle.dumps(made)) == made


def settings(request: EvaluateRequest) -> tuple[dict[str, Any], str]:
    spec = parse_judge(request.judge)
    config = parse_config({}, request.overrides)
    rubric = load_pointwise_rubric(config.rating.rubric)
    return (
        settings_of(spec, config, request, rubric)["rating"],
        default_work(spec, config, request, rubric),
    )


def asked(rubric: str) -> EvaluateRequest:
    return EvaluateRequest(
        judge="http://localhost:1", data=(), overrides=(f"rating.rubric={rubric}",)
    )


def test_an_evaluation_knows_a_rubric_by_its_content(tmp_path: Path) -> None:
    shipped, _ = settings(asked("pointwise_choice"))
    assert shipped["rubric"] == "pointwise_choice"
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(json.dumps(STATEMENTS))
    second.write_text(json.dumps(STATEMENTS))
    rating, work = settings(asked(str(first)))
    assert rating["rubric"] == rubric_recipe(parse_rubric(STATEMENTS, "x"))
    assert settings(asked(str(second))) == (rating, work), "a copy elsewhere is the same rubric"
    first.write_text(json.dumps(STATEMENTS | {"statements": ["It is kind.", "It is brief."]}))
    edited, elsewhere = settings(asked(str(first)))
    assert edited["rubric"] != rating["rubric"] and elsewhere != work
    first.write_text("id: mine")
    with pytest.raises(ConfigError, match="the rubric has no system"):
        check(asked(str(first)))
