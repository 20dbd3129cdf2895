"""`--benchmark`: a published protocol's own scoring, from what an evaluation found.

Each entry says in one line which file it wants and turns an evaluation of that file into figures.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from selfreward.errors import ConfigError, DataError
from selfreward.evaluation.evaluated import Evaluated, Ratings
from selfreward.evaluation.reports import ProtocolReport
from selfreward.judging.voting import combine_orders
from selfreward.metrics import reward_modelling
from selfreward.metrics.alpaca_eval import AlpacaEvalReport, LengthGlm, alpaca_eval_report
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.head_to_head import HeadToHeadOutcome, head_to_head_report
from selfreward.metrics.pairwise import PairOutcome, chosen_probabilities
from selfreward.metrics.protocols import (
    judgebench,
    llmbar,
    mt_bench,
    rewardbench,
    rewardbench2,
    rm_bench,
)
from selfreward.metrics.protocols.rewardbench2_ties import RatedQuestion
from selfreward.records import Outcome
from selfreward.storage import files

Meta = Mapping[str, dict[str, Any]]
"""By pair id: the `meta` of the file's row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A protocol: what it wants, and its figures of one data set."""

    data_needed: str
    of_pairs: Callable[[list[PairOutcome], Meta], ProtocolReport] | None = None
    of_scores: Callable[[Ratings], ProtocolReport] | None = None
    of_choices: Callable[[Sequence[BestOfOutcome], Ratings | None], ProtocolReport] | None = None
    """Where its questions can be asked as one choice; with the ratings of what cannot."""
    keeps_same: bool = False
    """Whether two equal responses are a row of it, a draw of two models; elsewhere they are not."""


def _mt_bench(outcomes: list[PairOutcome], meta: Meta) -> Any:
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
    return mt_bench.mt_bench_from_pairs(outcomes, votes)


def _rm_bench(outcomes: list[PairOutcome], meta: Meta) -> Any:
    pairs = [
        rm_bench.StyledPair(
            **_wanted(
                meta, o.pair_id, ("chosen_style", "rejected_style"), (), rm_bench.DATA_NEEDED
            ),
            outcome=o,
        )
        for o in outcomes
    ]
    return rm_bench.rm_bench_from_pairs(pairs)


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


def _head_to_head(outcomes: list[PairOutcome], meta: Meta) -> Any:
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


def _alpaca_eval(
    outcomes: list[PairOutcome], meta: Meta, glm: LengthGlm | None = None
) -> AlpacaEvalReport:
    """With `glm`, the published coefficients of the model, no regression is fitted."""
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


def _rewardbench2(choices: Sequence[BestOfOutcome], ratings: Ratings | None) -> Any:
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


def _reward_modelling(ratings: Ratings) -> Any:
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


BENCHMARKS: dict[str, Benchmark] = {
    "rewardbench": Benchmark(
        data_needed=rewardbench.DATA_NEEDED,
        of_pairs=lambda outcomes, _: rewardbench.rewardbench_report(outcomes),
    ),
    "rewardbench2": Benchmark(
        data_needed=rewardbench2.DATA_NEEDED,
        of_scores=lambda ratings: _rewardbench2((), ratings),
        of_choices=_rewardbench2,
    ),
    "judgebench": Benchmark(
        data_needed=judgebench.DATA_NEEDED,
        of_pairs=lambda outcomes, _: judgebench.judgebench_report(outcomes),
    ),
    "llmbar": Benchmark(
        data_needed=llmbar.DATA_NEEDED,
        of_pairs=lambda outcomes, _: llmbar.llmbar_report(outcomes),
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
        of_pairs=_alpaca_eval,
        keeps_same=True,
    ),
}


def get_benchmark(name: str) -> Benchmark:
    """Raises ConfigError for an unknown name."""
    if name not in BENCHMARKS:
        raise ConfigError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def benchmark_figures(
    name: str, evaluated: Evaluated, coefficients: str | None = None
) -> dict[str, ProtocolReport]:
    """The protocol's figures of every data set it can score, by data set.

    `coefficients` is a file for `read_coefficients`, of `alpaca_eval` only.

    Raises:
        ConfigError: there is no such protocol.
        DataError: no data set is of the kind it wants.
    """
    benchmark = get_benchmark(name)
    of_pairs = benchmark.of_pairs
    if coefficients is not None:
        of_pairs = partial(_alpaca_eval, glm=read_coefficients(coefficients))
    figures: dict[str, ProtocolReport] = {}
    try:
        if of_pairs is not None:
            for data, outcomes in evaluated.outcomes.items():
                figures[data] = of_pairs(outcomes, evaluated.meta.get(data, {}))
        if benchmark.of_scores is not None:
            for data, ratings in evaluated.ratings.items():
                figures[data] = benchmark.of_scores(ratings)
        if benchmark.of_choices is not None:
            for data, choices in evaluated.choices.items():
                figures[data] = benchmark.of_choices(choices, evaluated.ratings.get(data))
    except ValueError as error:
        raise DataError(f"{error}; {benchmark.data_needed}") from None
    if not figures:
        raise DataError(f"none of the files is of the kind wanted; {benchmark.data_needed}")
    return figures
