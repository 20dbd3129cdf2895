"""Checks: each kind on answers that follow it and that do not; rates; IFEval's own columns."""

import pytest

from selfreward.errors import DataError
from selfreward.judging.checks import (
    KINDS,
    CheckedAnswer,
    check_answer,
    check_known,
    follow_rates,
    loose_variants,
    passes,
)
from selfreward.judging.ifeval import from_ifeval
from selfreward.records_custom_llm import Check


def check(kind: str, *args: str) -> Check:
    return Check(kind=kind, args=args)


# One line a kind: the check, an answer that follows it, answers that do not.
CASES: list[tuple[Check, list[str], list[str]]] = [
    (check("all_lowercase"), ["rain, 2 suns"], ["Rain", "2 + 2"]),
    (check("all_uppercase"), ["RAIN, 2 SUNS"], ["RAIn", "2 + 2"]),
    (check("num_words", "3"), ["rain, snow and", "well-known rain"], ["rain snow"]),
    (check("min_words", "2"), ["a b", "a b c"], ["a"]),
    (check("max_words", "2"), ["a b", "a"], ["a b c"]),
    # 3.14 is no end, a full stop without a word before it neither.
    (check("num_sentences", "2"), ["Pi is 3.14. Really?!", '"Stop." He left...'], ["One.", "..."]),
    (check("min_sentences", "2"), ["One. Two. Three."], ["One."]),
    (check("max_sentences", "1"), ["One", "One!"], ["One. Two."]),
    (check("min_capital_words", "2"), ["NASA and ESA"], ["Nasa and ESA"]),
    (check("max_capital_words", "1"), ["Nasa and ESA"], ["NASA and ESA"]),
    # Bold text and rules are no bullets.
    (check("num_bullets", "2"), ["So:\n- a\n  * b", "*a\n*b"], ["- a", "**a**\n- b\n---"]),
    (check("num_lines", "2"), ["a\n\nb\n"], ["a b", "a\nb\nc"]),
    (check("num_parts", "2"), ["a\n***\nb", "***\na *** b"], ["a", "a *** b *** c", "a ****** b"]),
    (
        check("paragraph_starts", "2", "2", "so"),
        ["It rains.\n\nSo, we stay."],
        ["So it rains.", "It rains.\n\nWe stay so.", "a\n\nso\n\nb"],
    ),
    (check("min_sections", "Part", "2"), ["Part 1\na\nPart 2\nb"], ["Part 1\na\nPart two"]),
    (check("min_highlights", "2"), ["*one* and **two**"], ["*one*", "** **", "* a\nb *"]),
    (check("min_placeholders", "2"), ["[name] at [city]"], ["[name] at []"]),
    (check("starts_with", "Dear"), ["dear Ana", '"Dear Ana"'], ["My dear"]),
    (check("ends_with", "the end."), ["It is The End. ", '"The end."'], ["the end"]),
    (check("contains", "sun", "rain"), ["Rain, then sunshine"], ["rain"]),
    (check("contains_any", "sun", "rain"), ["rain"], ["snow"]),
    (check("not_contains", "art", "sun"), ["start of a Sunday"], ["Art.", "no sun"]),
    (check("min_times", "a", "3"), ["A banana"], ["a cat"]),
    (check("max_times", "a", "2"), ["a cat", "no"], ["A banana"]),
    (check("no_commas"), ["a; b"], ["a, b"]),
    (check("is_json"), ['{"a": [1]}', '```json\n{"a": 1}\n```'], ["{a: 1}", "[" * 100_000]),
    (check("one_of", "yes", "no"), ["Yes.", " no "], ["yes and no", "maybe"]),
    (check("repeats_prompt", "Say hi"), ["say hi: hi"], ["hi, say hi"]),
    (check("wrapped_in", '"'), ['"hi"'], ['"hi', '""', '"']),
    (check("title_marks"), ["<<Rain>>\nIt falls."], ["<<>>", "<Rain>", "<<\nRain>>"]),
    (check("two_answers"), ["a\n******\nb"], ["a", "a ****** a", "a ****** b ****** c"]),
]


@pytest.mark.parametrize(("asked", "followed", "broken"), CASES, ids=lambda c: str(c)[:40])
def test_each_kind_tells_what_follows_it(
    asked: Check, followed: list[str], broken: list[str]
) -> None:
    check_known(asked)
    assert [passes(asked, text) for text in followed] == [True] * len(followed)
    assert [passes(asked, text) for text in broken] == [False] * len(broken)


def test_every_kind_is_tried() -> None:
    assert {asked.kind for asked, _, _ in CASES} == set(KINDS)


@pytest.mark.parametrize("asked", [c for c, _, _ in CASES], ids=lambda c: c.kind)
def test_an_empty_answer_follows_nothing(asked: Check) -> None:
    assert not passes(asked, " \n")


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (check("rhymes"), "no check is called 'rhymes'; there are all_lowercase, "),
        (check("num_words"), "check num_words takes 1 arguments, not []"),
        (check("no_commas", "x"), "check no_commas takes 0 arguments, not ['x']"),
        (check("num_words", "three"), "check num_words: 'three' is not a whole number in digits"),
        (check("num_words", "-3"), "'-3' is not a whole number"),
        (check("contains"), "check contains takes at least 1 arguments, not []"),
        (check("contains", ""), "check contains: an argument is empty"),
    ],
)
def test_a_check_that_cannot_be_is_one_line(asked: Check, part: str) -> None:
    for use in (check_known, lambda c: passes(c, "rain")):
        with pytest.raises(DataError) as caught:
            use(asked)
        assert part in str(caught.value)
        assert "\n" not in str(caught.value)


# --- rates ---------------------------------------------------------------------------------------


def test_loose_variants_leave_out_lines_and_asterisks() -> None:
    assert loose_variants("Sure!\n*rain*\nBye") == [
        "Sure!\n*rain*\nBye",
        "*rain*\nBye",
        "Sure!\n*rain*",
        "*rain*",
        "Sure!\nrain\nBye",
        "rain\nBye",
        "Sure!\nrain",
        "rain",
    ]


def test_rates_of_prompts_and_checks_by_hand() -> None:
    words = check("num_words", "2")
    lower = check("all_lowercase")
    results = [
        check_answer([words, lower], "rain snow"),  # both
        check_answer([words, lower], "Sure:\nrain snow"),  # only once its first line is gone
        check_answer([words], "rain"),  # in no variant
        check_answer([], "anything"),  # nothing was asked: not counted
    ]
    assert results[1] == CheckedAnswer(strict=(False, False), loose=(True, True))
    rates = follow_rates(results)
    assert (rates.num_prompts, rates.num_checks) == (3, 5)
    # Strict: 1 of 3 prompts, 2 of 5 checks. Loose: 2 of 3, and 4 of 5.
    assert (rates.prompt_strict, rates.check_strict) == (pytest.approx(1 / 3), 0.4)
    assert (rates.prompt_loose, rates.check_loose) == (pytest.approx(2 / 3), 0.8)


def test_no_checks_at_all_have_no_rate() -> None:
    with pytest.raises(ValueError, match="at least one answer with checks"):
        follow_rates([check_answer([], "rain")])


# --- IFEval --------------------------------------------------------------------------------------


def test_the_columns_of_ifeval_become_checks() -> None:
    row = {
        "prompt": "…",
        "instruction_id_list": [
            "punctuation:no_comma",
            "length_constraints:number_words",
            "length_constraints:number_sentences",
            "keywords:frequency",
            "startend:quotation",
        ],
        "kwargs": [
            {},
            # A table has every argument in every row, most of them null.
            {"relation": "at least", "num_words": 300, "keyword": None},
            {"relation": "less than", "num_sentences": 6},
            {"relation": "less than", "frequency": 3, "keyword": "war"},
            None,
        ],
    }
    wanted = (
        check("no_commas"),
        check("min_words", "300"),
        # Fewer than 6 are at most 5.
        check("max_sentences", "5"),
        check("max_times", "war", "2"),
        check("wrapped_in", '"'),
    )
    assert from_ifeval(row) == wanted
    assert from_ifeval({"meta": row}) == wanted


@pytest.mark.parametrize(
    ("name", "kwargs", "wanted"),
    [
        ("change_case:english_capital", {}, check("all_uppercase")),
        ("change_case:english_lowercase", {}, check("all_lowercase")),
        (
            "change_case:capital_word_frequency",
            {"capital_relation": "at least", "capital_frequency": 2},
            check("min_capital_words", "2"),
        ),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Hi"}, check("repeats_prompt", "Hi")),
        ("combination:two_responses", {}, check("two_answers")),
        (
            "detectable_content:number_placeholders",
            {"num_placeholders": 4.0},
            check("min_placeholders", "4"),
        ),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, check("contains", "P.S.")),
        (
            "detectable_format:constrained_response",
            {},
            check("contains_any", "My answer is yes.", "My answer is no.", "My answer is maybe."),
        ),
        ("detectable_format:json_format", {}, check("is_json")),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "PART", "num_sections": 3},
            check("min_sections", "PART", "3"),
        ),
        ("detectable_format:number_bullet_lists", {"num_bullets": 3}, check("num_bullets", "3")),
        (
            "detectable_format:number_highlighted_sections",
            {"num_highlights": 2},
            check("min_highlights", "2"),
        ),
        ("detectable_format:title", {}, check("title_marks")),
        ("keywords:existence", {"keywords": ["a", "b"]}, check("contains", "a", "b")),
        ("keywords:forbidden_words", {"forbidden_words": ["a"]}, check("not_contains", "a")),
        (
            "keywords:letter_frequency",
            {"let_relation": "at least", "letter": "q", "let_frequency": 2},
            check("min_times", "q", "2"),
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 4, "nth_paragraph": 1, "first_word": "so"},
            check("paragraph_starts", "4", "1", "so"),
        ),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, check("num_parts", "2")),
        ("startend:end_checker", {"end_phrase": "Bye."}, check("ends_with", "Bye.")),
    ],
)
def test_each_instruction_of_ifeval(name: str, kwargs: dict[str, object], wanted: Check) -> None:
    assert from_ifeval({"instruction_id_list": [name], "kwargs": [kwargs]}) == (wanted,)


def test_a_prompt_with_an_instruction_we_cannot_check_has_no_checks() -> None:
    names = ["punctuation:no_comma", "language:response_language"]
    row = {"instruction_id_list": names, "kwargs": [{}, {"language": "de"}]}
    assert from_ifeval(row) is None
    assert from_ifeval({"prompt": "no such columns"}) is None


@pytest.mark.parametrize(
    ("kwargs", "part"),
    [
        ([{"relation": "at least"}], "IFEval instruction length_constraints:number_words: kwargs"),
        ([{"relation": "about", "num_words": 3}], "KeyError('about')"),
        ([], "1 instructions but 0 kwargs"),
    ],
)
def test_arguments_that_ifeval_would_not_write_are_one_line(
    kwargs: list[object], part: str
) -> None:
    row = {"instruction_id_list": ["length_constraints:number_words"], "kwargs": kwargs}
    with pytest.raises(DataError) as caught:
        from_ifeval(row)
    assert part in str(caught.value)
