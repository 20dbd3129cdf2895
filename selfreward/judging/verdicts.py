"""From a judge's text to a `Verdict`. A judgment that failed has a name and never a number."""

import math
import re
from collections.abc import Mapping, Sequence

from selfreward.judging.rubrics import PairwiseRubric, find_verdict
from selfreward.judging.token_logps import TokenLogps, logps_at
from selfreward.records import Outcome, Verdict

REFUSAL_CHARS = 240
"""A refusal opens a text; further down "I cannot judge its tone" is part of an argument."""

_NOT = (
    r"(?:cannot|can not|can't|could not|couldn't|will not|won't|would rather not"
    r"|(?:am|'m) (?:unable|not able|not allowed) to"
    r"|(?:am|'m) not (?:comfortable|going to|in a position to)"
    r"|(?:must|have to) decline(?: to)?)"
)
_ACT = (
    r"(?:judg|compar|evaluat|assess|rat(?:e|ing)\b|rank|choos|pick|decid|determin|declar|select"
    r"|say which|tell which|help|assist|compl|continu|fulfil|participat|provid|engag|respond"
    r"|answer|do (?:that|this|so)|giv|mak(?:e|ing)|recommend)"
)
_REFUSAL = re.compile(
    rf"\bI ?{_NOT} (?:\w+ )?{_ACT}|\bI (?:decline|refuse) to\b|\b(?:as|being) an AI\b"
    r"|\bI(?:'m| am) sorry, but\b",
    re.IGNORECASE,
)


def _probability_first(logps: Mapping[str, float] | None) -> float | None:
    """P(A) / (P(A) + P(B)) of the two verdict letters; None unless both are known and finite."""
    if logps is None or "A" not in logps or "B" not in logps:
        return None
    difference = logps["B"] - logps["A"]
    if math.isnan(difference):
        return None
    # exp(a) / (exp(a) + exp(b)) = 1 / (1 + exp(b - a)), which overflows only past 700.
    return 0.0 if difference > 700 else 1.0 / (1.0 + math.exp(difference))


def opens_with_refusal(text: str) -> bool:
    """Whether a judge's text begins by declining to judge."""
    opening = " ".join(text[: 4 * REFUSAL_CHARS].replace("\u2019", "'").split())[:REFUSAL_CHARS]
    return _REFUSAL.search(opening) is not None


def parse_pairwise(
    rubric: PairwiseRubric,
    text: str,
    finish_reason: str,
    logps: Sequence[TokenLogps] = (),
) -> Verdict:
    """Reads the verdict of a pairwise judgment. Accepts any text and never raises.

    In this order:

    1. Marks of one letter only: that is the verdict, A → first, B → second, C → tie, also where
       the text was cut off after it.
    2. Marks of several letters: the verdict is on the last non-empty line if that line has
       exactly one letter and the text was not cut off; otherwise there is none. Where the rubric
       asks for the verdict first, it is on the first non-empty line if that has exactly one.
    3. No verdict and `finish_reason` is `length`: truncated.
    4. No verdict and the text opens with a refusal to judge: refused.
    5. Anything else: unparsed.

    `logps` are natural log-probabilities of the verdict letters where one was produced. With both
    of them at the place of the verdict that was read, a choice carries `probability_first`, the
    share of A in the probability of A and B; other places have no say.
    """
    truncated = finish_reason == "length"
    mark = find_verdict(rubric, text, complete=not truncated)
    if mark is not None:
        if mark.letter == "C":
            return Verdict(outcome=Outcome.TIE)
        return Verdict(
            outcome=Outcome.CHOICE,
            choice="first" if mark.letter == "A" else "second",
            probability_first=_probability_first(
                logps_at(logps, mark.letter, mark.start, mark.end)
            ),
        )
    if truncated:
        return Verdict(outcome=Outcome.TRUNCATED)
    if opens_with_refusal(text):
        return Verdict(outcome=Outcome.REFUSED)
    return Verdict(outcome=Outcome.UNPARSED)
