"""AlpacaEval 2 of pairs that a judge read: preferences, difficulties, published coefficients."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from selfreward.errors import DataError
from selfreward.judging.voting import combine_orders
from selfreward.metrics.alpaca_eval import AlpacaEvalReport, alpaca_eval_report
from selfreward.metrics.intervals import Resampling
from selfreward.metrics.length_glm import LengthGlm
from selfreward.metrics.pairwise import PairOutcome, chosen_probabilities, prompts_of
from selfreward.records import Outcome
from selfreward.storage import files


def alpaca_eval_of(
    outcomes: Sequence[PairOutcome],
    meta: Mapping[str, Mapping[str, Any]],
    resampling: Resampling,
    glm: LengthGlm | None = None,
) -> AlpacaEvalReport:
    """The report of pairs whose chosen response is the model's; `meta` is by pair id.

    With `glm`, the published coefficients of the model, no regression is fitted.

    Raises:
        DataError: some pairs have a difficulty and others none.
    """
    found = [meta.get(o.pair_id, {}).get("difficulty") for o in outcomes]
    difficulties = [float(d) for d in found if d is not None]
    if difficulties and len(difficulties) < len(found):
        raise DataError(
            f"{len(found) - len(difficulties)} of {len(found)} pairs have no meta.difficulty: give"
            " it to all of them or to none"
        )
    return alpaca_eval_report(
        [_preference(o) for o in outcomes],
        [o.chosen_length or 0 for o in outcomes],
        [o.rejected_length or 0 for o in outcomes],
        difficulties or None,
        glm=glm,
        prompts=prompts_of(outcomes),
        resampling=resampling,
    )


def read_coefficients(path: str) -> LengthGlm:
    """Reads a model's coefficients in AlpacaEval's regression, a JSON object of numbers.

    Raises:
        DataError: the file holds something else.
        UserError: it cannot be read.
    """
    found = files.read_json(path)
    wanted = [f.name for f in fields(LengthGlm)]
    if not isinstance(found, dict) or not set(found) <= set(wanted) or "model" not in found:
        raise DataError(f"{path}: coefficients are an object of {', '.join(wanted)}, not {found!r}")
    try:
        return LengthGlm(**{name: float(value) for name, value in found.items()})
    except (TypeError, ValueError):
        raise DataError(f"{path}: coefficients are numbers, not {found!r}") from None


def _preference(outcome: PairOutcome) -> float | None:
    """How far the model is preferred to the baseline, 0 to 1; None where a reading failed: that
    of one order alone would carry the judge's liking for a position."""
    readings = outcome.readings
    probabilities = chosen_probabilities(outcome)
    if len(probabilities) == len(readings):
        return sum(probabilities) / len(probabilities)
    if outcome.chosen_first is not None and outcome.rejected_first is not None:
        both = combine_orders(outcome.chosen_first, outcome.rejected_first)
        is_chosen = both.choice == "first"
    else:
        both = readings[0]
        is_chosen = True in outcome.choices
    if both.outcome is Outcome.TIE:
        return 0.5
    return float(is_chosen) if both.outcome is Outcome.CHOICE else None
