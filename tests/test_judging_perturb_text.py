"""What each kind does to the form of a response, on examples small enough to see all outcomes."""

import random
import re

import pytest

from selfreward.judging.perturbations.base import Severity
from selfreward.judging.perturbations.perturb import perturb
from selfreward.judging.perturbations.phrases import FOREIGN, filler_sentence
from selfreward.judging.perturbations.text import language_of

A, B, C, D = (
    "Alpha is the first of the letters.",
    "However, beta follows it at once.",
    "Gamma is shaped like a gallows.",
    "Delta is where a river ends.",
)
FOUR = f"{A} {B}\n\n{C} {D}"


def outcomes(
    kind: str,
    text: str,
    severity: Severity = 2,
    *,
    others: tuple[str, ...] = (),
    instruction: str = "",
    reference: str | None = None,
    longer: bool | None = None,
    num_seeds: int = 60,
) -> set[str | None]:
    return {
        perturb(
            kind,
            text,
            random.Random(seed),
            others,
            severity=severity,
            instruction=instruction,
            reference=reference,
            longer=longer,
        )
        for seed in range(num_seeds)
    }


@pytest.mark.parametrize(
    ("severity", "low", "high"), [(1, 0.6, 0.93), (2, 0.2, 0.75), (3, 0.0, 0.4)]
)
def test_truncate_stops_in_time(severity: Severity, low: float, high: float) -> None:
    for made in outcomes("truncate", FOUR, severity):
        assert made is not None
        assert FOUR.startswith(made)
        assert low * len(FOUR) <= len(made) <= high * len(FOUR)
        if severity == 1:
            # Inside a sentence, at the end of a word.
            assert made[-1] not in ".!?"
            assert not FOUR[len(made)].isalpha()


def test_truncate_at_sentences_and_inside_them() -> None:
    made = outcomes("truncate", FOUR, 2)
    assert f"{A} {B}" in made
    assert f"{A} However, beta follows it" in made
    assert outcomes("truncate", "Too short to be cut.") == {None}


def test_truncate_longer_pads_before_the_cut() -> None:
    for made in outcomes("truncate", FOUR, 1, longer=True):
        assert made is not None
        assert len(made) > len(FOUR)
        assert made.startswith(A)
        # 75% to 93% of the text is cut inside the third or the fourth sentence.
        assert re.split(r"\.\s", made)[-1].split()[0] in ("Gamma", "Delta")


def test_drop_sentences() -> None:
    # Only the inner two can go; the longer half of two is one.
    assert outcomes("drop_sentences", FOUR, 1) == {f"{A}\n\n{C} {D}"}
    assert outcomes("drop_sentences", FOUR, 2) == {f"{A}\n\n{D}"}
    three = f"{A} {B} {C}"
    assert outcomes("drop_sentences", three, 3) == {f"{A} {C}"}
    assert outcomes("drop_sentences", f"{A} {B}") == {None}


def test_drop_sentences_longer_puts_something_else_there() -> None:
    for made in outcomes("drop_sentences", FOUR, 2, longer=True):
        assert made is not None
        assert B not in made
        assert C not in made
        assert made.startswith(A)
        assert made.endswith(D)
        assert len(made) > len(FOUR)


def test_shuffle_sentences() -> None:
    # Subtle: the sentence that leans on another one moves by two places.
    assert outcomes("shuffle_sentences", FOUR, 1) == {f"{A} {C}\n\n{D} {B}"}
    mixed = outcomes("shuffle_sentences", FOUR, 3)
    assert f"{D} {C}\n\n{B} {A}" in mixed
    assert FOUR not in mixed
    # All orders of four but the given one.
    assert len(outcomes("shuffle_sentences", FOUR, 3, num_seeds=400)) == 23
    assert outcomes("shuffle_sentences", f"{A} {B}") == {None}


def test_shuffle_leaves_bullets_and_mixes_numbered_items() -> None:
    bullets = "\n".join(f"- {sentence}" for sentence in (A, B, C, D))
    assert outcomes("shuffle_sentences", bullets) == {None}
    steps = f"1. {A}\n2. {C}\n3. {D}"
    assert f"3. {D}\n1. {A}\n2. {C}" in outcomes("shuffle_sentences", steps, 3)


def test_repeat() -> None:
    assert f"{A} {B}\n\n{C} {C} {D}" in outcomes("repeat", FOUR, 1)
    for made in outcomes("repeat", FOUR, 1):
        assert made is not None
        assert sorted(made.count(s) for s in (A, B, C, D)) == [1, 1, 1, 2]
    for made in outcomes("repeat", FOUR, 2):
        assert made is not None
        assert sorted(made.count(s) for s in (A, B, C, D)) == [1, 1, 2, 2]
    gross = outcomes("repeat", FOUR, 3)
    assert f"{FOUR}\n\n{FOUR}" in gross
    assert f"{A} {A} {A} {A}" in gross
    assert outcomes("repeat", "42") == {None}


def test_repeat_shorter_loops_instead_of_going_on() -> None:
    # 130 characters; the first sentence has 34 and fits three times, the second has 33 and fits
    # once more behind the first two (68).
    assert (len(FOUR), len(A), len(B)) == (130, 34, 33)
    made = outcomes("repeat", FOUR, 3, longer=False)
    assert made == {f"{A} {A} {A}", f"{A} {B} {B}"}
    assert outcomes("repeat", FOUR, 1, longer=False) == {f"{A} {B} {B}"}


def test_garble_words() -> None:
    text = "Bears like honey"
    # One of three words: doubled, dropped, a letter doubled or dropped, or two letters swapped.
    made = outcomes("garble_words", text, 1, num_seeds=300)
    assert {"Bears Bears like honey", "like honey", "Beears like honey", "Bars like honey"} <= made
    assert {"Baers like honey", "Bears lkie honey", "Bears like hoeny", "Bears like"} <= made
    for longer in outcomes("garble_words", text, 1, longer=True):
        assert longer is not None
        assert len(longer) >= len(text)
    assert outcomes("garble_words", "```\nx = compute(y)\nprint(x)\n```") == {None}


def test_mixed_language_replaces_a_sentence() -> None:
    text = "Bears eat honey gladly. Bees dislike bears greatly."
    foreign = {sentence for name in ("de", "fr", "es") for sentence in FOREIGN[name]}
    made = outcomes("mixed_language", text, 1)
    assert made <= {f"{f} Bees dislike bears greatly." for f in foreign} | {
        f"Bears eat honey gladly. {f}" for f in foreign
    }
    assert len(made) > 20
    # Fewer than three of its words are in the tables, so no word is replaced alone.
    for longer in outcomes("mixed_language", text, 1, longer=True):
        assert longer is not None
        assert len(longer) > len(text)


def test_mixed_language_replaces_words() -> None:
    made = outcomes("mixed_language", "The water and the people", 3)
    assert {"Die Wasser und die Leute", "Le eau et le gens", "El agua y el gente"} <= made


def test_mixed_language_never_slips_into_the_language_of_the_response() -> None:
    german = "Der Bär und die Biene mögen den Honig, und das ist nicht neu."
    assert language_of(german) == "de"
    assert outcomes("mixed_language", german, 1, num_seeds=400) == {
        sentence for name in ("en", "fr", "es") for sentence in FOREIGN[name]
    }


def test_overlong_filler() -> None:
    for made in outcomes("overlong_filler", FOUR, 3):
        assert made is not None
        assert all(sentence in made for sentence in (A, B, C, D))
        # 100% to 200% on top, and at most one sentence of 120 characters more.
        assert 2 * len(FOUR) <= len(made) <= 3 * len(FOUR) + 120
    for made in outcomes("overlong_filler", FOUR, 1, longer=False):
        assert made is not None
        assert sum(sentence in made for sentence in (A, B, C, D)) == 3


def test_fillers_are_many() -> None:
    rng = random.Random(2)
    assert len({filler_sentence(rng) for _ in range(3000)}) > 380
