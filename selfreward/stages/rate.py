"""The rating stage: K scores of one response each, read by a judge with a pointwise rubric."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.config import RatingConfig, SamplingConfig
from selfreward.engines.protocol import Completion, Draw, Generate, GenerationRequest, Sampling
from selfreward.judging.pointwise import PointwiseRubric, render_pointwise, score_labels
from selfreward.judging.pointwise_scores import parse_pointwise
from selfreward.records import Conversation, Outcome, Verdict, derived_seed
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.records_self_rewarding import SampledInstruction
from selfreward.stages.sampling import failed, sampling_of
from selfreward.storage.shards import RowResult, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedRow:
    """One response to be scored, whatever record holds it."""

    id: str
    messages: Conversation
    response: str


def _read(
    url: str, stored: Literal["scored", "sampled"], subset: str | None = None
) -> list[RatedRow]:
    if stored == "scored":
        return [
            RatedRow(id=row.id, messages=row.messages, response=row.response)
            for row in read_records(url, ScoredResponse)
            if subset is None or row.subset == subset
        ]
    return [
        RatedRow(id=response.id, messages=row.instruction.messages, response=response.text)
        for row in read_records(url, SampledInstruction)
        for response in row.responses
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    rubric: PointwiseRubric
    """Whole, not by id: no worker knows a rubric of the user's own."""
    sampling: SamplingConfig
    guided: bool
    num_draws: int
    seed: int
    expected: bool = False
    """Score by the probabilities of the score tokens."""
    stored: Literal["scored", "sampled"] = "scored"
    """Which records hold the responses: ScoredResponse or SampledInstruction."""
    subset: str | None = None
    """Of scored responses, only those of this subset."""
    name: str = "rate"
    out_type: type[Rating] = Rating

    @classmethod
    def by(
        cls,
        config: RatingConfig,
        rubric: PointwiseRubric,
        *,
        seed: int,
        stored: Literal["scored", "sampled"],
        name: str = "rate",
    ) -> "Rate":
        """The stage as a recipe's `rating` section wants it."""
        return cls(
            rubric=rubric,
            sampling=config.sampling,
            guided=config.guided,
            expected=config.expected,
            num_draws=config.num_draws,
            seed=seed,
            stored=stored,
            name=name,
        )

    def read(self, inputs: Sequence[str]) -> list[RatedRow]:
        return _read(inputs[0], self.stored, self.subset)

    async def process(
        self, rows: Sequence[RatedRow], generate: Generate
    ) -> list[RowResult[Rating]]:
        completions = await generate([self._request(row) for row in rows])

        def rated(row: RatedRow, index: int, draw: Draw, completion: Completion) -> Rating:
            return Rating.new(
                response_id=row.id,
                judge=completion.model,
                rubric_id=self.rubric.id,
                draw=index,
                text=draw.text,
                finish_reason=draw.finish_reason,
                num_tokens=draw.num_tokens,
                num_prompt_tokens=completion.num_prompt_tokens,
                verdict=parse_pointwise(self.rubric, draw.text, draw.finish_reason, draw.logps),
            )

        return _results(rows, completions, self.name, rated)

    def _request(self, row: RatedRow) -> GenerationRequest:
        rubric = self.rubric
        return GenerationRequest(
            id=f"{row.id}/rate",
            purpose="rate",
            messages=render_pointwise(rubric, row.messages, row.response),
            sampling=sampling_of(
                self.sampling,
                seed=derived_seed(self.seed, "rate", row.id),
                n=self.num_draws,
                regex=rubric.guided_regex if self.guided else None,
                logps_of=score_labels(rubric) if self.expected else (),
                needs_logps=self.expected,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateByReward:
    """The same by a reward model: one score of each response, nothing written."""

    name: str = "rate"
    out_type: type[Rating] = Rating

    def read(self, inputs: Sequence[str]) -> list[RatedRow]:
        return _read(inputs[0], "scored")

    async def process(
        self, rows: Sequence[RatedRow], generate: Generate
    ) -> list[RowResult[Rating]]:
        asked = [
            GenerationRequest(
                id=f"{row.id}/reward",
                purpose="score",
                messages=row.messages,
                sampling=Sampling(temperature=0.0, max_tokens=1),
                target=row.response,
            )
            for row in rows
        ]

        def rated(row: RatedRow, index: int, draw: Draw, completion: Completion) -> Rating:
            return Rating.new(
                response_id=row.id,
                judge=completion.model,
                rubric_id="reward",
                draw=index,
                text="",
                finish_reason=draw.finish_reason,
                num_tokens=0,
                num_prompt_tokens=completion.num_prompt_tokens,
                verdict=Verdict(outcome=Outcome.SCORE, score=draw.score),
            )

        return _results(rows, await generate(asked), self.name, rated)


def _results(
    rows: Sequence[RatedRow],
    completions: Sequence[Completion],
    stage: str,
    rated: Callable[[RatedRow, int, Draw, Completion], Rating],
) -> list[RowResult[Rating]]:
    """One result a row: a rating of each draw, or the drop of a request that was refused."""
    results = []
    for row, completion in zip(rows, completions, strict=True):
        drop = failed(completion, row.id, stage)
        ratings = [rated(row, i, draw, completion) for i, draw in enumerate(completion.draws)]
        results.append(RowResult(row.id, ratings, [] if drop is None else [drop]))
    return results
