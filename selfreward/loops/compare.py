"""Two judges on the same files: the difference, its interval and its p, set by set and over all."""

from dataclasses import replace
from typing import Any

from selfreward.config import EvaluationConfig
from selfreward.errors import DataError
from selfreward.evaluation.evaluated import Evaluated
from selfreward.evaluation.judges import parse_judge
from selfreward.evaluation.outcomes import Paired, pair_outcomes
from selfreward.evaluation.readings import write_readings
from selfreward.layout import join
from selfreward.loops.evaluate import evaluate_judge
from selfreward.loops.evaluate_request import EvaluateRequest, recipe_of
from selfreward.metrics.bias import worse_figures
from selfreward.metrics.comparison import compare_judges, macro_comparison
from selfreward.reports.progress import Display

WORSE_TOLERANCE = 0.02
"""How much a figure of the bias card may rise before it is named."""


def compare(
    judge_a: str,
    judge_b: str,
    request: EvaluateRequest,
    display: Display | None = None,
    readings: str | None = None,
) -> dict[str, Any]:
    """Measures both judges and compares B with A, pair by pair.

    Without a recipe, runs are asked as they ask, and what is no run as the first run is: a model
    and the judge that was trained from it answer the same prompt. What both said to each row goes
    to the file `readings`, A's rows first.

    Raises:
        DataError: a data set has no pair that both judges read, or they read other orders.
    """
    specs = [parse_judge(judge) for judge in (judge_a, judge_b)]
    like = next((s.name for s in specs if s.kind == "run"), None)

    if request.orders == "random":
        # Which order a pair is read in follows from the seed, and two runs may have two.
        seed = recipe_of(specs[0], replace(request, judge=judge_a, like=like)).loop.seed
        request = replace(request, overrides=(*request.overrides, f"loop.seed={seed}"))

    def ask(judge: str, side: str) -> Evaluated:
        work = None if request.work is None else join(request.work, side)
        other = judge_b if judge == judge_a else judge_a
        asked = replace(request, judge=judge, work=work, like=like, against=other)
        return evaluate_judge(asked, display)

    first, second = ask(judge_a, "a"), ask(judge_b, "b")
    if readings is not None:
        sides = {"a": first, "b": second}
        write_readings(
            readings,
            (
                ({"side": side, "judge": found.judge} | row for row in rows)
                for side, found in sides.items()
                for rows in found.readings
            ),
        )
    config = recipe_of(specs[0], replace(request, judge=judge_a, like=like))
    return comparison_report(first, second, config.evaluation, config.loop.seed)


def comparison_report(
    a: Evaluated, b: Evaluated, config: EvaluationConfig, seed: int
) -> dict[str, Any]:
    """The figures of the comparison as plain data ready for JSON; differences are B minus A.

    Raises:
        DataError: none of the pairs of a data set was read by both.
    """
    paired: Paired = pair_outcomes(a.outcomes, b.outcomes)
    try:
        sets = {
            name: compare_judges(*both, confidence=config.confidence, seed=seed).to_dict()
            for name, both in paired.by_set.items()
        }
    except ValueError as error:
        raise DataError(f"{a.judge} and {b.judge} cannot be compared: {error}") from None
    macro = macro_comparison(
        *paired.accuracies, confidence=config.confidence, seed=seed, groups=paired.prompts
    )
    card_a, card_b = paired.cards(a.card_basis(), b.card_basis())
    return {
        "judge_a": a.judge,
        "judge_b": b.judge,
        "settings": {"a": a.settings, "b": b.settings},
        "data": sets,
        "macro": macro.to_dict(),
        "worse_in_b": worse_figures(card_a, card_b, tolerance=WORSE_TOLERANCE),
        "cards": {"a": card_a.to_dict(), "b": card_b.to_dict()},
    }
