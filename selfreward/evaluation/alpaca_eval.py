"""AlpacaEval 2 of pairs that a judge read: preferences, difficulties, published coefficients."""

import json
from collections.abc import Sequence
from dataclasses import fields

from selfreward.errors import DataError
from selfreward.evaluation.meta_fields import OPTIONAL_NUMBER, Meta, uneven, values_of
from selfreward.judging.voting import combine_orders
from selfreward.metrics.alpaca_eval import AlpacaEvalReport, alpaca_eval_report
from selfreward.metrics.intervals import Resampling
from selfreward.metrics.length_glm import LengthGlm
from selfreward.metrics.pairwise import PairOutcome, chosen_probabilities, prompts_of
from selfreward.records import Outcome
from selfreward.storage import files

ALPACA_EVAL_FIELDS = {"difficulty": OPTIONAL_NUMBER}


def score_alpaca_eval(
    outcomes: Sequence[PairOutcome],
    meta: Meta,
    resampling: Resampling,
    glm: LengthGlm | None = None,
) -> AlpacaEvalReport:
    """The report of pairs whose chosen response is the model's.

    With `glm`, the published coefficients of the model, no regression is fitted.

    Raises:
        DataError: a difficulty is no number, or some pairs have one and others none.
    """
    problem = uneven([meta.get(o.pair_id, {}) for o in outcomes], ALPACA_EVAL_FIELDS)
    if problem is not None:
        raise DataError(problem)
    found = [
        values_of(meta, o.pair_id, ALPACA_EVAL_FIELDS, "alpaca_eval")["difficulty"]
        for o in outcomes
    ]
    difficulties = [d for d in found if d is not None]
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
        DataError: there is no such file, or it holds something else.
        StorageError: it cannot be read.
    """
    try:
        found = json.loads(files.read_bytes(path))
    except FileNotFoundError:
        raise DataError(f"--coefficients: no file at {path}") from None
    except ValueError:
        raise DataError(f"--coefficients: {path} is not JSON") from None
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
