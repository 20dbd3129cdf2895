import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from selfreward.records import Message, Preference, ResponsePair
from selfreward.records_scores import ScoredResponse
from selfreward.serving.review.export import human_preferences, human_rankings, jsonl
from selfreward.serving.review.items import PlacedAnswer, Ranking, ReviewItem, StoredAnswer
from selfreward.stages.labelled import build_labelled
from selfreward.stages.seeds import build_ranked
from selfreward.storage.shards import read_records, sealed_shards


def make_item(name: str, *responses: str) -> ReviewItem:
    return ReviewItem(
        id=f"rev-{name}",
        kind="pair" if len(responses) == 2 else "rank",
        prompt=(Message(role="user", content=f"Question {name}?"),),
        responses=responses,
        response_ids=tuple(f"res-{name}-{i}" for i in range(len(responses))),
        instruction_id=f"ins-{name}",
        priority=1.0,
        why="orders disagree (100%)",
    )


def answer(
    item: ReviewItem, reviewer: str, ranking: Ranking, *harmful: int, revision: int = 1
) -> StoredAnswer:
    return StoredAnswer(
        id=f"rva-{item.id}-{reviewer}-{revision}",
        task_id=item.id,
        reviewer=reviewer,
        revision=revision,
        placed=PlacedAnswer(ranking=ranking, harmful=harmful),
        comment="",
        seconds=None,
        answered_at="2026-01-31T12:00:00+00:00",
    )


FIRST: Ranking = ((0,), (1,))
SECOND: Ranking = ((1,), (0,))
TIE: Ranking = ((0, 1),)
PAIR = make_item("p", "Paris.", "Lyon.")
RANK = make_item("r", "Best.", "Middling.", "Worst.")


def said(*rankings: Ranking) -> list[StoredAnswer]:
    return [answer(PAIR, f"reviewer {i}", ranking) for i, ranking in enumerate(rankings)]


def preferred(rows: Iterable[Preference]) -> list[tuple[str, str, float]]:
    return [(row.chosen, row.rejected, row.label_confidence) for row in rows]


def test_what_most_reviewers_prefer_becomes_a_preference() -> None:
    (row,) = human_preferences([PAIR], said(SECOND, SECOND, FIRST, SECOND))
    assert preferred([row]) == [("Lyon.", "Paris.", 0.75)]
    assert row.messages == PAIR.prompt and row.pair_id == "ins-p"
    assert (row.chosen_id, row.rejected_id) == ("res-p-1", "res-p-0")


@pytest.mark.parametrize(
    "rankings", [[TIE], [FIRST, SECOND], [TIE, TIE, FIRST], [FIRST, FIRST, SECOND, TIE]]
)
def test_a_tie_a_split_and_half_of_the_reviewers_are_no_preference(rankings: list[Ranking]) -> None:
    assert human_preferences([PAIR], said(*rankings)) == []


def test_a_tie_counts_among_the_reviewers() -> None:
    # 2 of 3 prefer the first.
    rows = human_preferences([PAIR], said(FIRST, TIE, FIRST))
    assert preferred(rows) == [("Paris.", "Lyon.", pytest.approx(2 / 3))]


def test_a_ranking_is_all_its_comparisons() -> None:
    answers = [answer(RANK, "Ada", ((0,), (1,), (2,))), answer(RANK, "Bob", ((0, 1), (2,)))]
    # Of best and middling one of two names the best: half is no majority.
    assert preferred(human_preferences([RANK], answers)) == [
        ("Best.", "Worst.", 1.0),
        ("Middling.", "Worst.", 1.0),
    ]


def test_a_response_that_anybody_flags_as_harmful_is_never_chosen() -> None:
    answers = [
        answer(RANK, "Ada", ((0,), (1,), (2,))),
        answer(RANK, "Bob", ((0,), (1,), (2,)), 0),
    ]
    assert preferred(human_preferences([RANK], answers)) == [("Middling.", "Worst.", 1.0)]
    # It goes last, behind what the reviewers found worse: 1 + 4 * 0 / 2, and 2 / 2, 1 / 2.
    scores = {row.response: row.score for row in human_rankings([RANK], answers)}
    assert scores == {"Best.": 1.0, "Middling.": 5.0, "Worst.": 3.0}


def test_scores_are_mean_ranks_on_a_scale_of_one_to_five() -> None:
    answers = [answer(RANK, "Ada", ((0,), (1,), (2,))), answer(RANK, "Bob", ((1,), (0, 2)))]
    # Points of Ada 2, 1, 0 and of Bob 0.5, 2, 0.5: the sums of 4 are 2.5, 3 and 0.5.
    scores = [row.score for row in human_rankings([RANK], answers)]
    assert scores == [3.5, 4.0, 1.5]


def test_tasks_without_an_order_or_without_answers_are_left_out() -> None:
    assert human_rankings([PAIR, RANK], said(FIRST, SECOND)) == []
    assert human_preferences([RANK], []) == []


def test_only_the_last_answer_of_a_reviewer_counts() -> None:
    answers = [
        answer(PAIR, "Ada", SECOND, revision=2),
        answer(PAIR, "Ada", FIRST, revision=1),
    ]
    assert preferred(human_preferences([PAIR], answers)) == [("Lyon.", "Paris.", 1.0)]


def test_an_answer_to_an_unknown_task_is_a_fault() -> None:
    with pytest.raises(KeyError, match="rev-r"):
        human_preferences([PAIR], [answer(RANK, "Ada", ((0,), (1,), (2,)))])


def test_ranked_rows_are_read_again_as_seeds(tmp_path: Path) -> None:
    # With white space at the end and a line separator inside, as models write them.
    odd = make_item("o", "Yes.\u2028Quite \u201cyes\u201d.", "No.\n\n", "Perhaps.", "Maybe.")
    # Another task on the same prompt, by other people, is a group of its own.
    again = ReviewItem(
        id="pre-9",
        kind="pair",
        prompt=odd.prompt,
        responses=odd.responses[:2],
        response_ids=odd.response_ids[:2],
        instruction_id=odd.instruction_id,
        priority=0.5,
        why="",
    )
    answers = [
        answer(odd, "Ada", ((2,), (3,), (0,), (1,))),
        answer(again, "Bob", SECOND),
        *said(FIRST),
    ]
    rows = human_rankings([odd, again, PAIR], answers)
    path = tmp_path / "ranked.jsonl"
    path.write_text("".join(jsonl(rows)), encoding="utf-8")
    folder = str(tmp_path / "ranked")
    (summary,) = build_ranked([str(path)], folder, 100, None, 10_000, [])
    assert (summary.num_records, summary.drops) == (8, {})
    read = [row for url in sealed_shards(folder) for row in read_records(url, ScoredResponse)]
    # A file's own ids stay with its rows.
    assert read == [replace(row, source_id=row.id) for row in rows]
    # 1 + 4 / 3 for one of three beaten, and so on.
    assert [(row.group, row.score) for row in read] == [
        *(("rev-o", score) for score in (2.3333, 1.0, 5.0, 3.6667)),
        *(("pre-9", score) for score in (1.0, 5.0)),
        *(("rev-p", score) for score in (5.0, 1.0)),
    ]
    assert {(row.low, row.high) for row in read} == {(1.0, 5.0)}


def test_preferences_are_read_again_as_labelled_pairs(tmp_path: Path) -> None:
    rows = human_preferences([PAIR], said(SECOND))
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(jsonl(rows)), encoding="utf-8")
    folder = str(tmp_path / "pairs")
    build_labelled(str(path), folder, 100, None, 10_000)
    (url,) = sealed_shards(folder)
    (pair,) = read_records(url, ResponsePair)
    assert (pair.messages, pair.chosen, pair.rejected) == (PAIR.prompt, "Lyon.", "Paris.")


def test_every_row_is_one_line_with_all_its_fields() -> None:
    (line,) = jsonl(human_preferences([PAIR], said(FIRST)))
    assert line.endswith("}\n") and line.count("\n") == 1
    data = json.loads(line)
    assert data["messages"] == [{"role": "user", "content": "Question p?"}]
    assert (data["chosen"], data["rejected"], data["label_confidence"]) == ("Paris.", "Lyon.", 1.0)
    assert (data["chosen_id"], data["pair_id"]) == ("res-p-0", "ins-p")
