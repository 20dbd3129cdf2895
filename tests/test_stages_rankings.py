"""Rankings of people: every form of file, what is dropped, and prompts kept out of training."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfreward.config_custom_llm import RankingsConfig
from selfreward.errors import DataError
from selfreward.records import Preference
from selfreward.records_custom_llm import Ranking
from selfreward.records_scores import ScoredResponse
from selfreward.serving.review.export import jsonl
from selfreward.stages.rankings import build_rankings
from tests.run_folders import ask
from tests.stage_tools import drops_in, records_in

# Enough for both splits, so that a test can look at the rows beside them.
FILLERS = [{"prompt": f"filler {i}", "responses": ["good", "bad"]} for i in range(3)]


def write(tmp_path: Path, rows: list[Any], name: str = "people.jsonl") -> str:
    path = tmp_path / name
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return str(path)


def build(
    tmp_path: Path, rows: list[Any], *, seed: int = 0, **settings: Any
) -> tuple[list[Ranking], list[Ranking]]:
    defaults: dict[str, Any] = {"data": (write(tmp_path, rows),), "heldout": 2}
    folders = (f"{tmp_path}/train", f"{tmp_path}/heldout")
    build_rankings(RankingsConfig(**(defaults | settings)), 200, 4, seed, folders)
    train, heldout = (records_in(folder, Ranking) for folder in folders)
    return train, heldout


def read(tmp_path: Path, rows: list[Any]) -> list[Ranking]:
    """The rankings of these rows, those to train on and the others."""
    train, heldout = build(tmp_path, [*rows, *FILLERS])
    found = sorted(train + heldout, key=lambda r: r.messages[-1].content)
    return [r for r in found if not r.messages[-1].content.startswith("filler")]


def drops(tmp_path: Path) -> list[str]:
    assert all(d.stage == "rankings" for d in drops_in(f"{tmp_path}/train"))
    return [d.reason.value for d in drops_in(f"{tmp_path}/train")]


def test_rows_of_ranked_responses(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "b?"}]
    rows = [
        {"prompt": "a?", "responses": ["x", " y ", "z"], "ranks": [4, 1, 4]},
        # Without ranks the order is the ranking.
        {"messages": turns, "responses": ["x", "y", "z"], "source": "desk"},
    ]
    one, other = read(tmp_path, rows)
    assert (one.messages[0].content, one.responses, one.ranks) == ("a?", ("x", "y", "z"), (2, 1, 2))
    assert (other.messages[0].content, other.ranks, other.source) == ("b?", (1, 2, 3), "desk")
    assert one.source == "people.jsonl"
    assert drops(tmp_path) == []


def test_scored_responses_are_grouped_by_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a?", "response": "low", "score": 1},
        {"prompt": "b?", "response": "yes", "score": 0.5},
        {"prompt": "a?", "response": "high", "score": 5},
        {"prompt": "a?", "response": "high too", "score": 5.0},
        {"prompt": "b?", "response": "no", "score": 0.25},
    ]
    one, other = read(tmp_path, rows)
    assert dict(zip(one.responses, one.ranks, strict=True)) == {"low": 2, "high": 1, "high too": 1}
    assert dict(zip(other.responses, other.ranks, strict=True)) == {"yes": 1, "no": 2}


def test_both_exports_of_the_review_page(tmp_path: Path) -> None:
    asked = ask("Which is best?").messages
    ranked = [
        ScoredResponse.new(
            messages=asked, response=text, score=score, low=1, high=5, group="task-1", source="rev"
        )
        for text, score in (("worst", 1.0), ("best", 5.0), ("fine", 3.0))
    ]
    preference = Preference(
        id="pre-1",
        messages=ask("Why?").messages,
        chosen="this",
        rejected="that",
        pair_id="ins-1",
        chosen_id="res-1",
        rejected_id="res-2",
    )
    one, other = read(tmp_path, [*jsonl(ranked), *jsonl([preference])])
    assert (one.responses, one.ranks, one.source) == (("worst", "best", "fine"), (3, 1, 2), "rev")
    assert (other.messages, other.responses, other.ranks) == (
        preference.messages,
        ("this", "that"),
        (1, 2),
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": " ", "responses": ["x", "y"]}, "empty_instruction"),
        ({"prompt": "q" * 201, "responses": ["x", "y"]}, "too_long"),
        ({"responses": ["x", "y"]}, "missing_column"),
        ({"prompt": "q", "responses": ["x", " "]}, "empty_response"),
        ({"prompt": "q", "responses": "x"}, "empty_response"),
        ({"prompt": "q", "responses": ["x", "y"], "ranks": [1]}, "bad_score"),
        ({"prompt": "q", "responses": ["x", "y"], "ranks": [1, "second"]}, "bad_score"),
        ({"prompt": "q", "responses": ["x", "y"], "ranks": [1, 1]}, "too_few_scores"),
        ({"prompt": "q", "responses": ["x"]}, "too_few_scores"),
        ({"prompt": "q", "responses": ["x", "x"], "ranks": [1, 2]}, "same_response"),
        ({"prompt": "q", "response": "x", "score": 3}, "too_few_scores"),
        ({"prompt": "q", "response": "x", "score": "good"}, "bad_score"),
        ({"prompt": "q", "chosen": "x"}, "empty_response"),
        ({"prompt": "filler 0", "responses": ["good", "bad"]}, "exact_duplicate"),
    ],
)
def test_what_is_no_ranking_is_dropped_with_a_reason(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    train, heldout = build(tmp_path, [FILLERS[0], row, *FILLERS[1:]])
    assert len(train + heldout) == 3
    assert drops(tmp_path) == [reason]


def test_equal_responses_of_equal_rank_are_one(tmp_path: Path) -> None:
    row = {"prompt": "q", "responses": ["x", "y", "x"], "ranks": [1, 2, 1]}
    (made,) = read(tmp_path, [row])
    assert (made.responses, made.ranks) == (("x", "y"), (1, 2))


PEOPLE = [
    {"prompt": f"question {i}", "responses": [f"by {name}", "other"]}
    for i in range(6)
    for name in ("ann", "bob")
]


def prompts(rows: list[Ranking]) -> set[str]:
    return {r.messages[0].content for r in rows}


def test_a_prompt_is_never_in_both_splits(tmp_path: Path) -> None:
    # Two rankings a prompt: three held out are two prompts.
    train, heldout = build(tmp_path, PEOPLE, heldout=3)
    assert (len(train), len(heldout)) == (8, 4)
    assert prompts(train) & prompts(heldout) == set()
    again = build(tmp_path, [PEOPLE[0], *reversed(PEOPLE[1:])], heldout=3)
    assert again == (train, heldout), "the order of the rows does not matter"
    splits = [prompts(build(tmp_path, PEOPLE, heldout=3, seed=s)[1]) for s in (1, 2, 3)]
    assert any(split != prompts(heldout) for split in splits)


def test_at_most_so_many_rankings(tmp_path: Path) -> None:
    train, heldout = build(tmp_path, PEOPLE, max_rankings=5)
    assert (len(train), len(heldout)) == (3, 2)


def test_files_add_up(tmp_path: Path) -> None:
    paths = tuple(write(tmp_path, PEOPLE[i::2], f"{i}.jsonl") for i in (0, 1))
    train, heldout = build(tmp_path, [], data=paths)
    assert (len(train), len(heldout)) == (10, 2)


def test_too_few_rankings_say_what_was_wanted(tmp_path: Path) -> None:
    rows = [*FILLERS, {"prompt": "q", "responses": ["x"]}]
    with pytest.raises(DataError) as caught:
        build(tmp_path, rows, heldout=3)
    text = str(caught.value)
    assert "3 usable rankings of 3 prompts are too few for custom_llm.rankings.heldout=3" in text
    assert "(dropped: {'too_few_scores': 1})" in text
    assert "\n" not in text


def test_another_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        build(tmp_path, [{"prompt": "q", "answers": ["x", "y"]}])
    text = str(caught.value)
    assert "rankings need the columns responses, or response and score" in text
    assert "it has ['answers', 'prompt']" in text
    assert "\n" not in text


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file at .*none.jsonl; set custom_llm.rankings.data"):
        build(tmp_path, [], data=(f"{tmp_path}/none.jsonl",))
    with pytest.raises(DataError, match=r"^custom_llm.rankings.data names no file"):
        build(tmp_path, [], data=())


def test_the_sample_has_rankings_enough(tmp_path: Path) -> None:
    train, heldout = build(tmp_path, [], data=("sample:rankings",), max_rankings=60, heldout=10)
    assert len(train) + len(heldout) > 50
    assert all(len(set(r.ranks)) > 1 for r in train + heldout)
    assert drops(tmp_path).count("bad_score") == 0


def test_scored_samples_can_be_read_as_rankings(tmp_path: Path) -> None:
    train, heldout = build(tmp_path, [], data=("sample:ranked",), heldout=5)
    assert len(train) > len(heldout)
