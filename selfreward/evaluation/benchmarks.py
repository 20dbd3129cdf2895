"""`--benchmark`: a published protocol's own scoring, from what an evaluation found.

Each entry says in one line which file it wants and turns an evaluation of that file into figures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from selfreward.errors import ConfigError, DataError
from selfreward.evaluation.alpaca_eval import ALPACA_EVAL_FIELDS, score_alpaca_eval
from selfreward.evaluation.benchmark_scoring import (
    MT_BENCH_FIELDS,
    RM_BENCH_FIELDS,
    score_head_to_head,
    score_mt_bench,
    score_reward_modelling,
    score_rewardbench2,
    score_rm_bench,
)
from selfreward.evaluation.evaluated import Evaluated, Ratings
from selfreward.evaluation.judges import parse_judge
from selfreward.evaluation.meta_fields import Meta, MetaField
from selfreward.evaluation.reports import ProtocolReport
from selfreward.metrics import alpaca_eval
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.intervals import DEFAULT_RESAMPLING, Resampling
from selfreward.metrics.length_glm import LengthGlm
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols import (
    judgebench,
    llmbar,
    mt_bench,
    rewardbench,
    rewardbench2,
    rm_bench,
)
from selfreward.metrics.protocols.coverage import Coverage

OfPairs = Callable[[list[PairOutcome], Meta, Resampling], ProtocolReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A protocol: what it wants, and its figures of one data set."""

    data_needed: str
    of_pairs: OfPairs | None = None
    of_rewarded: OfPairs | None = None
    """The same of pairs whose responses got a reward each, where that is scored otherwise."""
    of_scores: Callable[[Ratings, Resampling], ProtocolReport] | None = None
    of_choices: (
        Callable[[Sequence[BestOfOutcome], Ratings | None, Resampling], ProtocolReport] | None
    ) = None
    """Where its questions can be asked as one choice; with the ratings of what cannot."""
    meta_fields: Mapping[str, MetaField] = field(default_factory=dict)
    """What it reads of a pair's `meta`."""
    keeps_same: bool = False
    """Whether two equal responses are a row of it, a draw of two models; elsewhere they are not."""
    has_styles: bool = False
    """Whether lists of three responses are rows of it, each nine pairs."""
    coverage: Callable[[Any], Coverage] | None = None
    """How much of what is published its figures are of; None where no size is published."""

    @property
    def kind(self) -> str:
        """The kind of file it reads."""
        return "scores" if self.of_pairs is None else "pairs"

    def pair_scoring(self, glm: LengthGlm | None) -> OfPairs | None:
        """Its figures of pairs; `glm` are a model's published coefficients, of AlpacaEval only."""
        return self.of_pairs if glm is None else partial(score_alpaca_eval, glm=glm)


BENCHMARKS: dict[str, Benchmark] = {
    "rewardbench": Benchmark(
        data_needed=rewardbench.DATA_NEEDED,
        of_pairs=lambda outcomes, _, resampling: rewardbench.rewardbench_report(
            outcomes, resampling=resampling
        ),
        of_rewarded=lambda outcomes, _, resampling: rewardbench.rewardbench_report(
            outcomes, resampling=resampling, of_rewards=True
        ),
        coverage=rewardbench.coverage,
    ),
    "rewardbench2": Benchmark(
        data_needed=rewardbench2.DATA_NEEDED,
        of_scores=lambda ratings, resampling: score_rewardbench2((), ratings, resampling),
        of_choices=score_rewardbench2,
        coverage=rewardbench2.coverage,
    ),
    "judgebench": Benchmark(
        data_needed=judgebench.DATA_NEEDED,
        of_pairs=lambda outcomes, _, resampling: judgebench.judgebench_report(outcomes, resampling),
        coverage=judgebench.coverage,
    ),
    "llmbar": Benchmark(
        data_needed=llmbar.DATA_NEEDED,
        of_pairs=lambda outcomes, _, resampling: llmbar.llmbar_report(outcomes, resampling),
        coverage=llmbar.coverage,
    ),
    "mt_bench": Benchmark(
        data_needed=mt_bench.DATA_NEEDED, of_pairs=score_mt_bench, meta_fields=MT_BENCH_FIELDS
    ),
    "rm_bench": Benchmark(
        data_needed=rm_bench.DATA_NEEDED,
        of_pairs=score_rm_bench,
        meta_fields=RM_BENCH_FIELDS,
        has_styles=True,
        coverage=rm_bench.coverage,
    ),
    "reward_modelling": Benchmark(
        data_needed=(
            "reward_modelling: score file with messages, response, score (people's, the higher the"
            " better) and scale; several responses to each prompt; the paper's are of"
            " OpenAssistant/oasst1 on Hugging Face"
        ),
        of_scores=score_reward_modelling,
    ),
    "head_to_head": Benchmark(
        data_needed=(
            "head_to_head: pair file with id, prompt, chosen (the model's response) and rejected"
            " (the baseline's); of prompts of your own, none are published"
        ),
        of_pairs=score_head_to_head,
        keeps_same=True,
    ),
    "alpaca_eval": Benchmark(
        data_needed=(
            "alpaca_eval: pair file with id, prompt, chosen (the model's response), rejected (the"
            " baseline's), and meta with difficulty, if the published ones are to be used; with"
            " --coefficients FILE, those of the model in the published regression, none is fitted;"
            " published, one file a model, as tatsu-lab/alpaca_eval on Hugging Face"
        ),
        of_pairs=score_alpaca_eval,
        meta_fields=ALPACA_EVAL_FIELDS,
        coverage=alpaca_eval.coverage,
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
    glm: LengthGlm | None = None,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> dict[str, ProtocolReport]:
    """The protocol's figures of every data set it can score, by data set; `resampling` says how
    the interval of its headline figure is drawn.

    `glm` are a model's published coefficients, of `alpaca_eval` only.

    Raises:
        ConfigError: there is no such protocol.
        DataError: no data set is of the kind it wants.
    """
    benchmark = get_benchmark(name)
    of_pairs = benchmark.pair_scoring(glm)
    if benchmark.of_rewarded is not None and parse_judge(evaluated.judge).scores_alone:
        of_pairs = benchmark.of_rewarded
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


def coverage_of(name: str, figures: ProtocolReport) -> Coverage | None:
    """How much of the published benchmark its figures are of; None where no size is published."""
    measure = get_benchmark(name).coverage
    return None if measure is None else measure(figures)
