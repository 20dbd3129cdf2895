"""How good a pairwise judge is, measured on pairs whose better response is known.

Each pair is read twice, once in each order, or once in a random one. A reading without a choice
(tie, unparsed, truncated, refused) is not right, and is counted under its own name; it never enters
as a number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreward.metrics.intervals import bootstrap_interval
from selfreward.records import Outcome, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOutcome:
    """The readings of one labelled pair: in both orders, or in the one it was read in.

    Example: `PairOutcome(pair_id="pair-0c…", subset="modified_instruction",
    chosen_first=Verdict(outcome="choice", choice="first"),
    rejected_first=Verdict(outcome="tie"))`
    """

    pair_id: str
    subset: str
    group: str | None = None
    """The prompt both responses answer (`instruction_id`); None where the pair has a prompt of
    its own. Pairs of one prompt are not independent, so intervals are over prompts."""
    chosen_first: Verdict | None
    """The reading in which the better response was shown first; None where it was not read so."""
    rejected_first: Verdict | None
    chosen_length: int | None = None
    """Characters or tokens of the better response, where length bias is to be measured."""
    rejected_length: int | None = None

    @property
    def prompt(self) -> str:
        """What its prompt is known by."""
        return self.pair_id if self.group is None else self.group

    @property
    def choices(self) -> tuple[bool | None, bool | None]:
        """For each order: whether it chose the better response; None without a choice."""
        return (
            _named(self.chosen_first, "first"),
            _named(self.rejected_first, "second"),
        )

    @property
    def readings(self) -> tuple[Verdict, ...]:
        """The verdicts there are, one or two."""
        return tuple(v for v in (self.chosen_first, self.rejected_first) if v is not None)


def _named(verdict: Verdict | None, position: str) -> bool | None:
    if verdict is None or verdict.outcome is not Outcome.CHOICE:
        return None
    return verdict.choice == position


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseReport:
    """Quality and biases of a judge. A rate without anything to count is None.

    Example: `PairwiseReport(n=64, num_prompts=40, accuracy=0.65, accuracy_ci=(0.57, 0.73), …)`
    """

    n: int
    """Pairs; each has two readings, or one where a random order was asked for."""
    num_prompts: int
    """Prompts of these pairs: what is resampled."""
    accuracy: float
    """Right readings over all readings."""
    accuracy_ci: tuple[float, float]
    """Percentile bootstrap interval over prompts."""
    position_consistent_accuracy: float | None
    """Of the pairs read in both orders: share right in both."""
    position_consistent_accuracy_ci: tuple[float, float] | None
    """Percentile bootstrap interval over the prompts of these pairs."""
    first_position_rate: float | None
    """Share of the choices that name the first position; 0.5 is without bias on both orders."""
    swap_flip_rate: float | None
    """Of the pairs with two choices: share whose chosen response changes with the order."""
    unparsed_rate: float
    truncated_rate: float
    tie_rate: float
    refused_rate: float
    longer_chosen_rate: float | None
    """Of the choices between responses of unequal known length: share naming the longer."""
    brier: float | None
    """Mean (1 - P(better response))² of the readings with a probability: 0 is best, 0.25 is
    always P = 0.5 (Brier 1950)."""
    subsets: dict[str, dict[str, float]]
    """For each subset its `n` and `accuracy`, by name."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        consistent = self.position_consistent_accuracy_ci
        return {
            **asdict(self),
            "accuracy_ci": [*self.accuracy_ci],
            "position_consistent_accuracy_ci": None if consistent is None else [*consistent],
        }


def prompts_of(outcomes: Sequence[PairOutcome]) -> list[str]:
    """Returns the prompt of each pair, in the order given."""
    return [outcome.prompt for outcome in outcomes]


def accuracy_per_pair(outcomes: Sequence[PairOutcome]) -> npt.NDArray[np.float64]:
    """Returns for each pair, in the order given, the right share of its readings: 0, 0.5 or 1."""
    return np.array(
        [sum(c is True for c in o.choices) / len(o.readings) for o in outcomes], dtype=np.float64
    )


def _mean(values: Iterable[float]) -> float | None:
    array = np.fromiter(values, dtype=np.float64)
    return float(array.mean()) if len(array) else None


def _first_position_choices(outcome: PairOutcome) -> list[bool]:
    return [v.choice == "first" for v in outcome.readings if v.outcome is Outcome.CHOICE]


def _longer_choices(outcome: PairOutcome) -> list[bool]:
    chosen, rejected = outcome.chosen_length, outcome.rejected_length
    if chosen is None or rejected is None or chosen == rejected:
        return []
    return [is_right == (chosen > rejected) for is_right in outcome.choices if is_right is not None]


def _squared_errors(outcome: PairOutcome) -> list[float]:
    return [(1 - p) ** 2 for p in chosen_probabilities(outcome)]


def chosen_probabilities(outcome: PairOutcome) -> list[float]:
    """P(the better response) of each reading that has a probability, in the range 0 to 1."""
    first, second = (
        None if v is None else v.probability_first
        for v in (outcome.chosen_first, outcome.rejected_first)
    )
    known = [] if first is None else [first]
    # Shown second, the better response has the probability that the first position has not.
    return known if second is None else [*known, 1 - second]


def _subsets(
    outcomes: Sequence[PairOutcome], accuracies: npt.NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    names = np.array([o.subset for o in outcomes], dtype=object)
    return {
        name: {"n": int((names == name).sum()), "accuracy": float(accuracies[names == name].mean())}
        for name in sorted({o.subset for o in outcomes})
    }


def pairwise_report(
    outcomes: Sequence[PairOutcome],
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> PairwiseReport:
    """Measures a judge on labelled pairs read in both orders (arXiv 2408.02666, section 4).

    Accuracy is the mean over both orders, so a judge that always names one position scores 0.5.
    Intervals resample whole prompts with all their pairs, 2,000 times by default. Raises
    ValueError without pairs.
    """
    if not outcomes:
        raise ValueError("a judge cannot be measured on no pairs")
    accuracies = accuracy_per_pair(outcomes)
    both = [(a, b) for a, b in (o.choices for o in outcomes) if a is not None and b is not None]
    readings = [v.outcome for o in outcomes for v in o.readings]
    twice = np.array([len(o.readings) == 2 for o in outcomes])
    consistent = accuracies[twice] == 1.0
    prompts = prompts_of(outcomes)
    of_twice = [prompt for prompt, is_read in zip(prompts, twice, strict=True) if is_read]
    return PairwiseReport(
        n=len(outcomes),
        num_prompts=len(set(prompts)),
        accuracy=float(accuracies.mean()),
        accuracy_ci=bootstrap_interval(accuracies, confidence, num_samples, seed, prompts),
        position_consistent_accuracy=_mean(consistent),
        position_consistent_accuracy_ci=(
            bootstrap_interval(consistent, confidence, num_samples, seed, of_twice)
            if of_twice
            else None
        ),
        first_position_rate=_mean(c for o in outcomes for c in _first_position_choices(o)),
        swap_flip_rate=_mean(a != b for a, b in both),
        unparsed_rate=readings.count(Outcome.UNPARSED) / len(readings),
        truncated_rate=readings.count(Outcome.TRUNCATED) / len(readings),
        tie_rate=readings.count(Outcome.TIE) / len(readings),
        refused_rate=readings.count(Outcome.REFUSED) / len(readings),
        longer_chosen_rate=_mean(c for o in outcomes for c in _longer_choices(o)),
        brier=_mean(e for o in outcomes for e in _squared_errors(o)),
        subsets=_subsets(outcomes, accuracies),
    )
