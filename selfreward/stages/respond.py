"""The respond stage: one baseline answer to each instruction (arXiv 2408.02666, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.config import RespondConfig
from selfreward.engines.protocol import Generate, GenerationRequest
from selfreward.records import AnsweredInstruction, Instruction, content_id, derived_seed
from selfreward.stages.sampling import failed, response_of, sampling_of, unusable
from selfreward.storage.shards import RowResult, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Respond:
    config: RespondConfig
    seed: int
    name: str = "respond"
    out_type: type[AnsweredInstruction] = AnsweredInstruction

    def read(self, inputs: Sequence[str]) -> list[Instruction]:
        return read_records(inputs[0], Instruction)

    async def process(
        self, rows: Sequence[Instruction], generate: Generate
    ) -> list[RowResult[AnsweredInstruction]]:
        completions = await generate([self._request(row) for row in rows])
        results = []
        for row, completion in zip(rows, completions, strict=True):
            result: RowResult[AnsweredInstruction] = RowResult(row.id)
            drop = failed(completion, row.id, self.name)
            if drop is None:
                drop = unusable(completion.draws[0], row.id, self.name, self.config.keep_truncated)
            if drop is not None:
                result.dropped.append(drop)
            else:
                response = response_of(completion, completion.draws[0], row.id)
                ident = content_id("ans", row.id, response.id)
                result.records.append(
                    AnsweredInstruction(id=ident, instruction=row, response=response)
                )
            results.append(result)
        return results

    def _request(self, row: Instruction) -> GenerationRequest:
        seed = derived_seed(self.seed, self.name, row.id)
        return GenerationRequest(
            id=f"{row.id}/{self.name}",
            purpose="respond",
            messages=row.messages,
            sampling=sampling_of(self.config.sampling, seed=seed),
        )
