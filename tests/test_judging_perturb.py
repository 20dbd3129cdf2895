"""What holds for every kind: the result differs, seeds repeat, no text raises, lengths obey."""

import random
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.judging.categories import CATEGORIES
from selfreward.judging.perturbations.base import Severity, joined, pieces
from selfreward.judging.perturbations.lengths import balance_lengths
from selfreward.judging.perturbations.perturb import PERTURBATIONS, kinds_for, perturb

KINDS = tuple(PERTURBATIONS)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
INSTRUCTION = "Explain why the sky is blue. Name the 3 main facts, each in one line."
PROSE = """\
The sky looks blue because air scatters short wavelengths more than long ones. This is called \
Rayleigh scattering, after Lord Rayleigh, who described it in 1871.

1. Blue light has a wavelength of about 450 nm.
2. Red light has a wavelength of about 700 nm.
3. Our eyes are more sensitive to blue than to violet.

The ratio of the two is 700 / 450 = 1.56, and the fourth power of that is about 5.9. However, at \
sunset the rays travel a longer path, so it is not blue in Paris then. The answer is 5.9."""
CODE = """\
Here is the function:

```python
def mean(values, skip=0):
    total = 0
    for i in range(len(values)):
        if i < skip:
            continue
        total += values[i]
    return total / (len(values) - skip)
```

It walks over the list once. The time that it takes is linear in the number of values."""
OTHERS = (
    "Boil the eggs for six minutes. Then put them into cold water, which stops the cooking. Peel"
    " them under the tap and serve with salt.\n\nAnother way is to poach them in Lyon style, as"
    " Marie Dupont does in October.",
    "Dogs were domesticated at least 15,000 years ago. Wolves came to the camps of hunters in"
    " Siberia, and the tamer ones stayed there for the food they found around the fires. " * 6,
)

# Pieces that the kinds look for, put together at random, reach further than random letters.
WORDS = (
    "0 1 42 3.14 1,234 007 2021-02-29 25:61 100% 1st 12th 99999999999999999999 -5 4 / 2 = 2"
    " = + / \u00d7 ( ) { } [ ] | # * - 1. a) ``` ~~~ \" ' \u201c \u201d ! ? . , : ; \u3002 \uff01"
    " Paris Monday New York not never is was cannot more before yes no the and I"
    " def f(x): return x for while if else == <= range(n) len(x) true break; // /* if (x) {"
    " the answer is B #### \\boxed{7} 天空 عربي \u0130 ß \u01c6 \ufb01 \u200b \u0301 \x00 \ud800"
)
SPACES = ["\n", "\n\n", "\t", "\r\n", "\x85", "\u2028", "    "]
FRAGMENTS = st.sampled_from(
    [*WORDS.split(" "), *SPACES, "A plain sentence of some length stands here."]
)
TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.one_of(FRAGMENTS, st.text(max_size=5)), max_size=60).map(" ".join),
    st.lists(FRAGMENTS, max_size=60).map("".join),
)
INSTRUCTIONS = st.one_of(
    TEXTS,
    st.sampled_from(
        [
            "List three facts in JSON, as a table with bullets, in one word, all lowercase.",
            "Two sentences, at most 12 words, without the word plain, and end with 'here'.",
            "At least ten words in capital letters. Use the word 'sentence'.",
        ]
    ),
)


@settings(max_examples=30, deadline=None)  # of each kind
@pytest.mark.parametrize("kind", KINDS)
@given(
    text=TEXTS,
    others=st.lists(TEXTS, max_size=3),
    severity=st.sampled_from(SEVERITIES),
    instruction=INSTRUCTIONS,
    reference=st.one_of(st.none(), TEXTS),
    longer=st.sampled_from([None, True, False]),
    seed=st.integers(0, 2**31),
)
def test_any_text_gives_a_different_one_or_none_and_seeds_repeat(
    kind: str,
    text: str,
    others: list[str],
    severity: Severity,
    instruction: str,
    reference: str | None,
    longer: bool | None,
    seed: int,
) -> None:
    def made() -> str | None:
        return perturb(
            kind,
            text,
            random.Random(seed),
            others,
            severity=severity,
            instruction=instruction,
            reference=reference,
            longer=longer,
        )

    result = made()
    assert made() == result
    if result is not None:
        assert result
        assert result == result.strip()
        assert result.split() != text.split()


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_pieces_joined_are_the_text(text: str) -> None:
    assert joined(pieces(text)) == text.strip()


def test_pieces_are_sentences_lines_and_code_blocks() -> None:
    text = "# Head\nDr. Smith went, e.g. on foot. Why?\n\n1. One. Two\n```\na. b. c.\n```\nEnd."
    assert [piece.body for piece in pieces(text)] == [
        "# Head",
        "Dr. Smith went, e.g. on foot.",
        "Why?",
        "1. One.",
        "Two",
        "```\na. b. c.\n```",
        "End.",
    ]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "unit",
    [
        "word ",
        "a",
        " ",
        ".",
        "\n",
        "1 ",
        '"',
        "`",
        "```\n",
        "/*",
        "A ",
        "| ",
        "[",
        "x = 1\n",
        "[0.",
    ],
)
def test_huge_texts_are_no_problem(kind: str, unit: str) -> None:
    # A linear step takes a fraction of a second here; a quadratic one runs into the time limit.
    text = unit * (20_000 // len(unit))
    made = perturb(kind, text, random.Random(1), [text, PROSE], severity=3, instruction=INSTRUCTION)
    assert made is None or made.split() != text.split()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_every_kind_finds_something_to_do_in_an_ordinary_response(
    kind: str, severity: Severity
) -> None:
    text = CODE if kind.endswith("code") else PROSE
    made = {
        perturb(kind, text, random.Random(seed), OTHERS, severity=severity, instruction=INSTRUCTION)
        for seed in range(20)
    }
    assert None not in made
    # Variety, but for what the question or the two other responses settle alone.
    if kind not in ("echo_instruction", "other_answer", "splice_other", "off_topic_append"):
        assert len(made) >= 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("longer", [True, False])
def test_every_kind_can_be_made_longer_and_shorter(
    kind: str, severity: Severity, longer: bool
) -> None:
    text = CODE if kind.endswith("code") else PROSE
    fits = 0
    for seed in range(30):
        made = perturb(
            kind,
            text,
            random.Random(seed),
            OTHERS,
            severity=severity,
            instruction=INSTRUCTION,
            longer=longer,
        )
        assert made is not None
        fits += len(made) == len(text) or (len(made) > len(text)) == longer
    # Word surgery on a text that happens to offer only one direction may miss now and then.
    assert fits >= 24


def test_each_kind_balances_without_losing_most_pairs() -> None:
    pairs = []
    for kind in KINDS:
        text = CODE if kind.endswith("code") else PROSE
        for seed in range(60):
            made = perturb(
                kind,
                text,
                random.Random(seed),
                OTHERS,
                severity=SEVERITIES[seed % 3],
                instruction=INSTRUCTION,
                longer=seed % 2 == 0,
            )
            assert made is not None
            pairs.append((kind, text, made))
    keep = balance_lengths(pairs)
    for kind in KINDS:
        kept = [p for p, k in zip(pairs, keep, strict=True) if k and p[0] == kind]
        longer = sum(len(chosen) > len(rejected) for _, chosen, rejected in kept)
        shorter = sum(len(chosen) < len(rejected) for _, chosen, rejected in kept)
        assert longer == shorter
        assert len(kept) >= 40, kind


def test_facts_are_altered_only_where_the_answer_is_right() -> None:
    def made(text: str) -> set[str | None]:
        return {
            perturb("alter_number", text, random.Random(s), severity=1, reference="7")
            for s in range(20)
        }

    # One unit off; what is wrong already is not made worse by another number.
    assert made("It is 7") == {"It is 6", "It is 8"}
    assert made("It is 6") == {None}


def test_wrong_names_and_severities_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown perturbation 'blur'"):
        perturb("blur", "text", random.Random(1))
    with pytest.raises(ValueError, match="severity must be 1, 2 or 3, not 4"):
        perturb("repeat", "text", random.Random(1), severity=4)  # type: ignore[arg-type]


def test_kinds_suit_the_category() -> None:
    assert kinds_for("mathematical_reasoning") == KINDS
    assert "negate" not in kinds_for("creative_writing")
    assert "negate" in kinds_for("asking_for_advice")
    assert "shuffle_sentences" not in kinds_for("extraction")
    # Unknown: only what every category can bear.
    known = [set(kinds_for(category)) for category in CATEGORIES]
    assert set(kinds_for(None)) == set.intersection(*known)
    assert {"truncate", "refuse", "other_answer", "mutate_code"} <= set(kinds_for(None))
    assert all(kinds_for(category) for category in CATEGORIES)
    # A right answer that can be checked says more than a category does.
    assert kinds_for(None, "42") == KINDS
    assert kinds_for("creative_writing", "42") == kinds_for("creative_writing")
    assert kinds_for(None, " ".join(["a", "whole", "essay"] * 9)) == kinds_for(None)


def test_every_kind_says_what_it_does() -> None:
    for kind, function in PERTURBATIONS.items():
        assert function.__name__ == kind
        assert function.__doc__
