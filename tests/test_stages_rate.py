"""The rating stage: what a judge is asked of one response, and what becomes of its answers."""

import asyncio
import pickle
from collections.abc import Sequence

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.judging.pointwise import additive_rubric, render_pointwise
from selfreward.records import DropReason, Message, ModelRef, Outcome
from selfreward.records_scores import ScoredResponse
from selfreward.stages.rate import Rate

MODEL = ModelRef(name="m", iteration=0, fingerprint="f0")
# Of no shipped id: a worker has nothing but the stage's own logic to know it by.
OWN = additive_rubric("mine", ["It is kind.", "It is short.", "It is true."])
ROWS = [
    ScoredResponse.new(
        messages=(Message(role="user", content=f"Task {i}"),),
        response=f"Answer {i}",
        score=3,
        low=1,
        high=5,
    )
    for i in range(3)
]


def test_a_rubric_of_the_users_own_is_asked_and_read() -> None:
    seen: list[GenerationRequest] = []

    async def generate(requests: Sequence[GenerationRequest]) -> list[Completion]:
        seen.extend(requests)
        kind, torn, refused = requests
        return [
            Completion(
                request_id=kind.id,
                model=MODEL,
                draws=(
                    Draw(text="Kind and short.\nScore: 2", finish_reason="stop", num_tokens=9),
                    Draw(text="Score: 5", finish_reason="stop", num_tokens=3),
                ),
                num_prompt_tokens=50,
            ),
            Completion(
                request_id=torn.id,
                model=MODEL,
                draws=(Draw(text="It is", finish_reason="length", num_tokens=2),),
            ),
            Completion(request_id=refused.id, model=MODEL, error="prompt_too_long"),
        ]

    logic = Rate(
        rubric=OWN,
        sampling=SamplingConfig(max_tokens=64),
        guided=True,
        num_draws=2,
        seed=1,
        expected=True,
    )
    logic = pickle.loads(pickle.dumps(logic))
    results = asyncio.run(logic.process(ROWS, generate))
    assert seen[0].messages == render_pointwise(OWN, ROWS[0].messages, "Answer 0")
    assert "2. It is short." in seen[0].messages[1].content
    assert seen[0].sampling.regex == OWN.guided_regex
    assert (seen[0].sampling.n, seen[0].sampling.logps_of) == (2, ("0", "1", "2", "3"))
    first, second = results[0].records
    assert (first.rubric_id, first.response_id, first.draw) == ("mine", ROWS[0].id, 0)
    assert (first.verdict.score, first.num_prompt_tokens) == (2.0, 50)
    # 5 is off a scale of three statements.
    assert (second.verdict.outcome, second.verdict.score) == (Outcome.UNPARSED, None)
    assert [r.verdict.outcome for r in results[1].records] == [Outcome.TRUNCATED]
    assert results[2].records == []
    assert [d.reason for d in results[2].dropped] == [DropReason.PROMPT_TOO_LONG]
