"""How often a judge names the right one of several responses, and how far their places sway it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from selfreward.metrics.intervals import DEFAULT_RESAMPLING, Resampling, bootstrap_interval
from selfreward.records import Outcome
from selfreward.records_scores import SlotVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfOutcome:
    """What a judge said to one question; its draws are one verdict by now.

    Example: `BestOfOutcome(question_id="q-12", subset="Focus", gold=2, num_shown=4,
    verdict=SlotVerdict(outcome="choice", slot=0))`
    """

    question_id: str
    subset: str
    gold: int
    """Slot in which the right response was shown, from 0."""
    num_shown: int
    verdict: SlotVerdict

    @property
    def is_right(self) -> bool:
        """True where the judge named the right response; a failure is not right."""
        return self.verdict.outcome is Outcome.CHOICE and self.verdict.slot == self.gold


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfReport:
    """Figures of one file. A rate without anything to count is None.

    Example: `BestOfReport(n=1763, accuracy=0.61, accuracy_ci=(0.59, 0.63), chance=0.25,
    slot_rates=(0.31, 0.24, 0.23, 0.22), unparsed_rate=0.01, truncated_rate=0.0, refused_rate=0.0,
    tie_rate=0.0, subsets={"Math": {"n": 183, "accuracy": 0.52}, …})`
    """

    n: int
    accuracy: float | None
    """Right verdicts over all questions; a failure is neither right nor partly right."""
    accuracy_ci: tuple[float, float] | None
    """Percentile bootstrap interval over questions."""
    chance: float | None
    """What naming a response blindly gets."""
    slot_rates: tuple[float, ...]
    """Of the verdicts, the share for each slot; alike without a liking for a place."""
    unparsed_rate: float | None
    truncated_rate: float | None
    refused_rate: float | None
    tie_rate: float | None
    """Of votes only: several responses were named equally often."""
    subsets: dict[str, dict[str, float]]
    """For each subset its `n` and `accuracy`, by name."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        interval = self.accuracy_ci
        return asdict(self) | {
            "accuracy_ci": None if interval is None else [*interval],
            "slot_rates": list(self.slot_rates),
        }


def best_of_report(
    outcomes: Sequence[BestOfOutcome], resampling: Resampling = DEFAULT_RESAMPLING
) -> BestOfReport:
    """Counts what became of each question."""
    found = Counter(o.verdict.outcome for o in outcomes)
    slots = Counter(o.verdict.slot for o in outcomes if o.verdict.outcome is Outcome.CHOICE)
    most_shown = max((o.num_shown for o in outcomes), default=0)

    def rate(outcome: Outcome) -> float | None:
        return found[outcome] / len(outcomes) if outcomes else None

    return BestOfReport(
        n=len(outcomes),
        accuracy=fmean(o.is_right for o in outcomes) if outcomes else None,
        accuracy_ci=(
            bootstrap_interval([o.is_right for o in outcomes], **asdict(resampling))
            if outcomes
            else None
        ),
        chance=fmean(1 / o.num_shown for o in outcomes) if outcomes else None,
        slot_rates=tuple(slots[i] / slots.total() for i in range(most_shown)) if slots else (),
        unparsed_rate=rate(Outcome.UNPARSED),
        truncated_rate=rate(Outcome.TRUNCATED),
        refused_rate=rate(Outcome.REFUSED),
        tie_rate=rate(Outcome.TIE),
        subsets={
            name: {"n": len(rights), "accuracy": fmean(rights)}
            for name, rights in sorted(_rights_by_subset(outcomes).items())
        },
    )


def _rights_by_subset(outcomes: Sequence[BestOfOutcome]) -> dict[str, list[bool]]:
    rights: dict[str, list[bool]] = {}
    for outcome in outcomes:
        rights.setdefault(outcome.subset, []).append(outcome.is_right)
    return rights
