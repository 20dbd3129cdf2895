import json

import pytest

from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.mt_bench import (
    HumanVotes,
    Vote,
    Winner,
    judge_vote,
    mt_bench_from_pairs,
    mt_bench_report,
)
from selfreward.records import Outcome, Verdict

FIRST = Verdict(outcome=Outcome.CHOICE, choice="first")
SECOND = Verdict(outcome=Outcome.CHOICE, choice="second")
TIE = Verdict(outcome=Outcome.TIE)
UNPARSED = Verdict(outcome=Outcome.UNPARSED)


def vote(winner: Winner, question: str = "81", turn: int = 1, models: str = "ab") -> Vote:
    return Vote(
        question_id=question, turn=turn, model_a=models[0], model_b=models[1], winner=winner
    )


def test_every_couple_counts_and_ties_are_left_out() -> None:
    judge = [
        vote("model_a"),
        vote("model_b", "82"),
        vote("tie", "83"),
        vote("model_a", "81", turn=2),
    ]
    people = [
        vote("model_a"),  # agrees
        vote("model_a"),  # agrees, a couple of its own
        vote("model_b"),  # does not
        vote("tie"),  # left out
        vote("model_b", "82"),  # agrees
        vote("model_a", "83"),  # the judge ties: left out of the published scoring only
        vote("model_b", "81", turn=2),  # does not
        vote("model_a", "84"),  # not judged
    ]
    report = mt_bench_report(judge, people)
    assert (report.turn_1.published, report.turn_1.num_published) == (0.75, 4)
    assert (report.turn_1.ours, report.turn_1.num_ours) == (0.6, 5)
    assert (report.turn_2.published, report.turn_2.num_published) == (0.0, 1)
    # Both turns together are 3 of 5 couples, not the mean of 0.75 and 0.
    assert report.both.published == 0.6 and report.both.ours == 0.5
    assert (report.num_human_ties, report.num_not_judged) == (1, 1)
    assert json.loads(json.dumps(report.to_dict()))["both"]["num_ours"] == 6


def test_which_model_is_called_a_does_not_matter() -> None:
    report = mt_bench_report([vote("model_a", models="ab")], [vote("model_b", models="ba")])
    assert (report.both.published, report.both.num_published) == (1.0, 1)
    report = mt_bench_report([vote("model_a", models="ab")], [vote("model_a", models="ba")])
    assert report.both.published == 0.0


def test_a_failed_verdict_does_not_agree_and_is_not_left_out() -> None:
    report = mt_bench_report([vote("failed")], [vote("model_a")])
    assert (report.turn_1.published, report.turn_1.num_published) == (0.0, 1)


@pytest.mark.parametrize(
    ("a_first", "b_first", "winner"),
    [
        (FIRST, SECOND, "model_a"),
        (SECOND, FIRST, "model_b"),
        (FIRST, FIRST, "tie"),  # the first shown wins whatever it is
        (TIE, TIE, "tie"),
        (FIRST, TIE, "tie"),
        (FIRST, UNPARSED, "failed"),
        (TIE, UNPARSED, "failed"),
        (None, FIRST, "model_b"),
        (SECOND, None, "model_b"),
        (None, UNPARSED, "failed"),
    ],
)
def test_the_readings_make_one_vote(
    a_first: Verdict | None, b_first: Verdict | None, winner: str
) -> None:
    assert judge_vote("81", 1, "a", "b", a_first, b_first).winner == winner


def test_pairs_with_their_votes() -> None:
    outcomes = [
        PairOutcome(pair_id="p1", subset="", chosen_first=FIRST, rejected_first=SECOND),
        PairOutcome(pair_id="p2", subset="", chosen_first=SECOND, rejected_first=FIRST),
        PairOutcome(pair_id="p3", subset="", chosen_first=FIRST, rejected_first=FIRST),
    ]
    votes = {
        f"p{number}": HumanVotes(
            question_id="81",
            turn=turn,
            chosen_model=models[0],
            rejected_model=models[1],
            votes_chosen=chosen,
            votes_rejected=rejected,
        )
        for number, turn, models, chosen, rejected in [
            (1, 1, "ab", 3, 1),
            (2, 1, "ca", 2, 1),
            (3, 2, "ab", 1, 0),
        ]
    }
    report = mt_bench_from_pairs(outcomes, votes)
    # p1 sides with 3 of 4 voters, p2 with 1 of 3, p3 is inconsistent.
    assert (report.turn_1.published, report.turn_1.num_published) == (pytest.approx(4 / 7), 7)
    assert report.turn_2.published is None
    assert (report.turn_2.ours, report.turn_2.num_ours) == (0.0, 1)
    assert report.both.ours == pytest.approx(4 / 8)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="turns 1 and 2, not 3"):
        mt_bench_report([vote("model_a", turn=3)], [])
    with pytest.raises(ValueError, match="did not read question 81, turn 2"):
        judge_vote("81", 2, "a", "b", None, None)
    with pytest.raises(ValueError, match="two judge votes"):
        mt_bench_report([vote("model_a", models="ab"), vote("model_a", models="ba")], [])
    outcome = PairOutcome(pair_id="p9", subset="", chosen_first=FIRST, rejected_first=SECOND)
    with pytest.raises(ValueError, match="the pair p9"):
        mt_bench_from_pairs([outcome], {})
