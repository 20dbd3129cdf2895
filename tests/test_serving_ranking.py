"""Rankings: points by hand, equal ones together, failures named."""

import asyncio
from itertools import combinations

import pytest

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.errors import EngineError
from selfreward.records import ModelRef
from selfreward.serving.judge_wire import (
    PairwiseRequest,
    RankJudgment,
    RankRequest,
    ScoreRequest,
    Standing,
    Usage,
)
from selfreward.serving.pairwise import plan_pairwise
from selfreward.serving.ranking import plan_rank
from selfreward.serving.scores import plan_score, run_plan
from selfreward.serving.wire import JudgeVersion

CONFIG = ServingConfig()
MODEL = ModelRef(name="m", iteration=0, fingerprint="f00d")
VERSION = JudgeVersion(version=1, model="m", iteration=0, fingerprint="f00d")
THREE = RankRequest(prompt="Q", responses=["r0", "r1", "r2"])
SCORED = THREE.model_copy(update={"method": "scores"})

Letters = str
"""Of one comparison, a letter an order: `AB` names the earlier response twice, `AA` each once;
`-` is a text without a verdict, `R` a refusal, `L` an error of the engine."""


def wrote(letter: str) -> Completion:
    text = {"-": "Hm.", "R": "I cannot judge this.", "L": ""}.get(letter, letter)
    if letter == "L":
        return Completion(request_id="", model=MODEL, error="prompt_too_long", detail="too long")
    draw = Draw(text=text, finish_reason="stop", num_tokens=1)
    return Completion(request_id="", model=MODEL, draws=(draw,), num_prompt_tokens=10)


def tournament(*comparisons: Letters, request: RankRequest = THREE) -> RankJudgment:
    """The pairs are 0-1, 0-2, 1-2."""
    completions = [wrote(letter) for letters in comparisons for letter in letters]
    return plan_rank(request, CONFIG, "req-1").judgment(completions, VERSION)


def scored(*texts: str, request: RankRequest = SCORED) -> RankJudgment:
    """Draws of a response are parted by `|`."""
    completions = [
        Completion(
            request_id="",
            model=MODEL,
            draws=tuple(Draw(text=t, finish_reason="stop", num_tokens=1) for t in draws.split("|")),
        )
        for draws in texts
    ]
    return plan_rank(request, CONFIG, "req-1").judgment(completions, VERSION)


def test_a_tournament_compares_every_pair_as_the_pair_alone_is_compared() -> None:
    requests = plan_rank(THREE, CONFIG, "req-1").requests
    alone = [
        request
        for one, other in combinations(THREE.responses, 2)
        for request in plan_pairwise(
            PairwiseRequest(prompt="Q", first=one, second=other), CONFIG, "req-2"
        ).requests
    ]
    assert [(r.messages, r.sampling) for r in requests] == [(r.messages, r.sampling) for r in alone]
    assert [r.id for r in requests][:3] == [
        "req-1/0-1/first_second",
        "req-1/0-1/second_first",
        "req-1/0-2/first_second",
    ]


def test_points_make_the_ranking() -> None:
    # r1 beats r0, r0 beats r2, r1 beats r2: 1, 2 and 0 points.
    judgment = tournament("BA", "AB", "AB")
    assert (judgment.outcome, judgment.ranking) == ("ranking", [[1], [0], [2]])
    assert [s.points for s in judgment.standings] == [1, 2, 0]
    assert judgment.standings[1] == Standing(index=1, points=2, wins=2)
    assert judgment.standings[2] == Standing(index=2, points=0, losses=2)
    assert (judgment.num_comparisons, judgment.consistent_share) == (3, 1.0)
    assert judgment.usage == Usage(prompt_tokens=60, completion_tokens=6)
    assert judgment.rubric == "pairwise_verdict_only"


def test_equal_points_stand_together() -> None:
    # r0-r1 is a tie, both beat r2: 1.5, 1.5 and 0 points; two of three comparisons agree.
    judgment = tournament("AA", "AB", "AB")
    assert judgment.ranking == [[0, 1], [2]]
    assert judgment.standings[0] == Standing(index=0, points=1.5, wins=1, ties=1)
    assert judgment.consistent_share == pytest.approx(2 / 3)


@pytest.mark.parametrize("comparisons", [("AA", "AA", "AA"), ("AB", "BA", "AB")])
def test_equal_points_of_all_are_a_tie(comparisons: tuple[Letters, ...]) -> None:
    # All ties, or a circle in which each beats one: 1 point each.
    judgment = tournament(*comparisons)
    assert (judgment.outcome, judgment.ranking) == ("tie", [])
    assert [s.points for s in judgment.standings] == [1, 1, 1]
    assert judgment.detail == "all responses have equal points"


def test_a_failed_comparison_counts_for_neither() -> None:
    judgment = tournament("A-", "AB", "AB")
    assert (judgment.outcome, judgment.ranking) == ("ranking", [[0, 1], [2]])
    # One win in the one comparison with a verdict is as good as two in two.
    assert judgment.standings[0] == Standing(index=0, points=2, wins=1, failed=1)
    assert judgment.standings[1] == Standing(index=1, points=2, wins=1, failed=1)
    assert judgment.detail == "1 of 3 comparisons have no verdict: 1 unparsed"
    # Of the two that made a choice in both orders.
    assert judgment.consistent_share == 1.0


def test_a_response_without_any_comparison_fails_the_ranking() -> None:
    # r2 has none: one refusal, one text too long. The earlier of equally common reasons is named.
    judgment = tournament("AB", "RR", "LL")
    assert (judgment.outcome, judgment.ranking) == ("refused", [])
    assert judgment.standings[2] == Standing(index=2, points=None, failed=2)
    assert judgment.standings[0].points == 2
    assert judgment.detail == "no verdict on responses [2]: the judge declined to judge"


def test_a_failure_is_no_loss() -> None:
    # r0 wins one and fails one, r1 loses to r0 and wins against r2: r0 must stand first.
    judgment = tournament("AB", "RR", "AB")
    assert judgment.ranking == [[0], [1], [2]]
    assert judgment.detail == "1 of 3 comparisons have no verdict: 1 refused"
    tie = tournament("AA", "--", "AA")
    assert (tie.outcome, [s.points for s in tie.standings]) == ("tie", [1, 1, 1])
    assert tie.detail == (
        "all responses have equal points; 1 of 3 comparisons have no verdict: 1 unparsed"
    )


def test_each_comparison_and_each_score_is_told() -> None:
    judgment = tournament("BA", "AB", "A-")
    assert [(c.first, c.second) for c in judgment.comparisons] == [(0, 1), (0, 2), (1, 2)]
    one, other, failed = (c.judgment for c in judgment.comparisons)
    assert (one.choice, other.choice, failed.outcome) == ("second", "first", "unparsed")
    assert [r.shown for r in one.orders] == ["first_second", "second_first"]
    assert judgment.scores == []
    reasoned = SCORED.model_copy(update={"rationale": True})
    scores = scored("Good.\nScore: 2", "Score: 4", "Score: 5", request=reasoned)
    assert [s.score for s in scores.scores] == [2, 4, 5]
    assert (scores.scores[0].rationale, scores.comparisons) == ("Good.", [])


def test_the_most_common_reason_is_the_rankings() -> None:
    judgment = tournament("RR", "LL", "LL")
    assert judgment.outcome == "prompt_too_long"
    assert judgment.detail == "no verdict on responses [0, 1, 2]: too long"
    assert judgment.consistent_share is None


def test_one_order_halves_the_work_and_knows_no_consistency() -> None:
    request = THREE.model_copy(update={"both_orders": False})
    assert len(plan_rank(request, CONFIG, "req-1").requests) == 3
    judgment = tournament("B", "B", "B", request=request)
    assert judgment.ranking == [[2], [1], [0]]
    assert judgment.consistent_share is None


def test_scores_make_the_ranking() -> None:
    requests = plan_rank(SCORED, CONFIG, "req-1").requests
    alone = plan_score(ScoreRequest(prompt="Q", response="r1"), CONFIG, "req-2").requests[0]
    assert len(requests) == 3
    assert (requests[1].messages, requests[1].sampling) == (alone.messages, alone.sampling)
    request = SCORED.model_copy(update={"votes": 2})
    # Means 3, 4.5 and 3; one draw of r2 fails and is left out.
    judgment = scored("Score: 2|Score: 4", "Score: 4|Score: 5", "Hm.|Score: 3", request=request)
    assert (judgment.outcome, judgment.ranking) == ("ranking", [[1], [0, 2]])
    assert [s.points for s in judgment.standings] == [3, 4.5, 3]
    assert [s.failed for s in judgment.standings] == [0, 0, 1]
    assert (judgment.num_comparisons, judgment.rubric) == (0, "pointwise_additive_short")


def test_equal_scores_are_a_tie_and_a_missing_one_a_failure() -> None:
    assert scored("Score: 3", "Score: 3", "Score: 3").outcome == "tie"
    judgment = scored("Score: 3", "Hm.", "I cannot rate this.")
    assert (judgment.outcome, judgment.ranking) == ("unparsed", [])
    assert judgment.detail is not None and "responses [1, 2]" in judgment.detail
    assert judgment.standings[1] == Standing(index=1, points=None, failed=1)


@pytest.mark.parametrize("request_of_three", [THREE, SCORED])
def test_an_engine_that_breaks_down_is_an_outcome(request_of_three: RankRequest) -> None:
    async def generate(requests: list[GenerationRequest]) -> list[Completion]:
        raise EngineError("no replica is left")

    plan = plan_rank(request_of_three, CONFIG, "req-1")
    judgment: RankJudgment = asyncio.run(run_plan(plan, generate, VERSION, 60))
    assert (judgment.outcome, judgment.detail) == ("failed", "no replica is left")
    assert (judgment.ranking, judgment.standings, judgment.num_comparisons) == ([], [], 0)
