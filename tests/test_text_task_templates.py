"""Prompt forms: places are columns, filling, and the forms kept out of training."""

import pytest

from selfreward.errors import ConfigError
from selfreward.text.task_templates import (
    check_templates,
    columns_of,
    fill,
    form_name,
    is_unseen_form,
    num_unseen_forms,
    places,
)


def test_places_are_named_once_and_in_order() -> None:
    assert places("{en} to {lang}, {en}! {{not this}}") == ("en", "lang")
    assert columns_of(["{b}?", "{a} {b}"]) == ("b", "a")


def test_filling_keeps_the_braces_of_the_text_and_of_values() -> None:
    row = {"en": "a {cat}", "n": 3}
    assert fill(" Give {{n}}: {n} x {en} ", row) == "Give {n}: 3 x a {cat}"


@pytest.mark.parametrize("form", ["{}", "{en!r}", "{n:>3}", "{en", "en}", "a } b"])
def test_a_form_that_is_no_form_is_one_line(form: str) -> None:
    with pytest.raises(ConfigError) as caught:
        places(form)
    assert f"prompt form {form!r}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["Translate {fr}", "Translate {en.upper}", "Translate {en[0]}"])
def test_a_place_that_is_no_column_is_named(form: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_templates(["{en}?", form], ["en", "target"], "de.jsonl")
    (name,) = places(form)
    assert str(caught.value) == (
        f"prompt form {form!r}: de.jsonl has no column {name!r}; it has ['en', 'target']"
    )


def test_a_form_without_a_place_asks_the_same_of_every_row() -> None:
    with pytest.raises(ConfigError, match=r"has no \{column\} place"):
        check_templates(["Translate this."], ["en"], "de.jsonl")


def test_one_form_is_always_left_to_train_on() -> None:
    assert [num_unseen_forms(n, 2) for n in (1, 2, 3, 5)] == [0, 1, 2, 2]
    assert num_unseen_forms(5, 0) == 0


def test_unseen_forms_are_told_by_their_name() -> None:
    assert form_name("plural", 4, True) == "plural/4-unseen"
    assert is_unseen_form(form_name("plural", 4, True))
    assert not is_unseen_form(form_name("plural", 4, False))
