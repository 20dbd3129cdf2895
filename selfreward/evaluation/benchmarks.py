"""`--benchmark`: a published protocol's own scoring, from what an evaluation found.

Each entry says in one line which file it wants and turns an evaluation of that file into figures.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from selfreward.errors import ConfigError, DataError
from selfreward.evaluation.alpaca_eval import alpaca_eval_of, read_coefficients
from selfreward.evaluation.evaluated import Evaluated, Ratings
from selfreward.evaluation.reports import ProtocolReport
from selfreward.metrics import reward_modelling
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.head_to_head import HeadToHeadOutcome, head_to_head_report
from selfreward.metrics.intervals import DEFAULT_RESAMPLING, Resampling
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols import (
    judgebench,
    llmbar,
    mt_bench,
    rewardbench,
    rewardbench2,
    rm_bench,
)
from selfreward.metrics.protocols.rewardbench2_ties import RatedQuestion

Meta = Mapping[str, dict[str, Any]]
"""By pair id: the `meta` of the file's row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A protocol: what it wants, and its figures of one data set."""

    data_needed: str
    of_pairs: Callable[[list[PairOutcome], Meta, Resampling], ProtocolReport] | None = None
    of_scores: Callable[[Ratings, Resampling], ProtocolReport] | None = None
    of_choices: (
        Callable[[Sequence[BestOfOutcome], Ratings | None, Resampling], ProtocolReport] | None
    ) = None
    """Where its questions can be asked as one choice; with the ratings of what cannot."""
    keeps_same: bool = False
    """Whether two equal responses are a row of it, a draw of two models; elsewhere they are not."""


def _mt_bench(outcomes: list[PairOutcome], meta: Meta, resampling: Resampling) -> Any:
    votes = {
        o.pair_id: mt_bench.HumanVotes(
            **_wanted(
                meta,
                o.pair_id,
                ("question_id", "turn", "chosen_model", "rejected_model"),
                ("votes_chosen", "votes_rejected"),
                mt_bench.DATA_NEEDED,
            )
        )
        for o in outcomes
    }
    return mt_bench.mt_bench_from_pairs(outcomes, votes, resampling)


def _rm_bench(outcomes: list[PairOutcome], meta: Meta, resampling: Resampling) -> Any:
    pairs = [
        rm_bench.StyledPair(
            **_wanted(
                meta, o.pair_id, ("chosen_style", "rejected_style"), (), rm_bench.DATA_NEEDED
            ),
            outcome=o,
        )
        for o in outcomes
    ]
    return rm_bench.rm_bench_from_pairs(pairs, resampling)


def _wanted(
    meta: Meta, pair_id: str, keys: tuple[str, ...], counts: tuple[str, ...], needed: str
) -> dict[str, Any]:
    row = meta.get(pair_id, {})
    missing = [key for key in (*keys, *counts) if key not in row]
    if missing:
        raise DataError(f"meta of a pair lacks {', '.join(missing)}; {needed}")
    numbers = {key: int(row[key]) for key in counts}
    said = {key: row[key] if key == "turn" else str(row[key]) for key in keys}
    return said | numbers


def _head_to_head(outcomes: list[PairOutcome], _: Meta, resampling: Resampling) -> Any:
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


def _rewardbench2(
    choices: Sequence[BestOfOutcome], ratings: Ratings | None, resampling: Resampling
) -> Any:
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


def _reward_modelling(ratings: Ratings, resampling: Resampling) -> Any:
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


BENCHMARKS: dict[str, Benchmark] = {
    "rewardbench": Benchmark(
        data_needed=rewardbench.DATA_NEEDED,
        of_pairs=lambda outcomes, _, resampling: rewardbench.rewardbench_report(
            outcomes, resampling=resampling
        ),
    ),
    "rewardbench2": Benchmark(
        data_needed=rewardbench2.DATA_NEEDED,
        of_scores=lambda ratings, resampling: _rewardbench2((), ratings, resampling),
        of_choices=_rewardbench2,
    ),
    "judgebench": Benchmark(
        data_needed=judgebench.DATA_NEEDED,
        of_pairs=lambda outcomes, _, resampling: judgebench.judgebench_report(outcomes, resampling),
    ),
    "llmbar": Benchmark(
        data_needed=llmbar.DATA_NEEDED,
        of_pairs=lambda outcomes, _, resampling: llmbar.llmbar_report(outcomes, resampling),
    ),
    "mt_bench": Benchmark(data_needed=mt_bench.DATA_NEEDED, of_pairs=_mt_bench),
    "rm_bench": Benchmark(data_needed=rm_bench.DATA_NEEDED, of_pairs=_rm_bench),
    "reward_modelling": Benchmark(
        data_needed=(
            "reward_modelling: score file with messages, response, score (people's, the higher the"
            " better) and scale; several responses to each prompt"
        ),
        of_scores=_reward_modelling,
    ),
    "head_to_head": Benchmark(
        data_needed=(
            "head_to_head: pair file with id, prompt, chosen (the model's response) and rejected"
            " (the baseline's)"
        ),
        of_pairs=_head_to_head,
        keeps_same=True,
    ),
    "alpaca_eval": Benchmark(
        data_needed=(
            "alpaca_eval: pair file with id, prompt, chosen (the model's response), rejected (the"
            " baseline's), and meta with difficulty, if the published ones are to be used; with"
            " --coefficients FILE, those of the model in the published regression, none is fitted"
        ),
        of_pairs=alpaca_eval_of,
        keeps_same=True,
    ),
}


def get_benchmark(name: str) -> Benchmark:
    """Raises ConfigError for an unknown name."""
    if name not in BENCHMARKS:
        raise ConfigError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def benchmark_figures(
    name: str,
    evaluated: Evaluated,
    coefficients: str | None = None,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> dict[str, ProtocolReport]:
    """The protocol's figures of every data set it can score, by data set; `resampling` says how
    the interval of its headline figure is drawn.

    `coefficients` is a file for `read_coefficients`, of `alpaca_eval` only.

    Raises:
        ConfigError: there is no such protocol.
        DataError: no data set is of the kind it wants.
    """
    benchmark = get_benchmark(name)
    of_pairs = benchmark.of_pairs
    if coefficients is not None:
        of_pairs = partial(alpaca_eval_of, glm=read_coefficients(coefficients))
    figures: dict[str, ProtocolReport] = {}
    try:
        if of_pairs is not None:
            for data, outcomes in evaluated.outcomes.items():
                figures[data] = of_pairs(outcomes, evaluated.meta.get(data, {}), resampling)
        if benchmark.of_scores is not None:
            for data, ratings in evaluated.ratings.items():
                figures[data] = benchmark.of_scores(ratings, resampling)
        if benchmark.of_choices is not None:
            for data, choices in evaluated.choices.items():
                figures[data] = benchmark.of_choices(
                    choices, evaluated.ratings.get(data), resampling
                )
    except ValueError as error:
        raise DataError(f"{error}; {benchmark.data_needed}") from None
    if not figures:
        raise DataError(f"none of the files is of the kind wanted; {benchmark.data_needed}")
    return figures
