"""Checking a response against a known answer: numbers by value, words by their normalised form.

This is for pools with a reference answer (grade-school maths, short facts), where a right and a
wrong response make a pair whose label is known.
"""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

MAX_REFERENCE_WORDS = 12
"""A longer reference is an essay; comparing essays by their words would mislabel pairs."""

MAX_DIGITS = 60
"""A model that loops writes numbers of thousands of digits; none of them is an answer."""

RELATIVE_TOLERANCE = Fraction(1, 100_000)
"""For numbers that are not both whole: 0.33333 is 1/3."""

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>[-+]?)(?:[$€£¥]\s?)?(?P<minus>-?)"
    rf"(?:(?P<whole>\d+)\s+(?=\d+/\d))?"
    rf"(?P<number>{_DIGITS})(?:[eE](?P<exponent>[-+]?\d{{1,3}})(?!\w))?"
    rf"(?:\s?/\s?(?P<divisor>\d+(?:\.\d+)?))?\s?(?P<percent>%?)"
)
# A number, perhaps with a unit of one word: "7 of clubs" is no number.
_NUMBER_WITH_UNIT = re.compile(rf"(?:{_NUMBER.pattern})(?:\s+[^\W\d_]+)?\s*[.!]?")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_HASHES = re.compile(r"####\s*([^\n]+)")
# Looks ahead only, so that a second statement on the same line is found too.
_ANSWER_IS = re.compile(
    r"\banswer\b\**\s*(?:is|are|:|=|would be|equals)\s*:?\s*(?=([^\n]*))", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_ARTICLES = {"a", "an", "the"}
_NEGATIONS = {"not", "never", "isn't", "no"}
_EDGE_PUNCTUATION = ".,;:!?\"'`()[]{}<>*_$\u201c\u201d\u2018\xab\xbb"
# Minus sign, fraction slash and apostrophe.
_ASCII = str.maketrans({"\u2212": "-", "\u2044": "/", "\u2019": "'"})


@dataclass(frozen=True, slots=True)
class _Number:
    value: Fraction
    is_percent: bool


def _plain(text: str) -> str:
    """Undoes LaTeX and Markdown that stands inside answers."""
    text = unicodedata.normalize("NFKC", text).translate(_ASCII)
    text = _LATEX_FRACTION.sub(r"\1/\2", text)
    return re.sub(r"\\[,;! ()\[\]]|\\text\b|\\(?=[$%])|\*\*|(?<=\d)\{,\}", "", text)


def _number(match: re.Match[str]) -> _Number | None:
    groups = match.groupdict()
    if any(len(digits or "") > MAX_DIGITS for digits in groups.values()):
        return None
    value = Fraction(groups["number"].replace(",", ""))
    if groups["exponent"]:
        value *= Fraction(10) ** int(groups["exponent"])
    if groups["divisor"] and Fraction(groups["divisor"]) != 0:
        value /= Fraction(groups["divisor"])
    if groups["whole"]:
        value += int(groups["whole"])
    if groups["sign"] == "-" or groups["minus"]:
        value = -value
    return _Number(value, bool(groups["percent"]))


def _equal(a: Fraction, b: Fraction) -> bool:
    if a.denominator == 1 and b.denominator == 1:
        return a == b
    return abs(a - b) <= RELATIVE_TOLERANCE * max(abs(a), abs(b))


def _same_number(a: _Number, b: _Number) -> bool:
    """50% is 50 and is also 0.5: sources write percentages either way."""
    if _equal(a.value, b.value):
        return True
    if a.is_percent == b.is_percent:
        return False
    return _equal(
        a.value / 100 if a.is_percent else a.value, b.value / 100 if b.is_percent else b.value
    )


def _stated_answer(text: str) -> str | None:
    """What `text` announces: its last `#### …`, else `\\boxed{…}`, else `answer is …`."""
    for pattern in (_HASHES, _BOXED, _ANSWER_IS):
        found: list[str] = pattern.findall(text)
        if found and found[-1].strip():
            return _SENTENCE_END.split(found[-1].strip(), maxsplit=1)[0]
    return None


def _final_number(text: str) -> _Number | None:
    """The number of the stated answer (of `3 + 4 = 7` the 7), else the last number of the text."""
    stated = _stated_answer(text)
    if stated is not None:
        match = _NUMBER.search(stated.rpartition("=")[2]) or _NUMBER.search(stated)
        if match:
            return _number(match)
    matches = list(_NUMBER.finditer(text))
    return _number(matches[-1]) if matches else None


def _words(text: str) -> list[str]:
    """Words in lower case without punctuation at their edges and without a leading article."""
    words = [w.strip(_EDGE_PUNCTUATION) for w in text.casefold().split()]
    words = [w for w in words if w]
    return words[1:] if len(words) > 1 and words[0] in _ARTICLES else words


def _ends_with(words: list[str], reference: list[str]) -> bool:
    if words[-len(reference) :] != reference:
        return False
    return not set(words[: -len(reference)][-1:]) & _NEGATIONS


def _matches_words(text: str, reference: list[str]) -> bool:
    stated = _stated_answer(text)
    if stated is None:
        lines = [line for line in text.splitlines() if line.strip()]
        return bool(lines) and _ends_with(_words(lines[-1]), reference)
    # "The answer is Paris, the capital of France": what follows a delimiter explains.
    before_delimiter = re.split(r"[,;:(\u2013\u2014]", stated.strip().lstrip("("), maxsplit=1)[0]
    return _ends_with(_words(stated), reference) or _words(before_delimiter) == reference


def _reference(reference: str) -> str:
    """The answer itself: of a worked solution ending in `#### 42` that is `42`."""
    plain = _plain(reference)
    return (_stated_answer(plain) or plain).strip()


def is_checkable(reference: str | None) -> bool:
    """Whether a response can be checked against this: a number, or at most twelve words."""
    if reference is None:
        return False
    return 0 < len(_words(_reference(reference))) <= MAX_REFERENCE_WORDS


def matches_reference(text: str, reference: str) -> bool:
    """Whether the final answer of `text` is `reference`. Accepts any text and never raises.

    A numeric reference is compared by value with the number of the stated answer (`#### 42`,
    `\\boxed{42}`, `the answer is 42`, the last of its kind) or else with the last number of the
    text; thousands separators, currency signs, percent signs, fractions and a unit do not matter.
    Any other reference must be the stated answer or the end of the last line, case and edge
    punctuation aside. A reference that is not checkable matches nothing.
    """
    if not is_checkable(reference):
        return False
    plain, wanted = _plain(text), _reference(reference)
    match = _NUMBER_WITH_UNIT.fullmatch(wanted)
    number = _number(match) if match else None
    if number is None:
        return _matches_words(plain, _words(wanted))
    found = _final_number(plain)
    return found is not None and _same_number(found, number)
