import json
import math

import pytest

from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.protocols.rewardbench2 import (
    NUM_QUESTIONS,
    choice_credit,
    coverage,
    is_best_rated,
    rating_credit,
    rewardbench2_report,
)
from selfreward.metrics.protocols.rewardbench2_ties import RatedQuestion, ties_score
from selfreward.records import Outcome
from selfreward.records_scores import SlotVerdict

Ratings = tuple[float | None, ...]


def chose(slot: int | None, gold: int, domain: str = "Math", shown: int = 4) -> BestOfOutcome:
    failed = SlotVerdict(outcome=Outcome.UNPARSED)
    verdict = failed if slot is None else SlotVerdict(outcome=Outcome.CHOICE, slot=slot)
    return BestOfOutcome(
        question_id="q", subset=domain, gold=gold, num_shown=shown, verdict=verdict
    )


def rated(ident: str, correct: Ratings, incorrect: Ratings, domain: str = "Ties") -> RatedQuestion:
    return RatedQuestion(question_id=ident, domain=domain, correct=correct, incorrect=incorrect)


# Prompt 1: spread 9 - 7 = 2, gaps 7 - 4 = 3 and 9 - 5 = 4.
# Prompt 2: spread 0, gaps 8 - 7 = 1 and 5 - 6 = -1.
TIES = [
    rated("ref:1", (9.0,), (5.0, 3.0)),
    rated("tied:1", (9.0, 7.0), (4.0, 2.0)),
    rated("ref:2", (5.0,), (6.0,)),
    rated("tied:2", (8.0, 8.0), (7.0,)),
]


def test_the_data_has_1865_questions() -> None:
    assert sum(NUM_QUESTIONS.values()) == 1865
    # The table of arXiv 2506.01937.
    published = {"Factuality": 475, "Precise IF": 160, "Math": 183, "Safety": 450, "Focus": 495}
    assert dict(NUM_QUESTIONS) == published | {"Ties": 102}


def test_questions_that_are_easier_than_published_are_counted() -> None:
    choices = [chose(1, 1), chose(0, 1, shown=3)]
    questions = [
        rated("full", (5.0,), (1.0, 2.0, 3.0), domain="Safety"),
        rated("short", (5.0,), (1.0, 2.0), domain="Safety"),
        *TIES,
    ]
    report = rewardbench2_report(questions, choices)
    # Ties has as many responses as it has.
    short = {"Factuality": 0, "Precise IF": 0, "Math": 1, "Safety": 1, "Focus": 0}
    assert report.num_short == short
    assert report.num_questions["Math"] == report.num_questions["Safety"] == 2
    # They are no part of what was measured as published.
    found = coverage(report).incomplete
    assert (found["Math"], found["Safety"]) == ((1, 183), (1, 450))


def test_a_reading_without_a_choice_is_worth_chance_only_in_the_published_scoring() -> None:
    report = rewardbench2_report([], [chose(2, 2), chose(3, 0), chose(None, 1)])
    assert report.ours.domains["Math"] == pytest.approx(1 / 3)
    # (1 + 0 + 0.25) / 3
    assert report.published.domains["Math"] == pytest.approx(0.4166667, abs=1e-7)
    assert report.num_questions["Math"] == 3
    # Of three responses guessing gets a third.
    assert choice_credit(chose(None, 1, shown=3)) == pytest.approx(1 / 3)


def test_choices_in_five_domains_and_ratings_in_ties() -> None:
    names = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
    report = rewardbench2_report(TIES, [chose(1, 1, name) for name in names])
    # Ties is .7473106, worked out below.
    assert report.ours.overall == pytest.approx((5 + 0.7473106) / 6, abs=1e-7)
    assert report.missing == () and report.num_questions["Ties"] == 4


def test_choices_and_ratings_do_not_mix_in_a_domain() -> None:
    with pytest.raises(ValueError, match="by ratings, not by choices"):
        rewardbench2_report([], [chose(0, 0, "Ties")])
    with pytest.raises(ValueError, match="by choices and by ratings: Math"):
        rewardbench2_report([rated("q", (1.0,), (0.0,), "Math")], [chose(0, 0)])


def test_a_question_without_a_rating_is_worth_chance_only_in_the_published_scoring() -> None:
    wrong = (1.0, 1.0, 1.0)
    report = rewardbench2_report(
        [
            rated("a", (9.0,), wrong, "Math"),
            rated("b", (0.0,), wrong, "Math"),
            rated("c", (None,), (None, None, None), "Math"),
            rated("d", (9.0,), wrong, "Focus"),
        ]
    )
    assert report.ours.domains["Math"] == pytest.approx(1 / 3)
    # (1 + 0 + 0.25) / 3
    assert report.published.domains["Math"] == pytest.approx(1.25 / 3)
    assert report.ours.domains["Focus"] == report.published.domains["Focus"] == 1.0
    assert report.num_questions["Math"] == 3
    assert report.missing == ("Factuality", "Precise IF", "Safety", "Ties")
    assert report.ours.overall is None and report.published.overall is None


@pytest.mark.parametrize(
    ("gold", "others", "published", "ours"),
    [
        (9.0, (8.0, 7.0, 1.0), 1.0, True),
        (9.0, (9.0, 7.0, 9.0), 1 / 3, False),
        (8.0, (9.0, 7.0, 1.0), 0.0, False),
        # A failed rating of a wrong response is left out there and spoils the question here.
        (8.0, (None, 7.0, 1.0), 1.0, False),
        (None, (3.0, 7.0, 1.0), 0.0, False),
        (None, (None, None, None), 0.25, False),
    ],
)
def test_ratings_of_four_responses(
    gold: float | None, others: Ratings, published: float, ours: bool
) -> None:
    question = rated("q", (gold,), others, domain="Safety")
    assert rating_credit(question) == pytest.approx(published)
    assert is_best_rated(question) is ours


def test_the_ties_score_by_hand() -> None:
    score = ties_score(TIES)
    assert (score.num_tied, score.num_ref, score.num_both) == (2, 2, 2)
    # Gaps above 0: 3 and 1 of the tied, 4 but not -1 of the references.
    assert (score.tied_accuracy, score.ref_accuracy) == (1.0, 0.5)
    # 3 > 2 and 1 > 0; with the smaller gap 3 > 2 but not -1 > 0.
    assert (score.margin, score.hard_margin) == (1.0, 0.5)
    # tanh(3/2 - 1) and tanh(-1/0) = -1.
    assert score.margin_size == pytest.approx((math.tanh(0.5) - 1) / 2)
    # .30 + .15 + .20 + .10 + .01 · -0.268941 = .74731
    assert score.score == pytest.approx(0.7473106, abs=1e-7)


def test_equal_ratings_for_everything_score_nothing_in_ties() -> None:
    score = ties_score([rated("ref:1", (5.0,), (5.0,)), rated("tied:1", (5.0, 5.0), (5.0,))])
    # The margin size is 0/0, which counts as 0.
    assert score.score == 0.0 and score.margin_size == 0.0


def test_a_perfect_ties_score_is_a_hundredth_above_one() -> None:
    score = ties_score([rated("ref:1", (9.0,), (1.0,)), rated("tied:1", (9.0, 9.0), (1.0,))])
    assert score.score == pytest.approx(1.01)


def test_a_failed_rating_in_ties() -> None:
    failed = [rated("ref:1", (9.0,), (5.0, 3.0)), rated("tied:1", (9.0, 7.0), (4.0, None))]
    ours, published = ties_score(failed), ties_score(failed, failed_rating=-1.0)
    assert ours.tied_accuracy == ours.margin == ours.hard_margin == ours.margin_size == 0.0
    assert ours.ref_accuracy == 1.0 and ours.score == pytest.approx(0.30)
    # -1 for a wrong response changes nothing: gap 3, spread 2 as in the prompt without a failure.
    assert published.score == pytest.approx(1.0 + 0.01 * math.tanh(0.5))


def test_a_failed_reference_spoils_only_what_it_enters() -> None:
    score = ties_score([rated("ref:1", (None,), (5.0,)), rated("tied:1", (9.0, 7.0), (4.0,))])
    assert (score.tied_accuracy, score.ref_accuracy) == (1.0, 0.0)
    assert (score.margin, score.hard_margin, score.margin_size) == (1.0, 0.0, 0.0)


def test_ties_without_a_prompt_of_both_kinds_have_no_score() -> None:
    score = ties_score([rated("ref:1", (9.0,), (5.0,)), rated("tied:2", (9.0, 7.0), (4.0,))])
    assert (score.ref_accuracy, score.tied_accuracy) == (1.0, 1.0)
    assert score.score is None and score.margin is None and score.num_both == 0


def test_overall_is_the_mean_of_the_six_domains() -> None:
    names = ("Factuality", "Precise IF", "Math", "Safety")
    right = [rated("q", (4.0,), (1.0, 1.0, 1.0), domain=name) for name in names]
    focus = rated("q", (4.0,), (4.0, 1.0, 1.0), domain="Focus")
    report = rewardbench2_report([*right, focus, *TIES])
    assert report.missing == () and report.num_questions["Ties"] == 4
    # Focus is a tie of two: 1/2 published, not right here.
    assert report.published.overall == pytest.approx((4 + 0.5 + 0.7473106) / 6, abs=1e-7)
    assert report.ours.overall == pytest.approx((4 + 0 + 0.7473106) / 6, abs=1e-7)
    assert json.loads(json.dumps(report.to_dict()))["ties_ours"]["num_both"] == 2


def test_an_unknown_domain_is_named_and_counts_nowhere() -> None:
    report = rewardbench2_report([rated("q", (4.0,), (1.0, 1.0, 1.0), "Poetry")])
    assert report.unknown == ("Poetry",) and set(report.ours.domains) == set(NUM_QUESTIONS)


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ([rated("q", (1.0, 2.0), (0.0,), "Math")], "exactly one right response"),
        ([rated("7", (1.0,), (0.0,))], "not '7'"),
        ([rated("tied:7", (1.0,), ())], "needs right and wrong responses"),
        ([TIES[0], TIES[0]], "ref:1 is given twice"),
    ],
)
def test_misshapen_questions_are_refused(ratings: list[RatedQuestion], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rewardbench2_report(ratings)
