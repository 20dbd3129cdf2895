"""The score in the text of a judge of one response, and the expected one of its probabilities.

Averaging several draws is in `voting.py`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.token_logps import TokenLogps, logps_at
from selfreward.judging.verdicts import opens_with_refusal
from selfreward.records import Outcome, Verdict


def expected_score(logps: Mapping[str, float], scale: tuple[float, float]) -> float | None:
    """Returns the mean of the scores weighted by their probabilities, or None without any.

    `logps` are natural log-probabilities of the tokens at the score's place, by their text. Tokens
    that are no whole number of `scale` are left out, "4" and " 4" count together, and what is left
    is scaled to sum to 1 (arXiv 2303.16634, section 2). A tokenizer that writes 10 as two tokens
    counts its 1 as 1: keep such scales below 10.
    """
    low, high = scale
    known = [
        (float(text), logp)
        for text, logp in ((token.strip(), logp) for token, logp in logps.items())
        if re.fullmatch(r"[0-9]{1,2}", text) and low <= float(text) <= high and logp > -math.inf
    ]
    if not known:
        return None
    # Nothing overflows or vanishes, however small every probability is.
    largest = max(logp for _, logp in known)
    weights = [math.exp(logp - largest) for _, logp in known]
    return math.fsum(s * w for (s, _), w in zip(known, weights, strict=True)) / math.fsum(weights)


_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_SCORE_MARK = re.compile(
    rf"""(?<![A-Za-z])score[*_`]{{0,3}}[ \t]{{0,4}}:[ \t*_`"'<(\[]{{0,8}}({_NUMBER})""",
    re.IGNORECASE,
)
_SCORE_WORD = "Score: "
_DENOMINATOR = re.compile(rf"[ \t]{{0,4}}(?:/|out[ ]of\b)[ \t*_`]{{0,4}}({_NUMBER})", re.I)
_CLOSERS = "*_`\"'>)]"
# What makes the number before it another one than it seems: 4th, 4%, 3-4, 3 or 4, 3,5.
_ANOTHER_NUMBER = re.compile(
    r"[A-Za-z]|[ \t]{0,4}%|[.,][0-9]"
    r"|[ \t]{0,4}(?:[-~\u2013\u2014/]|(?:or|to|and)\b)[ \t]{0,4}[0-9]",
    re.IGNORECASE,
)
_NUMBER_ONLY = re.compile(
    rf"""["'`*_(\[<]{{0,4}}{_NUMBER}(?:[ ]?(?:/|out[ ]of)[ ]?[0-9]+)?["'`*_)\]>.!]{{0,4}}"""
)


@dataclass(frozen=True, slots=True)
class _ScoreMark:
    """A `Score:` with what it says; the value is None where that is no score of the scale."""

    value: float | None
    start: int
    end: int
    number: str
    """As it is written; it ends at `end`."""


@dataclass(frozen=True, slots=True)
class _WrittenScore:
    """The score a text ends in, and where its number begins in the text."""

    value: float
    number: str
    start: int


def _value(rubric: PointwiseRubric, number: str, rest: str) -> float | None:
    low, high = rubric.scale
    rest = rest.lstrip(_CLOSERS)
    denominator = _DENOMINATOR.match(rest)
    if denominator is not None:
        rest = rest[denominator.end() :]
        if float(denominator[1]) != high:
            return None
    value = float(number)
    return value if low <= value <= high and not _ANOTHER_NUMBER.match(rest) else None


def _marks(rubric: PointwiseRubric, text: str) -> list[_ScoreMark]:
    if rubric.score_pattern is not None:
        return _marks_of_ones_own(rubric, rubric.score_pattern, text)
    return [
        _ScoreMark(_value(rubric, m[1], text[m.end() : m.end() + 40]), m.start(), m.end(), m[1])
        for m in _SCORE_MARK.finditer(text)
    ]


def _marks_of_ones_own(rubric: PointwiseRubric, pattern: str, text: str) -> list[_ScoreMark]:
    """What the pattern matched besides the number belongs to the form, not to the number."""
    marks = []
    for m in re.finditer(pattern, text):
        written = m[1] or ""
        rest = text[m.end(1) : m.end(1) + 40] if m.end() == m.end(1) else ""
        value = _value(rubric, written, rest) if re.fullmatch(_NUMBER, written) else None
        marks.append(_ScoreMark(value, m.start(), m.end(1), written))
    return marks


def _is_cut_in(rubric: PointwiseRubric, text: str, mark: _ScoreMark) -> bool:
    """Whether a text that was cut off may have been cut inside the number: `4.`, or 1 of 10."""
    rest = text[mark.end :]
    could_grow = mark.value is not None and 0 < 10 * mark.value <= rubric.scale[1]
    return rest == "." or (rest == "" and could_grow)


def _written_score(rubric: PointwiseRubric, text: str, complete: bool) -> _WrittenScore | None:
    stripped = text.strip()
    shift = 0
    plain = rubric.score_pattern is None and not rubric.wants_reason
    if plain and len(stripped) <= 40 and _NUMBER_ONLY.fullmatch(stripped):
        # Only its score is written: it is read as if the word stood before it.
        shift = len(_SCORE_WORD) - (len(text) - len(text.lstrip()))
        text = f"{_SCORE_WORD}{stripped}"
    marks = _marks(rubric, text)
    if len({m.value for m in marks}) > 1:
        if not complete:
            return None
        last_line_start = text.rstrip().rfind("\n") + 1
        marks = [m for m in marks if m.start >= last_line_start]
    if len({m.value for m in marks}) != 1 or (not complete and _is_cut_in(rubric, text, marks[-1])):
        return None
    last = marks[-1]
    if last.value is None:
        return None
    return _WrittenScore(last.value, last.number, last.end - len(last.number) - shift)


def parse_pointwise(
    rubric: PointwiseRubric,
    text: str,
    finish_reason: str,
    logps: Sequence[TokenLogps] = (),
) -> Verdict:
    """Reads the score of a pointwise judgment. Accepts any text and never raises.

    A score is written `Score: 4`, with or without emphasis, decimals and `/5`, or as the rubric's
    own `score_pattern` says; a rubric without a reason takes a bare number too. In this order:

    1. Scores that are all the same: that is the score, also where the text was cut off after it
       (but not where it may have been cut inside the number).
    2. Several different ones: the score of the last non-empty line if that line has exactly one
       and the text was not cut off; otherwise there is none.
    3. No score and `finish_reason` is `length`: truncated.
    4. No score and the text opens with a refusal to judge: refused.
    5. Anything else: unparsed. So is a number off the scale, of another scale (`8/10`) or a range
       (`3-4`). Code that follows the paper clips such numbers, which makes a five out of a judge
       that counts to ten; here the judgment failed and is counted as failed.

    `logps` are natural log-probabilities of the scores where one was produced. With those at the
    place of the written score the score is their `expected_score`; the written one still has to be
    there. A number of several tokens (`4.5`) is the score as it is written.
    """
    truncated = finish_reason == "length"
    written = _written_score(rubric, text, complete=not truncated)
    if written is not None:
        there = logps_at(logps, written.number, written.start, written.start + 1)
        expected = None if there is None else expected_score(there, rubric.scale)
        score = written.value if expected is None else expected
        return Verdict(outcome=Outcome.SCORE, score=score)
    if truncated:
        return Verdict(outcome=Outcome.TRUNCATED)
    if opens_with_refusal(text):
        return Verdict(outcome=Outcome.REFUSED)
    return Verdict(outcome=Outcome.UNPARSED)
