import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.errors import DataError
from selfreward.records import Message
from selfreward.serving.review.blind import blind_task, letters, placed_answer, shown_order
from selfreward.serving.review.items import JudgedBy, PlacedAnswer, ReviewItem, ServedItem
from selfreward.serving.review_wire import ReviewAnswer

PAIR = ReviewItem(
    id="task-1",
    kind="pair",
    prompt=(Message(role="user", content="2 + 2?"),),
    responses=("four", "five"),
    response_ids=("res-good", "res-bad"),
    instruction_id="ins-secret",
    priority=0.75,
    why="orders disagree",
    judged=(JudgedBy(judge="M7", label="first", scores=(4.5, 1.5)),),
)
RANK = ReviewItem(
    id="task-2",
    kind="rank",
    prompt=(Message(role="user", content="Name a colour."),),
    responses=("red", "blue", "fish"),
    response_ids=("res-r", "res-b", "res-f"),
    instruction_id="ins-2",
    priority=0.0,
    why="no disagreement",
)


@given(st.text(min_size=1, max_size=20), st.integers(2, 6), st.integers(0, 2**31 - 1))
def test_at_every_moment_each_response_stood_at_each_position_as_often_up_to_one(
    reviewer: str, n: int, seed: int
) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    for number in range(4 * n):
        order = shown_order(reviewer=reviewer, number=number, num_responses=n, seed=seed)
        assert sorted(order) == list(range(n))
        seen.update(enumerate(order))
        counts = [seen[cell] for cell in itertools.product(range(n), range(n))]
        assert max(counts) - min(counts) <= 1
    assert set(counts) == {4}


def test_orders_differ_between_reviewers_and_cannot_be_told_by_alternation() -> None:
    orders = {
        reviewer: tuple(
            shown_order(reviewer=reviewer, number=i, num_responses=2, seed=0) for i in range(20)
        )
        for reviewer in ("Ada", "Ben", "Cem")
    }
    assert len(set(orders.values())) == 3
    for shown in orders.values():
        assert any(one == after for one, after in itertools.pairwise(shown))
    again = tuple(shown_order(reviewer="Ada", number=i, num_responses=2, seed=0) for i in range(20))
    assert again == orders["Ada"]


def test_a_task_shows_texts_under_letters_and_nothing_of_who_wrote_or_judged_them() -> None:
    task = blind_task(ServedItem(item=PAIR, order=(1, 0), num_left=3, num_done=2))
    assert task.model_dump() == {
        "id": "task-1",
        "kind": "pair",
        "prompt": [{"role": "user", "content": "2 + 2?"}],
        "responses": [{"label": "A", "text": "five"}, {"label": "B", "text": "four"}],
        "num_left": 3,
        "num_done": 2,
    }


@pytest.mark.parametrize(
    ("order", "choice", "ranking"),
    [
        ((0, 1), "A", ((0,), (1,))),
        ((0, 1), "B", ((1,), (0,))),
        ((1, 0), "A", ((1,), (0,))),
        ((1, 0), "B", ((0,), (1,))),
        ((1, 0), "tie", ((0, 1),)),
    ],
)
def test_a_choice_is_turned_back(
    order: tuple[int, int], choice: str, ranking: tuple[tuple[int, ...], ...]
) -> None:
    answer = ReviewAnswer(task_id="task-1", choice=choice)
    assert placed_answer(PAIR, order, answer) == PlacedAnswer(ranking=ranking, harmful=())


def test_a_ranking_and_what_is_harmful_are_turned_back() -> None:
    # Shown: A fish, B red, C blue.
    answer = ReviewAnswer(task_id="task-2", ranking=[["C", "B"], [], ["A"]], harmful=["A", "A"])
    placed = placed_answer(RANK, (2, 0, 1), answer)
    assert placed == PlacedAnswer(ranking=((0, 1), (2,)), harmful=(2,))


@given(st.permutations(range(3)), st.permutations(range(3)))
def test_what_a_reviewer_ranks_by_text_is_stored_by_text(order: list[int], best: list[int]) -> None:
    task = blind_task(ServedItem(item=RANK, order=tuple(order), num_left=1, num_done=0))
    letter = {shown.text: shown.label for shown in task.responses}
    wanted = [RANK.responses[place] for place in best]
    answer = ReviewAnswer(task_id=task.id, ranking=[[letter[text]] for text in wanted])
    placed = placed_answer(RANK, order, answer)
    assert [RANK.responses[place] for (place,) in placed.ranking] == wanted


@pytest.mark.parametrize(
    ("item", "answer", "message"),
    [
        (PAIR, {"choice": "C"}, "choice C is none of A, B"),
        (PAIR, {"choice": "A", "harmful": ["Z"]}, "harmful Z is none of A, B"),
        (PAIR, {"ranking": [["A"], ["B"]]}, "wants a choice of A, B or tie"),
        (RANK, {"choice": "A"}, "wants a ranking of A, B, C"),
        (RANK, {"ranking": [["A"], ["B"]]}, "each of A, B, C exactly once"),
        (RANK, {"ranking": [["A"], ["B"], ["C"], ["A"]]}, "each of A, B, C exactly once"),
        (RANK, {"ranking": [["A"], ["B"], ["D"]]}, "each of A, B, C exactly once"),
    ],
)
def test_an_answer_that_does_not_fit_the_task_is_refused(
    item: ReviewItem, answer: dict[str, object], message: str
) -> None:
    wire = ReviewAnswer.model_validate({"task_id": item.id, **answer})
    with pytest.raises(DataError, match=message):
        placed_answer(item, tuple(range(len(item.responses))), wire)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "rank"}, "a rank of 2 responses"),
        ({"response_ids": ("same", "same")}, "id of its own"),
        ({"priority": float("nan")}, "no finite number"),
        ({"judged": (JudgedBy(judge="M1", label=None, scores=(1.0,)),)}, "one score a response"),
    ],
)
def test_an_item_that_does_not_hold_together_is_refused(
    changes: dict[str, object], message: str
) -> None:
    fields = {name: getattr(PAIR, name) for name in PAIR.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        ReviewItem(**{**fields, **changes})


def test_letters_go_from_a_to_z() -> None:
    assert letters(3) == ("A", "B", "C")
    assert letters(26)[-1] == "Z"
