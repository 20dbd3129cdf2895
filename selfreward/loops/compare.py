"""Two judges on the same files: the difference, its interval and its p, set by set and over all."""

from dataclasses import replace
from typing import Any

from selfreward.errors import DataError
from selfreward.evaluation.evaluated import Evaluated
from selfreward.evaluation.outcomes import common_outcomes
from selfreward.layout import join
from selfreward.loops.evaluate import EvaluateRequest, evaluate_judge
from selfreward.metrics.bias import bias_card, worse_figures
from selfreward.metrics.comparison import compare_judges, macro_comparison
from selfreward.metrics.pairwise import PairOutcome, accuracy_per_pair
from selfreward.reports.progress import Display

WORSE_TOLERANCE = 0.02
"""How much a figure of the bias card may rise before it is named."""


def compare(
    judge_a: str, judge_b: str, request: EvaluateRequest, display: Display | None = None
) -> dict[str, Any]:
    """Measures both judges and compares B with A, pair by pair.

    Raises:
        DataError: a data set has no pair that both judges read.
    """

    def measure(judge: str, side: str) -> Evaluated:
        work = None if request.work is None else join(request.work, side)
        return evaluate_judge(replace(request, judge=judge, work=work), display)

    return comparison_report(measure(judge_a, "a"), measure(judge_b, "b"), request)


def comparison_report(a: Evaluated, b: Evaluated, request: EvaluateRequest) -> dict[str, Any]:
    """The figures of the comparison as plain data ready for JSON; differences are B minus A."""
    config, seed = request.config.evaluation, request.config.loop.seed
    sets: dict[str, Any] = {}
    accuracies: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    every: tuple[list[PairOutcome], list[PairOutcome]] = ([], [])
    for name in a.outcomes:
        before, after = common_outcomes(a.outcomes[name], b.outcomes[name])
        if not before:
            raise DataError(f"{name}: there is no pair that both judges read")
        sets[name] = compare_judges(
            before, after, confidence=config.confidence, seed=seed
        ).to_dict()
        for side, outcomes in enumerate((before, after)):
            accuracies[side][name] = accuracy_per_pair(outcomes)
            every[side].extend(outcomes)
    if not sets:
        raise DataError("a comparison needs at least one pair file")
    card_a, card_b = (bias_card(outcomes) for outcomes in every)
    macro = macro_comparison(*accuracies, confidence=config.confidence, seed=seed)
    return {
        "judge_a": a.judge,
        "judge_b": b.judge,
        "settings": a.settings,
        "data": sets,
        "macro": macro.to_dict(),
        "worse_in_b": worse_figures(card_a, card_b, tolerance=WORSE_TOLERANCE),
        "cards": {"a": card_a.to_dict(), "b": card_b.to_dict()},
    }
