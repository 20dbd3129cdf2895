"""Stages around a reward model: preferences of rankings, its scores, and answers it scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Generate, GenerationRequest
from selfreward.judging.rankings import preferences_of
from selfreward.records import Conversation, Preference, content_id
from selfreward.records_custom_llm import AnswerReward, Ranking, ScoredRanking, TaskAnswer, TaskItem
from selfreward.stages.sampling import failed
from selfreward.stages.score_pairs import SCORING, score_of
from selfreward.stages.tasks import AnswerTasks
from selfreward.storage.shards import RowResult, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingPreferences:
    """Rankings as preferences, two answers at a time."""

    pairs: Literal["all", "neighbours", "extremes"]
    max_pairs: int
    seed: int
    name: str = "ranking_preferences"
    out_type: type[Preference] = Preference

    def read(self, inputs: Sequence[str]) -> list[Ranking]:
        return read_records(inputs[0], Ranking)

    async def process(
        self, rows: Sequence[Ranking], generate: Generate
    ) -> list[RowResult[Preference]]:
        return [
            RowResult(row.id, preferences_of(row, self.pairs, self.max_pairs, self.seed))
            for row in rows
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRankings:
    """A model's own answers to prompts whose answers people ranked."""

    sampling: SamplingConfig
    seed: int
    max_rows: int | None = None
    """Rankings of a shard whose prompts are answered, the first ones; None: all."""
    name: str = "answer_rankings"
    out_type: type[TaskAnswer] = TaskAnswer

    def read(self, inputs: Sequence[str]) -> list[TaskItem]:
        return [
            TaskItem.new(
                task="rankings",
                template="rankings",
                messages=row.messages,
                # The best answer that people saw.
                target=row.responses[row.ranks.index(min(row.ranks))],
            )
            for row in read_records(inputs[0], Ranking)[: self.max_rows]
        ]

    async def process(
        self, rows: Sequence[TaskItem], generate: Generate
    ) -> list[RowResult[TaskAnswer]]:
        answers = AnswerTasks(sampling=self.sampling, seed=self.seed, name=self.name)
        return await answers.process(rows, generate)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAnswers:
    """Rewards of a model's answers; the engine is that of the reward model."""

    name: str = "reward_answers"
    out_type: type[AnswerReward] = AnswerReward

    def read(self, inputs: Sequence[str]) -> list[TaskAnswer]:
        return read_records(inputs[0], TaskAnswer)

    async def process(
        self, rows: Sequence[TaskAnswer], generate: Generate
    ) -> list[RowResult[AnswerReward]]:
        completions = await generate(
            [_request(row.id, row.item.messages, row.response.text) for row in rows]
        )
        results = []
        for row, completion in zip(rows, completions, strict=True):
            result: RowResult[AnswerReward] = RowResult(row.id)
            drop = failed(completion, row.id, self.name)
            if drop is not None:
                result.dropped.append(drop)
            else:
                result.records.append(
                    AnswerReward(
                        id=content_id("rew", row.id, completion.model.fingerprint),
                        item_id=row.item.id,
                        response_id=row.response.id,
                        model=completion.model,
                        reward=score_of(completion.draws[0]),
                    )
                )
            results.append(result)
        return results


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRankings:
    """The reward model's scores of answers that people ranked."""

    name: str = "score_rankings"
    out_type: type[ScoredRanking] = ScoredRanking

    def read(self, inputs: Sequence[str]) -> list[Ranking]:
        return read_records(inputs[0], Ranking)

    async def process(
        self, rows: Sequence[Ranking], generate: Generate
    ) -> list[RowResult[ScoredRanking]]:
        completions = await generate(
            [
                _request(f"{row.id}/{number}", row.messages, response)
                for row in rows
                for number, response in enumerate(row.responses)
            ]
        )
        results, begin = [], 0
        for row in rows:
            found = completions[begin : begin + len(row.responses)]
            begin += len(row.responses)
            result: RowResult[ScoredRanking] = RowResult(row.id)
            drops = [failed(completion, row.id, self.name) for completion in found]
            drop = next((d for d in drops if d is not None), None)
            if drop is not None:
                result.dropped.append(drop)
            else:
                model = found[0].model
                result.records.append(
                    ScoredRanking(
                        id=content_id("srk", row.id, model.fingerprint),
                        ranking=row,
                        model=model,
                        scores=tuple(score_of(completion.draws[0]) for completion in found),
                    )
                )
            results.append(result)
        return results


def _request(ident: str, messages: Conversation, text: str) -> GenerationRequest:
    return GenerationRequest(
        id=f"{ident}/reward", purpose="score", messages=messages, sampling=SCORING, target=text
    )
