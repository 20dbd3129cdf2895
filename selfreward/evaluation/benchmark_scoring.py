"""What an evaluation found, as the figures of published protocols."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict

from selfreward.errors import ConfigError
from selfreward.evaluation.evaluated import Ratings
from selfreward.evaluation.meta_fields import COUNT, STYLE, TEXT, TURN, Meta, values_of
from selfreward.metrics import reward_modelling
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.head_to_head import (
    HeadToHeadOutcome,
    HeadToHeadReport,
    head_to_head_report,
)
from selfreward.metrics.intervals import Resampling
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols import mt_bench, rewardbench2, rm_bench
from selfreward.metrics.protocols.rewardbench2_ties import RatedQuestion

MT_BENCH_FIELDS = {
    "question_id": TEXT,
    "turn": TURN,
    "chosen_model": TEXT,
    "rejected_model": TEXT,
    "votes_chosen": COUNT,
    "votes_rejected": COUNT,
}
RM_BENCH_FIELDS = {"chosen_style": STYLE, "rejected_style": STYLE}


def score_mt_bench(
    outcomes: list[PairOutcome], meta: Meta, resampling: Resampling
) -> mt_bench.MTBenchReport:
    votes = {
        o.pair_id: mt_bench.HumanVotes(
            **values_of(meta, o.pair_id, MT_BENCH_FIELDS, mt_bench.DATA_NEEDED)
        )
        for o in outcomes
    }
    return mt_bench.mt_bench_from_pairs(outcomes, votes, resampling)


def score_rm_bench(
    outcomes: list[PairOutcome], meta: Meta, resampling: Resampling
) -> rm_bench.RMBenchReport:
    pairs = [
        rm_bench.StyledPair(
            **values_of(meta, o.pair_id, RM_BENCH_FIELDS, rm_bench.DATA_NEEDED), outcome=o
        )
        for o in outcomes
    ]
    return rm_bench.rm_bench_from_pairs(pairs, resampling)


def score_head_to_head(
    outcomes: list[PairOutcome], _: Meta, resampling: Resampling
) -> HeadToHeadReport:
    games = [
        HeadToHeadOutcome(
            prompt_id=o.prompt,
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
    return head_to_head_report(games, **asdict(resampling))


def score_rewardbench2(
    choices: Sequence[BestOfOutcome], ratings: Ratings | None, resampling: Resampling
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
    return rewardbench2.rewardbench2_report(rated, choices, resampling)


def score_reward_modelling(
    ratings: Ratings, resampling: Resampling
) -> reward_modelling.RewardModellingReport:
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
        **asdict(resampling),
    )
