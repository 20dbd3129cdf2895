"""The seed data that ships with the project: what it holds, and that its answers are right."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import ColumnsConfig, PoolConfig
from selfreward.errors import DataError
from selfreward.judging.categories import CATEGORIES
from selfreward.judging.filters import NearDuplicateIndex, exact_key
from selfreward.records import Instruction
from selfreward.records_scores import ScoredResponse
from selfreward.stages.scored import build_scored
from selfreward.stages.sources import read_rows, to_instruction
from selfreward.storage.shards import read_records, sealed_shards


def shipped(name: str) -> list[dict[str, Any]]:
    return list(read_rows(PoolConfig(path=f"sample:{name}")))


IFT, RANKED = shipped("ift"), shipped("ranked")


def instruction(row: dict[str, Any]) -> Instruction:
    made = to_instruction(row, ColumnsConfig(), "sample", 4000)
    assert isinstance(made, Instruction), made
    return made


def prompt(row: dict[str, Any]) -> str:
    return "\n".join(turn["content"] for turn in row["messages"])


def groups() -> list[list[dict[str, Any]]]:
    """The three responses of each prompt, best first."""
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in RANKED:
        by_prompt.setdefault(prompt(row), []).append(row)
    return [sorted(rows, key=lambda r: -r["score"]) for rows in by_prompt.values()]


def response_to(words: str) -> str:
    (row,) = (r for r in IFT if words in prompt(r))
    text: str = row["response"]
    return text


def code_in(words: str) -> dict[str, Any]:
    """What the Python code of an answer defines."""
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", response_to(words), re.DOTALL):
        exec(block, found)
    return found


def test_sizes_and_columns() -> None:
    assert (len(IFT), len(RANKED), len(groups())) == (64, 72, 24)
    assert {tuple(row) for row in IFT} == {("id", "messages", "response", "category")}
    assert {tuple(row) for row in RANKED} == {
        ("id", "messages", "response", "score", "scale", "subset")
    }
    ids = [row["id"] for row in IFT + RANKED]
    assert len(set(ids)) == len(ids)
    texts = [row["response"] for row in IFT + RANKED]
    assert len(set(texts)) == len(texts)
    assert all(text == text.strip() for text in texts)


def test_every_category_is_there_and_a_conversation_twice() -> None:
    assert {row["category"] for row in IFT} == set(CATEGORIES)
    assert {row["subset"] for row in RANKED} <= set(CATEGORIES)
    assert all(instruction(row).category == row["category"] for row in IFT)
    assert sum(len(row["messages"]) > 1 for row in IFT) == 2


def test_lengths() -> None:
    for row in IFT:
        assert 20 <= len(row["response"].split()) <= 150, row["id"]
        assert 3 <= len(row["messages"][0]["content"].split()) <= 150, row["id"]
    assert all(len(row["response"].split()) <= 150 for row in RANKED)


def test_no_prompt_is_like_another_of_any_sample() -> None:
    rows = [*IFT, *(group[0] for group in groups()), *shipped("instructions")]
    assert len({exact_key(instruction(row).messages) for row in rows}) == len(rows)
    index = NearDuplicateIndex(threshold=0.4)
    found = {
        number: index.is_duplicate_then_add(str(number), prompt(rows[number]))
        for number in range(64 + 24)
    }
    assert set(found.values()) == {None}
    for row in rows[64 + 24 :]:
        # The instructions are compared with the seeds, not with each other.
        near = index.is_duplicate_then_add("instructions", prompt(row))
        assert near in (None, "instructions"), prompt(row)


def test_ranked_rows_read_as_scored_responses(tmp_path: Path) -> None:
    (summary,) = build_scored("sample:ranked", str(tmp_path), 100, None, 4000)
    assert (summary.num_records, summary.drops) == (72, {})
    (shard,) = sealed_shards(str(tmp_path))
    records = read_records(shard, ScoredResponse)
    assert {(r.low, r.high, r.source) for r in records} == {(1.0, 5.0, "sample:ranked")}
    assert len({r.group for r in records}) == 24
    assert [r.response for r in records] == [row["response"] for row in RANKED]


def test_each_group_has_three_clearly_different_scores() -> None:
    for group in groups():
        scores = [row["score"] for row in group]
        assert scores[:2] == [5, 3] and scores[2] in (1, 2), group[0]["id"]
    # Where the best one stands says nothing: a third of 24 groups is 8.
    places = [int("abc".index(group[0]["id"][-1])) for group in groups()]
    assert all(4 <= places.count(place) <= 12 for place in range(3)), places


@pytest.mark.parametrize("quality", [0, 1, 2])
def test_length_tells_nothing_of_quality(quality: int) -> None:
    """Of the best, the middling and the poor ones about a third are the longest, the shortest."""
    ranks = [
        sum(len(other["response"]) > len(group[quality]["response"]) for other in group)
        for group in groups()
    ]
    for rank in range(3):
        assert 0.2 <= ranks.count(rank) / len(ranks) <= 0.5, ranks


def test_code_of_the_answers_does_what_they_say(tmp_path: Path) -> None:
    second_largest = code_in("second largest distinct")["second_largest"]
    assert [second_largest(x) for x in ([7, 7, 3], [5, 5], [])] == [3, None, None]
    count = code_in("how often each word occurs")["word_counts"]
    found = count("The cat saw the dog. The dog ran!")
    assert found == {"the": 3, "dog": 2, "cat": 1, "saw": 1, "ran": 1}
    without_negatives = code_in("remove all negative numbers")["without_negatives"]
    assert without_negatives([-1, -2, 3, 0]) == [3, 0]
    is_palindrome = code_in("is_palindrome")["is_palindrome"]
    assert [is_palindrome(x) for x in ("Never odd or even!", "Hello", "")] == [True, False, True]
    merge = code_in("merge two Python dictionaries")["merge_sums"]
    first = {"a": 1, "b": 2}
    assert merge(first, {"b": 3, "c": 4}) == {"a": 1, "b": 5, "c": 4}
    assert first == {"a": 1, "b": 2}
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([["name", "amount"], ["x", "1.5"], ["y, z", "2"]])
    assert code_in("read a CSV file")["total_amount"](tmp_path / "a.csv") == 3.5


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("18 trays of 24 rolls", "{} full bags and {} loose".format(*divmod(18 * 24 - 379, 5))),
        # 09:40 to 13:05 less 25 minutes is 3 hours.
        ("270 km", f"{270 / ((13 * 60 + 5 - 9 * 60 - 40 - 25) / 60):.0f} kilometres per hour"),
        ("jacket costs 80", f"{80 - 80 * 1.25 * 0.75:.0f} euros, or {5 / 80:.2%}"),
        # 2b + b + b + 12 = 96
        (
            "share a bill of 96",
            f"Ben pays {(b := (96 - 12) // 4)} euros, Ana {2 * b} and Chi {b + 12}",
        ),
        ("perimeter is 46 m", f"{10 * 13} square metres"),
        ("average of five numbers", f"is therefore 60 \u2212 43 = {12 * 5 - 8 - 15 - 11 - 9}."),
        (
            "Two fair dice",
            f"{sum(a + b == 8 for a in range(1, 7) for b in range(1, 7))}/36, or about"
            f" {5 / 36:.1%}",
        ),
    ],
)
def test_answers_to_the_sums(words: str, answer: str) -> None:
    assert answer in response_to(words)


def test_asked_for_forms_are_kept() -> None:
    bullets = response_to("three bullet points").splitlines()
    assert len(bullets) == 3
    assert all(len(line.removeprefix("- ").split()) <= 12 for line in bullets)
    planets = response_to("Four planets").splitlines()
    assert len(planets) == 4 and all(len(line.split()) - 1 <= 12 for line in planets)
    lemon = response_to("taste of a lemon").lower()
    assert not any(word in lemon for word in ("sour", "yellow", "fruit"))
    assert len(re.findall(r"[.!?](?:\s|$)", response_to("exactly three sentences"))) == 3
    assert len(response_to("told by a lost umbrella").split()) < 100
    best = {prompt(group[0]): group[0]["response"] for group in groups()}
    (one,) = (text for asked, text in best.items() if "at most 20 words" in asked)
    assert len(one.split()) <= 20 and one.count(".") == 1
    (short,) = (text for asked, text in best.items() if "at most eight words" in asked)
    assert len(short.split()) <= 8


def test_a_sample_that_is_not_shipped() -> None:
    with pytest.raises(DataError, match="no sample sample:itf is shipped; there are sample:ift"):
        shipped("itf")
