"""The likelihood stage: how likely a model finds responses that are there already.

Serves perplexity on people's answers, KL to the first model, and the implicit rewards whose
ranking CREAM compares (arXiv 2410.12735).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.engines.protocol import Generate, GenerationRequest
from selfreward.records import AnsweredInstruction, Conversation, Response
from selfreward.records_custom_llm import TaskAnswer
from selfreward.records_self_rewarding import ResponseLikelihood, SampledInstruction
from selfreward.stages.sampling import failed
from selfreward.stages.score_pairs import SCORING, score_of
from selfreward.storage.shards import RowResult, read_records

Stored = Literal["answered", "sampled", "tasks"]
"""What a shard holds: AnsweredInstruction, SampledInstruction or TaskAnswer rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRow:
    """Responses to one prompt."""

    id: str
    messages: Conversation
    responses: tuple[Response, ...]


def read_responses(url: str, stored: Stored) -> list[ScoredRow]:
    """Reads the responses of a shard with their prompts."""
    if stored == "answered":
        return [
            ScoredRow(id=row.id, messages=row.instruction.messages, responses=(row.response,))
            for row in read_records(url, AnsweredInstruction)
        ]
    if stored == "tasks":
        return [
            ScoredRow(id=row.id, messages=row.item.messages, responses=(row.response,))
            for row in read_records(url, TaskAnswer)
        ]
    return [
        ScoredRow(id=row.id, messages=row.instruction.messages, responses=row.responses)
        for row in read_records(url, SampledInstruction)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    stored: Stored
    end: str = ""
    """What the chat template ends a turn with: scored behind each response that ended by itself,
    since the model drew it too. Empty: the text alone."""
    name: str = "likelihood"
    out_type: type[ResponseLikelihood] = ResponseLikelihood

    def read(self, inputs: Sequence[str]) -> list[ScoredRow]:
        return read_responses(inputs[0], self.stored)

    async def process(
        self, rows: Sequence[ScoredRow], generate: Generate
    ) -> list[RowResult[ResponseLikelihood]]:
        asked = [(row, response) for row in rows for response in row.responses]
        completions = await generate([_request(row, response, self.end) for row, response in asked])
        results = {row.id: RowResult[ResponseLikelihood](row.id) for row in rows}
        for (row, response), completion in zip(asked, completions, strict=True):
            result = results[row.id]
            drop = failed(completion, row.id, self.name)
            if drop is not None:
                result.dropped = result.dropped or [drop]
                continue
            draw = completion.draws[0]
            result.records.append(
                ResponseLikelihood.new(
                    response_id=response.id,
                    model=completion.model,
                    logp=score_of(draw),
                    num_tokens=draw.num_tokens,
                )
            )
        return list(results.values())


def _request(row: ScoredRow, response: Response, end: str) -> GenerationRequest:
    return GenerationRequest(
        id=f"{response.id}/likelihood",
        purpose="score",
        messages=row.messages,
        sampling=SCORING,
        target=response.text + ("" if response.finish_reason == "length" else end),
    )
