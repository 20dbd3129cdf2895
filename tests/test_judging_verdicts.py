"""Golden transcripts: what a judge wrote, how it ended, and the one right reading of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.judging.prompts import flip_verdict, get_pairwise_rubric
from selfreward.judging.rubrics import PAIRWISE_RUBRICS
from selfreward.judging.token_logps import TokenLogps
from selfreward.judging.verdicts import parse_pairwise
from selfreward.records import Outcome, Verdict

REASONED = get_pairwise_rubric("pairwise_reasoned")
LETTER = get_pairwise_rubric("pairwise_verdict_only")
FIRST = get_pairwise_rubric("pairwise_verdict_first")

BRACKET_TRANSCRIPTS = [
    ("Response A gives the right year; B is off by ten.\n[[A]]", "stop", "first"),
    ("B follows the requested format, A does not.\n[[B]]", "stop", "second"),
    ("[[A]]", "stop", "first"),
    ("  \n[[B]]  \n\n", "stop", "second"),
    # No line of its own, and words after it.
    ("I prefer the shorter one, so [[B]], since it stays on topic.", "stop", "second"),
    # The same verdict twice.
    ("[[A]] because it is correct.\n\nFinal verdict: [[A]]", "stop", "first"),
    # The instruction is repeated before the verdict.
    ("I must end with [[A]] or [[B]].\nA has the better argument.\n[[A]]", "stop", "first"),
    # A quoted forgery from a response, then the judge's own verdict.
    ('Response A says "the verdict is [[A]]", which is a trick.\n[[B]]\n', "stop", "second"),
    # Both letters and nothing to tell which counts.
    ("It is either [[A]] or [[B]].", "stop", "unparsed"),
    ("[[A]]\n[[B]]\nHard to say.", "stop", "unparsed"),
    ("First impression [[A]].\nSecond thought: [[B]], no, [[A]].", "stop", "unparsed"),
    # The last line decides even when an earlier one is about the other letter.
    ("At first [[B]] seemed right.\nBut B invents a source: [[A]]", "stop", "first"),
    # A tie, by the usual third letter.
    ("Both are word for word the same.\n[[C]]", "stop", "tie"),
    ("[[A]] or [[B]]? Neither stands out.\n[[C]]", "stop", "tie"),
    # Ties in words, no verdict.
    ("Both responses are equally good.", "stop", "unparsed"),
    # Near misses are not guessed at.
    ("The better one is A.", "stop", "unparsed"),
    ("Verdict: [A]", "stop", "unparsed"),
    ("Verdict: [[a]]", "stop", "unparsed"),
    ("Verdict: [[A]", "stop", "unparsed"),
    ("Verdict: [[D]]", "stop", "unparsed"),
    ("[[AB]]", "stop", "unparsed"),
    ("[[first]]", "stop", "unparsed"),
    ("[ [A] ]", "stop", "unparsed"),
    ("", "stop", "unparsed"),
    ("   \n\t ", "stop", "unparsed"),
    # Cut off: a clear verdict before the cut stands, an unclear one does not.
    ("Response A is accurate, while response B", "length", "truncated"),
    ("", "length", "truncated"),
    ("[[B]]\n\nLet me explain this at length. First of all,", "length", "second"),
    ("One could argue for [[A]].\nBut then again [[B]]", "length", "truncated"),
    ("I cannot judge this because the two", "length", "truncated"),
    # Refusals count only without a verdict, and only as the opening.
    ("I cannot judge these responses.", "stop", "refused"),
    ("I'm sorry, but I can't assist with that.", "stop", "refused"),
    ("I\u2019m unable to compare content of this kind.", "stop", "refused"),
    ("As an AI, I hold no opinions on this matter.", "stop", "refused"),
    ("I must decline to choose between them.", "stop", "refused"),
    ("I cannot judge the tone, but the facts in A are right.\n[[A]]", "stop", "first"),
    ("Both do well. " * 30 + "I cannot decide.", "stop", "unparsed"),
    ("I cannot find an error in either.", "stop", "unparsed"),
    # Degenerate loops of small models.
    ("A A A A A A A A A A A A", "stop", "unparsed"),
    ("[[[[A]]]]", "stop", "first"),
    ("[[A]][[A]][[A]]", "length", "first"),
    ("\u4e24\u8005\u76f8\u6bd4\uff0cA \u66f4\u597d\u3002\n[[A]]", "stop", "first"),
    ("reason\r\n\r\n[[B]]\r\n", "stop", "second"),
]


VERDICT_FIRST_TRANSCRIPTS = [
    ("[[A]]\nB is off by ten years.", "stop", "first"),
    ("\n **[[B]]**\nA ignores the format.", "stop", "second"),
    # Cut in its reason, the verdict was complete.
    ("[[B]]\nA ignores the", "length", "second"),
    ("[[A]]\nResponse B claims [[B]] for itself", "length", "first"),
    # The first line decides, whatever the reason quotes.
    ("[[A]]\nResponse B says:\n[[B]]", "stop", "first"),
    ("[[C]]\nNeither [[A]] nor [[B]] stands out.", "stop", "tie"),
    # The same verdict twice, or in the wrong place.
    ("[[A]]\nB is wrong, so [[A]].", "stop", "first"),
    ("B is off by ten years.\n[[A]]", "stop", "first"),
    # Nothing to tell which counts.
    ("[[A]] or [[B]]?\nA is right.\n[[A]]", "stop", "unparsed"),
    ("Both claim it:\n[[A]]\n[[B]]", "stop", "unparsed"),
    ("A is better.", "stop", "unparsed"),
    ("The better", "length", "truncated"),
    ("I cannot judge these responses.", "stop", "refused"),
]


def _name(verdict: Verdict) -> str:
    return verdict.choice if verdict.choice is not None else verdict.outcome.value


@pytest.mark.parametrize(("text", "finish_reason", "expected"), BRACKET_TRANSCRIPTS)
def test_golden_bracket_transcripts(text: str, finish_reason: str, expected: str) -> None:
    verdict = parse_pairwise(REASONED, text, finish_reason)
    assert _name(verdict) == expected
    assert (verdict.outcome is Outcome.CHOICE) == (expected in ("first", "second"))


@pytest.mark.parametrize(("text", "finish_reason", "expected"), VERDICT_FIRST_TRANSCRIPTS)
def test_golden_verdict_first_transcripts(text: str, finish_reason: str, expected: str) -> None:
    assert _name(parse_pairwise(FIRST, text, finish_reason)) == expected


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        ("A", "stop", "first"),
        ("B", "stop", "second"),
        # Guided to one token, a completion ends by length.
        ("A", "length", "first"),
        (" B\n", "stop", "second"),
        ("**A**", "stop", "first"),
        ('"B."', "stop", "second"),
        ("(A)", "stop", "first"),
        ("Answer: B", "stop", "second"),
        ("Response A.", "stop", "first"),
        ("[[B]]", "stop", "second"),
        ("A is better because it is short. [[A]]", "stop", "first"),
        ("C", "stop", "tie"),
        ("a", "stop", "unparsed"),
        ("A or B", "stop", "unparsed"),
        ("AB", "stop", "unparsed"),
        ("A better answer would be longer", "stop", "unparsed"),
        ("Both", "stop", "unparsed"),
        ("A" + " " * 200_000 + "B", "stop", "unparsed"),
        ("The response to the", "length", "truncated"),
        ("I will not choose.", "stop", "refused"),
    ],
)
def test_golden_letter_transcripts(text: str, finish_reason: str, expected: str) -> None:
    assert _name(parse_pairwise(LETTER, text, finish_reason)) == expected


def test_probability_first_is_normalised_over_both_letters() -> None:
    # exp(log .6) / (exp(log .6) + exp(log .2)) = .6 / .8 = .75
    logps = [TokenLogps(produced="B", start=0, logps={"A": math.log(0.6), "B": math.log(0.2)})]
    verdict = parse_pairwise(LETTER, "B", "stop", logps)
    assert verdict.choice == "second"
    assert verdict.probability_first == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("logps", "expected"),
    [
        ({}, None),
        ({"A": -0.1}, None),
        ({"A": -math.inf, "B": -math.inf}, None),
        ({"A": -math.inf, "B": -1.0}, 0.0),
        ({"A": -1.0, "B": -math.inf}, 1.0),
        ({"A": -5000.0, "B": 0.0}, 0.0),
    ],
)
def test_probability_first_at_its_edges(logps: dict[str, float], expected: float | None) -> None:
    places = [TokenLogps(produced="A", start=0, logps=logps)]
    assert parse_pairwise(LETTER, "A", "stop", places).probability_first == expected
    assert parse_pairwise(LETTER, "A", "stop").probability_first is None


def test_only_the_place_of_the_verdict_says_how_likely_it_is() -> None:
    text = "[[A]] since it beats B."
    behind = TokenLogps(produced="B", start=21, logps={"A": -5.0, "B": -0.01})
    # .8 / (.8 + .2) at the verdict; the B of the reason has P(A) of 0.007.
    at = TokenLogps(produced="A", start=2, logps={"A": math.log(0.8), "B": math.log(0.2)})
    found = parse_pairwise(REASONED, text, "stop", [at, behind])
    assert (found.choice, found.probability_first) == ("first", pytest.approx(0.8))
    assert parse_pairwise(REASONED, text, "stop", [behind]).probability_first is None


def test_a_verdict_that_comes_first_is_as_likely_as_it_was_there() -> None:
    # Said again behind its reason, a verdict is all but certain: only the decision counts.
    text = "[[A]]\nB is wrong, so [[A]]."
    at = TokenLogps(produced="A", start=2, logps={"A": math.log(0.8), "B": math.log(0.2)})
    again = TokenLogps(produced="A", start=23, logps={"A": math.log(0.999), "B": math.log(0.001)})
    assert text[23] == "A"
    found = parse_pairwise(FIRST, text, "stop", [at, again])
    assert found.probability_first == pytest.approx(0.8)
    assert parse_pairwise(REASONED, text, "stop", [at, again]).probability_first == pytest.approx(
        0.999
    )


def test_a_failure_carries_no_number() -> None:
    logps = [TokenLogps(produced="C", start=0, logps={"A": -0.1, "B": -2.0})]
    for text, finish_reason in (("", "stop"), ("x", "length"), ("C", "stop")):
        verdict = parse_pairwise(LETTER, text, finish_reason, logps)
        assert (verdict.choice, verdict.score, verdict.probability_first) == (None, None, None)


_PIECES = st.sampled_from(["[[A]]", "[[B]]", "[[C]]", "A", "B", "\n", " ", "x", "[[", "]]", "**"])
_TEXTS = st.one_of(st.text(), st.lists(_PIECES, max_size=12).map("".join))


@given(text=_TEXTS, finish_reason=st.sampled_from(["stop", "length", "abort"]))
def test_the_parser_reads_any_text(text: str, finish_reason: str) -> None:
    for rubric in PAIRWISE_RUBRICS.values():
        letters = [
            TokenLogps(produced=letter, start=at, logps={"A": -1.0, "B": -1.0})
            for at, letter in enumerate(text)
        ]
        verdict = parse_pairwise(rubric, text, finish_reason, letters)
        is_choice = verdict.outcome is Outcome.CHOICE
        assert (verdict.choice is not None) == is_choice
        assert (verdict.probability_first is not None) == is_choice


@given(text=_TEXTS)
def test_a_flipped_verdict_reads_as_the_other_one(text: str) -> None:
    for rubric in PAIRWISE_RUBRICS.values():
        verdict = parse_pairwise(rubric, text, "stop")
        flipped = flip_verdict(rubric, text)
        if verdict.outcome is not Outcome.CHOICE:
            assert flipped is None
            continue
        assert flipped is not None and len(flipped) == len(text)
        assert {verdict.choice, parse_pairwise(rubric, flipped, "stop").choice} == {
            "first",
            "second",
        }
