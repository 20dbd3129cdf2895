"""The figures of an iteration on folders of a few rows, worked by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import EvaluationConfig
from selfreward.evaluation.rewarding import (
    agreement_figures,
    candidate_figures,
    card_figures,
    creation_figures,
    head_to_head_figures,
    kl_figures,
    mean_lengths,
    perplexity_figures,
    scored_figures,
)
from selfreward.metrics.reward_modelling import RankedResponses, reward_modelling_report
from selfreward.records import (
    DroppedRow,
    DropReason,
    Judgment,
    Position,
    Preference,
    ResponsePair,
)
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.records_self_rewarding import (
    CreatedInstruction,
    ResponseLikelihood,
    SampledInstruction,
)
from selfreward.stages.versus import Versus
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary
from tests.run_folders import M1, SEED_MODEL, ask, judgment, rating
from tests.stage_tools import MODEL, run, sampled, shard

CONFIG = EvaluationConfig(bootstrap_samples=100)
SCALE = (0.0, 5.0)


def folder(tmp_path: Path, name: str, rows: Sequence[Any], kind: type[Any]) -> str:
    shard(tmp_path, name, list(rows), kind)
    return f"{tmp_path}/{name}"


def ratings_of(rows: Sequence[SampledInstruction], scores: Sequence[float | None]) -> list[Rating]:
    """One reading of each response, over all rows in turn."""
    responses = [r for row in rows for r in row.responses]
    return [rating(r.id, M1, 0, s) for r, s in zip(responses, scores, strict=True)]


# --- candidates ----------------------------------------------------------------------------------


def test_the_card_is_of_labelled_pairs_and_of_the_own_scores(tmp_path: Path) -> None:
    rows = [sampled("a", "1234", "12"), sampled("b", "123", "1")]
    ratings = folder(tmp_path, "ratings", ratings_of(rows, [5, 3, 5, None]), Rating)
    card = card_figures({}, ratings, SCALE, "m")
    # Of 5, 3 and 5: two of three at the top; -(2/3 log2 2/3 + 1/3 log2 1/3) = 0.918 bits.
    assert card == {
        "n": 0,
        "score_entropy_bits": pytest.approx(0.9183, abs=1e-4),
        "score_saturation": pytest.approx(2 / 3),
        # People scored none of them.
        **dict.fromkeys(("own_score_excess", "other_score_excess", "score_self_preference")),
    }
    pair = ResponsePair.new(
        instruction_id="i",
        messages=ask("a").messages,
        chosen="long one",
        rejected="no",
        corruption="labelled",
    )
    # A in both orders: the first position, once right.
    judged = [judgment(pair.id, M1, position, 0, "A") for position in Position]
    pairs = folder(tmp_path, "pairs", [pair], ResponsePair)
    card = card_figures({pairs: folder(tmp_path, "judged", judged, Judgment)}, ratings, SCALE, "m")
    assert (card["n"], card["first_position_rate"], card["swap_flip_rate"]) == (1, 1.0, 1.0)
    assert card["score_saturation"] == pytest.approx(2 / 3)
    assert (card["self_preference"], card["own_choices"]) == (None, 0)
    # By the word of the file the worse answer is the judge's own: named once of two, never better.
    mine = replace(pair, meta='{"chosen_model": "other", "rejected_model": "org/M"}')
    pairs = folder(tmp_path, "mine", [mine], ResponsePair)
    judged_folder = folder(tmp_path, "judged_mine", judged, Judgment)
    card = card_figures({pairs: judged_folder}, ratings, SCALE, "org/m@main")
    assert (card["self_preference"], card["own_choices"]) == (0.5, 2)


def test_scores_ties_and_lengths_of_candidates(tmp_path: Path) -> None:
    rows = [sampled("a", "1234", "12"), sampled("b", "123", "1"), sampled("c", "12345", "123")]
    responses = folder(tmp_path, "responses", rows, SampledInstruction)
    ratings = folder(tmp_path, "ratings", ratings_of(rows, [5, 3, 2, 2, 4, None]), Rating)
    found = candidate_figures(responses, ratings, SCALE, None)
    assert (found["n"], found["num_candidates"], found["num_unscored"]) == (3, 6, 1)
    # 5 + 3 + 2 + 2 + 4 over five; one of five is the top score.
    assert found["mean_score"] == pytest.approx(3.2)
    assert found["saturation"] == pytest.approx(0.2)
    # The third instruction has one score only, the second ties.
    assert (found["num_compared"], found["tie_rate"]) == (2, 0.5)
    # 4 + 2 + 3 + 1 + 5 + 3 characters.
    assert found["mean_length"] == 3.0
    assert found["histogram"] == {"0": 0, "1": 0, "2": 2, "3": 1, "4": 1, "5": 1}
    assert found["truncated_rate"] == pytest.approx(1 / 6)
    assert "pairs" not in found


def test_near_scores_tie_and_lost_draws_are_counted(tmp_path: Path) -> None:
    rows = [sampled("a", "1234", "12"), sampled("b", "123", "1")]
    responses = folder(tmp_path, "responses", rows, SampledInstruction)
    ratings = folder(tmp_path, "ratings", ratings_of(rows, [2.31, 2.3, 2.5, 2.9]), Rating)
    found = candidate_figures(responses, ratings, SCALE, None)
    assert (found["tie_rate"], found["lost_draws"]) == (0.0, {})
    lost = {"lost_draws": {"truncated_response": 3, "empty_response": 1}}
    summary = ShardSummary(index=0, num_inputs=2, num_records=2, drops={}, ledger=lost)
    complete(responses, open_stage(responses, "sample", {}), [summary], 1.0)
    found = candidate_figures(responses, ratings, SCALE, None, tie_spread=0.02)
    assert (found["tie_rate"], found["modal_share"]) == (0.5, 0.5)
    assert found["lost_draws"] == {"truncated_response": 3, "empty_response": 1}


def test_several_readings_are_averaged_and_pairs_stand_beside(tmp_path: Path) -> None:
    row = sampled("a", "1234", "12")
    first, second = row.responses
    ratings = [rating(first.id, M1, draw, score) for draw, score in enumerate((5, 4))]
    preference = Preference(
        id="pre-1",
        messages=row.instruction.messages,
        chosen="1234",
        rejected="12",
        pair_id=row.id,
        chosen_id=first.id,
        rejected_id=second.id,
    )
    found = candidate_figures(
        folder(tmp_path, "responses", [row], SampledInstruction),
        folder(tmp_path, "ratings", [*ratings, rating(second.id, M1, 0, 5)], Rating),
        SCALE,
        folder(tmp_path, "preferences", [preference], Preference),
    )
    # 4.5 and 5: half of the candidates have the top score, though two of three readings do.
    assert (found["mean_score"], found["saturation"], found["tie_rate"]) == (4.75, 0.5, 0.0)
    assert found["pairs"] == {
        "n": 1,
        "num_equal": 0,
        "longer_chosen_rate": 1.0,
        "mean_chosen": 4.0,
        "mean_rejected": 2.0,
    }


def test_variety_is_counted_over_the_rounds(tmp_path: Path) -> None:
    def made(text: str) -> CreatedInstruction:
        q = ask(text)
        return CreatedInstruction(
            id=q.id, instruction=q, shot_ids=(), model=MODEL, round=0, draw=0, text=text, part=0
        )

    rounds = [
        folder(tmp_path, "00", [made("Sing a song")], CreatedInstruction),
        folder(tmp_path, "01", [made("sing a hymn."), made("Hum")], CreatedInstruction),
        folder(tmp_path, "02", [], CreatedInstruction),
    ]
    found = creation_figures(rounds)
    assert (found["num_texts"], found["num_words"]) == (3, 7)
    # sing, a, song, hymn, hum; and "sing a" (twice), "a song", "a hymn".
    assert found["distinct_1"] == pytest.approx(5 / 7)
    assert found["distinct_2"] == pytest.approx(3 / 4)
    assert creation_figures([])["distinct_2"] is None


# --- likelihoods ---------------------------------------------------------------------------------


def likelihoods(tmp_path: Path, name: str, logps: dict[str, tuple[float, int]]) -> str:
    rows = [
        ResponseLikelihood.new(response_id=i, model=M1, logp=logp, num_tokens=n)
        for i, (logp, n) in logps.items()
    ]
    return folder(tmp_path, name, rows, ResponseLikelihood)


def test_perplexity_weighs_tokens(tmp_path: Path) -> None:
    found = perplexity_figures(
        likelihoods(tmp_path, "heldout", {"a": (-4.0, 5), "b": (-26.0, 10)}), CONFIG, 0
    )
    assert found is not None
    # 30 nats over 15 tokens.
    assert (found["n"], found["num_tokens"], found["nats_per_token"]) == (2, 15, 2.0)
    assert found["perplexity"] == pytest.approx(math.exp(2))
    assert perplexity_figures(likelihoods(tmp_path, "none", {}), CONFIG, 0) is None


def test_kl_is_the_mean_gain_on_the_models_own_responses(tmp_path: Path) -> None:
    current = likelihoods(tmp_path, "own", {"b": (-20, 10), "a": (-10, 5), "c": (-1, 2)})
    first = likelihoods(tmp_path, "first", {"a": (-12, 5), "b": (-23, 10), "d": (-1, 2)})
    found = kl_figures(current, first, CONFIG, 0)
    assert found is not None
    # 2 and 3 nats on the two responses that both have scored, which have 15 tokens.
    assert (found["n"], found["kl"]) == (2, 2.5)
    assert found["kl_per_token"] == pytest.approx(5 / 15)
    assert kl_figures(current, likelihoods(tmp_path, "none", {}), CONFIG, 0) is None


# --- two judges and two models -------------------------------------------------------------------


def test_agreement_is_over_all_instructions_together(tmp_path: Path) -> None:
    rows = [sampled(name, "x") for name in "abcd"]
    responses = folder(tmp_path, "responses", rows, SampledInstruction)
    own = folder(tmp_path, "own", ratings_of(rows, [1, 2, 3, 5]), Rating)
    seeds = folder(tmp_path, "seeds", ratings_of(rows, [1, 3, 2, None]), Rating)
    found = agreement_figures(responses, own, seeds, CONFIG, 0)
    # Three answers that both scored: of three pairs one is ordered the other way.
    assert found["kendall_tau"] == pytest.approx(1 / 3)
    assert found["n"] == 1
    alike = folder(tmp_path, "alike", ratings_of(rows, [4, 4, 4, 4]), Rating)
    assert agreement_figures(responses, own, alike, CONFIG, 0)["kendall_tau"] is None


def answers(tmp_path: Path, name: str, texts: dict[str, str]) -> str:
    rows = [sampled(q, text, by=M1 if name == "new" else SEED_MODEL) for q, text in texts.items()]
    return folder(tmp_path, name, rows, SampledInstruction)


def test_lengths_are_of_the_instructions_both_answered(tmp_path: Path) -> None:
    new = answers(tmp_path, "new", {"a": "1234", "b": "12", "c": "1"})
    old = answers(tmp_path, "old", {"b": "123", "a": "1"})
    assert mean_lengths(new, old) == ([4, 2], [1, 3])


def versus(
    tmp_path: Path,
    new: dict[str, str],
    old: dict[str, str],
    verdicts: dict[str, str],
    probabilities: dict[str, tuple[float, float]] | None = None,
) -> dict[str, Any] | None:
    """`verdicts`: the letters of each instruction, the new answer shown first and second.
    `probabilities`: P(first) of both; given, they decide."""
    folders = answers(tmp_path, "new", new), answers(tmp_path, "old", old)
    logic = Versus()
    rows = logic.read([f"{f}/shard-00000.parquet" for f in folders])
    made = [pair for result in run(logic, rows) for pair in result.records]
    judged = [
        judgment(pair.id, SEED_MODEL, position, 0, letter)
        for pair in made
        for position, letter in zip(
            Position, verdicts[pair.messages[-1].content].ljust(2), strict=True
        )
        # A blank is an order that the engine refused.
        if letter != " "
    ]
    refused = [
        DroppedRow(row_id=i, stage="judge", reason=DropReason.PROMPT_TOO_LONG, detail="")
        for i in {pair.id for pair in made}
        if sum(j.pair_id == i for j in judged) < 2
    ]
    shard(tmp_path / "judgments", "dropped", refused, DroppedRow)
    config = CONFIG
    if probabilities is not None:
        config = CONFIG.model_copy(update={"head_to_head_verdict": "probability"})
        named = {pair.id: pair.messages[-1].content for pair in made}
        judged = [
            replace(
                j,
                verdict=replace(
                    j.verdict,
                    probability_first=probabilities[named[j.pair_id]][
                        j.position is not Position.CHOSEN_FIRST
                    ],
                ),
            )
            for j in judged
        ]
    return head_to_head_figures(
        *folders,
        folder(tmp_path, "pairs", made, ResponsePair),
        folder(tmp_path, "judgments", judged, Judgment),
        config,
        0,
    )


def test_wins_need_both_orders_and_the_same_text_is_a_tie(tmp_path: Path) -> None:
    new = {"won": "12345", "torn": "1", "lost": "12", "same": "1234", "hm": "1", "half": "1"}
    old = dict.fromkeys(new, "123") | {"same": "1234"}
    found = versus(
        tmp_path,
        new | {"alone": "1"},
        old,
        # Shown second the new answer is B. The last one was read in one order only: it fails.
        {"won": "AB", "torn": "AA", "lost": "BA", "hm": "A?", "half": "A"},
    )
    assert found is not None
    assert (found["n"], found["num_failed"]) == (4, 2)
    failed = {"unparsed": 1, "truncated": 0, "refused": 0, "prompt_too_long": 1}
    assert found["failed_readings"] == failed
    assert (found["num_wins"], found["num_ties"], found["num_losses"]) == (1, 2, 1)
    assert (found["num_order_ties"], found["num_same_text"]) == (1, 1)
    assert found["adjusted_win_rate"] == 0.5
    # 5, 1, 2 and 4 characters against 3, 3, 3 and 4.
    assert (found["mean_model_length"], found["mean_baseline_length"]) == (3.0, 3.25)


def test_by_probability_a_liking_for_the_first_position_cancels(tmp_path: Path) -> None:
    # Both readings name the first answer. P(new) is 0.9 and 1 - 0.7, mean 0.6: a win; 0.6 and
    # 1 - 0.8, mean 0.4: a loss; 0.75 and 1 - 0.75, mean 0.5: a tie.
    found = versus(
        tmp_path,
        {"won": "1", "lost": "1", "even": "1"},
        dict.fromkeys(("won", "lost", "even"), "22"),
        dict.fromkeys(("won", "lost", "even"), "AA"),
        {"won": (0.9, 0.7), "lost": (0.6, 0.8), "even": (0.75, 0.75)},
    )
    assert found is not None
    assert (found["num_wins"], found["num_ties"], found["num_losses"]) == (1, 1, 1)
    assert found["verdict"] == "probability"


@pytest.mark.parametrize("verdict", ["both_orders", "probability"])
def test_where_the_engine_refused_every_reading_all_are_counted(
    tmp_path: Path, verdict: str
) -> None:
    found = versus(
        tmp_path,
        {"a": "x", "b": "y"},
        {"a": "1", "b": "2"},
        {"a": "  ", "b": "  "},
        {} if verdict == "probability" else None,
    )
    assert found is not None
    assert (found["n"], found["num_failed"], found["adjusted_win_rate"]) == (0, 2, None)
    # Both orders of two pairs.
    assert found["failed_readings"]["prompt_too_long"] == 4


def test_models_that_say_the_same_tie_without_being_judged(tmp_path: Path) -> None:
    found = versus(tmp_path, {"a": "x", "b": "y"}, {"a": "x", "b": "y"}, {})
    assert found is not None
    assert (found["n"], found["num_ties"], found["num_same_text"]) == (2, 2, 2)
    assert found["adjusted_win_rate_ci"] == [0.5, 0.5]


def test_without_a_common_instruction_there_is_no_comparison(tmp_path: Path) -> None:
    assert versus(tmp_path, {"a": "x"}, {"b": "x"}, {}) is None


# --- people's scores -----------------------------------------------------------------------------


def test_scores_against_people_by_prompt_and_one_by_one(tmp_path: Path) -> None:
    people = {"p": (5, 3, 1), "q": (4, 4, 2)}
    judge: list[float | None] = [4, 3, None, 5, 1, 1]
    rows = [
        ScoredResponse.new(messages=ask(name).messages, response=str(n), score=score, low=1, high=5)
        for name, scores in people.items()
        for n, score in enumerate(scores)
    ]
    ratings = [rating(row.id, M1, 0, s) for row, s in zip(rows, judge, strict=True)]
    found = scored_figures(
        folder(tmp_path, "rows", rows, ScoredResponse),
        folder(tmp_path, "ratings", ratings, Rating),
        SCALE,
        CONFIG,
        0,
    )
    by_prompt = found["reward_modelling"]
    by_hand = [
        RankedResponses(prompt_id="p", human_ranks=(1, 2, 3), scores=(4, 3, None)),
        RankedResponses(prompt_id="q", human_ranks=(1, 1, 3), scores=(5, 1, 1)),
    ]
    assert by_prompt == reward_modelling_report(by_hand, num_samples=100).to_dict()
    # One pair of p is right; of the two of q that people rank one is right and one tied.
    assert (by_prompt["num_pairs"], by_prompt["num_score_ties"]) == (3, 1)
    assert by_prompt["pairwise_accuracy"] == pytest.approx(2 / 3)
    assert (by_prompt["exact_match"], by_prompt["five_best"]) == (0.5, 1.0)
    single = found["pointwise"]
    assert (single["n"], single["num_failed"]) == (5, 1)
    # On the scale of 1 to 5 the judge says 4.2, 3.4, 5, 1.8, 1.8 where people say 5, 3, 4, 4, 2.
    assert single["mean_absolute_error"] == pytest.approx((0.8 + 0.4 + 1 + 2.2 + 0.2) / 5)


def test_a_judge_without_a_score_measures_nothing(tmp_path: Path) -> None:
    rows = [
        ScoredResponse.new(messages=ask("p").messages, response=t, score=s, low=1, high=5)
        for t, s in (("x", 1), ("y", 5))
    ]
    found = scored_figures(
        folder(tmp_path, "rows", rows, ScoredResponse),
        folder(tmp_path, "ratings", [rating(r.id, M1, 0, None) for r in rows], Rating),
        SCALE,
        CONFIG,
        0,
    )
    assert found["reward_modelling"]["pairwise_accuracy"] is None
    assert found["reward_modelling"]["num_failed"] == 2
    assert (found["pointwise"]["n"], found["pointwise"]["spearman"]) == (0, None)
