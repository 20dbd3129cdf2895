"""What an evaluation found, as the figures of published protocols."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields

from selfreward.errors import ConfigError, DataError
from selfreward.evaluation.evaluated import Ratings
from selfreward.evaluation.meta_fields import (
    COUNT,
    OPTIONAL_NUMBER,
    STYLE,
    TEXT,
    TURN,
    Meta,
    uneven,
    values_of,
)
from selfreward.judging.voting import combine_orders
from selfreward.metrics import reward_modelling
from selfreward.metrics.alpaca_eval import AlpacaEvalReport, LengthGlm, alpaca_eval_report
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.head_to_head import (
    HeadToHeadOutcome,
    HeadToHeadReport,
    head_to_head_report,
)
from selfreward.metrics.pairwise import PairOutcome, chosen_probabilities
from selfreward.metrics.protocols import mt_bench, rewardbench2, rm_bench
from selfreward.metrics.protocols.rewardbench2_ties import RatedQuestion
from selfreward.records import Outcome
from selfreward.storage import files

MT_BENCH_FIELDS = {
    "question_id": TEXT,
    "turn": TURN,
    "chosen_model": TEXT,
    "rejected_model": TEXT,
    "votes_chosen": COUNT,
    "votes_rejected": COUNT,
}
RM_BENCH_FIELDS = {"chosen_style": STYLE, "rejected_style": STYLE}
ALPACA_EVAL_FIELDS = {"difficulty": OPTIONAL_NUMBER}


def score_mt_bench(outcomes: list[PairOutcome], meta: Meta) -> mt_bench.MTBenchReport:
    votes = {
        o.pair_id: mt_bench.HumanVotes(
            **values_of(meta, o.pair_id, MT_BENCH_FIELDS, mt_bench.DATA_NEEDED)
        )
        for o in outcomes
    }
    return mt_bench.mt_bench_from_pairs(outcomes, votes)


def score_rm_bench(outcomes: list[PairOutcome], meta: Meta) -> rm_bench.RMBenchReport:
    pairs = [
        rm_bench.StyledPair(
            **values_of(meta, o.pair_id, RM_BENCH_FIELDS, rm_bench.DATA_NEEDED), outcome=o
        )
        for o in outcomes
    ]
    return rm_bench.rm_bench_from_pairs(pairs)


def score_head_to_head(outcomes: list[PairOutcome], meta: Meta) -> HeadToHeadReport:
    games = [
        HeadToHeadOutcome(
            prompt_id=o.pair_id,
            model_first=o.chosen_first,
            baseline_first=o.rejected_first,
            model_length=o.chosen_length or 0,
            baseline_length=o.rejected_length or 0,
        )
        for o in outcomes
        if o.chosen_first is not None and o.rejected_first is not None
    ]
    if len(games) < len(outcomes):
        raise ConfigError("head_to_head reads both orders: leave out --orders random")
    return head_to_head_report(games)


def score_alpaca_eval(
    outcomes: list[PairOutcome], meta: Meta, glm: LengthGlm | None = None
) -> AlpacaEvalReport:
    """With `glm`, the published coefficients of the model, no regression is fitted."""
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


def score_rewardbench2(
    choices: Sequence[BestOfOutcome], ratings: Ratings | None
) -> rewardbench2.RewardBench2Report:
    sides: dict[tuple[str, str], dict[float, list[float | None]]] = defaultdict(
        lambda: defaultdict(list)
    )
    if ratings is not None:
        for group, subset, human, judge in zip(
            ratings.groups, ratings.subsets, ratings.human, ratings.judge, strict=True
        ):
            sides[group, subset][human].append(judge)
    rated = [
        RatedQuestion(
            question_id=group,
            domain=subset,
            correct=tuple(found[1.0]),
            incorrect=tuple(found[0.0]),
        )
        for (group, subset), found in sides.items()
    ]
    return rewardbench2.rewardbench2_report(rated, choices)


def score_reward_modelling(ratings: Ratings) -> reward_modelling.RewardModellingReport:
    prompts: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
    for group, human, judge in zip(ratings.groups, ratings.human, ratings.judge, strict=True):
        prompts[group].append((-human, judge))
    return reward_modelling.reward_modelling_report(
        [
            reward_modelling.RankedResponses(
                prompt_id=group,
                human_ranks=tuple(rank for rank, _ in found),
                scores=tuple(score for _, score in found),
            )
            for group, found in prompts.items()
        ],
        full_score=ratings.judge_scale[1],
    )
