"""Meta-judging: which judgments are compared, what is asked of them, what is learnt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfreward.config_self_rewarding import MetaJudgeConfig
from selfreward.engines.protocol import GenerationRequest
from selfreward.judging.meta_judging import PositionWeights, get_meta_rubric, render_meta
from selfreward.judging.pointwise import get_pointwise_rubric, render_pointwise
from selfreward.judging.rubrics import verdict_regex
from selfreward.records import Judgment, Outcome, Position
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.records_self_rewarding import RatingPair, SampledInstruction
from selfreward.stages.meta import MetaJudge, MetaPairs, MetaPrefer, weights_of
from selfreward.storage.shards import RowResult
from tests.run_folders import ADDITIVE, M1, judgment, rating
from tests.stage_tools import Fake, reasons, run, sampled, shard

RUBRIC = get_pointwise_rubric(ADDITIVE)
ROW = sampled("Name a lake.", "Lake Geneva.", "Blue.", by=M1)
SURE, TORN = ROW.responses


# --- pairs of judgments --------------------------------------------------------------------------


def pairs(tmp_path: Path, ratings: list[Rating], max_pairs: int = 6) -> RowResult[RatingPair]:
    logic = MetaPairs(scale=(0, 5), max_pairs=max_pairs, seed=0)
    urls = [
        shard(tmp_path, "responses", [ROW], SampledInstruction),
        shard(tmp_path, "ratings", ratings, Rating),
    ]
    (result,) = run(logic, logic.read(urls))
    return result


def readings(response_id: str, *scores: float | None) -> list[Rating]:
    return [rating(response_id, M1, draw, score) for draw, score in enumerate(scores)]


def test_the_judgments_of_the_response_that_varies_most_are_paired(tmp_path: Path) -> None:
    of_torn = readings(TORN.id, 1, None, 5)
    (made,) = pairs(tmp_path, [*readings(SURE.id, 4, 4, 5), *of_torn]).records
    assert {made.first.id, made.second.id} == {of_torn[0].id, of_torn[2].id}
    assert made.response == ScoredResponse(
        id=TORN.id,
        messages=ROW.instruction.messages,
        response="Blue.",
        # The mean of 1 and 5; the reading that was cut off is none.
        score=3.0,
        low=0,
        high=5,
        group=ROW.id,
    )


def test_there_are_at_most_so_many_pairs_of_different_judgments(tmp_path: Path) -> None:
    ratings = readings(TORN.id, 1, 5, 2, 4)
    for wanted, found in ((2, 2), (6, 6), (9, 6)):
        records = pairs(tmp_path, ratings, wanted).records
        assert len(records) == found
        assert len({frozenset((p.first.id, p.second.id)) for p in records}) == found


def test_without_two_judgments_there_is_nothing_to_compare(tmp_path: Path) -> None:
    result = pairs(tmp_path, [*readings(SURE.id, 4), *readings(TORN.id, None, None)])
    assert result.records == []
    assert reasons([result]) == ["too_few_scores"]


# --- comparisons ---------------------------------------------------------------------------------

GOOD, BAD = rating(TORN.id, M1, 0, 1), rating(TORN.id, M1, 1, 5)
RESPONSE = ScoredResponse(
    id=TORN.id,
    messages=ROW.instruction.messages,
    response="Blue.",
    score=3,
    low=0,
    high=5,
    group=ROW.id,
)
PAIR = RatingPair.new(response=RESPONSE, first=GOOD, second=BAD)


def judge(fake: Fake, **config: Any) -> RowResult[Judgment]:
    logic = MetaJudge(config=MetaJudgeConfig.model_validate(config), rubric=RUBRIC, seed=0)
    (result,) = run(logic, [PAIR], fake)
    return result


def prefers_good(request: GenerationRequest, draw: int) -> str:
    return "A" if request.id.endswith(Position.CHOSEN_FIRST.value) else "B"


def test_both_orders_are_asked_and_read() -> None:
    fake = Fake(prefers_good)
    result = judge(fake)
    assert [j.position for j in result.records] == list(Position)
    assert [j.verdict.choice for j in result.records] == ["first", "second"]
    assert all(j.is_right for j in result.records)
    assert {j.pair_id for j in result.records} == {PAIR.id}
    meta = get_meta_rubric("meta_verdict_only")
    for request, position in zip(fake.asked, Position, strict=True):
        shown = render_meta(meta, RESPONSE, GOOD, BAD, position, judged_by=RUBRIC)
        assert request.messages == shown
        assert request.purpose == "judge"
        asked = request.sampling
        assert (asked.choices, asked.regex, asked.logps_of) == (("A", "B"), None, ("A", "B"))
        assert asked.max_tokens < 8, "one letter is asked for"
    assert fake.asked[0].sampling.seed != fake.asked[1].sampling.seed


def test_a_reasoned_verdict_is_guided_by_its_form_or_not_at_all() -> None:
    fake = Fake(lambda r, j: "The first is true to the criteria.\n[[A]]")
    result = judge(fake, rubric="meta_reasoned", sampling={"max_tokens": 99})
    assert [j.verdict.choice for j in result.records] == ["first", "first"]
    asked = fake.asked[0].sampling
    assert (asked.choices, asked.max_tokens) == ((), 99)
    assert asked.regex == verdict_regex(get_meta_rubric("meta_reasoned"))
    judge(fake, rubric="meta_reasoned", guided=False)
    judge(fake, guided=False)
    assert all((r.sampling.choices, r.sampling.regex) == ((), None) for r in fake.asked[2:])


def test_an_order_that_was_refused_leaves_the_other() -> None:
    fake = Fake(lambda r, j: "Hm.", {Position.REJECTED_FIRST.value: "prompt_too_long"})
    result = judge(fake)
    assert [j.verdict.outcome for j in result.records] == [Outcome.UNPARSED]
    assert reasons([result]) == ["prompt_too_long"]
    fake.errors = {PAIR.id: "bad_request"}
    result = judge(fake)
    assert (result.records, reasons([result])) == ([], ["engine_failure"])


# --- preferences ---------------------------------------------------------------------------------


def learn(tmp_path: Path, verdicts: str, max_chosen_chars: int | None = None) -> RowResult[Any]:
    """What is learnt where the orders are answered with these two letters."""
    judged = [
        judgment(PAIR.id, M1, position, 0, letter)
        for position, letter in zip(Position, verdicts, strict=True)
    ]
    urls = [
        shard(tmp_path, "pairs", [PAIR], RatingPair),
        shard(tmp_path, "judgments", judged, Judgment),
    ]
    logic = MetaPrefer(
        rubric=RUBRIC, max_chosen_chars=max_chosen_chars, weights=weights_of(urls[1:])
    )
    rows = logic.read(urls)
    assert [row.id for row in rows] == [TORN.id]
    (result,) = run(logic, rows)
    return result


@pytest.mark.parametrize(("verdicts", "best", "worst"), [("AB", GOOD, BAD), ("BA", BAD, GOOD)])
def test_the_better_judgment_is_preferred_behind_the_judges_prompt(
    tmp_path: Path, verdicts: str, best: Rating, worst: Rating
) -> None:
    (made,) = learn(tmp_path, verdicts).records
    assert (made.chosen, made.rejected) == (best.text, worst.text)
    assert (made.chosen_id, made.rejected_id) == (best.id, worst.id)
    assert (made.chosen_score, made.rejected_score) == (best.verdict.score, worst.verdict.score)
    assert made.pair_id == ROW.id
    assert made.messages == render_pointwise(RUBRIC, ROW.instruction.messages, "Blue.")
    assert made.label_confidence == 1.0


def test_a_judgment_that_ran_on_behind_its_score_teaches_no_end(tmp_path: Path) -> None:
    cut = replace(BAD, finish_reason="length")
    two = RatingPair.new(response=RESPONSE, first=GOOD, second=cut)
    for verdicts, ended in (("AB", (True, False)), ("BA", (False, True))):
        judged = [
            judgment(two.id, M1, position, 0, letter)
            for position, letter in zip(Position, verdicts, strict=True)
        ]
        logic = MetaPrefer(rubric=RUBRIC, max_chosen_chars=None, weights=None)
        urls = [
            shard(tmp_path, f"pairs{verdicts}", [two], RatingPair),
            shard(tmp_path, f"judgments{verdicts}", judged, Judgment),
        ]
        (result,) = run(logic, logic.read(urls))
        (made,) = result.records
        assert (made.chosen_ended, made.rejected_ended) == ended


@pytest.mark.parametrize("verdicts", ["AA", "BB", "??"])
def test_a_liking_for_a_position_teaches_nothing(tmp_path: Path, verdicts: str) -> None:
    assert reasons([learn(tmp_path, verdicts)]) == ["tied_scores"]


def test_a_long_judgment_is_never_the_chosen_one(tmp_path: Path) -> None:
    length = len(GOOD.text)
    assert learn(tmp_path, "AB", length).dropped == []
    (drop,) = learn(tmp_path, "AB", length - 1).dropped
    # No tie: what is counted says that judgments grow too long.
    assert drop.reason.value == "too_long"
    assert drop.detail == (
        f"the best judgment, {GOOD.id}, has {length} of at most {length - 1} characters"
    )


def test_weights_come_from_all_shards(tmp_path: Path) -> None:
    first, second = Position
    urls = [
        shard(tmp_path, "a", [judgment("p", M1, first, i, "A") for i in range(3)], Judgment),
        shard(
            tmp_path,
            "b",
            [judgment("q", M1, second, 0, "B"), judgment("q", M1, first, 0, "?")],
            Judgment,
        ),
    ]
    # Three of four choices name the first position: a win there counts a quarter.
    assert weights_of(urls) == PositionWeights(first=0.25, second=0.75)
    assert weights_of([]) is None
