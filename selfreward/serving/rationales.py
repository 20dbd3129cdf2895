"""What of a judge's text is its rationale: in a text that is whole, and while it is written."""

import re
from typing import Protocol

from selfreward.engines.protocol import Draw
from selfreward.judging.rubrics import PairwiseRubric, find_verdict
from selfreward.serving.judge_wire import RationaleDelta, RationalePiece, Shown

# With the marks of emphasis before it, which are no part of the rationale.
_SCORE_MARK = re.compile(r"[*_`#]{0,8}[ \t]{0,4}(?<![A-Za-z])score[*_`]{0,3}[ \t]{0,4}:", re.I)
# The longest end of a text that further text may turn into the mark; empty where there is none.
_BEGUN_SCORE_MARK = re.compile(
    r"[*_`#]{0,8}[ \t]{0,4}"
    r"(?:(?<![A-Za-z])s(?:c(?:o(?:r(?:e[*_`]{0,3}[ \t]{0,4})?)?)?)?)?\Z",
    re.I,
)


def rationale_of_verdict(rubric: PairwiseRubric, draw: Draw) -> str:
    """What a draw says before its verdict, or behind it where the rubric asks for the verdict
    first; all of it where there is no verdict."""
    mark = find_verdict(rubric, draw.text, complete=draw.finish_reason != "length")
    if mark is None:
        return draw.text.strip()
    reason = draw.text[mark.end :] if rubric.verdict_first else draw.text[: mark.start]
    return reason.strip()


def rationale_before_score(draw: Draw) -> str:
    """What a draw says before its last `Score:`; all of it where there is none."""
    marks = list(_SCORE_MARK.finditer(draw.text))
    return (draw.text[: marks[-1].start()] if marks else draw.text).strip()


class Listener(Protocol):
    """Hears what one draw writes, piece by piece, and tells the rationale in it."""

    def hear(self, text: str) -> RationalePiece | None:
        """What `text` adds to the rationale; None where that is nothing yet."""
        ...


class VerdictFirstListener:
    """Tells what stands behind the verdict on one order of a pair."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._unread = ""
        self._is_reason = False

    def hear(self, text: str) -> RationaleDelta | None:
        """All from the first pair of closing brackets on."""
        if not self._is_reason:
            self._unread += text
            _, brackets, text = self._unread.partition("]]")
            self._is_reason = bool(brackets)
        return RationaleDelta(shown=self._shown, text=text) if text else None


class PairListener:
    """Tells what stands before the verdict on one order of a pair."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._is_reason = True

    def hear(self, text: str) -> RationaleDelta | None:
        """All up to the first square bracket: those are kept for the verdict."""
        if not self._is_reason:
            return None
        text, bracket, _ = text.partition("[")
        self._is_reason = not bracket
        return RationaleDelta(shown=self._shown, text=text) if text else None


class ScoreListener:
    """Tells what stands before the last `Score:`."""

    def __init__(self) -> None:
        self._text = ""
        self._num_told = 0

    def hear(self, text: str) -> RationalePiece | None:
        """Holds back what is, or may become, the last `Score:`. A later one shows that what was
        held back belongs to the rationale."""
        self._text += text
        marks = list(_SCORE_MARK.finditer(self._text, self._num_told))
        last = marks[-1] if marks else _BEGUN_SCORE_MARK.search(self._text, self._num_told)
        until = len(self._text) if last is None else last.start()
        told = self._text[self._num_told : until]
        self._num_told = until
        return RationalePiece(text=told) if told else None
