"""The rating stage: K scores of one response each, read by a judge with a pointwise rubric."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Completion, Draw, Generate, GenerationRequest, Sampling
from selfreward.judging.pointwise import (
    get_pointwise_rubric,
    parse_pointwise,
    render_pointwise,
    score_labels,
)
from selfreward.records import Outcome, Verdict, derived_seed
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.stages.sampling import failed, sampling_of
from selfreward.storage.shards import RowResult, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    rubric_id: str
    sampling: SamplingConfig
    guided: bool
    num_draws: int
    seed: int
    expected: bool = False
    """Score by the probabilities of the score tokens."""
    name: str = "rate"
    out_type: type[Rating] = Rating

    def read(self, inputs: Sequence[str]) -> list[ScoredResponse]:
        return read_records(inputs[0], ScoredResponse)

    async def process(
        self, rows: Sequence[ScoredResponse], generate: Generate
    ) -> list[RowResult[Rating]]:
        rubric = get_pointwise_rubric(self.rubric_id)
        completions = await generate([self._request(row) for row in rows])

        def rated(row: ScoredResponse, index: int, draw: Draw, completion: Completion) -> Rating:
            return Rating.new(
                response_id=row.id,
                judge=completion.model,
                rubric_id=self.rubric_id,
                draw=index,
                text=draw.text,
                finish_reason=draw.finish_reason,
                num_tokens=draw.num_tokens,
                num_prompt_tokens=completion.num_prompt_tokens,
                verdict=parse_pointwise(rubric, draw.text, draw.finish_reason, draw.logps),
            )

        return _results(rows, completions, self.name, rated)

    def _request(self, row: ScoredResponse) -> GenerationRequest:
        rubric = get_pointwise_rubric(self.rubric_id)
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
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateByReward:
    """The same by a reward model: one score of each response, nothing written."""

    name: str = "rate"
    out_type: type[Rating] = Rating

    def read(self, inputs: Sequence[str]) -> list[ScoredResponse]:
        return read_records(inputs[0], ScoredResponse)

    async def process(
        self, rows: Sequence[ScoredResponse], generate: Generate
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

        def rated(row: ScoredResponse, index: int, draw: Draw, completion: Completion) -> Rating:
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
    rows: Sequence[ScoredResponse],
    completions: Sequence[Completion],
    stage: str,
    rated: Callable[[ScoredResponse, int, Draw, Completion], Rating],
) -> list[RowResult[Rating]]:
    """One result a row: a rating of each draw, or the drop of a request that was refused."""
    results = []
    for row, completion in zip(rows, completions, strict=True):
        drop = failed(completion, row.id, stage)
        ratings = [rated(row, i, draw, completion) for i, draw in enumerate(completion.draws)]
        results.append(RowResult(row.id, ratings, [] if drop is None else [drop]))
    return results
