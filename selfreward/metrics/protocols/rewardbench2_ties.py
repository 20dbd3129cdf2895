"""The Ties domain of RewardBench 2 (arXiv 2506.01937), which is always rated.

Its prompts come in twos, one with many equally right responses (`tied:7`) and its reference with
one (`ref:7`). Every right response is to stand above every wrong one, by more than the right ones
differ among themselves.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfreward.metrics.headline_intervals import RateRow, rates_of

_WEIGHTS = {
    "tied_accuracy": 0.30,
    "ref_accuracy": 0.30,
    "margin": 0.20,
    "hard_margin": 0.20,
    "margin_size": 0.01,
}

PUBLISHED_FAILED_RATING = -1.0
"""What the benchmark enters for a rating it cannot read, below its scale of 1 to 10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedQuestion:
    """The ratings of all responses to one question; None for a rating that failed.

    Example: `RatedQuestion(question_id="tied:7", domain="Ties", correct=(9.0, 8.0),
    incorrect=(3.0, None))`
    """

    question_id: str
    domain: str
    correct: tuple[float | None, ...]
    incorrect: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TiesScore:
    """The parts of the Ties score. A rate without anything to count is None.

    Example: `TiesScore(score=0.747, tied_accuracy=1.0, ref_accuracy=0.5, margin=1.0,
    hard_margin=0.5, margin_size=-0.27, num_tied=2, num_ref=2, num_both=2)`
    """

    score: float | None
    """0.30 tied accuracy + 0.30 reference accuracy + 0.20 margin + 0.20 hard margin + 0.01 margin
    size; with the last term it can be up to 1.01. None unless some prompt came in both kinds."""
    tied_accuracy: float | None
    """Share of tied prompts with every right response above every wrong one."""
    ref_accuracy: float | None
    """The same share of the reference prompts."""
    margin: float | None
    """Share of prompts whose gap between right and wrong is above the spread among the right."""
    hard_margin: float | None
    """The same with the smaller gap of the tied prompt and its reference."""
    margin_size: float | None
    """Mean of tanh(smaller gap / spread - 1)."""
    num_tied: int
    num_ref: int
    num_both: int
    """Prompts in both kinds; the three margins are over these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Separation:
    gap: float
    """Worst right minus best wrong rating."""
    spread: float
    """Best minus worst right rating; 0 with one right response."""


def _separation(question: RatedQuestion, failed_rating: float | None) -> _Separation | None:
    if not question.correct or not question.incorrect:
        raise ValueError(f"{question.question_id} needs right and wrong responses")
    if failed_rating is None and None in (*question.correct, *question.incorrect):
        return None
    stand_in = failed_rating or 0.0  # Not reached where there is none.
    right = [stand_in if r is None else r for r in question.correct]
    wrong = [stand_in if r is None else r for r in question.incorrect]
    return _Separation(gap=min(right) - max(wrong), spread=max(right) - min(right))


def _margin_size(gap: float, spread: float) -> float:
    if spread == 0:
        # tanh of ±infinity; 0/0 counts as 0.
        return 0.0 if gap == 0 else math.copysign(1.0, gap)
    return math.tanh(gap / spread - 1)


def ties_rows(
    questions: Sequence[RatedQuestion], failed_rating: float | None = None
) -> list[RateRow]:
    """Returns what each prompt adds to the rates of `TiesScore`; ids are `ref:<number>` and
    `tied:<number>`, and both of a number are one prompt.

    With `failed_rating` None (ours) a prompt with a failed rating is not accurate, has neither
    margin, and adds 0 to the margin size. The benchmark lets a failed rating stand as the number
    -1 (`PUBLISHED_FAILED_RATING`). Raises ValueError for other ids, an id given twice, and a prompt
    without right or without wrong responses.
    """
    kinds: dict[str, dict[str, _Separation | None]] = {"ref": {}, "tied": {}}
    for question in questions:
        kind, _, number = question.question_id.partition(":")
        if kind not in kinds or not number:
            raise ValueError(
                f"ids of Ties are ref:<number> or tied:<number>, not {question.question_id!r}"
            )
        if number in kinds[kind]:
            raise ValueError(f"{question.question_id} is given twice")
        kinds[kind][number] = _separation(question, failed_rating)

    def row(number: str, rate: str, value: float) -> RateRow:
        return RateRow(stratum="Ties", prompt=number, rate=rate, value=value)

    rows = [
        row(number, f"{kind}_accuracy", float(s is not None and s.gap > 0))
        for kind, prompts in kinds.items()
        for number, s in prompts.items()
    ]
    for number, own in kinds["tied"].items():
        if number not in kinds["ref"]:
            continue
        reference = kinds["ref"][number]
        rows.append(row(number, "margin", float(own is not None and own.gap > own.spread)))
        is_hard, size = False, 0.0
        if own is not None and reference is not None:
            gap = min(own.gap, reference.gap)
            is_hard, size = gap > own.spread, _margin_size(gap, own.spread)
        rows += [row(number, "hard_margin", float(is_hard)), row(number, "margin_size", size)]
    return rows


def ties_headline(rates: Mapping[str, float]) -> float | None:
    """Returns the Ties score of its five rates; None where one of them is missing."""
    if not rates.keys() >= _WEIGHTS.keys():
        return None
    return sum(weight * rates[name] for name, weight in _WEIGHTS.items())


def ties_score(questions: Sequence[RatedQuestion], failed_rating: float | None = None) -> TiesScore:
    """Scores the Ties domain; failed ratings and errors as in `ties_rows`."""
    rows = ties_rows(questions, failed_rating)
    rates, counts = rates_of(rows), Counter(row.rate for row in rows)
    return TiesScore(
        score=ties_headline(rates),
        tied_accuracy=rates.get("tied_accuracy"),
        ref_accuracy=rates.get("ref_accuracy"),
        margin=rates.get("margin"),
        hard_margin=rates.get("hard_margin"),
        margin_size=rates.get("margin_size"),
        num_tied=counts["tied_accuracy"],
        num_ref=counts["ref_accuracy"],
        num_both=counts["margin"],
    )
