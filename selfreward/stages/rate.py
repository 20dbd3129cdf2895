"""The rating stage: K scores of one response each, read by a judge with a pointwise rubric."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Generate, GenerationRequest, Sampling
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
        results = []
        for row, completion in zip(rows, completions, strict=True):
            result = RowResult[Rating](row.id)
            drop = failed(completion, row.id, self.name)
            if drop is not None:
                result.dropped.append(drop)
            result.records += [
                Rating.new(
                    response_id=row.id,
                    judge=completion.model,
                    rubric_id=self.rubric_id,
                    draw=i,
                    text=draw.text,
                    finish_reason=draw.finish_reason,
                    num_tokens=draw.num_tokens,
                    num_prompt_tokens=completion.num_prompt_tokens,
                    verdict=parse_pointwise(rubric, draw.text, draw.finish_reason, draw.logps),
                )
                for i, draw in enumerate(completion.draws)
            ]
            results.append(result)
        return results

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
        results = []
        for row, completion in zip(rows, await generate(asked), strict=True):
            result = RowResult[Rating](row.id)
            drop = failed(completion, row.id, self.name)
            if drop is not None:
                result.dropped.append(drop)
            result.records += [
                Rating.new(
                    response_id=row.id,
                    judge=completion.model,
                    rubric_id="reward",
                    draw=0,
                    text="",
                    finish_reason=draw.finish_reason,
                    num_tokens=0,
                    num_prompt_tokens=completion.num_prompt_tokens,
                    verdict=Verdict(outcome=Outcome.SCORE, score=draw.score),
                )
                for draw in completion.draws
            ]
            results.append(result)
        return results
