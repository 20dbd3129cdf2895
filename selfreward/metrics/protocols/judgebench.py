"""JudgeBench (arXiv 2410.12784): pairs whose better response is the objectively correct one.

Both orders are read. Two scorings go by the name of JudgeBench accuracy, so a number says little
without its scoring: the published one adds votes over the two orders, the strict one (used by
EvalPlanner, arXiv 2501.18099, and J1, arXiv 2505.10320) wants both orders right. o1-mini has 65.7
in the first and 58.0 in the second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Any

from selfreward.metrics.headline_intervals import RateRow, headline_interval
from selfreward.metrics.intervals import DEFAULT_RESAMPLING, Resampling
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.coverage import Coverage

DATA_NEEDED: str = (
    "judgebench: pair file with id, source, subset (the data's own source, such as"
    " mmlu-pro-physics, livebench-math or livecodebench, or a category name), prompt, chosen (the"
    " correct response), rejected; one split at a time (350 pairs gpt or 270 claude); meta is not"
    " read; published as ScalerLab/JudgeBench on Hugging Face, splits gpt and claude, with other"
    " columns (question, response_A, response_B, label)"
)

CATEGORIES: Mapping[str, str] = MappingProxyType(
    {
        "knowledge": "mmlu-pro",
        "reasoning": "livebench-reasoning",
        "math": "livebench-math",
        "code": "livecodebench",
    }
)
"""For each category, how the names of its sources begin."""

NUM_PAIRS_GPT: Mapping[str, int] = MappingProxyType(
    {"knowledge": 154, "reasoning": 98, "math": 56, "code": 42}
)
"""Pairs of each category in the split of GPT-4o responses."""
NUM_PAIRS_CLAUDE = 270
"""Pairs of the split of Claude-3.5-Sonnet responses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeBenchScore:
    """One group of pairs in both scorings, 0-1; None without pairs.

    Example: `JudgeBenchScore(n=350, published=0.657, strict=0.58)`
    """

    n: int
    published: float | None
    strict: float | None
    """Of the pairs read in both orders; None without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeBenchReport:
    """A judge on JudgeBench.

    Example: `JudgeBenchReport(overall=JudgeBenchScore(…), overall_ci=(0.61, 0.7),
    categories={"knowledge": JudgeBenchScore(…), …}, unknown=())`
    """

    overall: JudgeBenchScore
    """Over all pairs, so each category weighs as much as it has pairs."""
    overall_ci: tuple[float, float] | None
    """Bootstrap interval of `overall.published`, prompts resampled inside each category."""
    categories: dict[str, JudgeBenchScore]
    unknown: tuple[str, ...]
    """Subset names of no category; their pairs count in `overall` only."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)

    def headline(self) -> float | None:
        """The benchmark's own score, over all pairs."""
        return self.overall.published

    def section_values(self) -> dict[str, float | None]:
        """The benchmark's own score of each category, and the strict one beside it."""
        own = {name: score.published for name, score in self.categories.items()}
        return own | {f"{name}, strict": score.strict for name, score in self.categories.items()}


def category_of(subset: str) -> str | None:
    """Returns the category of a category name or of a source of the data; None for others."""
    name = subset.lower()
    for category, prefix in CATEGORIES.items():
        if name == category or name.startswith(prefix):
            return category
    return "code" if name == "coding" else None


def is_right_published(outcome: PairOutcome) -> bool:
    """Adds +1 for a right and -1 for a wrong choice over both orders; right if above 0.

    A tie adds nothing, and so does a verdict that is missing: the benchmark's code compares the
    decision with the label and with its opposite and finds neither. So right + tie and right +
    unparsed count as right, right + wrong does not. A pair read in one order is right where that
    reading is, as in the benchmark's single game.
    """
    return outcome.choices.count(True) > outcome.choices.count(False)


def is_right_strict(outcome: PairOutcome) -> bool:
    """Right in both orders; a reading without a choice is not right."""
    return outcome.choices == (True, True)


def _score(outcomes: Sequence[PairOutcome]) -> JudgeBenchScore:
    if not outcomes:
        return JudgeBenchScore(n=0, published=None, strict=None)
    twice = [outcome for outcome in outcomes if len(outcome.readings) == 2]
    return JudgeBenchScore(
        n=len(outcomes),
        published=fmean(map(is_right_published, outcomes)),
        strict=fmean(map(is_right_strict, twice)) if twice else None,
    )


def judgebench_report(
    outcomes: Sequence[PairOutcome], resampling: Resampling = DEFAULT_RESAMPLING
) -> JudgeBenchReport:
    """Scores readings whose `subset` is a source of the data or a category, in both scorings."""
    categories = [category_of(outcome.subset) for outcome in outcomes]
    rows = [
        RateRow(
            stratum=category or "",
            prompt=outcome.prompt,
            rate="all",
            value=float(is_right_published(outcome)),
        )
        for outcome, category in zip(outcomes, categories, strict=True)
    ]
    return JudgeBenchReport(
        overall=_score(outcomes),
        overall_ci=headline_interval(rows, lambda rates: rates.get("all"), resampling),
        categories={
            name: _score([o for o, c in zip(outcomes, categories, strict=True) if c == name])
            for name in CATEGORIES
        },
        unknown=tuple(sorted({o.subset for o in outcomes if category_of(o.subset) is None})),
    )


def coverage(report: JudgeBenchReport) -> Coverage:
    """How many of the published pairs were measured, by category.

    Exactly 270 pairs are taken for the whole split of Claude-3.5-Sonnet, all else for the split of
    GPT-4o or a part of it: the pairs do not say which they are of.
    """
    measured = {name: score.n for name, score in report.categories.items()}
    total = sum(measured.values())
    if total == NUM_PAIRS_CLAUDE:
        return Coverage.of(
            "JudgeBench (split claude)", "pairs", {"all": total}, {"all": NUM_PAIRS_CLAUDE}
        )
    return Coverage.of("JudgeBench (split gpt)", "pairs", measured, NUM_PAIRS_GPT)
