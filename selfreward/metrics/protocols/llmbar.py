"""LLMBar (arXiv 2310.07641): does a judge see which response follows the instruction?

419 pairs: Natural, and four adversarial subsets whose worse response looks better. Each pair is
read in both orders; accuracy is the mean of the two, positional agreement the share of pairs for
which both name the same response. Chance is 0.5 in both.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Any

from selfreward.metrics.headline_intervals import RateRow, headline_interval
from selfreward.metrics.intervals import DEFAULT_RESAMPLING, Resampling
from selfreward.metrics.pairwise import PairOutcome, accuracy_per_pair
from selfreward.metrics.protocols.coverage import Coverage
from selfreward.metrics.protocols.means import mean_if_complete

DATA_NEEDED: str = (
    "llmbar: pair file with id, source, subset (Natural, Neighbor, GPTInst, GPTOut or Manual),"
    " prompt, chosen (output_1 or output_2 as label says), rejected; meta is not read; published as"
    " princeton-nlp/LLMBar on Hugging Face and on GitHub, with other columns (input, output_1,"
    " output_2, label)"
)

NUM_PAIRS: Mapping[str, int] = MappingProxyType(
    {"Natural": 100, "Neighbor": 134, "GPTInst": 92, "GPTOut": 47, "Manual": 46}
)
"""Pairs of each subset in the data."""

ADVERSARIAL: tuple[str, ...] = ("Neighbor", "GPTInst", "GPTOut", "Manual")


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMBarScore:
    """One subset or a mean of subsets, 0-1. A rate without anything to count is None.

    Example: `LLMBarScore(n=134, accuracy=0.642, agreement=0.896, published_agreement=0.896)`
    """

    n: int
    accuracy: float | None
    """Right readings over all readings; one without a choice is not right. The benchmark's own
    code counts the same way."""
    agreement: float | None
    """Of the pairs with two choices: share naming the same response in both orders."""
    published_agreement: float | None
    """Of all pairs read in both orders, as the benchmark's code counts: two readings without a
    choice agree, a choice and none do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMBarReport:
    """A judge on LLMBar.

    Example: `LLMBarReport(subsets={"Natural": LLMBarScore(…), …}, adversarial=LLMBarScore(…),
    average=LLMBarScore(…), overall_ci=(0.7, 0.78), missing=(), unknown=())`
    """

    subsets: dict[str, LLMBarScore]
    """The five subsets by name."""
    adversarial: LLMBarScore
    """Plain mean of the four adversarial subsets; rates are None if one lacks them."""
    average: LLMBarScore
    """Plain mean of all five subsets; rates are None if one lacks them."""
    overall_ci: tuple[float, float] | None
    """Bootstrap interval of `average.accuracy`, prompts resampled inside each subset."""
    missing: tuple[str, ...]
    """Subsets without pairs."""
    unknown: tuple[str, ...]
    """Subset names that are not LLMBar's; their pairs count nowhere."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)

    def headline(self) -> float | None:
        """The paper's average of the accuracies of the five subsets."""
        return self.average.accuracy

    def section_values(self) -> dict[str, float | None]:
        """The accuracy of each subset, and the mean of the four adversarial ones."""
        own = {name: score.accuracy for name, score in self.subsets.items()}
        return own | {"Adversarial": self.adversarial.accuracy}


def subset_of(name: str) -> str | None:
    """Returns the subset's name in the paper; None for names of other data.

    Paths of the data and RewardBench's names are read too: `Adversarial/GPTInst` and
    `llmbar-adver-GPTInst` are GPTInst.
    """
    last = re.split(r"[/\-]", name)[-1].lower()
    return next((subset for subset in NUM_PAIRS if subset.lower() == last), None)


def _subset_score(outcomes: Sequence[PairOutcome]) -> LLMBarScore:
    choices = [outcome.choices for outcome in outcomes if len(outcome.readings) == 2]
    complete = [(first, second) for first, second in choices if None not in (first, second)]
    return LLMBarScore(
        n=len(outcomes),
        accuracy=float(accuracy_per_pair(outcomes).mean()) if outcomes else None,
        agreement=fmean(first == second for first, second in complete) if complete else None,
        published_agreement=fmean(f == s for f, s in choices) if choices else None,
    )


def _mean_score(scores: Sequence[LLMBarScore]) -> LLMBarScore:
    return LLMBarScore(
        n=sum(score.n for score in scores),
        accuracy=mean_if_complete(score.accuracy for score in scores),
        agreement=mean_if_complete(score.agreement for score in scores),
        published_agreement=mean_if_complete(score.published_agreement for score in scores),
    )


def llmbar_report(
    outcomes: Sequence[PairOutcome], resampling: Resampling = DEFAULT_RESAMPLING
) -> LLMBarReport:
    """Scores readings whose `subset` is an LLMBar subset. Missing subsets are named."""
    groups: defaultdict[str | None, list[PairOutcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[subset_of(outcome.subset)].append(outcome)
    subsets = {name: _subset_score(groups[name]) for name in NUM_PAIRS}
    return LLMBarReport(
        subsets=subsets,
        adversarial=_mean_score([subsets[name] for name in ADVERSARIAL]),
        average=_mean_score(list(subsets.values())),
        overall_ci=headline_interval(
            [
                RateRow(stratum=name, prompt=o.prompt, rate=name, value=accuracy)
                for name in NUM_PAIRS
                for o, accuracy in zip(
                    groups[name], accuracy_per_pair(groups[name]).tolist(), strict=True
                )
            ],
            lambda rates: mean_if_complete(rates.get(name) for name in NUM_PAIRS),
            resampling,
        ),
        missing=tuple(name for name, score in subsets.items() if score.n == 0),
        unknown=tuple(sorted({outcome.subset for outcome in groups[None]})),
    )


def coverage(report: LLMBarReport) -> Coverage:
    """How many of the published pairs were measured, by subset."""
    measured = {name: score.n for name, score in report.subsets.items()}
    return Coverage.of("LLMBar", "pairs", measured, NUM_PAIRS)
