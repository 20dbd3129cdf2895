"""Intervals of headline figures: worked cases, and every protocol's own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.headline_intervals import RateRow, headline_interval, rates_of
from selfreward.metrics.intervals import Resampling, bootstrap_interval
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.judgebench import judgebench_report
from selfreward.metrics.protocols.llmbar import NUM_PAIRS as LLMBAR
from selfreward.metrics.protocols.llmbar import llmbar_report
from selfreward.metrics.protocols.mt_bench import HumanVotes, mt_bench_from_pairs
from selfreward.metrics.protocols.rewardbench import (
    EXAMPLE_COUNTS,
    NUM_PAIRS,
    SECTIONS,
    rewardbench_report,
)
from selfreward.metrics.protocols.rewardbench2 import NUM_QUESTIONS, TIES, rewardbench2_report
from selfreward.metrics.protocols.rewardbench2_ties import RatedQuestion
from selfreward.metrics.protocols.rm_bench import (
    DOMAINS,
    STYLES,
    StyledPair,
    rm_bench_from_pairs,
)
from selfreward.records import Outcome
from selfreward.records_scores import SlotVerdict
from tests.outcome_tools import chose, pair

Interval = tuple[float, float] | None
Figures = tuple[float | None, Interval]

RIGHT, WRONG = (chose("first"), chose("second")), (chose("second"), chose("first"))
HALF = (chose("first"), chose("first"))


def row(stratum: str, prompt: str, value: float, count: float = 1.0) -> RateRow:
    return RateRow(stratum=stratum, prompt=prompt, rate=stratum, value=value, count=count)


def mean_of_two(rates: dict[str, float]) -> float | None:
    return None if len(rates) < 2 else (rates["a"] + rates["b"]) / 2


def test_two_subsets_by_hand() -> None:
    # Prompts are drawn inside a and inside b: each rate is 0, 1/2, 1 with probabilities 1/4, 1/2,
    # 1/4, so the mean is 0 or 1 with 1/16 each, 1/4 or 3/4 with 1/4 each, 1/2 with 3/8.
    rows = [row(s, p, value) for s in "ab" for p, value in (("p", 0.0), ("q", 1.0))]
    for confidence, expected in ((0.95, (0.0, 1.0)), (0.6, (0.25, 0.75)), (0.2, (0.5, 0.5))):
        asked = Resampling(confidence=confidence)
        assert headline_interval(rows, mean_of_two, asked) == expected  # type: ignore[arg-type]
        # Ten rows of a prompt are drawn with it.
        assert headline_interval(rows * 10, mean_of_two, asked) == expected  # type: ignore[arg-type]


def test_one_rate_of_one_subset_is_the_bootstrap_of_a_mean() -> None:
    values = np.random.default_rng(1).integers(0, 3, 60) / 2
    prompts = [f"p{i % 25}" for i in range(60)]
    rows = [row("a", p, v) for p, v in zip(prompts, values.tolist(), strict=True)]
    found = headline_interval(rows, lambda rates: rates.get("a"), Resampling(seed=4))
    assert found == bootstrap_interval(values, seed=4, groups=prompts)


def test_draws_without_the_figure_are_left_out() -> None:
    # q adds nothing to the rate: drawn twice, it leaves none.
    rows = [row("a", "p", 1.0), row("a", "q", 0.0, count=0.0)]
    assert rates_of(rows) == {"a": 1.0}
    assert headline_interval(rows, lambda rates: rates.get("a")) == (1.0, 1.0)
    assert headline_interval(rows, lambda rates: rates.get("b")) is None
    assert headline_interval([], lambda rates: rates.get("a")) is None


# --- every protocol -------------------------------------------------------------------------------


def read(subset: str, number: int, is_right: bool) -> PairOutcome:
    found = pair(f"{subset}-{number}", *(RIGHT if is_right else WRONG))
    return replace(found, subset=subset, group=f"{subset}-prompt-{number // 2}")


def rewardbench(is_right: Sequence[bool]) -> Figures:
    report = rewardbench_report([read(s, n, r) for s in NUM_PAIRS for n, r in enumerate(is_right)])
    return report.headline(), report.overall_ci


def judgebench(is_right: Sequence[bool]) -> Figures:
    sources = ("mmlu-pro-law", "livebench-math")
    report = judgebench_report([read(s, n, r) for s in sources for n, r in enumerate(is_right)])
    return report.headline(), report.overall_ci


def llmbar(is_right: Sequence[bool]) -> Figures:
    report = llmbar_report([read(s, n, r) for s in LLMBAR for n, r in enumerate(is_right)])
    return report.headline(), report.overall_ci


def mt_bench(is_right: Sequence[bool]) -> Figures:
    outcomes = [read("", n, r) for n, r in enumerate(is_right)]
    votes = {o.pair_id: votes_on(str(n), 1 + n % 2) for n, o in enumerate(outcomes)}
    report = mt_bench_from_pairs(outcomes, votes)
    return report.headline(), report.overall_ci


def votes_on(question: str, turn: int) -> HumanVotes:
    return HumanVotes(
        question_id=question,
        turn=turn,
        chosen_model="x",
        rejected_model="y",
        votes_chosen=3,
        votes_rejected=0,
    )


def rm_bench(is_right: Sequence[bool]) -> Figures:
    pairs = [
        StyledPair(
            chosen_style=chosen,
            rejected_style=rejected,
            outcome=replace(
                read(domain, n, r), pair_id=f"{domain}{n}{chosen}{rejected}", group=f"{domain}{n}"
            ),
        )
        for domain in DOMAINS
        for n, r in enumerate(is_right)
        for chosen, rejected in product(STYLES, STYLES)
    ]
    report = rm_bench_from_pairs(pairs)
    return report.headline(), report.overall_ci


def rewardbench2(is_right: Sequence[bool]) -> Figures:
    choices = [
        BestOfOutcome(
            question_id=str(n),
            subset=domain,
            gold=0,
            num_shown=4,
            verdict=SlotVerdict(outcome=Outcome.CHOICE, slot=0 if r else 1),
        )
        for domain in NUM_QUESTIONS
        if domain != TIES
        for n, r in enumerate(is_right)
    ]
    ties = [
        RatedQuestion(
            question_id=f"{kind}:{n}",
            domain=TIES,
            # Gaps of 3 over no spread, or of -3: tanh of ±infinity.
            correct=(4.0,) * number if r else (1.0,) * number,
            incorrect=(1.0,) if r else (4.0,),
        )
        for n, r in enumerate(is_right)
        for kind, number in (("ref", 1), ("tied", 2))
    ]
    report = rewardbench2_report(ties, choices)
    return report.headline(), report.overall_ci


PROTOCOLS = [
    rewardbench,
    judgebench,
    llmbar,
    mt_bench,
    rm_bench,
    rewardbench2,
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_interval_of_a_protocol_holds_its_headline_figure(
    protocol: Callable[[Sequence[bool]], Figures],
) -> None:
    overall, interval = protocol([True, True, False, True, True, False])
    assert overall is not None and interval is not None
    assert interval[0] < overall < interval[1]
    # Ties adds up to 1.01 and down to -0.01 of its domain, a sixth of RewardBench 2.
    slack = 0.01 / 6 if protocol is rewardbench2 else 0.0
    assert protocol([True] * 6) == (pytest.approx(1 + slack), pytest.approx((1 + slack,) * 2))
    assert protocol([False] * 6) == (pytest.approx(-slack), pytest.approx((-slack,) * 2))


def test_rewardbench_s_interval_is_that_of_its_weighted_means() -> None:
    rng = np.random.default_rng(3)
    outcomes, variance = [], 0.0
    for subsets in SECTIONS.values():
        weight = sum(EXAMPLE_COUNTS[s] for s in subsets)
        for subset in subsets:
            right = rng.random(30) < 0.7
            variance += (EXAMPLE_COUNTS[subset] / weight / 4) ** 2 * right.var() / 30
            outcomes += [
                replace(read(subset, n, r), group=f"{subset}{n}")
                for n, r in enumerate(right.tolist())
            ]
    interval = rewardbench_report(outcomes).overall_ci
    assert interval is not None
    assert interval[1] - interval[0] == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.08)


def test_a_headline_that_does_not_exist_has_no_interval() -> None:
    assert rewardbench_report([read("donotanswer", 0, True)]).overall_ci is None
    assert llmbar_report([read("Natural", 0, True)]).overall_ci is None
    assert rm_bench_from_pairs([]).overall_ci is None
    assert rewardbench2_report([], []).overall_ci is None


def test_both_turns_of_a_question_are_drawn_together() -> None:
    # Question 1 is right in both turns and all votes, question 2 in none: two questions say 0, 1/2
    # or 1, whatever they have of turns and votes.
    outcomes = [pair(f"q{n}", *(RIGHT if n < 2 else WRONG)) for n in range(4)]
    votes = {f"q{n}": votes_on(str(n // 2), 1 + n % 2) for n in range(4)}
    report = mt_bench_from_pairs(outcomes, votes)
    assert (report.both.published, report.overall_ci) == (0.5, (0.0, 1.0))


def test_styles_of_a_prompt_are_drawn_together() -> None:
    # A prompt that is read half right in all nine couples of styles is half right in every draw.
    pairs = [
        StyledPair(
            chosen_style=chosen,
            rejected_style=rejected,
            outcome=replace(
                pair(f"{domain}{chosen}{rejected}", *HALF), subset=domain, group=f"{domain} prompt"
            ),
        )
        for domain in DOMAINS
        for chosen, rejected in product(STYLES, STYLES)
    ]
    assert rm_bench_from_pairs(pairs).overall_ci == pytest.approx((0.5, 0.5))
