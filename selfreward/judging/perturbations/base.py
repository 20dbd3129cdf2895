"""What every way of making a response worse shares: what it is given, and text cut into pieces.

A piece is a sentence, a line or a whole code block together with the white space behind it, so
that pieces joined again are the text itself. Nothing here knows how a response is made worse.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from selfreward.judging.perturbations.tables import STOPWORDS, word_set

Severity = Literal[1, 2, 3]
"""1 is subtle, 3 is gross."""

MIN_CONTENT_CHARS = 20
"""A shorter piece is a heading, a greeting or a cell: dropping or moving it proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a perturbation may draw on beside the response itself.

    Example: `Given(rng=random.Random(7), others=("Boil the eggs for six minutes.",), severity=1,
    instruction="Why is the sky blue?", reference=None, longer=False)`
    """

    rng: random.Random
    others: Sequence[str] = ()
    """Responses to other instructions."""
    severity: Severity = 2
    instruction: str = ""
    reference: str | None = None
    """The known right answer to the instruction, where there is one."""
    longer: bool | None = None
    """Whether the result should be longer than the response; None leaves it to the idea."""


Perturbation = Callable[[str, Given], str | None]


@dataclass(frozen=True, slots=True)
class Piece:
    """Example: `Piece("It is blue.", "\\n\\n")`"""

    body: str
    gap: str
    """The white space between this piece and the next."""
    is_code: bool = False


# Possessive, and begun only at the first sign of a run: linear on any text.
_SENTENCE_END = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"')\]*_\u201d\u2019\u00bb]*+\s++"
    r"|[\u3002\uff01\uff1f]++[\"')\]\u201d\u2019\u300d]*+\s*+"
    r"|\n\s*+"
)
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_MARKER = re.compile(r"(?:[-*+\u2022]|\d{1,3}[.)]|#{1,6})[ \t]+")
_NUMBER_MARKER = re.compile(r"\s*[*_]{0,2}\d{1,3}")
_ABBREVIATIONS = word_set(
    "mr mrs ms dr prof st vs cf fig approx al jr sr inc eg ie e.g i.e z.b d.h p.ej u.s"
)
WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")


def _chunks(text: str) -> Iterator[tuple[str, bool]]:
    """Cuts at code fences; an unclosed fence reaches to the end."""
    chunk: list[str] = []
    inside = False
    for line in text.split("\n"):
        if not _FENCE.match(line):
            chunk.append(line + "\n")
        elif inside:
            yield "".join([*chunk, line, "\n"]), True
            chunk, inside = [], False
        else:
            if chunk:
                yield "".join(chunk), False
            chunk, inside = [line + "\n"], True
    if chunk:
        yield "".join(chunk), inside


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    """False at the point of an abbreviation, an initial, or the number of a list item."""
    sign = match[0]
    if not sign.startswith(".") or "\n" in sign:
        return True
    line_start = text.rfind("\n", max(0, match.start() - 12), match.start()) + 1
    if match.start() - line_start <= 8 and _NUMBER_MARKER.fullmatch(
        text, line_start, match.start()
    ):
        return False
    before = text[max(0, match.start() - 12) : match.start()].split()
    word = before[-1].strip("([\"'\u201c") if before else ""
    return word.lower() not in _ABBREVIATIONS and not (len(word) == 1 and word.isupper())


def _sentences(chunk: str) -> Iterator[tuple[str, str]]:
    start = 0
    for match in _SENTENCE_END.finditer(chunk):
        if _ends_sentence(chunk, match):
            span = chunk[start : match.end()]
            body = span.rstrip()
            yield body, span[len(body) :]
            start = match.end()
    body = chunk[start:].rstrip()
    yield body, chunk[start + len(body) :]


def pieces(text: str) -> list[Piece]:
    """Cuts a text into sentences, lines and code blocks; `joined` gives the stripped text back."""
    parts: list[Piece] = []
    for chunk, is_code in _chunks(text.strip()):
        spans = _sentences(chunk)
        if is_code:
            body = chunk.rstrip()
            spans = iter([(body, chunk[len(body) :])])
        for body, gap in spans:
            if body:
                parts.append(Piece(body, gap, is_code))
            elif parts:
                parts[-1] = replace(parts[-1], gap=parts[-1].gap + gap)
    return parts


def joined(parts: Iterable[Piece]) -> str:
    return "".join(part.body + part.gap for part in parts).strip()


def is_content(part: Piece) -> bool:
    """Whether a piece is prose that says something: no code, no heading, not a few letters."""
    return (
        not part.is_code
        and len(part.body) >= MIN_CONTENT_CHARS
        and not part.body.startswith(("#", "|"))
        and WORD.search(part.body) is not None
    )


def marker_of(body: str) -> str:
    """Returns the list or heading mark a piece begins with, such as `2. `, or nothing."""
    match = _MARKER.match(body)
    return match[0] if match else ""


def without(parts: Sequence[Piece], dropped: set[int]) -> list[Piece]:
    """Returns the pieces but those; a paragraph's end survives its last sentence."""
    kept: list[Piece] = []
    for i, part in enumerate(parts):
        if i not in dropped:
            kept.append(part)
        elif kept and part.gap.count("\n") > kept[-1].gap.count("\n"):
            kept[-1] = replace(kept[-1], gap=part.gap)
    return kept


def with_inserted(parts: Sequence[Piece], additions: Mapping[int, Sequence[str]]) -> list[Piece]:
    """Returns the pieces with sentences put behind those named, in the same paragraph.

    The key -1 stands for the place before the first piece.
    """
    made = [Piece(sentence, " ") for sentence in additions.get(-1, ())]
    if made and parts and (parts[0].is_code or marker_of(parts[0].body) or parts[0].body[0] == "|"):
        made[-1] = replace(made[-1], gap="\n\n")
    for i, part in enumerate(parts):
        added = additions.get(i, ())
        if not added:
            made.append(part)
            continue
        made.append(replace(part, gap="\n" if part.is_code else " "))
        made.extend(Piece(sentence, " ") for sentence in added)
        made[-1] = replace(made[-1], gap=part.gap)
    return made


def spliced(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    """Returns `text` with each (start, end, replacement) done; spans must not overlap."""
    made, position = [], 0
    for start, end, new in sorted(edits):
        made += [text[position:start], new]
        position = end
    return "".join([*made, text[position:]])


def amount(severity: Severity, total: int) -> int:
    """How many of `total` places are changed: one, about a third, or most of them."""
    share = (0.0, 0.3, 0.7)[severity - 1]
    return min(total, max(int(severity), round(share * total)))


def edit_pieces(text: str, given: Given, edit: Callable[[str], str | None]) -> str | None:
    """Edits prose pieces in random order until as many as the severity asks for have changed.

    `edit` returns None, or the body it was given, where it finds nothing to change.
    """
    parts = pieces(text)
    order = [i for i, part in enumerate(parts) if not part.is_code]
    given.rng.shuffle(order)
    wanted, changed = amount(given.severity, len(order)), 0
    for i in order:
        if changed == wanted:
            break
        body = edit(parts[i].body)
        if body is not None and body != parts[i].body:
            parts[i] = replace(parts[i], body=body)
            changed += 1
    return joined(parts) if changed else None


def content_words(text: str) -> list[str]:
    """Returns the distinct words of four or more letters that are not too common, in lower case."""
    words = (word.lower() for word in WORD.findall(text))
    return list(dict.fromkeys(w for w in words if len(w) >= 4 and w not in STOPWORDS))


def cased_like(word: str, model: str) -> str:
    """Returns `word` in capitals, capitalised or as it is, as `model` is written."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
