import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.judging.balance import balance_rank
from selfreward.judging.preferences import (
    Candidate,
    ChosenPair,
    PairDrop,
    choose_anchored_pair,
    choose_pair,
    mean_scores,
    positives,
)
from selfreward.records import DropReason, ModelRef, Outcome, Verdict
from selfreward.records_scores import Rating

JUDGE = ModelRef(name="judge", iteration=0, fingerprint="f0")


def rating(response: str, draw: int, score: float | None) -> Rating:
    outcome = Outcome.UNPARSED if score is None else Outcome.SCORE
    return Rating.new(
        response_id=response,
        judge=JUDGE,
        rubric_id="pointwise_additive",
        draw=draw,
        text=f"Score: {score}",
        finish_reason="stop",
        num_tokens=3,
        num_prompt_tokens=100,
        verdict=Verdict(outcome=outcome, score=score),
    )


def candidate(ident: str, score: float | None, num_chars: int = 10) -> Candidate:
    return Candidate(response_id=ident, text=(ident * num_chars)[:num_chars], score=score)


def names(result: ChosenPair | PairDrop) -> tuple[str, str]:
    assert isinstance(result, ChosenPair), result
    return result.chosen.response_id, result.rejected.response_id


def reason(result: ChosenPair | PairDrop) -> DropReason:
    assert isinstance(result, PairDrop), result
    return result.reason


def test_draws_without_a_score_are_left_out_of_the_mean() -> None:
    ratings = [
        rating("a", 0, 4),
        rating("a", 1, None),
        rating("a", 2, 1),
        rating("b", 0, 5),
        rating("c", 0, None),
    ]
    # a: (4 + 1) / 2; the failed draw is no 0, and c has no score at all.
    assert mean_scores(ratings) == {"a": 2.5, "b": 5.0}
    assert mean_scores([]) == {}


def test_a_choice_is_no_reading_of_one_response() -> None:
    ratings = [rating("a", 0, 4)]
    wrong = Rating.new(
        response_id="a",
        judge=JUDGE,
        rubric_id="pairwise_verdict_only",
        draw=1,
        text="A",
        finish_reason="stop",
        num_tokens=1,
        num_prompt_tokens=9,
        verdict=Verdict(outcome=Outcome.CHOICE, choice="first"),
    )
    with pytest.raises(ValueError, match="choice"):
        mean_scores([*ratings, wrong])


def test_the_best_is_chosen_and_the_worst_rejected() -> None:
    found = choose_pair([candidate("a", 3), candidate("b", 4.5), candidate("c", 1)])
    assert names(found) == ("b", "c")
    assert isinstance(found, ChosenPair) and found.margin == 3.5


def test_equal_scores_are_dropped_however_they_were_summed() -> None:
    # 0.1 + 0.2 is 0.30000000000000004: the same mean, one unit in the last place apart.
    found = choose_pair([candidate("a", 0.1 + 0.2), candidate("b", 0.3)])
    assert reason(found) is DropReason.TIED_SCORES
    # Three draws differ by a third at least.
    assert names(choose_pair([candidate("a", 4 + 1 / 3), candidate("b", 4)])) == ("a", "b")


def test_too_few_scores() -> None:
    candidates = [candidate("a", 5), candidate("b", 1), candidate("c", None)]
    assert names(choose_pair(candidates)) == ("a", "b")
    dropped = choose_pair(candidates, min_scored=3)
    assert isinstance(dropped, PairDrop)
    assert dropped.reason is DropReason.TOO_FEW_SCORES
    assert dropped.detail == "2 of 3 candidates have a score, 3 needed"
    assert reason(choose_pair([], min_scored=0)) is DropReason.TOO_FEW_SCORES


def test_ties_at_the_top_and_bottom_follow_the_hash_and_not_the_order() -> None:
    candidates = [
        candidate("a", 5, 30),
        candidate("b", 5, 10),
        candidate("c", 2, 10),
        candidate("d", 2, 30),
    ]
    expected = min("ab", key=balance_rank), min("cd", key=balance_rank)
    found = {names(choose_pair(order)) for order in itertools.permutations(candidates)}
    assert found == {expected}


def test_over_many_ids_ties_fall_either_way() -> None:
    # Of 400 fair coins 200 +- 10 come up heads: 150 to 250 is five standard deviations.
    firsts = 0
    for n in range(400):
        pair = [candidate(f"first{n}", 5), candidate(f"second{n}", 5), candidate(f"low{n}", 1)]
        firsts += names(choose_pair(pair))[0] == f"first{n}"
    assert 150 < firsts < 250


# Scores from 1 to 5: with rho 0.25 the ranges are 4 to 5 and 1 to 2, with 0.5 both end at 3.
SPREAD = [
    candidate("a", 5, 900),
    candidate("b", 4, 200),
    candidate("c", 3, 100),
    candidate("d", 2, 950),
    candidate("e", 1, 300),
]


@pytest.mark.parametrize(
    ("rho", "expected"),
    [
        (0.0, ("a", "e")),
        (0.24, ("a", "e")),
        # The ends of the ranges, 4 and 2, belong to them.
        (0.25, ("b", "d")),
        # c, at 3, is the shortest in the upper range.
        (0.5, ("c", "d")),
        # 0.75 takes d (2) into the upper and b (4) into the lower range: c is still the shortest,
        # and what is rejected must score below it.
        (0.75, ("c", "d")),
        # e has the lowest score: it is in the upper range too, but never chosen.
        (1.0, ("c", "d")),
    ],
)
def test_the_length_rule_by_hand(rho: float, expected: tuple[str, str]) -> None:
    for order in (SPREAD, SPREAD[::-1]):
        assert names(choose_pair(order, length_rho=rho)) == expected


def test_the_length_rule_is_about_scores_first() -> None:
    # Range 0 to 5, rho 0.4: upper 3 to 5, lower 0 to 2. The one-character response scores 2.9.
    candidates = [candidate("a", 5, 50), candidate("b", 2.9, 1), candidate("c", 0, 20)]
    assert names(choose_pair(candidates, length_rho=0.4)) == ("a", "c")


def test_of_equally_long_responses_the_better_is_chosen_and_the_worse_rejected() -> None:
    candidates = [candidate(n, s, 40) for n, s in zip("wxyz", (4.8, 5, 1, 1.2), strict=True)]
    assert names(choose_pair(candidates, length_rho=0.3)) == ("x", "y")


def test_no_pair_by_length_where_the_paper_has_none() -> None:
    # Both ranges cover everything: shortest and longest would be one and the same response.
    candidates = [candidate("a", 5, 40), candidate("b", 1, 10)]
    assert names(choose_pair(candidates, length_rho=1.0)) == ("a", "b")


def test_the_margin_is_that_of_the_pair() -> None:
    candidates = [candidate("a", 5, 900), candidate("b", 4, 200), candidate("e", 1, 300)]
    assert names(choose_pair(candidates, min_margin=4)) == ("a", "e")
    dropped = choose_pair(candidates, length_rho=0.25, min_margin=4)
    assert isinstance(dropped, PairDrop)
    assert (dropped.reason, dropped.detail) == (DropReason.LOW_MARGIN, "b over e: margin 3")
    # 0.3 - 0.1 is a hair below 0.2.
    assert names(choose_pair([candidate("a", 0.3), candidate("b", 0.1)], min_margin=0.2))


def test_one_text_with_two_scores_teaches_nothing() -> None:
    twins = [
        Candidate(response_id="a", text="Paris.", score=5),
        Candidate(response_id="b", text="Paris.\n", score=1),
        Candidate(response_id="c", text="Lyon.", score=3),
    ]
    assert reason(choose_pair(twins)) is DropReason.SAME_RESPONSE


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="length_rho"):
        choose_pair(SPREAD, length_rho=1.5)
    with pytest.raises(ValueError, match="score of b is nan"):
        choose_pair([candidate("a", 1), candidate("b", math.nan)])


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(1, 5)), min_size=2, max_size=6),
    st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.8, 1.0]),
    st.randoms(),
)
def test_any_pair_is_in_its_ranges_and_in_order(rows, rho, rng) -> None:  # type: ignore[no-untyped-def]
    candidates = [candidate(f"{n:x}", thirds / 3, size) for n, (thirds, size) in enumerate(rows)]
    found = choose_pair(candidates, length_rho=rho)
    scores = [c.score for c in candidates if c.score is not None]
    high, low = max(scores), min(scores)
    if isinstance(found, PairDrop):
        assert found.reason is DropReason.TIED_SCORES and high == low
    else:
        chosen, rejected = found.chosen.score, found.rejected.score
        assert chosen is not None and rejected is not None
        assert chosen >= (1 - rho) * high + rho * low - 1e-6
        assert rejected <= (1 - rho) * low + rho * high + 1e-6
        assert found.margin == chosen - rejected > 0
    shuffled = list(candidates)
    rng.shuffle(shuffled)
    assert choose_pair(shuffled, length_rho=rho) == found


def test_the_rejected_response_is_the_first_models() -> None:
    candidates = [candidate("now", 4), candidate("later", 3)]
    anchors = [candidate("old", 3.5), candidate("older", 2)]
    assert names(choose_anchored_pair(candidates, anchors)) == ("now", "older")
    # The current model's own worst response, at 1, is not asked for.
    worse = [*candidates, candidate("odd", 1)]
    assert names(choose_anchored_pair(worse, anchors)) == ("now", "older")


def test_the_anchored_pair_knows_the_length_rule() -> None:
    # From the worst anchor 1 to the best candidate 5: rho 0.25 is 4 to 5 and 1 to 2.
    candidates = [candidate("a", 5, 90), candidate("b", 4, 20), candidate("c", 0, 5)]
    anchors = [candidate("x", 1, 30), candidate("y", 2, 70), candidate("z", 2.1, 99)]
    assert names(choose_anchored_pair(candidates, anchors, length_rho=0.25)) == ("b", "y")


def test_an_anchored_pair_needs_scores_and_the_right_order() -> None:
    candidates, anchors = [candidate("a", 3), candidate("b", 2)], [candidate("x", 4)]
    assert reason(choose_anchored_pair(candidates, anchors)) is DropReason.LOW_MARGIN
    anchors = [candidate("x", 3)]
    assert reason(choose_anchored_pair(candidates, anchors)) is DropReason.TIED_SCORES
    unscored = choose_anchored_pair(candidates, [candidate("x", None)])
    assert isinstance(unscored, PairDrop)
    assert unscored.reason is DropReason.TOO_FEW_SCORES
    assert unscored.detail == "0 of 1 responses of the first model have a score, 1 needed"
    few = choose_anchored_pair(candidates[:1], anchors)
    assert reason(few) is DropReason.TOO_FEW_SCORES
    assert names(choose_anchored_pair(candidates, [candidate("x", 1)], min_margin=2)) == ("a", "x")
    low = choose_anchored_pair(candidates, [candidate("x", 1)], min_margin=2.5)
    assert reason(low) is DropReason.LOW_MARGIN


def test_positives_are_the_good_responses_each_text_once() -> None:
    candidates = [
        Candidate(response_id="a", text="Paris.", score=5),
        Candidate(response_id="b", text="Lyon.", score=4.9),
        Candidate(response_id="c", text=" Paris.", score=5),
        Candidate(response_id="d", text="It is Paris.", score=5),
        Candidate(response_id="e", text="Nice.", score=None),
    ]
    assert [c.response_id for c in positives(candidates, 5)] == ["a", "d"]
    assert positives(candidates, 5.1) == []
