"""Pairs made by rules, and the balance of their lengths, on real shards without an engine."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import PerturbConfig
from selfreward.engines.protocol import Completion, GenerationRequest
from selfreward.judging.perturbations.perturb import PERTURBATIONS
from selfreward.records import (
    AnsweredInstruction,
    DropReason,
    Instruction,
    Message,
    ModelRef,
    Response,
    ResponsePair,
)
from selfreward.stages.gather import Gather, write_dropped
from selfreward.stages.perturb import TEMPLATED, Neighboured, Perturb
from selfreward.storage.shards import write_records

MODEL = ModelRef(name="m", iteration=0, fingerprint="f")
WORDS = ["river", "market", "window", "engine", "garden", "letter", "signal", "copper", "winter"]
WORDS += ["harbour"]


async def no_engine(requests: list[GenerationRequest]) -> list[Completion]:
    raise AssertionError("rules ask no engine")


def answered(number: int, category: str | None = "open_qa") -> AnsweredInstruction:
    rng = random.Random(number)
    instruction = Instruction.new(
        messages=(Message(role="user", content=f"How did the {WORDS[number % 10]} change?"),),
        source="pool.jsonl",
        category=category,
    )
    sentences = [
        f"The {rng.choice(WORDS)} never fell before {1900 + rng.randint(1, 99)} and {i} rose."
        for i in range(rng.randint(3, 7))
    ]
    response = Response.new(
        instruction_id=instruction.id,
        text=" ".join(sentences),
        model=MODEL,
        draw=0,
        finish_reason="stop",
        num_tokens=50,
    )
    return AnsweredInstruction(id=f"ans-{number}", instruction=instruction, response=response)


ROWS = [answered(i) for i in range(60)]


@pytest.fixture
def shard(tmp_path: Path) -> str:
    url = str(tmp_path / "answers.parquet")
    write_records(url, ROWS, AnsweredInstruction)
    return url


def made(logic: Perturb, rows: list[Neighboured]) -> list[ResponsePair]:
    results = asyncio.run(logic.process(rows, no_engine))
    return [pair for result in results for pair in result.records]


def test_every_answer_gets_as_many_pairs_of_different_kinds(shard: str) -> None:
    logic = Perturb(config=PerturbConfig(pairs_per_instruction=3), seed=0)
    rows = logic.read([shard])
    # Of the 60 instructions ten are different: six answers to each, none of which is an "other".
    assert {len(row.others) for row in rows} == {54}
    results = asyncio.run(logic.process(rows, no_engine))
    for row, result in zip(rows, results, strict=True):
        assert len(result.records) == 3
        assert len({pair.corruption for pair in result.records}) == 3
        for pair in result.records:
            assert pair.corruption in PERTURBATIONS
            assert pair.chosen == row.answered.response.text != pair.rejected
            assert pair.messages == row.answered.instruction.messages


def test_what_is_made_depends_on_the_row_and_not_on_its_neighbours_in_a_call(shard: str) -> None:
    logic = Perturb(config=PerturbConfig(pairs_per_instruction=2), seed=5)
    rows = logic.read([shard])
    whole = made(logic, rows)
    assert [p for row in rows for p in made(logic, [row])] == whole
    other_seed = Perturb(config=PerturbConfig(pairs_per_instruction=2), seed=6)
    assert made(other_seed, rows) != whole


def test_shares_kinds_and_severities_are_what_the_config_says(shard: str) -> None:
    only = PerturbConfig(
        pairs_per_instruction=1, kinds={"negate": 3.0, "truncate": 1.0}, severities=(0.0, 0.0, 1.0)
    )
    rows = Perturb(config=only, seed=1).read([shard])
    kinds = Counter(p.corruption for p in made(Perturb(config=only, seed=1), rows))
    # negate is first with 3/4: of 60 rows 45 on average, standard deviation 3.4.
    assert set(kinds) == {"negate", "truncate"}
    assert 34 <= kinds["negate"] <= 56
    without = PerturbConfig(pairs_per_instruction=30, without=("negate", "truncate"))
    found = {p.corruption for p in made(Perturb(config=without, seed=1), rows)}
    assert found
    assert not found & {"negate", "truncate"}


def test_false_facts_need_a_category_a_reference_or_to_be_asked_for() -> None:
    unsorted = answered(1, category=None)
    known = answered(1, category=None)
    # Its one number is the answer.
    text = "The river rose in 1931."
    known = replace(
        known,
        instruction=replace(known.instruction, reference_answer="1931"),
        response=replace(known.response, text=text),
    )

    def kinds(row: AnsweredInstruction, **settings: Any) -> set[str]:
        config = PerturbConfig(pairs_per_instruction=30, **settings)
        rows = [Neighboured(answered=row, others=())]
        return {p.corruption for p in made(Perturb(config=config, seed=0), rows)}

    assert not kinds(unsorted) & {"alter_number", "negate"}
    assert "alter_number" in kinds(known)
    assert kinds(unsorted, kinds={"alter_number": 1.0}) == {"alter_number"}
    # What a category rules out stays out.
    story = answered(1, category="creative_writing")
    assert kinds(story, kinds={"alter_number": 1.0}) == set()


def test_templated_kinds_are_rarer(shard: str) -> None:
    def share(templated_share: float) -> float:
        config = PerturbConfig(pairs_per_instruction=1, templated_share=templated_share)
        rows = Perturb(config=config, seed=2).read([shard])
        pairs = made(Perturb(config=config, seed=2), rows)
        return sum(p.corruption in TEMPLATED for p in pairs) / len(pairs)

    assert share(0.05) < share(5.0)


def test_an_answer_nothing_applies_to_is_dropped_with_its_reason() -> None:
    config = PerturbConfig(pairs_per_instruction=1, kinds={"mutate_code": 1.0})
    row = Neighboured(answered=ROWS[0], others=())
    (result,) = asyncio.run(Perturb(config=config, seed=0).process([row], no_engine))
    assert [d.reason for d in result.dropped] == [DropReason.NOT_PERTURBABLE]


def pair(number: int, kind: str, chosen: int, rejected: int) -> ResponsePair:
    return ResponsePair.new(
        instruction_id=f"ins-{number}",
        messages=(Message(role="user", content=f"Ask {number}"),),
        chosen="c" * chosen,
        rejected="r" * rejected,
        corruption=kind,
    )


def test_gather_keeps_as_many_longer_as_shorter_of_every_kind(tmp_path: Path) -> None:
    # Kind a: 3 with chosen longer, 1 with rejected longer -> one of each stays, and the equal one.
    # Kind b: 2 and 2 -> all stay. Kind c: only one side -> none stays.
    lengths = [("a", 90, 80), ("a", 95, 85), ("a", 91, 81), ("a", 80, 90), ("a", 50, 50)]
    lengths += [("b", 60, 55), ("b", 61, 56), ("b", 55, 60), ("b", 56, 61), ("c", 90, 80)]
    made_of = [pair(i, *one) for i, one in enumerate(lengths)]
    first, second = made_of[:5], made_of[5:]
    urls = [str(tmp_path / name) for name in ("first.parquet", "second.parquet")]
    for url, pairs in zip(urls, (first, second), strict=True):
        write_records(url, pairs, ResponsePair)
    dropped = str(tmp_path / "dropped.json")
    assert write_dropped([urls], dropped, (1.2, 2.0)) == 3
    logic = Gather(dropped_url=dropped)
    results = asyncio.run(logic.process(logic.read(urls), no_engine))
    kept = [p for r in results for p in r.records]
    sides = Counter((p.corruption, len(p.chosen) > len(p.rejected)) for p in kept)
    # The pair of equal length counts as "not longer".
    assert sides == {("a", True): 1, ("a", False): 2, ("b", True): 2, ("b", False): 2}
    reasons = {d.reason for r in results for d in r.dropped}
    assert reasons == {DropReason.LENGTH_BALANCE}


def test_gather_without_balance_keeps_everything_once(tmp_path: Path) -> None:
    url = str(tmp_path / "pairs.parquet")
    write_records(url, [pair(0, "a", 9, 8)], ResponsePair)
    logic = Gather(dropped_url=None)
    results = asyncio.run(logic.process(logic.read([url, url]), no_engine))
    assert [len(r.records) for r in results] == [1]
