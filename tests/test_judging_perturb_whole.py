"""Responses that are off the instruction, and demands of the instruction that are broken."""

import json

import pytest

from selfreward.judging.perturbations.base import Severity
from tests.test_judging_perturb_text import A, B, C, D, outcomes

OWN = f"{A} {B} {C} {D}"
EGGS = "Boil the eggs for six minutes. Put them into cold water. Peel them with some care."
LETTERS = "Alpha is the first of the letters of Greece. Some more of it stands in the books there."
QUESTION = "How do I boil potatoes without breaking their skins?"


def test_other_answer_is_alike_at_severity_1_and_unlike_at_3() -> None:
    others = (EGGS, LETTERS)
    assert outcomes("other_answer", OWN, 1, others=others) == {LETTERS}
    assert outcomes("other_answer", OWN, 2, others=others) == {LETTERS, EGGS}
    assert outcomes("other_answer", OWN, 3, others=others) == {EGGS}
    assert outcomes("other_answer", OWN) == {None}
    # The same words in another order may answer the same question.
    assert outcomes("other_answer", OWN, others=(f"{D} {C} {B} {A}",)) == {None}
    for made in outcomes("other_answer", OWN, others=others, longer=True):
        assert made is not None
        assert len(made) > len(OWN)


def test_splice_other() -> None:
    # Half of four sentences, and the second half of three: the last two.
    made = outcomes("splice_other", OWN, 2, others=(EGGS,))
    assert made == {f"{A} {B} Put them into cold water. Peel them with some care."}
    assert outcomes("splice_other", OWN, 1, others=(EGGS,)) == {
        f"{A} {B} {C} Put them into cold water. Peel them with some care."
    }
    shorter = outcomes("splice_other", OWN, 1, others=(EGGS,), longer=False)
    # 129 characters: the three own sentences (100) would leave less than 30 for the other ones.
    assert shorter == {f"{A} {B} Put them into cold water. Peel them with some care."}


def test_off_topic_append() -> None:
    two = f"{EGGS}\n\n{LETTERS}"
    assert outcomes("off_topic_append", OWN, 3, others=(two,)) == {f"{OWN}\n\n{two}"}
    assert outcomes("off_topic_append", OWN, 2, others=(two,)) == {
        f"{OWN}\n\n{EGGS}",
        f"{OWN}\n\n{LETTERS}",
    }
    assert f"{OWN}\n\nPut them into cold water. Peel them with some care." in outcomes(
        "off_topic_append", OWN, 1, others=(EGGS,)
    )
    # In place of its own end: the other one gets at most half of 129 characters, which is two
    # sentences (56), and leaves 71 for the first two (68).
    assert outcomes("off_topic_append", OWN, 3, others=(EGGS,), longer=False) == {
        f"{A} {B}\n\nBoil the eggs for six minutes. Put them into cold water.",
    }


def test_refusals_are_many_and_needless() -> None:
    flat = outcomes("refuse", OWN, 3, instruction=QUESTION, num_seeds=300)
    assert None not in flat
    assert len(flat) > 60
    reasoned = outcomes("refuse", OWN, 2, instruction=QUESTION, num_seeds=300)
    assert len(reasoned) > 280
    assert all(A not in (made or "") for made in flat | reasoned)
    for made in outcomes("refuse", OWN, 1, instruction=QUESTION):
        assert made is not None
        assert made.startswith(A + " ")
    for made in outcomes("refuse", OWN * 10, 3, instruction=QUESTION, longer=True):
        assert made is not None
        assert len(made) > len(OWN * 10)


@pytest.mark.parametrize(
    "instruction", ["How do I build a bomb?", "Write hate speech.", "Which dose should I take?"]
)
def test_no_refusal_where_it_may_be_right(instruction: str) -> None:
    assert outcomes("refuse", OWN, instruction=instruction) == {None}


def test_no_refusal_against_a_refusal() -> None:
    assert outcomes("refuse", "I'm sorry, I cannot do that.", instruction=QUESTION) == {None}


def test_vague_names_the_topic_and_says_nothing() -> None:
    made = outcomes("vague", OWN, 1, instruction=QUESTION)
    # The words of five letters or more that are not common ones.
    topics = ("potatoes", "breaking", "skins")
    assert all(sum(topic in (m or "").lower() for topic in topics) == 2 for m in made)
    gross = outcomes("vague", OWN, 3, instruction=QUESTION)
    assert not any(topic in (m or "").lower() for topic in topics for m in gross)
    long = OWN * 10
    # About as long as the response; closing and last sentence may go beyond.
    for m in outcomes("vague", long, 2, instruction=QUESTION):
        assert m is not None
        assert 0.85 * len(long) <= len(m) <= 1.15 * len(long) + 120
    for m in outcomes("vague", OWN, 2, instruction="{topic} {0} }{", longer=True):
        assert m is not None
        assert len(m) > len(OWN)


def test_echo_instruction() -> None:
    assert outcomes("echo_instruction", OWN, 3, instruction=QUESTION) == {QUESTION}
    for made in outcomes("echo_instruction", OWN, 2, instruction=QUESTION):
        assert made is not None
        assert QUESTION in made
        assert A not in made
    for made in outcomes("echo_instruction", OWN, 1, instruction=QUESTION):
        assert made is not None
        assert made.endswith(A)
        assert B not in made
    # The first sentence of a short response could be the whole answer.
    for made in outcomes("echo_instruction", "42 it is.", 1, instruction=QUESTION):
        assert "42" not in (made or "")
    for made in outcomes("echo_instruction", OWN, 3, instruction=QUESTION, longer=True):
        assert made is not None
        assert len(made) > len(OWN)
    assert outcomes("echo_instruction", OWN) == {None}


def broken(
    instruction: str, text: str, severity: Severity = 1, longer: bool | None = None
) -> set[str | None]:
    return outcomes("drop_constraint", text, severity, instruction=instruction, longer=longer)


def test_a_list_of_n_gets_another_count() -> None:
    text = "Three:\n1. tea\n2. milk\n3. rum\n\nEnjoy."
    fewer = broken("Name three drinks.", text, longer=False)
    assert fewer == {
        "Three:\n1. milk\n2. rum\n\nEnjoy.",
        "Three:\n1. tea\n2. rum\n\nEnjoy.",
        "Three:\n1. tea\n2. milk\n\nEnjoy.",
    }
    assert broken("Name 3 drinks.", text, 3, longer=False) == {
        f"Three:\n1. {drink}\n\nEnjoy." for drink in ("tea", "milk", "rum")
    }
    for made in broken("Name three drinks.", text, longer=True):
        assert made is not None
        assert made.startswith("Three:\n1. tea\n2. milk\n3. rum\n4. ")
        assert made.endswith(".\n\nEnjoy.")
    # Two of at most three would still be allowed.
    for made in broken("Name at most three drinks.", text, longer=False):
        assert "\n4. " in (made or "")
    # The demand was not met in the first place.
    assert broken("Name four drinks.", text) == {None}


def test_a_number_of_sentences_gets_another() -> None:
    assert broken("Answer in two sentences.", f"{A} {B}", longer=False) == {A, B}
    for made in broken("Sum it up in one sentence.", A):
        assert made is not None
        assert made.startswith(A + " ")
        assert made.count(".") == 2
    for made in broken("At most two sentences.", f"{A} {B}"):
        assert made is not None
        assert made.startswith(f"{A} {B} ")
    assert broken("Answer in three sentences.", f"{A} {B}") == {None}


def test_word_limits_are_overrun_and_minimums_missed() -> None:
    text = "one two three four five six seven eight nine ten"
    for made in broken("Use at most 10 words.", text, 2):
        assert len((made or "").split()) > 15
    # 85% of ten words.
    assert broken("Use at least ten words.", text) == {"one two three four five six seven eight"}
    for made in broken("Write about 10 words.", text, 3, longer=False):
        assert made == "one"
    for made in broken("Write about 10 words.", text, 3, longer=True):
        assert len((made or "").split()) > 31
    # Beyond the limit already.
    assert broken("Use no more than 9 words.", text) == {None}


def test_json_breaks() -> None:
    text = '{"name": "Ada", "born": 1815}'
    for severity in (1, 2):
        for made in broken("Reply in JSON.", text, severity):
            assert made is not None
            with pytest.raises(ValueError, match=r".+"):
                json.loads(made)
    assert broken("Reply in JSON.", text, 3) == {"name: Ada, born: 1815"}
    assert broken("Reply in JSON.", "name: Ada") == {None}
    assert broken("Reply in XML.", text) == {None}


def test_lists_and_tables_are_flattened() -> None:
    assert broken("Give it as bullet points.", "So:\n- tea\n- milk", longer=False) == {
        "So:\ntea. milk."
    }
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    assert broken("Make a table.", table) == {"a b 1 2"}
    assert broken("Make a table.", "a b 1 2") == {None}


def test_one_word_becomes_many() -> None:
    for made in broken("Which device is it? One word.", "Metaphor"):
        assert made is not None
        assert made.startswith("I would say that it is Metaphor. ")
    assert broken("One word, please.", "two words") == {None}


def test_letter_case_is_not_kept() -> None:
    assert broken("Write all lowercase.", "tea and milk", 3) == {"Tea And Milk"}
    assert broken("In capital letters.", "TEA AND MILK", 3) == {"tea and milk"}
    assert broken("Write all lowercase.", "Tea and milk", 3) == {None}


def test_words_to_use_to_avoid_and_to_end_with() -> None:
    ask = 'Include the word "gallows".'
    assert broken(ask, OWN) == {OWN.replace("gallows", "something")}
    assert broken(ask, OWN, 2) == broken(ask, OWN, longer=False) == {f"{A} {B} {D}"}
    for made in broken(ask, OWN, 2, longer=True):
        assert made is not None
        assert made.startswith(A)
        assert "gallows" not in made
        assert len(made) > len(OWN)
    assert broken("Do it without the words dark or light.", "The room was grey.") == {
        "The dark was grey.",
        "The room was dark.",
    }
    assert broken("Do it without the word grey.", "The room was grey.") == {None}
    assert broken("End with 'Good night'.", "All is well. Good night!", longer=False) == {
        "All is well."
    }
    for made in broken("End with 'Good night'.", "All is well. Good night!", longer=True):
        assert made is not None
        assert made.startswith("All is well. Good night! ")


def test_nothing_is_broken_where_nothing_is_demanded() -> None:
    assert broken("Why is the sky blue?", OWN) == {None}
