"""Scores of single responses, and how a plan of any kind is run."""

import asyncio
from collections.abc import Sequence

import pytest

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.errors import EngineError, EngineTimeoutError
from selfreward.records import ModelRef
from selfreward.serving.judge_wire import InlineRubric, PairwiseRequest, ScoreRequest, Usage
from selfreward.serving.pairwise import plan_pairwise
from selfreward.serving.scores import plan_score, run_plan
from selfreward.serving.wire import JudgeVersion

CONFIG = ServingConfig()
MODEL = ModelRef(name="m", iteration=2, fingerprint="f00d")
VERSION = JudgeVersion(version=3, model="m", iteration=2, fingerprint="f00d")
PAIR = PairwiseRequest(prompt="2 + 2?", first="4", second="5")


def said(text: str, finish_reason: str = "stop") -> Draw:
    return Draw(text=text, finish_reason=finish_reason, num_tokens=5)


def answered(*draws: Draw, error: str | None = None, detail: str = "") -> Completion:
    return Completion(
        request_id="", model=MODEL, draws=draws, num_prompt_tokens=100, error=error, detail=detail
    )


def test_a_score_is_the_mean_of_the_draws_that_have_one() -> None:
    request = ScoreRequest(prompt="Q", response="R", votes=3, rationale=True)
    plan = plan_score(request, CONFIG, "req-1")
    (asked,) = plan.requests
    assert (asked.purpose, asked.sampling.n, asked.sampling.temperature) == ("rate", 3, 0.7)
    assert asked.sampling.regex is not None and asked.sampling.max_tokens == 400
    assert asked.sampling.logps_of == ()
    judgment = plan.judgment(
        [answered(said("Hm."), said("It is plain.\n**Score: 4**"), said("Good.\nScore: 5"))],
        VERSION,
    )
    # (4 + 5) / 2; the first draw has no score.
    assert (judgment.outcome, judgment.score, judgment.scale) == ("score", 4.5, (0, 5))
    assert (judgment.num_scores, judgment.scores) == (2, [None, 4.0, 5.0])
    assert judgment.rationale == "It is plain."
    assert judgment.detail is None
    assert judgment.usage == Usage(prompt_tokens=100, completion_tokens=15)


@pytest.mark.parametrize(
    ("draw", "outcome"),
    [
        (said("A fine answer.\nScore: 9"), "unparsed"),  # off the scale of 0 to 5
        (said("It says", "length"), "truncated"),
        (said("I cannot rate this."), "refused"),
    ],
)
def test_a_response_without_a_score_has_a_reason_and_no_number(draw: Draw, outcome: str) -> None:
    plan = plan_score(ScoreRequest(prompt="Q", response="R"), CONFIG, "req-1")
    judgment = plan.judgment([answered(draw)], VERSION)
    assert (judgment.outcome, judgment.score, judgment.scores) == (outcome, None, [None])
    assert judgment.detail and judgment.rationale is None and judgment.num_scores == 0


@pytest.mark.parametrize(
    ("completion", "outcome", "detail"),
    [
        (
            answered(error="prompt_too_long", detail="2310 of 2048 tokens"),
            "prompt_too_long",
            "2310 of 2048 tokens",
        ),
        (answered(error="bad_request", detail="no"), "failed", "bad_request: no"),
        (answered(), "failed", "the engine returned no draw"),
    ],
)
def test_a_score_the_engine_refused_is_an_outcome(
    completion: Completion, outcome: str, detail: str
) -> None:
    plan = plan_score(ScoreRequest(prompt="Q", response="R"), CONFIG, "req-1")
    judgment = plan.judgment([completion], VERSION)
    assert (judgment.outcome, judgment.score, judgment.scores) == (outcome, None, [])
    assert (judgment.detail, judgment.usage.prompt_tokens) == (detail, 100)


def test_an_inline_rubric_sets_the_scale_of_a_score() -> None:
    rubric = InlineRubric(criteria="Be brief.", scale=(1, 10))
    request = ScoreRequest(prompt="Q", response="R", rubric=rubric)
    plan = plan_score(request, CONFIG, "req-1")
    assert plan.requests[0].sampling.max_tokens == 16
    judgment = plan.judgment([answered(said("Score: 10"))], VERSION)
    assert (judgment.score, judgment.scale, judgment.rationale) == (10.0, (1, 10), None)


def test_seeds_of_scores_follow_the_texts() -> None:
    def seed(response: str, seed: int = 0) -> int:
        request = ScoreRequest(prompt="Q", response=response, seed=seed)
        return plan_score(request, CONFIG, "req-1").requests[0].sampling.seed

    assert seed("R") == seed("R")
    assert len({seed("R"), seed("S"), seed("R", 1)}) == 3


def test_a_plan_is_run_and_judged() -> None:
    asked: list[GenerationRequest] = []

    async def generate(requests: list[GenerationRequest]) -> list[Completion]:
        asked.extend(requests)
        return [answered(said("A")), answered(said("B"))]

    plan = plan_pairwise(PAIR, CONFIG, "req-1")
    judgment = asyncio.run(run_plan(plan, generate, VERSION, timeout_s=60))
    assert asked == plan.requests
    assert judgment.choice == "first"


@pytest.mark.parametrize(
    ("error", "outcome", "detail"),
    [
        (EngineError("no replica is left"), "failed", "no replica is left"),
        (EngineError(), "failed", "EngineError"),
        (EngineTimeoutError("waited for replica-0"), "timed_out", "waited for replica-0"),
        (TimeoutError(), "timed_out", "no judgment within 60 s"),
    ],
)
def test_an_engine_that_fails_is_an_outcome(error: Exception, outcome: str, detail: str) -> None:
    async def generate(requests: Sequence[GenerationRequest]) -> list[Completion]:
        raise error

    pair = asyncio.run(run_plan(plan_pairwise(PAIR, CONFIG, "r"), generate, VERSION, 60))
    assert (pair.outcome, pair.detail, pair.orders) == (outcome, detail, [])
    request = ScoreRequest(prompt="Q", response="R")
    score = asyncio.run(run_plan(plan_score(request, CONFIG, "r"), generate, VERSION, 60))
    assert (score.outcome, score.detail, score.score) == (outcome, detail, None)


def test_what_is_no_failure_of_the_engine_is_not_hidden() -> None:
    async def generate(requests: list[GenerationRequest]) -> list[Completion]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_plan(plan_pairwise(PAIR, CONFIG, "r"), generate, VERSION, 60))


def test_time_running_out_cancels_what_is_under_way() -> None:
    cancelled = []

    async def generate(requests: list[GenerationRequest]) -> list[Completion]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return []

    plan = plan_pairwise(PAIR, CONFIG, "r")
    judgment = asyncio.run(run_plan(plan, generate, VERSION, timeout_s=0.01))
    assert (judgment.outcome, judgment.detail) == ("timed_out", "no judgment within 0.01 s")
    assert cancelled == [True]
