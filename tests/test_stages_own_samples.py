"""Pairs of the model's own samples by their likelihood: what is asked, what is chosen, what is
dropped. The log-probabilities are given by hand."""

import asyncio
from typing import Any

import pytest

from selfreward.config import CorruptConfig, SamplingConfig
from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.errors import EngineError
from selfreward.records import AnsweredInstruction, Instruction, Message, ModelRef, Response
from selfreward.stages.corrupt import Corrupt
from selfreward.storage.shards import RowResult

MODEL = ModelRef(name="m", iteration=0, fingerprint="f0")


def answered(text: str, answer: str) -> AnsweredInstruction:
    row = Instruction.new(messages=(Message(role="user", content=text),), source="s")
    response = Response.new(
        instruction_id=row.id,
        text=answer,
        model=MODEL,
        draw=0,
        finish_reason="stop",
        num_tokens=2,
    )
    return AnsweredInstruction(id=f"ans-{text}", instruction=row, response=response)


class Model:
    """Draws `samples`, and says of each text its (log P given the prompt, alone, tokens)."""

    def __init__(
        self, samples: list[Draw], logps: dict[str, tuple[float | None, float, int]]
    ) -> None:
        self.samples, self.logps = samples, logps
        self.asked: list[GenerationRequest] = []
        self.refuses: str | None = None

    async def __call__(self, requests: list[GenerationRequest]) -> list[Completion]:
        self.asked += requests
        return [self._complete(r) for r in requests]

    def _complete(self, request: GenerationRequest) -> Completion:
        if self.refuses is not None and request.id.endswith(self.refuses):
            return Completion(
                request_id=request.id, model=MODEL, error="prompt_too_long", detail="why"
            )
        draws = tuple(self.samples)
        if request.target is not None:
            given, alone, tokens = self.logps[request.target]
            behind_task = bool(request.messages[-1].content)
            score = given if behind_task else alone
            draws = (
                Draw(text=request.target, finish_reason="stop", num_tokens=tokens, score=score),
            )
        return Completion(request_id=request.id, model=MODEL, draws=draws, num_prompt_tokens=9)


def sample(text: str, finish_reason: str = "stop") -> Draw:
    return Draw(text=text, finish_reason=finish_reason, num_tokens=3)


def corrupt(**section: Any) -> Corrupt:
    config = CorruptConfig.model_validate({"methods": {"likelihood": 1.0}, **section})
    return Corrupt(config=config, respond_sampling=SamplingConfig(), seed=0)


def run(logic: Corrupt, row: AnsweredInstruction, model: Model) -> RowResult[Any]:
    (result,) = asyncio.run(logic.process([row], model))
    return result


# Per token given the prompt: "best" -5 / 5 = -1, "answer" -4 / 2 = -2, "near" -9 / 3 = -3, "far"
# -16 / 4 = -4; by the sums "answer" would be the likeliest. Gains from the prompt: 9, 6, 1, 0.
LOGPS: dict[str, tuple[float | None, float, int]] = {
    "best": (-5.0, -14.0, 5),
    "answer": (-4.0, -10.0, 2),
    "near": (-9.0, -10.0, 3),
    "far": (-16.0, -16.0, 4),
}


def test_the_likeliest_sample_is_paired_with_the_least_likely() -> None:
    model = Model([sample(" near"), sample("far "), sample("best"), sample("answer")], LOGPS)
    result = run(corrupt(likelihood_samples=4), answered("Why?", "plain"), model)
    (made,) = result.records
    assert (made.chosen, made.rejected) == ("best", "far")
    assert (made.corruption, made.modified_instruction) == ("likelihood", None)
    assert made.chosen_id != made.rejected_id


def test_fluent_text_that_the_instruction_does_not_ask_for_makes_no_pair() -> None:
    # -0.5 a token, the likeliest, but likelier still without the prompt: a gain of -1 against 0.
    model = Model([sample("cliche"), sample("far")], LOGPS | {"cliche": (-2.0, -1.0, 4)})
    result = run(corrupt(), answered("Why?", "plain"), model)
    (dropped,) = result.dropped
    assert dropped.reason.value == "low_margin"
    assert dropped.detail == "the instruction speaks for the less likely sample by 1.0 nats"


def test_the_answer_is_no_sample_and_equal_texts_are_one() -> None:
    # Drawn at its own temperature the baseline answer would be "best" for that alone.
    model = Model([sample("answer"), sample("near"), sample("near")], LOGPS)
    (made,) = run(corrupt(), answered("Why?", "best"), model).records
    assert (made.chosen, made.rejected) == ("answer", "near")
    assert sum(r.target is not None for r in model.asked) == 4


def test_what_is_asked() -> None:
    model = Model([sample("answer"), sample("near")], LOGPS)
    sampling = {"temperature": 1.3, "max_tokens": 5}
    logic = corrupt(likelihood_samples=7, likelihood_sampling=sampling)
    run(logic, answered("Why?", "plain"), model)
    drawn, *scored = model.asked
    assert (drawn.purpose, drawn.sampling.n) == ("sample", 7)
    assert (drawn.sampling.temperature, drawn.sampling.max_tokens) == (1.3, 5)
    assert [r.purpose for r in scored] == ["score"] * 4
    assert [(r.target, r.messages[-1].content) for r in scored] == [
        ("answer", "Why?"),
        ("answer", ""),
        ("near", "Why?"),
        ("near", ""),
    ]


@pytest.mark.parametrize(("margin", "kept"), [(0.0, True), (1.0, True), (1.1, False)])
def test_close_samples_make_no_pair(margin: float, kept: bool) -> None:
    # -2 + 3 nats per token between the two.
    model = Model([sample("answer"), sample("near")], LOGPS)
    result = run(corrupt(min_likelihood_margin=margin), answered("Why?", "plain"), model)
    assert bool(result.records) is kept
    assert [d.reason.value for d in result.dropped] == ([] if kept else ["low_margin"])


def test_samples_of_equal_likelihood_make_no_pair() -> None:
    model = Model([sample("answer"), sample("twin")], LOGPS | {"twin": (-4.0, -10.0, 2)})
    result = run(corrupt(), answered("Why?", "plain"), model)
    assert [d.reason.value for d in result.dropped] == ["low_margin"]


def test_unusable_samples_are_left_out() -> None:
    draws = [sample(" "), sample("far", "length"), sample("answer")]
    result = run(corrupt(), answered("Why?", "plain"), Model(draws, LOGPS))
    assert [d.reason.value for d in result.dropped] == ["same_response"]
    kept = run(corrupt(keep_truncated=True), answered("Why?", "plain"), Model(draws, LOGPS))
    assert kept.records[0].rejected == "far"


@pytest.mark.parametrize("part", ["/sample", "/likelihood/1", "/likelihood/0/alone"])
def test_a_refused_request_drops_the_row_with_its_reason(part: str) -> None:
    model = Model([sample("answer"), sample("near")], LOGPS)
    model.refuses = part
    result = run(corrupt(), answered("Why?", "plain"), model)
    assert result.records == []
    assert [d.reason.value for d in result.dropped] == ["prompt_too_long"]


def test_an_engine_that_scores_nothing_is_an_error() -> None:
    model = Model([sample("answer"), sample("near")], LOGPS | {"near": (None, -10.0, 3)})
    with pytest.raises(EngineError, match="gave no score"):
        run(corrupt(), answered("Why?", "plain"), model)
