"""The figures of one judge over several data sets, as plain data ready for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from selfreward.config import EvaluationConfig
from selfreward.evaluation.outcomes import CardBasis, Reduce, first_draw, measure
from selfreward.judging.voting import combine_orders, majority, verdict_by_probability
from selfreward.metrics.calibration import calibration_report
from selfreward.metrics.comparison import macro_interval
from selfreward.metrics.intervals import bootstrap_interval
from selfreward.metrics.pairwise import PairOutcome, accuracy_per_pair, prompts_of
from selfreward.metrics.protocols.coverage import Coverage
from selfreward.records import Outcome, Verdict

Method = Literal["sampled", "greedy", "probability"]


def reducer(method: Method, votes: int) -> Reduce:
    """How the draws of one order become one verdict."""
    if method == "probability":
        return by_mean_probability
    return majority if votes > 1 else first_draw


def by_mean_probability(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of the mean P(first) of the draws that have one; without any, their failure."""
    known = [v.probability_first for v in verdicts if v.probability_first is not None]
    if not known:
        return verdict_by_probability(majority(verdicts))
    mean = sum(known) / len(known)
    return verdict_by_probability(
        Verdict(outcome=Outcome.CHOICE, choice="first", probability_first=mean)
    )


def set_report(
    name: str, outcomes: Sequence[PairOutcome], config: EvaluationConfig, seed: int
) -> dict[str, Any]:
    """The report of one data set: `pairwise_report`, the verdict of both orders together, and how
    well the probabilities are calibrated."""
    report = measure(name, outcomes, config, seed)
    twice = [
        (o.prompt, combine_orders(o.chosen_first, o.rejected_first))
        for o in outcomes
        if o.chosen_first is not None and o.rejected_first is not None
    ]
    right = [v.outcome is Outcome.CHOICE and v.choice == "first" for _, v in twice]
    interval = (
        bootstrap_interval(
            right, config.confidence, config.bootstrap_samples, seed, [p for p, _ in twice]
        )
        if twice
        else None
    )
    calibration = calibration_report(outcomes)
    return report | {
        # The two readings of a pair made into one verdict; without probabilities this is the
        # position-consistent accuracy.
        "order_averaged_accuracy": sum(right) / len(right) if right else None,
        "order_averaged_accuracy_ci": None if interval is None else [*interval],
        "ece": calibration.expected_calibration_error,
        "readings_with_probability": calibration.n,
        "readings_without_probability": calibration.num_without,
        "sections": {},
        "overall": report["accuracy"],
        "overall_ci": report["accuracy_ci"],
    }


class ProtocolReport(Protocol):
    """What a benchmark says of a judge; None is what its data did not suffice for."""

    def to_dict(self) -> dict[str, Any]: ...

    def headline(self) -> float | None: ...

    @property
    def overall_ci(self) -> tuple[float, float] | None:
        """Bootstrap interval of the headline figure over prompts."""

    def section_values(self) -> dict[str, float | None]: ...


def with_protocol(
    report: dict[str, Any],
    protocol: str,
    found: ProtocolReport,
    coverage: Coverage | None = None,
) -> dict[str, Any]:
    """Adds a benchmark's own figures to a data set's report; its sections and headline figure with
    its interval take the place of the plain ones, None included: no other figure may stand in its
    place. `coverage` says how much of what is published they are of."""
    measured = {} if coverage is None else coverage.to_dict()
    interval = found.overall_ci
    return report | {
        "protocol": {"name": protocol, **measured, **found.to_dict()},
        "sections": found.section_values(),
        "overall": found.headline(),
        "overall_ci": None if interval is None else [*interval],
    }


def macro_report(
    outcomes: Mapping[str, Sequence[PairOutcome]], config: EvaluationConfig, seed: int
) -> dict[str, Any]:
    """The plain mean over data sets of accuracy, and of what else is a rate of every set."""
    accuracies = {name: accuracy_per_pair(found) for name, found in outcomes.items()}
    mean = macro_interval(
        accuracies,
        confidence=config.confidence,
        num_samples=config.bootstrap_samples,
        seed=seed,
        groups={name: prompts_of(found) for name, found in outcomes.items()},
    )
    consistent = [
        float((values == 1.0).mean())
        for name, values in accuracies.items()
        if all(len(o.readings) == 2 for o in outcomes[name])
    ]
    return {
        "accuracy": mean.mean,
        "accuracy_ci": list(mean.ci),
        "position_consistent_accuracy": (
            sum(consistent) / len(consistent) if len(consistent) == len(accuracies) else None
        ),
        "data_sets": len(accuracies),
    }


def card_report(outcomes: Mapping[str, Sequence[PairOutcome]], basis: CardBasis) -> dict[str, Any]:
    """The bias card over all pairs of all data sets; without any, what the scores say."""
    return basis.card_figures([o for found in outcomes.values() for o in found])
