"""Rankings become preferences, each way of choosing two answers worked by hand."""

import pytest

from selfreward.judging.rankings import Pairs, preferences_of
from selfreward.records import Message
from selfreward.records_custom_llm import Ranking

ASKED = (Message(role="user", content="2 + 2?"),)


def ranking(**ranks: int) -> Ranking:
    return Ranking.new(
        messages=ASKED, responses=tuple(ranks), ranks=tuple(ranks.values()), source="file"
    )


def pairs_of(made: Ranking, pairs: Pairs = "all", max_pairs: int = 99, seed: int = 0) -> list[str]:
    return [p.chosen + p.rejected for p in preferences_of(made, pairs, max_pairs, seed)]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        # b is best, then a and d alike, c last.
        ("all", ["ba", "bd", "bc", "ac", "dc"]),
        ("neighbours", ["ba", "bd", "ac", "dc"]),
        ("extremes", ["bc"]),
    ],
)
def test_which_two_answers_are_compared(pairs: Pairs, expected: list[str]) -> None:
    assert pairs_of(ranking(a=2, b=1, c=3, d=2), pairs) == expected


@pytest.mark.parametrize("pairs", ["all", "neighbours", "extremes"])
def test_ties_give_nothing(pairs: Pairs) -> None:
    assert pairs_of(ranking(a=1, b=1), pairs) == []
    assert pairs_of(ranking(a=1, b=1, c=2), pairs) == ["ac", "bc"]


def test_ranks_need_not_be_dense() -> None:
    assert pairs_of(ranking(a=7, b=2, c=4), "neighbours") == ["bc", "ca"]


def test_a_preference_names_its_answers_and_its_ranking() -> None:
    made = ranking(right=1, wrong=2)
    (row,) = preferences_of(made, "all", 6, 0)
    assert (row.chosen, row.rejected, row.messages) == ("right", "wrong", ASKED)
    assert row.pair_id == made.id
    assert row.label_confidence == 1.0
    # The same answer to the same question has one id, whatever it was ranked with.
    (other,) = preferences_of(ranking(best=1, right=2), "all", 6, 0)
    assert other.rejected_id == row.chosen_id
    assert other.id != row.id


def test_one_text_twice_is_no_preference() -> None:
    made = Ranking.new(messages=ASKED, responses=("a", "a", "b"), ranks=(1, 2, 3), source="file")
    assert pairs_of(made) == ["ab", "ab"]


def test_a_part_of_many_pairs_is_drawn_by_the_seed() -> None:
    made = ranking(a=1, b=2, c=3, d=4, e=5)
    every = pairs_of(made)
    assert len(every) == 10  # 5 * 4 / 2
    drawn = pairs_of(made, max_pairs=4)
    assert len(drawn) == 4
    assert drawn == [pair for pair in every if pair in drawn], "in the order of the ranking"
    assert pairs_of(made, max_pairs=4) == drawn
    assert any(pairs_of(made, max_pairs=4, seed=s) != drawn for s in (1, 2, 3))
    assert pairs_of(made, max_pairs=10) == every
