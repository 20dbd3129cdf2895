import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.judging.answers import is_checkable, matches_reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("42", "42"),
        ("She has 3 + 4 = 7 apples.", "7"),
        ("48 / 2 = 24 in May, so 48 + 24 = 72.\n#### 72", "72"),
        # A worked solution as the reference.
        ("The answer is 72.", "48 + 24 = 72\n#### 72"),
        ("#### 1,234", "1234"),
        ("The total is $1,234.00 per year", "1234"),
        ("It costs $18", "18 dollars"),
        ("18 dollars.", "$18"),
        ("So the answer is 18 dollars for 3 weeks.", "18"),
        ("The answer is: 3 + 4 = 7.", "7"),
        ("Final answer: **12**", "12"),
        ("The final answer is\n\n12", "12"),
        (r"Thus \boxed{-5} holds for x = 3", "-5"),
        (r"\(\frac{1}{2}\)", "0.5"),
        ("0.5", "1/2"),
        ("1/2", "0.5"),
        ("It is 2 1/2 cups", "2.5"),
        ("\u00bd", "0.5"),
        ("about 50%", "50%"),
        ("about 50%", "50"),
        ("about 50%", "0.5"),
        ("0.5", "50%"),
        ("0.33333", "1/3"),
        ("\u22127", "-7"),
        ("-$7", "-7"),
        ("$-7", "-7"),
        ("It weighs 1.5e3 grams", "1500"),
        # The last statement counts.
        ("The answer is 5. Wait, no. The answer is 6.", "6"),
        ("- 5 apples", "5"),
        ("Paris", "Paris"),
        ("The capital of France is Paris.", "paris"),
        ("The answer is Paris, the capital of France.", "Paris"),
        ("The answer is (B).", "B"),
        ("Answer: B) Paris", "B) Paris"),
        ("Reasoning first.\nSo it is B", "B"),
        ("It is the Pacific Ocean!", "The Pacific Ocean"),
        ("**True**", "true"),
    ],
)
def test_right_answers_match(text: str, reference: str) -> None:
    assert is_checkable(reference)
    assert matches_reference(text, reference)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("", "42"),
        ("no numbers here", "42"),
        ("142", "42"),
        ("42 is wrong, it must be 43", "42"),
        ("The answer is 5. Wait, no. The answer is 6.", "5"),
        ("#### 71", "72"),
        # The stated answer counts, not a number after it.
        ("The answer is 41. I was asked in 42 words.", "42"),
        ("100001", "100000"),
        ("-7", "7"),
        ("5%", "0.5"),
        ("3.14", "3.1416"),
        ("7" * 5000, "7"),
        ("", "Paris"),
        ("The answer is Lyon. It is not Paris", "Paris"),
        ("It is certainly not Paris.", "Paris"),
        ("Paris is not the capital", "Paris"),
        ("The answer is B.", "A"),
        ("seven of hearts", "7 of clubs"),
        ("7 of hearts", "7 of clubs"),
        ("Parisian", "Paris"),
        ("anything", ""),
    ],
)
def test_wrong_answers_do_not_match(text: str, reference: str) -> None:
    assert not matches_reference(text, reference)


def test_what_can_be_checked() -> None:
    assert is_checkable("42") and is_checkable("Paris") and is_checkable("A")
    assert is_checkable("a long solution " * 30 + "\n#### 42")
    assert not is_checkable(None)
    assert not is_checkable("  ") and not is_checkable("...")
    assert not is_checkable("one two three four five six seven eight nine ten eleven twelve more")


@given(st.text(), st.text())
def test_any_text_can_be_checked(text: str, reference: str) -> None:
    matches_reference(text, reference)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", "It is {}.", "#### {:,}"]))
def test_a_whole_number_matches_itself_and_not_its_successor(number: int, form: str) -> None:
    assert matches_reference(form.format(number), str(number))
    assert not matches_reference(form.format(number), str(number + 1))
