"""From scored candidates to training rows, their weight, and answers beside another model's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfreward.config_self_rewarding import PreferencesConfig
from selfreward.records import Preference, TrainingExample
from selfreward.records_scores import Rating
from selfreward.records_self_rewarding import ResponseLikelihood, SampledInstruction
from selfreward.stages.prefer import Prefer, shard_consistencies
from selfreward.stages.versus import Versus
from selfreward.storage.shards import RowResult
from tests.run_folders import M1, SEED_MODEL, rating
from tests.stage_tools import reasons, run, sampled, shard

Scores = list[tuple[float | None, ...]]


def rated(row: SampledInstruction, scores: Scores) -> list[Rating]:
    """Readings of each response in turn."""
    return [
        rating(response.id, M1, draw, score)
        for response, given in zip(row.responses, scores, strict=True)
        for draw, score in enumerate(given)
    ]


def prefer(
    tmp_path: Path,
    row: SampledInstruction,
    scores: Scores,
    anchors: tuple[SampledInstruction, Scores] | None = None,
    **config: Any,
) -> RowResult[Any]:
    urls = [
        shard(tmp_path, "responses", [row], SampledInstruction),
        shard(tmp_path, "ratings", rated(row, scores), Rating),
    ]
    if anchors is not None:
        urls += [
            shard(tmp_path, "first", anchors[:1], SampledInstruction),  # type: ignore[arg-type]
            shard(tmp_path, "first_ratings", rated(*anchors), Rating),
        ]
    section = PreferencesConfig.model_validate(config)
    out_type = TrainingExample if section.kind == "positive_only" else Preference
    logic = Prefer(config=section, label_confidence=0.75, out_type=out_type)
    (result,) = run(logic, logic.read(urls))
    assert all(isinstance(made, out_type) for made in result.records)
    return result


ROW = sampled("Name a lake.", "Lake Geneva.", "A lake.", "Blue.", by=M1)


def test_the_best_mean_score_is_chosen_over_the_worst(tmp_path: Path) -> None:
    # Means 4.5, 3 (the other reading was cut off) and 1.5.
    result = prefer(tmp_path, ROW, [(4, 5), (3, None), (1, 2)])
    (made,) = result.records
    assert (made.chosen, made.rejected) == ("Lake Geneva.", "Blue.")
    assert (made.chosen_id, made.rejected_id) == (ROW.responses[0].id, ROW.responses[2].id)
    assert (made.chosen_score, made.rejected_score, made.score_margin) == (4.5, 1.5, 3.0)
    assert (made.pair_id, made.messages) == (ROW.id, ROW.instruction.messages)
    assert made.label_confidence == 0.75
    assert result.dropped == []


def test_a_response_that_was_cut_is_known_as_such(tmp_path: Path) -> None:
    first, *others = ROW.responses
    row = replace(ROW, responses=(first, *(replace(r, finish_reason="length") for r in others)))
    (made,) = prefer(tmp_path, row, [(4, 5), (3, 3), (1, 2)]).records
    assert (made.chosen_ended, made.rejected_ended) == (True, False)
    both = prefer(
        tmp_path, row, [(5,), (5,), (1,)], kind="positive_only", min_positive_score=5
    ).records
    assert [(example.target, example.ended) for example in both] == [
        ("Lake Geneva.", True),
        ("A lake.", False),
    ]


@pytest.mark.parametrize(
    ("texts", "scores", "config", "reason"),
    [
        (("a", "b"), [(4,), (4,)], {}, "tied_scores"),
        (("a", "b"), [(4,), (None,)], {}, "too_few_scores"),
        (("a", "b", "c"), [(4,), (2,), (None,)], {"min_scored": 3}, "too_few_scores"),
        (("a", "a"), [(4,), (2,)], {}, "same_response"),
        (("a", "b"), [(4, 3), (3, 3)], {"min_margin": 1}, "low_margin"),
    ],
)
def test_without_a_pair_the_instruction_is_dropped_with_a_reason(
    tmp_path: Path, texts: tuple[str, ...], scores: Scores, config: Any, reason: str
) -> None:
    result = prefer(tmp_path, sampled("q", *texts, by=M1), scores, **config)
    assert result.records == []
    assert reasons([result]) == [reason]
    assert result.dropped[0].stage == "prefer"
    assert result.dropped[0].detail


def test_the_length_rule_reaches_the_choice(tmp_path: Path) -> None:
    # Of the range 1 to 5 a quarter is 1: 4 is near enough to the top, 2 to the bottom.
    row = sampled("q", "the longest one", "short", "mid one", "x", by=M1)
    (made,) = prefer(tmp_path, row, [(5,), (4,), (2,), (1,)], length_rho=0.25).records
    assert (made.chosen, made.rejected) == ("short", "mid one")


def test_with_anchors_the_rejected_response_is_the_first_models(tmp_path: Path) -> None:
    first = sampled("Name a lake.", "Green.", "Water.", by=SEED_MODEL)
    (made,) = prefer(
        tmp_path, ROW, [(4,), (3,), (0,)], (first, [(2,), (1,)]), rejected_from="first"
    ).records
    assert (made.chosen, made.rejected) == ("Lake Geneva.", "Water.")
    assert made.rejected_id == first.responses[1].id


def test_without_scored_anchors_of_the_instruction_it_is_dropped(tmp_path: Path) -> None:
    cases: list[tuple[SampledInstruction, Scores]] = [
        (sampled("Name a lake.", "Green.", by=SEED_MODEL), [(None,)]),
        (sampled("Another task.", "Green.", by=SEED_MODEL), [(1,)]),
    ]
    for first, scores in cases:
        result = prefer(tmp_path, ROW, [(4,), (3,), (0,)], (first, scores), rejected_from="first")
        assert (result.records, reasons([result])) == ([], ["too_few_scores"])


def test_positives_are_examples_each_text_once(tmp_path: Path) -> None:
    row = sampled("q", "good", "fine", "good", "best", by=M1)
    scores: Scores = [(5, 5), (5, 4), (5, 5), (5, 5)]
    made = prefer(tmp_path, row, scores, kind="positive_only").records
    assert [x.target for x in made] == ["good", "best"]
    assert {x.pair_id for x in made} == {row.id}
    assert made[0].messages == row.instruction.messages
    made = prefer(tmp_path, row, scores, kind="positive_only", min_positive_score=4.5).records
    assert [x.target for x in made] == ["good", "fine", "best"]


def test_without_a_positive_the_instruction_is_dropped(tmp_path: Path) -> None:
    result = prefer(tmp_path, ROW, [(4,), (None,), (3,)], kind="positive_only")
    assert reasons([result]) == ["no_positive"]
    assert result.dropped[0].detail == "no candidate scored 5 or more"


# --- consistency ---------------------------------------------------------------------------------


def test_consistency_is_the_agreement_of_two_rankings(tmp_path: Path) -> None:
    """log-probabilities of each row's responses under M_t-1, M_t-2 and M_0."""
    rows = {
        # Rewards 2, 1, -1 and 1, 2, -1: of three pairs one is ordered the other way, tau 1/3.
        "a": ((-8, -9, -11), (-9, -8, -11), (-10, -10, -10)),
        # A response that one model could not read is left out; the other two agree.
        "b": ((-1, -2, -9), (-1, -3, None), (-5, -5, -5)),
        # One response ranks nothing, and neither do equal rewards.
        "c": ((-1, None, None), (-1, -2, -3), (-5, -5, -5)),
        "d": ((-1, -2, -3), (-5, -5, -5), (-5, -5, -5)),
        # Ranked the other way round. What counts is the change: -3 and -1 against -9 and -5.
        "e": ((-3, -1, None), (-3, -4, None), (-9, -5, None)),
    }
    responses = [sampled(name, "x", "y", "z") for name in rows]
    urls = [shard(tmp_path, "responses", responses, SampledInstruction)]
    for side, name in enumerate(("now", "before", "first")):
        likelihoods = [
            ResponseLikelihood.new(response_id=r.id, model=M1, logp=logp, num_tokens=4)
            for row, logps in zip(responses, rows.values(), strict=True)
            for r, logp in zip(row.responses, logps[side], strict=True)
            if logp is not None
        ]
        urls.append(shard(tmp_path, name, likelihoods, ResponseLikelihood))
    # e: rewards 6, 4 and 6, 1 agree although the likelihoods themselves do not.
    assert shard_consistencies(urls, 0.1) == pytest.approx([2 / 3, 1.0, 1.0])


# --- answers beside another model's --------------------------------------------------------------


def test_the_newer_answer_stands_for_the_chosen_one(tmp_path: Path) -> None:
    new = [sampled(q, text, by=M1) for q, text in (("a", "new"), ("b", "same"), ("c", "alone"))]
    old = [sampled(q, text, by=SEED_MODEL) for q, text in (("b", "same"), ("a", "old"))]
    logic = Versus()
    rows = logic.read(
        [
            shard(tmp_path, "new", new, SampledInstruction),
            shard(tmp_path, "old", old, SampledInstruction),
        ]
    )
    results = run(logic, rows)
    (pair,) = results[0].records
    assert (pair.chosen, pair.rejected, pair.corruption) == ("new", "old", "head_to_head")
    assert (pair.chosen_id, pair.rejected_id) == (new[0].responses[0].id, old[1].responses[0].id)
    assert (pair.instruction_id, pair.messages) == (new[0].id, new[0].instruction.messages)
    assert [r.records for r in results[1:]] == [[], []]
    assert reasons(results) == ["same_response", "empty_response"]
