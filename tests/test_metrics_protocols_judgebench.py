import json

import pytest

from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.judgebench import (
    CATEGORIES,
    NUM_PAIRS_GPT,
    category_of,
    is_right_published,
    is_right_strict,
    judgebench_report,
)
from selfreward.records import Outcome, Verdict

FIRST = Verdict(outcome=Outcome.CHOICE, choice="first")
SECOND = Verdict(outcome=Outcome.CHOICE, choice="second")
TIE = Verdict(outcome=Outcome.TIE)
UNPARSED = Verdict(outcome=Outcome.UNPARSED)


def pair(subset: str, chosen_first: Verdict, rejected_first: Verdict | None) -> PairOutcome:
    return PairOutcome(
        pair_id="p", subset=subset, chosen_first=chosen_first, rejected_first=rejected_first
    )


@pytest.mark.parametrize(
    ("chosen_first", "rejected_first", "published", "strict"),
    [
        (FIRST, SECOND, True, True),  # right, right: +2
        (FIRST, TIE, True, False),  # right, tie: +1
        (UNPARSED, SECOND, True, False),  # missing, right: +1
        (FIRST, FIRST, False, False),  # right, wrong: 0
        (TIE, TIE, False, False),
        (SECOND, UNPARSED, False, False),  # wrong, missing: -1
        (SECOND, FIRST, False, False),
    ],
)
def test_votes_over_both_orders(
    chosen_first: Verdict, rejected_first: Verdict, published: bool, strict: bool
) -> None:
    outcome = pair("code", chosen_first, rejected_first)
    assert is_right_published(outcome) is published
    assert is_right_strict(outcome) is strict


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("mmlu-pro-computer science", "knowledge"),
        ("livebench-reasoning", "reasoning"),
        ("livebench-math", "math"),
        ("livecodebench", "code"),
        ("Coding", "code"),
        ("knowledge", "knowledge"),
        ("livebench-language", None),
    ],
)
def test_sources_and_category_names_lead_to_the_category(name: str, category: str | None) -> None:
    assert category_of(name) == category


def test_the_published_table_follows_from_counts_of_right_pairs() -> None:
    # GPT-4o as the Arena-Hard judge: 50.65, 54.08, 75.00, 59.52 and overall 56.57, which are
    # 78 of 154, 53 of 98, 42 of 56, 25 of 42 and 198 of 350.
    right = {"knowledge": 78, "reasoning": 53, "math": 42, "code": 25}
    outcomes = [
        pair(CATEGORIES[name], FIRST, SECOND if index < right[name] else FIRST)
        for name, count in NUM_PAIRS_GPT.items()
        for index in range(count)
    ]
    report = judgebench_report(outcomes)
    percents = {
        name: round(100 * score.published, 2)
        for name, score in report.categories.items()
        if score.published is not None
    }
    assert percents == {"knowledge": 50.65, "reasoning": 54.08, "math": 75.0, "code": 59.52}
    assert report.overall.n == 350
    assert report.overall.published == pytest.approx(0.5657, abs=5e-5)


def test_both_scorings_stand_beside_each_other() -> None:
    report = judgebench_report(
        [pair("code", FIRST, SECOND), pair("code", FIRST, TIE), pair("essays", SECOND, FIRST)]
    )
    assert (report.categories["code"].published, report.categories["code"].strict) == (1.0, 0.5)
    assert report.categories["math"].n == 0 and report.categories["math"].strict is None
    # A pair of no category counts in the overall score, and its name is shown.
    assert report.overall.published == pytest.approx(2 / 3)
    assert report.overall.strict == pytest.approx(1 / 3)
    assert report.unknown == ("essays",)
    assert json.loads(json.dumps(report.to_dict()))["categories"]["code"]["n"] == 2


def test_pairs_read_in_one_order_have_no_strict_score() -> None:
    report = judgebench_report([pair("code", FIRST, None), pair("code", SECOND, None)])
    assert (report.overall.published, report.overall.strict) == (0.5, None)
    # Beside a pair read twice they do not enter its strict score.
    report = judgebench_report([pair("code", FIRST, None), pair("code", FIRST, SECOND)])
    assert (report.overall.n, report.overall.strict) == (2, 1.0)


def test_no_pairs_give_an_empty_report() -> None:
    assert judgebench_report([]).overall.published is None
