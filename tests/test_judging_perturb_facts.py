"""What each kind does to numbers, names, claims and code, with every outcome listed or checked."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.judging.answers import matches_reference
from selfreward.judging.perturbations.base import Severity
from selfreward.judging.perturbations.numbers import altered_number
from tests.test_judging_perturb_text import outcomes


@pytest.mark.parametrize(
    ("token", "severity", "pattern", "low", "high"),
    [
        # 3% to 15% of 1250.00 is 37.50 to 187.50.
        ("1,250.00", 1, r"1,\d{3}\.\d\d", 1062.5, 1437.5),
        ("200", 2, r"\d{2,3}", 80, 320),
        ("200", 3, r"\d{2,4}", 200 / 12 - 1, 2400),
        ("0.05", 2, r"0\.\d\d", 0.02, 0.08),
        ("007", 1, r"00\d", 6, 8),
        ("7", 1, r"\d", 6, 8),
        ("1969", 1, r"19\d\d", 1960, 1978),
        ("1969", 2, r"\d{4}", 1909, 2029),
        ("0", 2, r"\d", 1, 9),
        ("1", 3, r"\d{1,2}", 3, 12),
    ],
)
def test_altered_numbers_keep_their_format(
    token: str, severity: Severity, pattern: str, low: float, high: float
) -> None:
    for seed in range(100):
        new = altered_number(token, random.Random(seed), severity)
        assert re.fullmatch(pattern, new), new
        assert low <= float(new.replace(",", "")) <= high
        assert float(new.replace(",", "")) != float(token.replace(",", ""))


def test_percentages_stay_possible_and_long_numbers_change_a_digit() -> None:
    for seed in range(100):
        assert int(altered_number("90", random.Random(seed), 3, is_percent=True)) <= 100
    long = "3" * 40
    new = altered_number(long, random.Random(1), 1)
    assert sum(a != b for a, b in zip(long, new, strict=True)) == 1


@given(
    value=st.decimals(0, 10**9, places=2).map(str) | st.integers(0, 10**20).map(str),
    severity=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 999),
)
def test_altered_numbers_differ(value: str, severity: Severity, seed: int) -> None:
    new = altered_number(value, random.Random(seed), severity)
    assert float(new) != float(value) or new != value
    assert len(new.partition(".")[2]) == len(value.partition(".")[2])


def test_alter_number_in_dates_times_and_ordinals() -> None:
    assert outcomes("alter_number", "On 2021-03-04.", 2) <= {
        f"On 2021-{month:02d}-04." for month in range(1, 13)
    }
    assert outcomes("alter_number", "At 7:30 sharp", 3) <= {
        f"At {hour}:30 sharp" for hour in range(1, 13)
    }
    assert outcomes("alter_number", "the 2nd", 1) == {"the 1st", "the 3rd"}
    # 3% to 15% of 11 round to 1 or 2.
    assert outcomes("alter_number", "the 11th", 1) == {f"the {n}th" for n in (9, 10, 12, 13)}


def test_alter_number_leaves_list_numbers_words_and_code() -> None:
    text = "1. Step 2: drink H2O\n2. Run v3\n```\nx = 5\n```"
    assert outcomes("alter_number", text, 3) == {None}
    assert outcomes("alter_number", "1. It is 9", 1) == {"1. It is 8", "1. It is 10"}


def test_wrong_step_breaks_arithmetic_that_holds() -> None:
    text = "First 48 / 2 = 24 clips. Then 48 + 24 = 72 clips. So 72."
    # Subtle: the first of two equations, one to four off (3% to 15% of 24 are 1 to 4).
    assert outcomes("wrong_step", text, 1) <= {
        text.replace("2 = 24", f"2 = {n}") for n in range(20, 29)
    }
    # Plain: the wrong result is carried on.
    for made in outcomes("wrong_step", text, 2):
        wrong = re.search(r"2 = (\d+) clips", made or "")
        assert wrong is not None
        assert wrong[1] != "24"
        assert made == text.replace("24", wrong[1])
    for made in outcomes("wrong_step", text, 3):
        assert not re.search(r"2 = 24 |24 = 72 ", made or "")


@pytest.mark.parametrize(
    "text",
    [
        "We see that 2 + 2 = 5 holds",  # never true
        "2 + 3 + 4 = 9",  # read as 3 + 4 = 9, which is no equation that holds
        "x = 5",
        "1 / 0 = 0",
    ],
)
def test_wrong_step_leaves_what_it_cannot_check(text: str) -> None:
    assert outcomes("wrong_step", text) == {None}


@pytest.mark.parametrize(
    "text",
    [
        "1 / 3 = 0.33",
        "$3 \u00d7 $4 = $12",
        "2,000 - 1,500 = 500",
        r"6 \times 7 = 42",
        "0.5 * 4 = 2",
    ],
)
def test_wrong_step_reads_decimals_currencies_and_signs(text: str) -> None:
    before, _, result = text.rpartition("=")
    for made in outcomes("wrong_step", text):
        assert made is not None
        assert made.startswith(before)
        assert made.rpartition("=")[2] != result


def test_wrong_final_answer_contradicts_the_reasoning() -> None:
    text = "3 + 4 = 7, so there are 7.\n#### 7"
    for made in outcomes("wrong_final_answer", text, 2):
        assert made is not None
        assert made.startswith("3 + 4 = 7, so there are 7.\n#### ")
        assert not matches_reference(made, "7")
    # Subtle: 6 or 8, carried through the second half ("so there are 7." ends behind it).
    subtle = outcomes("wrong_final_answer", text, 1)
    assert subtle == {f"3 + 4 = 7, so there are {n}.\n#### {n}" for n in (6, 8)}


def test_wrong_final_answer_of_other_forms() -> None:
    assert outcomes("wrong_final_answer", "Thus the answer is (B).") == {
        f"Thus the answer is ({letter})." for letter in "ACD"
    }
    assert outcomes("wrong_final_answer", "The answer is: Yes.") == {"The answer is: No."}
    boxed = outcomes("wrong_final_answer", r"So \boxed{8}.", 1)
    assert boxed == {r"So \boxed{7}.", r"So \boxed{9}."}
    assert outcomes("wrong_final_answer", "I count 3 cats and 8 dogs.", 1) == {
        "I count 3 cats and 7 dogs.",
        "I count 3 cats and 9 dogs.",
    }
    assert outcomes("wrong_final_answer", "There is none.") == {None}


def test_wrong_final_answer_needs_a_right_response_where_the_answer_is_known() -> None:
    assert outcomes("wrong_final_answer", "The answer is 8.", 1, reference="8") == {
        "The answer is 7.",
        "The answer is 9.",
    }
    assert outcomes("wrong_final_answer", "The answer is 8.", 1, reference="9") == {None}


def test_alter_entity() -> None:
    text = "We met in Paris on Monday. The train to Rome left Paris late."
    # One mention: of a city by another name of the response, of a weekday by a weekday.
    subtle = outcomes("alter_entity", text, 1, num_seeds=200)
    assert text.replace("to Rome", "to Paris") in subtle
    assert text.replace("in Paris", "in Rome") in subtle
    assert text.replace("Monday", "Friday") in subtle
    # Both change places throughout.
    assert "We met in Rome on Monday. The train to Paris left Rome late." in outcomes(
        "alter_entity", text, 2
    )
    others = ("She was born in Lima and went to Oslo.",)
    gross = outcomes("alter_entity", "He lives in Bern now.", 3, others=others)
    assert gross == {"He lives in Lima now.", "He lives in Oslo now."}
    assert outcomes("alter_entity", "Nothing here has a name. It never had.") == {None}
    assert outcomes("alter_entity", "He lives in Bern now.") == {None}


def test_negate_turns_sentences_round() -> None:
    assert outcomes("negate", "Copper is a metal.") == {"Copper is not a metal."}
    assert outcomes("negate", "Copper is not a metal.") == {"Copper is a metal."}
    assert outcomes("negate", "It doesn't rust.") == {"It does rust."}
    assert outcomes("negate", "ALWAYS stir before serving.") == {
        "NEVER stir before serving.",
        "ALWAYS stir after serving.",
    }
    assert outcomes("negate", "Yes, whales breathe air.") == {"No, whales breathe air."}
    assert outcomes("negate", "Is it a metal?") == {None}
    assert outcomes("negate", "We met in May.") == {None}
    assert outcomes("negate", "Cats chase mice.") == {None}
    assert outcomes("negate", "Das ist immer so.") == {"Das ist nie so."}


def test_negate_by_severity_and_length() -> None:
    text = "Tin is soft. Zinc is hard. Lead is grey. Iron is black. Gold is rare."
    amounts: tuple[tuple[Severity, int], ...] = ((1, 1), (2, 2), (3, 4))
    for severity, wanted in amounts:
        for made in outcomes("negate", text, severity):
            assert made is not None
            # 30% and 70% of five sentences are 2 and 4 (3.5 rounds to the even 4).
            assert sum(a not in made for a in text.replace(". ", ".|").split("|")) == wanted
    text = "Tin is soft. Iron is not white. Ice is hot."
    shorter = {text.replace("not ", "")}
    longer = {text.replace("is soft", "is not soft"), text.replace("is hot", "is not hot")}
    longer.add(text.replace("hot", "cold"))
    assert outcomes("negate", text, 1, longer=False) == shorter
    assert outcomes("negate", text, 1, longer=True) == longer
    assert outcomes("negate", text, 1) == shorter | longer


def test_swap_terms() -> None:
    text = "Cats will chase small mice. Dogs will bury large bones."
    for made in outcomes("swap_terms", text, 1, num_seeds=200):
        assert made is not None
        assert len(made) == len(text)

        changed = sum(a != b for a, b in zip(text.split(), made.split(), strict=True))
        assert changed == 2
    assert "Dogs will chase small mice. Cats will bury large bones." in outcomes(
        "swap_terms", text, 1, num_seeds=200
    )
    # One sentence, and entries of a list, may name things in any order.
    assert outcomes("swap_terms", "Use apples, pears and plums for this cake.") == {None}
    assert outcomes("swap_terms", "- apples\n- pears\n- plums") == {None}


PYTHON = "```python\ndef f(n):\n    if n <= 1:\n        return 1\n    return n\n```"


def test_mutate_code_changes_one_place() -> None:
    made = outcomes("mutate_code", PYTHON, 1, num_seeds=300)
    assert {
        PYTHON.replace("n <= 1", "n < 1"),  # operator
        PYTHON.replace("n <= 1", "n >= 1"),
        PYTHON.replace("return 1", "return 2"),  # off by one
        PYTHON.replace("n <= 1", "n <= 0"),
        PYTHON.replace("if n", "if not n"),  # condition
        PYTHON.replace("return n", "n"),  # lost return
        PYTHON.replace("return n", "return"),
        PYTHON.replace("return n", "return n_"),  # name
    } <= made
    assert PYTHON.replace("def f", "def") not in made
    for text in made:
        assert text is not None
        assert text.startswith("```python\ndef f(n):\n")
        assert text.endswith("\n```")


@pytest.mark.parametrize(
    ("line", "mutants"),
    [
        ("for (int i = 0; i < n; i++) {", ["i <= n", "i > n", "i--", "i = 1"]),
        ("while a and b:", ["a or b"]),
        ("for i in range(n):", ["range(1, n)"]),
        ("let last = xs[xs.length - 1];", ["xs.length]", "xs.length + 1"]),
        ("if (!done && ok) {", ["if (!!done", "done || ok"]),
        ("best = max(best, x);", ["min(best"]),
        ("flag = True", ["flag = False"]),
    ],
)
def test_mutate_code_in_several_languages(line: str, mutants: list[str]) -> None:
    text = f"```\n{line}\n```"
    made = {m or "" for m in outcomes("mutate_code", text, 1, num_seeds=200)}
    for mutant in mutants:
        assert any(mutant in m for m in made), (mutant, made)


def test_mutate_code_leaves_strings_comments_and_prose() -> None:
    text = 'Take 3 and 4.\n```\n# x <= 1 and y\n"""n + 1 == 2"""\nprint("a < 1 or 2")\n```\n5 < 6'
    assert outcomes("mutate_code", text, 3) == {None}


def test_mutate_code_finds_code_without_a_fence() -> None:
    text = "Use this:\nx = 1\nif x > 0:\n    print(x)\nThat is all, 3 < 4."
    made = outcomes("mutate_code", text, 1, num_seeds=200)
    assert text.replace("x > 0", "x >= 0") in made
    assert all(m is not None and m.endswith("That is all, 3 < 4.") for m in made)
    assert outcomes("mutate_code", "if you want to, x < y.\nreturn to the shop") == {None}


LINES = "```\n" + "\n".join(f"a{i} = {i}" for i in range(10)) + "\n```\nDone and explained."


def test_premature_end_code_and_stub_code() -> None:
    def lines(count: int) -> str:
        return "\n".join(["```", *LINES.split("\n")[1 : count + 1], "```", "Done and explained."])

    # 70% to 90% of ten lines.
    assert outcomes("premature_end_code", LINES, 1) == {lines(7), lines(8), lines(9)}
    assert outcomes("premature_end_code", LINES, 3) <= {lines(1), lines(2), lines(3), lines(4)}
    for made in outcomes("stub_code", LINES, 2):
        assert made is not None
        # Five of the ten lines, never the first, give way to one comment.
        assert made.startswith("```\na0 = 0\n")
        assert len(re.findall(r"^a\d = \d$", made, re.M)) == 5
        assert len(re.findall(r"^# \.\.\. ", made, re.M)) == 1
    for kind in ("premature_end_code", "stub_code", "mutate_code"):
        assert outcomes(kind, "There is no code here. None at all.") == {None}
    for made in outcomes("premature_end_code", LINES, 2, longer=True):
        assert made is not None
        assert len(made) > len(LINES)
        assert "a9" not in made
