"""From judged pairs on storage to a measured judge."""

from pathlib import Path
from typing import Literal

import pytest

from selfreward.config import EvaluationConfig
from selfreward.errors import DataError
from selfreward.evaluation.outcomes import common_outcomes, measure, read_outcomes
from selfreward.metrics.pairwise import accuracy_per_pair
from selfreward.records import (
    Judgment,
    Message,
    ModelRef,
    Outcome,
    Position,
    ResponsePair,
    Verdict,
)
from selfreward.storage.shards import shard_name, write_records

PAIRS = [
    ResponsePair.new(
        instruction_id=f"ins-{i}",
        messages=(Message(role="user", content=f"Task {i}"),),
        chosen="yes " * (i + 1),
        rejected="no",
        corruption="rewrite" if i % 2 else "modified_instruction",
    )
    for i in range(4)
]


def judgment(
    pair: ResponsePair, position: Position, choice: Literal["first", "second"], draw: int = 0
) -> Judgment:
    return Judgment.new(
        pair_id=pair.id,
        judge=ModelRef(name="m", iteration=0, fingerprint="f"),
        rubric_id="r",
        position=position,
        draw=draw,
        text="A",
        finish_reason="stop",
        num_tokens=1,
        num_prompt_tokens=1,
        verdict=Verdict(outcome=Outcome.CHOICE, choice=choice),
    )


def right(pair: ResponsePair) -> list[Judgment]:
    return [
        judgment(pair, Position.REJECTED_FIRST, "second"),
        judgment(pair, Position.CHOSEN_FIRST, "first"),
        # Only the first draw of each order counts.
        judgment(pair, Position.CHOSEN_FIRST, "second", draw=1),
    ]


def always_first(pair: ResponsePair) -> list[Judgment]:
    return [judgment(pair, position, "first") for position in Position]


def write(tmp_path: Path, name: str, shards: list[list[Judgment]]) -> str:
    for index, judgments in enumerate(shards):
        write_records(f"{tmp_path}/{name}/{shard_name(index)}", judgments, Judgment)
    return f"{tmp_path}/{name}"


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    write_records(f"{tmp_path}/pairs/{shard_name(0)}", PAIRS[:3], ResponsePair)
    write_records(f"{tmp_path}/pairs/{shard_name(1)}", PAIRS[3:], ResponsePair)
    return f"{tmp_path}/pairs"


def test_pairs_meet_their_two_readings_in_order(tmp_path: Path, pairs: str) -> None:
    # Pair 1 was read in one order only, its prompt was too long in the other.
    first = [*always_first(PAIRS[2]), *right(PAIRS[0]), right(PAIRS[1])[0]]
    outcomes = read_outcomes(pairs, write(tmp_path, "j", [first, right(PAIRS[3])]))
    assert [o.pair_id for o in outcomes] == [PAIRS[i].id for i in (0, 2, 3)]
    assert [o.choices for o in outcomes] == [(True, True), (True, False), (True, True)]
    assert [o.subset for o in outcomes] == ["modified_instruction"] * 2 + ["rewrite"]
    assert [(o.chosen_length, o.rejected_length) for o in outcomes] == [(4, 2), (12, 2), (16, 2)]


def test_a_measured_judge_is_plain_data(tmp_path: Path, pairs: str) -> None:
    first = [*always_first(PAIRS[2]), *right(PAIRS[0])]
    outcomes = read_outcomes(pairs, write(tmp_path, "j", [first, right(PAIRS[3])]))
    report = measure("heldout", outcomes, EvaluationConfig(bootstrap_samples=100), seed=0)
    # Five of six readings are right, two of three pairs in both orders; four of six say "first".
    assert report["n"] == 3
    assert report["accuracy"] == pytest.approx(5 / 6)
    assert report["position_consistent_accuracy"] == pytest.approx(2 / 3)
    assert report["first_position_rate"] == pytest.approx(4 / 6)
    assert report["subsets"]["rewrite"] == {"n": 1, "accuracy": 1.0}


def test_a_set_without_a_readable_pair_is_an_error(tmp_path: Path, pairs: str) -> None:
    outcomes = read_outcomes(pairs, write(tmp_path, "j", [[], []]))
    with pytest.raises(DataError, match="no pair of arena was judged in both orders"):
        measure("arena", outcomes, EvaluationConfig(), seed=0)


def test_two_judges_are_compared_on_the_pairs_both_have_read(tmp_path: Path, pairs: str) -> None:
    before = read_outcomes(
        pairs, write(tmp_path, "a", [[*right(PAIRS[0]), *always_first(PAIRS[2])], right(PAIRS[3])])
    )
    after = read_outcomes(pairs, write(tmp_path, "b", [[*right(PAIRS[2]), *right(PAIRS[0])], []]))
    one, other = common_outcomes(before, after[::-1])
    assert [o.pair_id for o in one] == [o.pair_id for o in other] == [PAIRS[0].id, PAIRS[2].id]
    assert accuracy_per_pair(one).tolist() == [1.0, 0.5]
    assert accuracy_per_pair(other).tolist() == [1.0, 1.0]
