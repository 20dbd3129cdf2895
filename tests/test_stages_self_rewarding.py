"""Candidates, likelihoods, and the judgments worth imitating."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Draw
from selfreward.errors import EngineError
from selfreward.judging.eft import ModalCutoff, modal_cutoff
from selfreward.judging.pointwise import get_pointwise_rubric, render_pointwise
from selfreward.records import AnsweredInstruction, Instruction, Outcome, Verdict
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.records_self_rewarding import CreatedInstruction, SampledInstruction
from selfreward.stages.eft import SelectEft, agreeing_ranks
from selfreward.stages.likelihood import Likelihood
from selfreward.stages.sample import Sample, Stored
from selfreward.storage.shards import read_records, write_records
from tests.run_folders import ADDITIVE, PEOPLE, SEED_MODEL, answer, answered, ask, rating
from tests.stage_tools import MODEL, Fake, cut, reasons, run, sampled, shard, whole

RUBRIC = get_pointwise_rubric(ADDITIVE)


# --- candidates ----------------------------------------------------------------------------------


def sample(keep_truncated: bool = False, **fields: Any) -> Sample:
    return Sample(
        num_responses=2,
        sampling=SamplingConfig(temperature=0.9, max_tokens=64),
        keep_truncated=keep_truncated,
        stored="instruction",
        seed=3,
        **fields,
    )


def test_the_first_rows_of_a_shard_alone_where_so_many_are_wanted(tmp_path: Path) -> None:
    rows = [ask(f"Task {i}") for i in range(4)]
    url = shard(tmp_path, "pool", rows, Instruction)
    assert [r.id for r in sample(max_rows=3).read([url])] == [r.id for r in rows[:3]]
    assert len(sample().read([url])) == 4


def test_usable_draws_are_candidates_and_a_row_without_any_is_dropped_once() -> None:
    texts: dict[str, tuple[str | Draw, str | Draw]] = {
        "both": (" one \n", "two"),
        "second": (" ", "two"),
        "cut": (cut("on"), ""),
        "long": ("x", "x"),
    }
    fake = Fake(lambda r, j: texts[r.messages[-1].content][j])
    rows = [ask(text) for text in texts]
    fake.errors = {rows[3].id: "prompt_too_long"}
    results = run(sample(), rows, fake)
    drawn = [[(r.draw, r.text) for x in result.records for r in x.responses] for result in results]
    assert drawn == [[(0, "one"), (1, "two")], [(1, "two")], [], []]
    assert [len(r.records) + len(r.dropped) for r in results] == [1, 1, 1, 1]
    assert reasons(results) == ["truncated_response", "prompt_too_long"]
    # Every draw that was lost is told, of rows that have another one too.
    lost = [[(d.reason.value, d.detail) for d in result.lost] for result in results]
    assert lost == [
        [],
        [("empty_response", "draw 0: no text")],
        [
            ("truncated_response", "draw 0: cut after 1 tokens\non"),
            ("empty_response", "draw 1: no text"),
        ],
        [],
    ]
    (made,) = results[0].records
    assert (made.id, made.instruction) == (rows[0].id, rows[0])
    assert made.responses[0].model == MODEL
    kept = run(sample(keep_truncated=True), rows, fake)[2].records[0].responses
    assert [(r.text, r.finish_reason) for r in kept] == [("on", "length")]


def test_candidates_are_asked_with_the_config_and_a_seed_of_the_row() -> None:
    fake = Fake(lambda r, j: "x")
    rows = [ask("a"), ask("b")]
    run(sample(), rows, fake)
    run(sample(), rows[::-1], fake)
    run(sample(name="answer"), rows[:1], fake)
    first, second, second_again, first_again, held_out = fake.asked
    assert (first, second) == (first_again, second_again)
    assert len({first.sampling.seed, second.sampling.seed, held_out.sampling.seed}) == 3
    assert (first.purpose, first.messages) == ("candidate", rows[0].messages)
    asked = first.sampling
    assert (asked.n, asked.temperature, asked.max_tokens) == (2, 0.9, 64)


def test_instructions_are_read_whatever_record_holds_them(tmp_path: Path) -> None:
    q = ask("Name a lake.")
    made = CreatedInstruction(
        id=q.id, instruction=q, shot_ids=(), model=MODEL, round=0, draw=0, text="", part=0
    )
    stored: dict[Stored, tuple[Any, type]] = {
        "instruction": (q, Instruction),
        "created": (made, CreatedInstruction),
        "answered": (answered(q, answer(q, "Baikal", PEOPLE)), AnsweredInstruction),
        "sampled": (sampled("Name a lake.", "Baikal"), SampledInstruction),
    }
    for name, (row, kind) in stored.items():
        url = shard(tmp_path, name, [row], kind)
        logic = Sample(
            num_responses=1,
            sampling=SamplingConfig(),
            keep_truncated=False,
            stored=name,
            seed=0,
        )
        assert logic.read([url]) == [q]


# --- likelihoods ---------------------------------------------------------------------------------


def test_each_response_gets_a_likelihood_and_a_refused_one_drops_its_row_once(
    tmp_path: Path,
) -> None:
    rows = [sampled("a", "one", "two words"), sampled("b", "x", "y")]
    url = shard(tmp_path, "s", rows, SampledInstruction)
    logic = Likelihood(stored="sampled")
    fake = Fake(lambda r, j: Draw(text="", finish_reason="stop", num_tokens=7, score=-1.5))
    fake.errors = {r.id: "prompt_too_long" for r in rows[1].responses}
    results = run(logic, logic.read([url]), fake)
    first, second = rows[0].responses
    assert [(r.response_id, r.logp, r.num_tokens, r.model) for r in results[0].records] == [
        (first.id, -1.5, 7, MODEL),
        (second.id, -1.5, 7, MODEL),
    ]
    assert [r.target for r in fake.asked] == ["one", "two words", "x", "y"]
    assert {r.purpose for r in fake.asked} == {"score"}
    assert fake.asked[0].messages == rows[0].instruction.messages
    assert results[1].records == []
    assert reasons(results) == ["prompt_too_long"]


def test_answers_of_people_are_scored_too_and_no_score_is_an_error(tmp_path: Path) -> None:
    q = ask("Name a lake.")
    row = answered(q, answer(q, "Baikal", PEOPLE))
    logic = Likelihood(stored="answered")
    rows = logic.read([shard(tmp_path, "ift", [row], AnsweredInstruction)])
    fake = Fake(lambda r, j: whole("Baikal"))
    with pytest.raises(EngineError, match="gave no score"):
        run(logic, rows, fake)
    assert fake.asked[0].target == "Baikal"


# --- judgments to imitate ------------------------------------------------------------------------


def ranked(tmp_path: Path, *readings: list[tuple[float, float]]) -> tuple[str, str]:
    """A group for each argument, whose responses people gave 5 and 1; its draws' two scores."""
    responses, ratings = [], []
    for number, draws in enumerate(readings):
        pair = [
            ScoredResponse.new(
                messages=ask(f"Task {number}").messages, response=t, score=s, low=1, high=5
            )
            for t, s in (("good", 5), ("bad", 1))
        ]
        responses += pair
        for draw, scores in enumerate(draws):
            ratings += [
                rating(row.id, SEED_MODEL, draw, score)
                for row, score in zip(pair, scores, strict=True)
            ]
    return (
        shard(tmp_path, "ranked", responses, ScoredResponse),
        shard(tmp_path, "ratings", ratings, Rating),
    )


def select(tmp_path: Path, cutoff: ModalCutoff | None, *readings: Any) -> list[Any]:
    logic = SelectEft(rubric=RUBRIC, min_agreement=1.0, cutoff=cutoff)
    return run(logic, logic.read(ranked(tmp_path, *readings)))


def test_judgments_in_the_order_of_people_are_learnt(tmp_path: Path) -> None:
    # Of three draws the second orders them the other way and the third ties them.
    (agreeing, none) = select(tmp_path, None, [(4, 2), (2, 4), (3, 3)], [(1, 5)])
    good, bad = agreeing.records
    assert (good.target, bad.target) == ("Reading 0.\nScore: 4", "Reading 0.\nScore: 2")
    assert good.messages == render_pointwise(RUBRIC, ask("Task 0").messages, "good")
    assert bad.messages == render_pointwise(RUBRIC, ask("Task 0").messages, "bad")
    assert good.pair_id == agreeing.row_id
    assert good.judgment_id is not None and good.id != bad.id
    assert reasons([none]) == ["disagrees_with_people"]
    assert none.dropped[0].detail == "2 judgments of 2 responses"


def test_a_judgment_that_ran_on_behind_its_score_teaches_no_end(tmp_path: Path) -> None:
    urls = ranked(tmp_path, [(4, 2)])
    good, bad = read_records(urls[1], Rating)
    write_records(urls[1], [good, replace(bad, finish_reason="length")], Rating)
    logic = SelectEft(rubric=RUBRIC, min_agreement=1.0, cutoff=None)
    (result,) = run(logic, logic.read(urls))
    assert [x.ended for x in result.records] == [True, False]


def test_the_most_common_score_is_thinned_out(tmp_path: Path) -> None:
    readings: list[list[tuple[float, float]]] = [[(5, 1)], [(5, 2)], [(5, 3)]]
    found = agreeing_ranks(ranked(tmp_path, *readings), 1.0)
    assert sorted(score for score, _ in found) == [1, 2, 3, 5, 5, 5]
    cutoff = modal_cutoff([s for s, _ in found], [r for _, r in found], 0.4)
    records = [x for r in select(tmp_path, cutoff, *readings) for x in r.records]
    # m fives beside three others: m / (m + 3) <= 0.4 for m = 2.
    assert sum("Score: 5" in x.target for x in records) == 2
    assert len(records) == 5


def test_the_other_score_of_an_agreeing_draw_stays(tmp_path: Path) -> None:
    # Who orders two responses gives two scores, so thinning one out never empties a group.
    for score, left in ((4, "Score: 3"), (3, "Score: 4")):
        cutoff = ModalCutoff(score=score, largest_rank=-1)
        (result,) = select(tmp_path, cutoff, [(4, 3)])
        assert [x.target for x in result.records] == [f"Reading 0.\n{left}"]
        (thinned,) = result.dropped
        assert (thinned.reason.value, thinned.detail) == (
            "common_score",
            f"score {score} is the most common one",
        )
        assert thinned.row_id.startswith("rat-"), "the judgment left, not its prompt"


def test_judgments_that_cannot_be_read_do_not_disagree(tmp_path: Path) -> None:
    urls = ranked(tmp_path, [(4, 2), (5, 1)], [(1, 5)])
    read = read_records(urls[1], Rating)
    unparsed = Verdict(outcome=Outcome.UNPARSED)
    # Of the first prompt, one of two readings fails in each draw: nothing can be ordered.
    failed = [replace(r, verdict=unparsed) if n in (0, 3) else r for n, r in enumerate(read)]
    write_records(urls[1], failed, Rating)
    logic = SelectEft(rubric=RUBRIC, min_agreement=1.0, cutoff=None)
    results = run(logic, logic.read(urls))
    assert [len(r.records) for r in results] == [0, 0]
    assert reasons(results) == ["unread_judgments", "disagrees_with_people"]
    assert results[0].dropped[0].detail == "4 judgments of 2 responses"
