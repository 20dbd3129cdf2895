"""Cleaning a raw text, cutting it into pieces, and saying whether a piece is worth training on.

The rules are of the kind of Gopher's (arXiv 2112.11446, appendix A.1.1) that need no list of words:
length, share of letters, share of repeated lines. Scripts without spaces or capitals pass as well
as others. This module knows neither where texts come from nor what was seen before.
"""

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from selfreward.config_custom_llm import CorpusConfig
from selfreward.records import DropReason

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Control characters but for tab and line end, soft hyphens, and byte order marks inside a text.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\xad\ufeff]")
# Half of a pair that was cut apart: no file can hold it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK_LINES = re.compile("\n{3,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Why a piece of text is left out.

    Example: `Flaw(reason=DropReason.TOO_SHORT, detail="57 characters, the least is 200")`
    """

    reason: DropReason
    detail: str


def clean(text: str) -> str:
    """Returns `text` in one form of Unicode (NFC) and of line ends, without what cannot be seen.

    White space at the ends of lines goes and several blank lines become one; indentation stays.
    Example: `clean("a\\r\\n\\r\\n\\r\\nb \\x00")` is `"a\\n\\nb"`.
    """
    text = _LONE_SURROGATE.sub("\ufffd", _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text)))
    lines = unicodedata.normalize("NFC", text).split("\n")
    return _BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def cut(text: str, max_chars: int) -> list[str]:
    """Returns `text` in pieces of at most `max_chars` characters, about equally long.

    Cuts fall at blank lines, else at line ends, else at spaces, and inside a word only where a
    word is longer than a piece. White space at the cuts goes, and nothing else.
    """
    pieces = []
    start = 0
    while (left := len(text) - start) > max_chars:
        # Equal parts: cutting off the most each time would leave a stump at the end.
        aim = start + math.ceil(left / math.ceil(left / max_chars))
        end = _place_of_cut(text, start, aim, start + max_chars)
        pieces.append(text[start:end])
        start = end
    pieces.append(text[start:])
    stripped = [piece.rstrip().lstrip("\n") for piece in pieces]
    return [piece for piece in stripped if piece] or [""]


def _place_of_cut(text: str, start: int, aim: int, limit: int) -> int:
    half = start + (aim - start) // 2
    for separator in ("\n\n", "\n"):
        found = text.rfind(separator, half, aim)
        if found >= 0:
            return found + len(separator)
    for places in (range(aim - 1, half, -1), range(aim, limit), range(half, start, -1)):
        for place in places:
            if text[place].isspace():
                return place + 1
    return aim


def letter_share(text: str) -> float:
    """Returns the share of letters, their marks, and white space among the characters.

    Marks count since scripts of India and South-East Asia write vowels with them; an empty text
    has 0.
    """
    counts = Counter(text)
    letters = sum(n for c, n in counts.items() if c.isspace() or unicodedata.category(c)[0] in "LM")
    return letters / len(text) if text else 0.0


def repeated_line_share(text: str) -> float:
    """Returns the share of lines that repeat an earlier one; blank lines are no lines here."""
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def flaw_of(text: str, config: CorpusConfig) -> Flaw | None:
    """Returns the first rule that a cleaned piece of text fails, None where it passes all."""
    if len(text) < config.min_chars:
        detail = f"{len(text)} characters, the least is {config.min_chars}"
        return Flaw(reason=DropReason.TOO_SHORT, detail=detail)
    letters = letter_share(text)
    if letters < config.min_letter_share:
        detail = f"share of letters {letters:.2f}, the least is {config.min_letter_share}"
        return Flaw(reason=DropReason.LOW_QUALITY, detail=detail)
    repeated = repeated_line_share(text)
    if repeated > config.max_repeated_line_share:
        most = config.max_repeated_line_share
        detail = f"share of repeated lines {repeated:.2f}, the most is {most}"
        return Flaw(reason=DropReason.LOW_QUALITY, detail=detail)
    return None
