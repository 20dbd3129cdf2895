"""Which rows of a file are measured where it is to give only so many."""

from collections import Counter

import pytest

from selfreward.errors import DataError
from selfreward.records import Message, ResponsePair
from selfreward.stages.row_limit import RowLimit, limited


def pair(prompt: str, k: int) -> ResponsePair:
    return ResponsePair.new(
        instruction_id=prompt,
        messages=(Message(role="user", content=prompt),),
        chosen=f"right {k}",
        rejected=f"wrong {k}",
        corruption="labelled",
    )


# Sorted as files are: forty pairs of the first prompt, four of each of ten others.
ROWS = [pair("first", k) for k in range(40)] + [
    pair(f"other {n}", k) for n in range(10) for k in range(4)
]


def prompts(rows: list[ResponsePair]) -> Counter[str]:
    return Counter(row.instruction_id for row in rows)


def test_every_prompt_comes_before_a_second_row_of_any() -> None:
    assert set(prompts(limited(ROWS, RowLimit(11))).values()) == {1}
    # Eleven prompts, one row of each and then a second one.
    twice = prompts(limited(ROWS, RowLimit(22)))
    assert len(twice) == 11
    assert set(twice.values()) == {2}
    # Four of each are 44; what is left is of the one prompt that has more.
    assert prompts(limited(ROWS, RowLimit(50)))["first"] == 10


def test_which_rows_those_are_follows_from_what_they_say() -> None:
    drawn = limited(ROWS, RowLimit(5))
    assert [row.id for row in limited(ROWS[::-1], RowLimit(5))] == [row.id for row in drawn][::-1]
    # A larger number adds rows.
    assert {row.id for row in drawn} < {row.id for row in limited(ROWS, RowLimit(9))}
    # In the order of the file.
    assert [row for row in ROWS if row in drawn] == drawn


def test_whole_prompts_are_taken_as_long_as_they_fit() -> None:
    drawn = limited(ROWS[40:], RowLimit(11, whole_prompts=True))
    assert list(prompts(drawn).values()) == [4, 4]
    # The long prompt is passed over, the others fill what is left.
    assert "first" not in prompts(limited(ROWS, RowLimit(39, whole_prompts=True)))
    assert len(limited(ROWS, RowLimit(39, whole_prompts=True))) == 36
    with pytest.raises(DataError, match=r"--max-rows=3 is less than .* set it to 4 or more"):
        limited(ROWS, RowLimit(3, whole_prompts=True))


def test_a_file_within_the_limit_is_taken_whole() -> None:
    assert limited(ROWS, RowLimit(80)) == ROWS
    assert limited(ROWS, None) == ROWS
    assert limited([], RowLimit(1)) == []
