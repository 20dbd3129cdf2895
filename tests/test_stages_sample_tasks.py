"""Samples made by rule: varied, the same for a seed, and true to what they say of themselves."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from selfreward.judging.checks import num_words, passes
from selfreward.records_custom_llm import Check
from selfreward.stages.sample_exercises import EXERCISES, library_names
from selfreward.stages.sample_instructions import INSTRUCTION_TASKS
from selfreward.stages.sample_tasks import instruction_rows, rank, ranking_rows, task_rows
from selfreward.stages.sample_words import COUNTABLE, TOPICS, number_words, plural
from selfreward.text.task_templates import check_templates, columns_of, fill

Generator = Callable[[int, int], Iterator[dict[str, Any]]]
GENERATORS: list[Generator] = [task_rows, instruction_rows, ranking_rows]


def checks_of(row: dict[str, Any]) -> list[Check]:
    return [Check(kind=c["kind"], args=tuple(c["args"])) for c in row["checks"]]


@pytest.fixture(scope="module")
def exercises() -> list[dict[str, Any]]:
    return list(task_rows(3000, 0))


@pytest.fixture(scope="module")
def instructions() -> list[dict[str, Any]]:
    return list(instruction_rows(3000, 0))


@pytest.fixture(scope="module")
def rankings() -> list[dict[str, Any]]:
    return list(ranking_rows(500, 0))


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", GENERATORS)
def test_rows_depend_on_the_seed_alone(generator: Generator) -> None:
    rows = list(generator(60, 1))
    assert list(generator(60, 1)) == rows
    # A longer sample begins with the shorter one.
    assert list(generator(90, 1))[:60] == rows
    assert list(generator(60, 2)) != rows


@pytest.mark.parametrize("generator", GENERATORS)
def test_there_are_many_rows_and_none_comes_twice(generator: Generator) -> None:
    rows = [json.dumps(row, sort_keys=True) for row in generator(400, 5)]
    assert len(set(rows)) == 400


# --- word exercises ------------------------------------------------------------------------------

WEEK = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
# What a target must be, worked out from the columns in another way than the makers do.
RULES: dict[str, Callable[[dict[str, str]], str]] = {
    "snake_to_words": lambda r: r["name"].replace("_", " "),
    "words_to_snake": lambda r: r["words"].replace(" ", "_"),
    "snake_to_camel": lambda r: r["name"][0] + r["name"].title().replace("_", "")[1:],
    "digits_to_words": lambda r: number_words(int(r["number"])),
    "words_to_digits": lambda r: str([number_words(n) for n in range(1000)].index(r["number"])),
    "upper_case": lambda r: r["phrase"].upper(),
    "lower_case": lambda r: r["phrase"].lower(),
    "last_word": lambda r: r["list"].rsplit(", ", 1)[-1],
    "count_items": lambda r: str(r["list"].count(",") + 1),
    "reverse_three": lambda r: ", ".join(r["list"].split(", ")[::-1]),
    "plural": lambda r: f"{r['phrase'].rsplit(' ', 1)[0]} {plural(r['phrase'].split()[-1])}",
    "weekday_after": lambda r: WEEK[(WEEK.index(r["day"]) + int(r["days"].split()[0])) % 7],
}


def test_every_target_is_right(exercises: list[dict[str, Any]]) -> None:
    assert set(RULES) == set(EXERCISES)
    for row in exercises[:1200]:
        assert row["target"] == RULES[row["task"]](row), row


def test_number_words_and_plurals_by_hand() -> None:
    numbers = {0: "zero", 11: "eleven", 40: "forty", 407: "four hundred seven", 900: "nine hundred"}
    assert {n: number_words(n) for n in numbers} == numbers
    assert number_words(999) == "nine hundred ninety nine"
    assert len({number_words(n) for n in range(1000)}) == 1000
    nouns = {"box": "boxes", "berry": "berries", "day": "days", "watch": "watches", "bus": "buses"}
    assert {n: plural(n) for n in nouns} == nouns


def test_no_word_of_the_plural_exercise_is_irregular() -> None:
    assert not [
        word
        for word in COUNTABLE
        if word.endswith(("f", "fe", "o", "man", "ouse")) and word != "house"
    ]


def test_a_word_belongs_to_one_topic() -> None:
    words = Counter(word for words in TOPICS.values() for word in words)
    assert [word for word, count in words.items() if count > 1] == []
    assert len(words) >= 300


def test_all_kinds_come_as_often_until_they_run_out(exercises: list[dict[str, Any]]) -> None:
    counts = Counter(row["task"] for row in exercises)
    assert set(counts) == set(EXERCISES)
    # Seven days and 30 distances are all there is.
    assert counts.pop("weekday_after") <= 210
    assert min(counts.values()) > 180
    assert len(list(task_rows(300, 0, ["weekday_after"]))) <= 210


def test_every_form_asks_with_every_column(exercises: list[dict[str, Any]]) -> None:
    for row in exercises[:24]:
        assert 4 <= len(row["templates"]) <= 6
        check_templates(row["templates"], list(row), "sample")
        for form in row["templates"]:
            assert {*columns_of([form])} == {*columns_of(row["templates"])}
            assert all(row[name] in fill(form, row) for name in columns_of([form]))


def test_half_of_the_identifiers_are_real_names(exercises: list[dict[str, Any]]) -> None:
    assert "add_argument" in library_names()
    names = [row["name"] for row in exercises if row["task"] == "snake_to_words"]
    real = sum(name in library_names() for name in names)
    assert 0.3 < real / len(names) < 0.7


# --- instructions --------------------------------------------------------------------------------


def test_every_target_follows_its_checks(instructions: list[dict[str, Any]]) -> None:
    for row in instructions:
        for check in checks_of(row):
            assert passes(check, row["target"]), (check, row["target"])


def test_instructions_have_one_to_four_constraints_of_many_kinds(
    instructions: list[dict[str, Any]],
) -> None:
    assert {row["task"] for row in instructions} == set(INSTRUCTION_TASKS)
    kinds = Counter(check.kind for row in instructions for check in checks_of(row))
    assert {
        "num_words", "num_lines", "num_bullets", "num_sentences", "is_json", "all_uppercase",
        "all_lowercase", "no_commas", "wrapped_in", "title_marks", "starts_with", "ends_with",
        "contains", "not_contains", "max_words", "one_of",
    } == set(kinds)  # fmt: skip
    assert {len(row["checks"]) for row in instructions} == {1, 2, 3, 4}


def test_targets_vary(instructions: list[dict[str, Any]]) -> None:
    written = [row["target"] for row in instructions if row["task"] != "yes_or_no"]
    assert len(set(written)) > 0.85 * len(written)
    answers = Counter(row["target"] for row in instructions if row["task"] == "yes_or_no")
    assert 0.4 < answers["Yes"] / answers.total() < 0.6


def test_the_prompt_says_what_is_checked(instructions: list[dict[str, Any]]) -> None:
    rows = [row for row in instructions if row["task"] == "write_words" and len(row["checks"]) > 1]
    for row in rows[:50]:
        for form in row["templates"]:
            prompt = fill(form, row)
            assert row["topic"] in prompt
            for check in checks_of(row)[1:]:
                for arg in check.args:
                    assert arg in prompt or check.kind == "wrapped_in"


def test_only_the_tasks_that_are_wanted_come() -> None:
    assert {row["task"] for row in instruction_rows(20, 0, ["write_json"])} == {"write_json"}
    assert list(instruction_rows(20, 0, ["plural"])) == []


# --- rankings ------------------------------------------------------------------------------------


def test_ranks_by_hand() -> None:
    three = (Check(kind="num_words", args=("3",)), Check(kind="all_lowercase"))
    answers = (
        "rain, rain, snow",  # follows both, says a noun again
        "rain, snow, ice",
        "snow, ice, fog",  # as good as the one before
        "Rain, snow",  # breaks both
        "rain, snow, ice, sun",  # breaks one
        "rain, snow",  # breaks one as well, and is shorter
    )
    assert rank(answers, three) == (2, 1, 1, 5, 4, 3)


def test_ranks_agree_with_the_checks(rankings: list[dict[str, Any]]) -> None:
    for row in rankings:
        checks = checks_of(row)
        broken = [sum(not passes(c, text) for c in checks) for text in row["responses"]]
        best_first = sorted(zip(row["ranks"], broken, strict=True))
        assert [b for _, b in best_first] == sorted(broken)
        # What is equal in all that the rule looks at ties, nothing else does.
        for (rank_a, text_a), (rank_b, text_b) in pairwise(
            sorted(zip(row["ranks"], row["responses"], strict=True))
        ):
            if rank_a == rank_b:
                assert num_words(text_a) == num_words(text_b)


def test_a_ranking_has_three_or_four_answers_that_differ(rankings: list[dict[str, Any]]) -> None:
    for row in rankings:
        assert len(set(row["responses"])) == len(row["responses"]) == len(row["ranks"])
        assert row["responses"] == [text.strip() for text in row["responses"]]
        # Ranks are 1 to n without holes, and not all one.
        assert set(row["ranks"]) == set(range(1, max(row["ranks"]) + 1))
        assert max(row["ranks"]) > 1
        assert [m["role"] for m in row["messages"]] == ["user"]
    assert {len(row["ranks"]) for row in rankings} == {3, 4}
    tied = [row for row in rankings if len(set(row["ranks"])) < len(row["ranks"])]
    assert 0.1 < len(tied) / len(rankings) < 0.9
    places = Counter(row["ranks"].index(1) for row in rankings)
    assert len(places) >= 3, "the best answer has no fixed place"
