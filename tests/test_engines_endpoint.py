"""What is read from an endpoint's answers, and what it is asked after it has refused a field."""

import json
import math
from typing import Any

import pytest

from selfreward.engines.endpoint import completion_of
from selfreward.engines.endpoint_fields import RefusedFields
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


# --- refused fields ------------------------------------------------------------------------------


def openai(message: str, param: str | None) -> str:
    return json.dumps({"error": {"message": message, "param": param}})


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (openai("Unsupported parameter: 'top_logprobs' is not supported.", None), "top_logprobs"),
        (openai("Unrecognized request argument supplied: logprobs", None), "logprobs"),
        (openai("This model does not support the 'logprobs' parameter.", "logprobs"), "logprobs"),
        (openai("20 is greater than the maximum of 1 - 'logprobs'", "logprobs"), "logprobs"),
        (openai("You are not allowed to request logprobs from this model.", None), "logprobs"),
        ('{"error": {"message": "Logprobs is not enabled for models/judge"}}', "logprobs"),
        (
            '{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}',
            "seed",
        ),
        (
            openai(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
                " 'max_completion_tokens' instead.",
                "max_tokens",
            ),
            "max_tokens",
        ),
        # Large numbers and long prompts are no fields, and a word of a sentence is none either.
        (openai("max_tokens is too large: 9", "max_tokens"), None),
        (openai("Please stop: images are not supported by model n", None), None),
    ],
)
def test_a_refused_field_is_left_out_from_then_on(said: str, name: str | None) -> None:
    request = GenerationRequest(
        id="r",
        purpose="judge",
        messages=(Message(role="user", content="Which?"),),
        sampling=Sampling(temperature=0.0, max_tokens=32, stop=("x",), logps_of=("A", "B")),
    )
    refused = RefusedFields(url="http://host", model="judge")
    before = refused.body(request)
    assert refused.learn(before, said) is (name is not None)
    gone = {"logprobs", "top_logprobs"} if name and "logprobs" in name else {name} - {None}
    after = refused.body(request)
    assert set(before) - set(after) == gone
    assert after.get("max_completion_tokens") == (32 if name == "max_tokens" else None)
    # Another answer about what is not sent any more refuses nothing, so asking comes to an end.
    assert name is None or not refused.learn(after, openai(f"'{name}' is not supported", name))
