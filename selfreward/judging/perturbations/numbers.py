"""Wrong numbers: anywhere in a response, in a step of its arithmetic, or in its final answer."""

import random
import re
from dataclasses import replace
from fractions import Fraction

from selfreward.judging.answers import is_checkable, matches_reference
from selfreward.judging.perturbations.base import (
    Given,
    Severity,
    amount,
    cased_like,
    joined,
    marker_of,
    pieces,
    spliced,
)

MAX_NUMBER_CHARS = 15
"""Of a longer run of digits one digit is changed, and no arithmetic is read from it."""

_PLAIN = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?(?![0-9])|[0-9]++(?:\.[0-9]++)?"
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?![0-9])"
    r"|(?P<clock>[0-9]{1,2}:[0-9]{2})(?![:0-9])"
    rf"|(?P<plain>{_PLAIN})(?P<ordinal>(?:st|nd|rd|th)\b)?)"
)
_LABEL = re.compile(r"\b(?:step|part|case|option|figure|table)\s*$", re.IGNORECASE)
_EQUATION = re.compile(
    rf"(?<![\w.,])(?P<a>{_PLAIN})[ ]?(?P<op>[-+*/x\u00d7\u00f7\u2212]|\\times|\\cdot|\\div)[ ]?"
    rf"[$\u20ac\u00a3]?(?P<b>{_PLAIN})[ ]?=[ ]?[$\u20ac\u00a3]?(?P<c>{_PLAIN})(?![0-9])"
)
_STATED = re.compile(
    r"(?:####|\\boxed\{|\banswer\b\**[ \t]*(?:is|:|=)[ \t]*:?)[ \t]*(?P<answer>[^\n}]{1,200})",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[\s*(\[]{0,4}(?P<letter>[A-E])(?=[).:\]*]|\s*\Z)")
_WORD_ANSWERS = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_WORD_ANSWER = re.compile(r"\b(?:yes|no|true|false)\b", re.IGNORECASE)


def altered_number(
    token: str, rng: random.Random, severity: Severity, is_percent: bool = False
) -> str:
    """Returns a different number in the same format: commas, decimals and leading zeros stay.

    Off by 3-15% (severity 1), 25-60% (2) or a factor of 3 to 12 (3), by at least one unit of the
    last digit; a year by 1-9, 10-60 or 100-400 years. Never negative; a percentage of at most 100
    stays at most 100. Example: `altered_number("1,250.00", rng, 2)` may be `813.71`.
    """
    if len(token) > MAX_NUMBER_CHARS:
        k = rng.choice([i for i, char in enumerate(token) if char.isdigit()])
        return token[:k] + str((int(token[k]) + rng.randint(1, 8)) % 10) + token[k + 1 :]
    whole, _, decimals = token.partition(".")
    scale = 10 ** len(decimals)
    value = int(whole.replace(",", "") + decimals)
    new = _different(value, rng, severity, is_year=re.fullmatch("1[0-9]{3}|20[0-9]{2}", token))
    if is_percent and value <= 100 * scale < new:
        new = rng.randrange(value)
    digits = f"{new // scale:,}" if "," in whole else str(new // scale).zfill(_width(whole))
    return f"{digits}.{new % scale:0{len(decimals)}d}" if decimals else digits


def _width(whole: str) -> int:
    return len(whole) if whole.startswith("0") else 1


def _different(value: int, rng: random.Random, severity: Severity, is_year: object) -> int:
    if is_year:
        delta = rng.randint(*((1, 9), (10, 60), (100, 400))[severity - 1])
        later = value + delta <= 2030 and rng.random() < 0.5
        return value + delta if later else value - delta
    if value == 0:
        return rng.randint(1, 9)
    if severity == 3:
        factor = rng.uniform(3, 12)
        if value >= 12 and rng.random() < 0.5:
            return int(value / factor)
        return int(value * factor)
    low, high = ((0.03, 0.15), (0.25, 0.6))[severity - 1]
    delta = max(1, round(value * rng.uniform(low, high)))
    return value - delta if value > delta and rng.random() < 0.5 else value + delta


def _altered(match: re.Match[str], text: str, given: Given) -> str:
    """The replacement of one match of `_NUMBER`."""
    rng, severity = given.rng, given.severity
    if match["date"]:
        year, month, day = match["date"].split("-")
        if severity == 1:
            day = _other(day, 1, 28, 2, rng)
        elif severity == 2:
            month = _other(month, 1, 12, 2, rng)
        else:
            year = altered_number(year, rng, 2)
        return f"{year}-{month}-{day}"
    if match["clock"]:
        hour, minute = match["clock"].split(":")
        if severity == 1:
            return f"{hour}:{_other(minute, 0, 59, 2, rng)}"
        latest = 12 if int(hour) <= 12 else 23
        return f"{_other(hour, 1, latest, _width(hour), rng)}:{minute}"
    new = altered_number(
        match["plain"], rng, severity, is_percent=text[match.end() :][:1] in ("%", "\uff05")
    )
    return new + _ordinal(new) if match["ordinal"] else new


def _other(token: str, low: int, high: int, width: int, rng: random.Random) -> str:
    values = [v for v in range(low, high + 1) if v != int(token)]
    return str(rng.choice(values)).zfill(width)


def _ordinal(token: str) -> str:
    if token[-2:-1] == "1":
        return "th"
    return {"1": "st", "2": "nd", "3": "rd"}.get(token[-1], "th")


def alter_number(text: str, given: Given) -> str | None:
    """Changes one number, a third of them, or most, in prose; see `altered_number` for by how much.

    Dates (2021-03-04) change their day, month or year, times (7:30) their minute or hour. Numbers
    of list items, of steps and inside words stay, and so does code.
    """
    parts = pieces(text)
    found = [
        (i, match)
        for i, part in enumerate(parts)
        if not part.is_code
        for match in _NUMBER.finditer(part.body, len(marker_of(part.body)))
        if not _LABEL.search(part.body, max(0, match.start() - 12), match.start())
    ]
    if not found:
        return None
    edits: dict[int, list[tuple[int, int, str]]] = {}
    for i, match in given.rng.sample(found, amount(given.severity, len(found))):
        new = _altered(match, parts[i].body, given)
        edits.setdefault(i, []).append((match.start(), match.end(), new))
    for i, spans in edits.items():
        parts[i] = replace(parts[i], body=spliced(parts[i].body, spans))
    return joined(parts)


def _is_true(match: re.Match[str]) -> bool:
    """Whether an equation holds, to the precision its right side is written in."""
    if any(len(match[name]) > MAX_NUMBER_CHARS for name in "abc"):
        return False
    a, b, c = (Fraction(match[name].replace(",", "")) for name in "abc")
    decimals = len(match["c"].partition(".")[2])
    op = match["op"]
    if op == "+":
        value = a + b
    elif op in ("-", "\u2212"):
        value = a - b
    elif op in ("/", "\u00f7", "\\div"):
        if b == 0:
            return False
        value = a / b
    else:
        value = a * b
    return abs(value - c) <= Fraction(1, 2 * 10**decimals) if decimals else value == c


def wrong_step(text: str, given: Given) -> str | None:
    """Breaks arithmetic that holds, such as `48 / 2 = 24`: what it says is false, by calculation.

    Severity 1 breaks one equation before the last, 2 one equation and carries its wrong result
    through the rest of the response, 3 most of the equations, grossly.
    """
    found = [match for match in _EQUATION.finditer(text) if _is_true(match)]
    if not found:
        return None
    picked = given.rng.sample(found[:-1] or found, 1)
    if given.severity == 3:
        picked = given.rng.sample(found, amount(3, len(found)))
    edits = [
        (*match.span("c"), altered_number(match["c"], given.rng, given.severity))
        for match in picked
    ]
    if given.severity == 2:
        start, end, new = edits[0]
        rest = _replace_token(text[end:], text[start:end], new)
        return text[:start] + new + rest
    return spliced(text, edits)


def _replace_token(text: str, token: str, new: str) -> str:
    return re.sub(
        rf"(?<![\w.,]){re.escape(token)}(?![\w]|[.,][0-9])", lambda _: new, text, flags=re.ASCII
    )


def wrong_final_answer(text: str, given: Given) -> str | None:
    """Keeps the reasoning and changes what it ends in: a number, a choice letter, yes or no.

    Looks at the last stated answer (`#### 42`, `\\boxed{42}`, `the answer is B`), else at the last
    number of the last sentence. Severity 1 is a nearby number, carried through the second half of
    the response; 2 and 3 contradict the reasoning, by a plausible or an absurd number. With a
    checkable reference the response must be right and the result wrong.
    """
    checkable = is_checkable(given.reference)
    if checkable and not matches_reference(text, given.reference or ""):
        return None
    made = _final_changed(text, given)
    if made is None or (checkable and matches_reference(made, given.reference or "")):
        return None
    return made


def _final_changed(text: str, given: Given) -> str | None:
    text = text.rstrip()
    stated = list(_STATED.finditer(text))
    if not stated:
        parts = pieces(text)
        last = parts[-1].body if parts and not parts[-1].is_code else ""
        numbers = list(_NUMBER.finditer(last, len(marker_of(last))))
        return _number_changed(text, len(text) - len(last), numbers[-1], given) if numbers else None
    offset, answer = stated[-1].start("answer"), stated[-1]["answer"]
    letter = _LETTER.match(answer)
    if letter:
        others = [c for c in "ABCD" if c != letter["letter"]]
        start = offset + letter.start("letter")
        return text[:start] + given.rng.choice(others) + text[start + 1 :]
    numbers = list(_NUMBER.finditer(answer, answer.rfind("=") + 1))
    if numbers:
        return _number_changed(text, offset, numbers[0], given)
    word = _WORD_ANSWER.search(answer)
    if word:
        flipped = cased_like(_WORD_ANSWERS[word[0].lower()], word[0])
        return text[: offset + word.start()] + flipped + text[offset + word.end() :]
    return None


def _number_changed(text: str, offset: int, match: re.Match[str], given: Given) -> str:
    start, end = offset + match.start(), offset + match.end()
    new = _altered(match, match.string, given)
    head, tail = text[:start], text[end:]
    if given.severity == 1 and match["plain"] and not match["ordinal"]:
        middle = len(text) // 2
        if start > middle:
            head = head[:middle] + _replace_token(head[middle:], match[0], new)
        tail = _replace_token(tail, match[0], new)
    return head + new + tail
