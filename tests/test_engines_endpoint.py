"""What is read from an endpoint's answers."""

import json
import math
from typing import Any

import pytest

from selfreward.engines.endpoint import completion_of
from selfreward.engines.protocol import GenerationRequest, Sampling
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.judging.verdicts import parse_pairwise
from selfreward.records import Message, ModelRef

MODEL = ModelRef(name="judge", iteration=0, fingerprint="f")


def position(token: str, logprob: float, **others: float) -> dict[str, Any]:
    top = [{"token": name, "logprob": value} for name, value in others.items()]
    return {"token": token, "logprob": logprob, "top_logprobs": top}


def test_the_probability_is_that_of_the_verdict_that_was_read() -> None:
    request = GenerationRequest(
        id="r",
        purpose="judge",
        messages=(Message(role="user", content="Which?"),),
        sampling=Sampling(temperature=0.0, max_tokens=32, logps_of=("A", "B")),
    )
    tokens = [
        position("[[", 0.0),
        position("A", math.log(0.6), B=math.log(0.2)),
        position("]]", 0.0),
        position(" since it beats", 0.0),
        position(" B", -0.01, A=-5.0),
        position(".", 0.0),
    ]
    choice = {
        "message": {"content": "[[A]] since it beats B."},
        "finish_reason": "stop",
        "logprobs": {"content": tokens},
    }
    (draw,) = completion_of(request, MODEL, json.dumps({"choices": [choice]})).draws
    assert [(p.produced, p.start) for p in draw.logps] == [("A", 2), ("B", 21)]
    rubric = get_pairwise_rubric("pairwise_reasoned")
    verdict = parse_pairwise(rubric, draw.text, draw.finish_reason, draw.logps)
    # .6 / (.6 + .2)
    assert (verdict.choice, verdict.probability_first) == ("first", pytest.approx(0.75))
