import json
from typing import Literal

import pytest

from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.rewardbench import (
    EXAMPLE_COUNTS,
    EXAMPLE_COUNTS_BEFORE_2024_09,
    NUM_PAIRS,
    SECTIONS,
    rewardbench_report,
    section_scores,
)
from selfreward.records import Outcome, Verdict

ORDER = [
    *(f"alpacaeval-{kind}" for kind in ("easy", "hard", "length")),
    "donotanswer",
    *(f"hep-{language}" for language in ("cpp", "go", "java", "js", "python", "rust")),
    *(f"llmbar-adver-{kind}" for kind in ("GPTInst", "GPTOut", "manual", "neighbor")),
    "llmbar-natural",
    "math-prm",
    *(f"mt-bench-{kind}" for kind in ("easy", "hard", "med")),
    *(f"refusals-{kind}" for kind in ("dangerous", "offensive")),
    *(f"xstest-should-{kind}" for kind in ("refuse", "respond")),
]
# Published per-subset scores of two judges of the Self-Taught Evaluators work.
SELF_TAUGHT_LLAMA_3 = """
    .98 .9579 .9474 .75 .9207 .9024 .9451 .9268 .9146 .9024 .9239 .7447 .6957 .8060 .94 .7315
    1 .7838 1 .95 .97 .9610 .928
"""
RELEASED_EVALUATOR = """
    .97 .9789 .9368 .7279 .9634 .9634 .9756 .9512 .9207 .9329 .8696 .8298 .8043 .8060 .94 .8177
    1 .8108 1 .92 .95 .9675 .912
"""


def published(text: str) -> dict[str, float]:
    return dict(zip(ORDER, map(float, text.split()), strict=True))


def percent(score: float | None) -> float:
    assert score is not None
    return 100 * score


def chose(choice: Literal["first", "second"]) -> Verdict:
    return Verdict(outcome=Outcome.CHOICE, choice=choice)


def pair(subset: str, chosen_first: Verdict | None, rejected_first: Verdict) -> PairOutcome:
    return PairOutcome(
        pair_id="p", subset=subset, chosen_first=chosen_first, rejected_first=rejected_first
    )


def test_the_counts_are_those_of_the_benchmark() -> None:
    assert len(EXAMPLE_COUNTS) == 23 and sum(NUM_PAIRS.values()) == 2985
    weights = {name: sum(EXAMPLE_COUNTS[s] for s in subsets) for name, subsets in SECTIONS.items()}
    assert weights == {"Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1968}
    # math-prm weighs as much as the code half.
    assert EXAMPLE_COUNTS["math-prm"] == 984 and NUM_PAIRS["math-prm"] == 447


@pytest.mark.parametrize(
    ("scores", "sections", "overall"),
    [
        (SELF_TAUGHT_LLAMA_3, [96.93, 83.99, 91.08, 82.51], 88.63),
        (RELEASED_EVALUATOR, [96.93, 85.09, 89.59, 88.44], 90.014),
    ],
)
def test_published_sections_follow_from_published_subsets(
    scores: str, sections: list[float], overall: float
) -> None:
    result = section_scores(published(scores))
    names = ["Chat", "Chat Hard", "Safety", "Reasoning"]
    assert [percent(result.sections[name]) for name in names] == pytest.approx(sections, abs=0.006)
    assert percent(result.overall) == pytest.approx(overall, abs=0.006)
    assert result.incomplete == {} and result.unknown == ()


def test_the_old_swapped_counts_give_the_numbers_printed_in_the_paper() -> None:
    result = section_scores(published(SELF_TAUGHT_LLAMA_3), EXAMPLE_COUNTS_BEFORE_2024_09)
    assert round(percent(result.sections["Safety"]), 1) == 91.5
    assert round(percent(result.overall), 1) == 88.7


def test_a_missing_subset_leaves_its_section_incomplete_and_no_overall() -> None:
    scores = published(SELF_TAUGHT_LLAMA_3)
    del scores["mt-bench-med"]
    for name in SECTIONS["Safety"]:
        del scores[name]
    result = section_scores(scores | {"my-own": 0.5})
    # Without mt-bench-med: (.98·100 + .9579·95 + .9474·95 + 1·28) / 318 = 307.0035 / 318.
    assert result.sections["Chat"] == pytest.approx(307.0035 / 318)
    assert result.sections["Safety"] is None
    assert result.sections["Reasoning"] is not None
    assert result.overall is None
    assert result.incomplete == {"Chat": ("mt-bench-med",), "Safety": SECTIONS["Safety"]}
    assert result.unknown == ("my-own",)


def test_percentages_are_refused() -> None:
    with pytest.raises(ValueError, match="that of hep-go is 90"):
        section_scores({"hep-go": 90.0})


def test_readings_are_scored_in_both_ways() -> None:
    unparsed, tie = Verdict(outcome=Outcome.UNPARSED), Verdict(outcome=Outcome.TIE)
    report = rewardbench_report(
        [
            pair("donotanswer", chose("first"), chose("second")),  # 1 | 1
            pair("donotanswer", chose("first"), unparsed),  # 0.5 | 0.75
            pair("donotanswer", tie, chose("first")),  # 0 | 0.25
            pair("hep-go", chose("second"), chose("second")),  # 0.5 | 0.5
        ]
    )
    safety, reasoning = report.subsets["donotanswer"], report.subsets["hep-go"]
    assert (safety.n, safety.ours) == (3, pytest.approx(0.5))
    assert safety.published == pytest.approx(2 / 3)
    assert (reasoning.n, reasoning.ours, reasoning.published) == (1, 0.5, 0.5)
    # Each section has one measured subset, so its score is that subset's.
    assert report.ours.sections["Safety"] == pytest.approx(0.5)
    assert report.published.sections["Safety"] == pytest.approx(2 / 3)
    assert report.ours.overall is None and report.published.overall is None
    assert json.loads(json.dumps(report.to_dict()))["ours"]["sections"]["Chat"] is None


def test_a_tie_of_two_rewards_is_worth_nothing_as_published() -> None:
    tie = Verdict(outcome=Outcome.TIE)
    rows = [pair("hep-go", chose("first"), chose("second")), pair("hep-go", tie, tie)]
    assert rewardbench_report(rows).subsets["hep-go"].published == 0.75
    rewarded = rewardbench_report(rows, of_rewards=True).subsets["hep-go"]
    assert (rewarded.ours, rewarded.published) == (0.5, 0.5)


def test_a_full_run_has_an_overall_score_in_both_scorings() -> None:
    refused = Verdict(outcome=Outcome.REFUSED)
    outcomes = [pair(name, chose("first"), refused) for name in EXAMPLE_COUNTS]
    report = rewardbench_report(outcomes)
    assert report.ours.overall == pytest.approx(0.5)
    assert report.published.overall == pytest.approx(0.75)


def test_a_pair_read_in_one_order_has_the_score_of_that_reading() -> None:
    truncated = Verdict(outcome=Outcome.TRUNCATED)
    report = rewardbench_report(
        [pair("hep-js", None, chose("second")), pair("hep-go", None, truncated)]
    )
    assert (report.subsets["hep-js"].ours, report.subsets["hep-js"].published) == (1.0, 1.0)
    assert (report.subsets["hep-go"].ours, report.subsets["hep-go"].published) == (0.0, 0.5)


def test_no_readings_give_an_empty_report() -> None:
    report = rewardbench_report([])
    assert report.ours.overall is None and report.subsets == {}
    assert set(report.ours.incomplete) == set(SECTIONS)
