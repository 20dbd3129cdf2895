"""Scoring the responses of pairs one by one: what is asked, and how a score that failed is told."""

import asyncio

import pytest

from selfreward.engines.protocol import Draw, GenerationRequest
from selfreward.records import Message, ResponsePair
from selfreward.stages.score_pairs import ScorePairs
from tests.stage_tools import Fake, reasons, run


def pair(chosen: str, rejected: str) -> ResponsePair:
    return ResponsePair.new(
        instruction_id="ins-1",
        messages=(Message(role="user", content="Ask"),),
        chosen=chosen,
        rejected=rejected,
        corruption="chat",
    )


def by_length(request: GenerationRequest, _: int) -> Draw:
    target = request.target or ""
    return Draw(text=target, finish_reason="stop", num_tokens=1, score=float(len(target)))


@pytest.mark.parametrize(("alone", "num_asked"), [(False, 6), (True, 12)])
def test_nine_pairs_of_six_responses_ask_for_six_scores(alone: bool, num_asked: int) -> None:
    pairs = [pair(c, r) for c in ("a", "bb", "ccc") for r in ("dddd", "eeeee", "ffffff")]
    engine = Fake(by_length)
    results = run(ScorePairs(alone=alone), pairs, engine)
    assert len(engine.asked) == num_asked
    scores = [(r.chosen, r.rejected) for result in results for r in result.records]
    assert scores == [(float(c), float(r)) for c in (1, 2, 3) for r in (4, 5, 6)]


def test_a_response_that_cannot_be_scored_drops_every_pair_of_it() -> None:
    pairs = [pair("a", "bb"), pair("a", "ccc"), pair("dd", "ccc")]
    # The engine refuses "a", asked for by the first pair and needed by the second too.
    engine = Fake(by_length, errors={f"{pairs[0].id}/chosen": "prompt_too_long"})
    results = run(ScorePairs(alone=False), pairs, engine)
    assert reasons(results) == ["prompt_too_long"] * 2
    assert [len(result.records) for result in results] == [0, 0, 1]
    assert asyncio.run(ScorePairs(alone=False).process([], engine)) == []
