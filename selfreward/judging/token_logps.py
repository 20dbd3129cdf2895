"""Where in a judge's text a verdict letter or a score was produced, and how likely each was there.

A text may name the same letter again behind its verdict ("[[A]] since it beats B."), or another
number behind its score ("2/5"): only the place the verdict is read from says how sure it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogps:
    """Natural log-probabilities of the wanted tokens at one place, where one of them was produced.

    Example: `TokenLogps(produced="A", start=2, logps={"A": -0.11, "B": -2.3})` for `[[A]]`
    """

    produced: str
    start: int
    """Index in the text of its first character, white space left out."""
    logps: Mapping[str, float]


def token_starts(text: str, tokens: Sequence[str]) -> list[int | None]:
    """Returns where each token's text, without white space around it, begins in `text`.

    None for white space and for what the text leaves out: a token that ended the turn, or part of a
    character.
    """
    starts: list[int | None] = []
    cursor = 0
    for token in tokens:
        written = token.strip()
        at = text.find(written, cursor) if written else -1
        starts.append(at if at >= 0 else None)
        cursor = at + len(written) if at >= 0 else cursor
    return starts


def logps_at(
    places: Sequence[TokenLogps], written: str, start: int, end: int
) -> Mapping[str, float] | None:
    """Returns the log-probabilities where `written` was produced as one token inside
    `text[start:end]`, or None."""
    for place in places:
        if place.produced == written and start <= place.start < end:
            return place.logps
    return None
