"""The sampling stage: N responses of the current model to each instruction (arXiv 2401.10020,
section 2.2, step 2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Generate, GenerationRequest
from selfreward.records import (
    AnsweredInstruction,
    DroppedRow,
    DropReason,
    Instruction,
    derived_seed,
)
from selfreward.records_self_rewarding import CreatedInstruction, SampledInstruction
from selfreward.stages.sampling import failed, response_of, sampling_of, unusable
from selfreward.storage.shards import RowResult, read_records

Stored = Literal["instruction", "created", "answered", "sampled"]
"""As which record a shard holds its instructions."""


def read_instructions(url: str, stored: Stored) -> list[Instruction]:
    """Reads the instructions of a shard, whatever record holds them."""
    if stored == "instruction":
        return read_records(url, Instruction)
    if stored == "created":
        return [row.instruction for row in read_records(url, CreatedInstruction)]
    if stored == "answered":
        return [row.instruction for row in read_records(url, AnsweredInstruction)]
    return [row.instruction for row in read_records(url, SampledInstruction)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    num_responses: int
    sampling: SamplingConfig
    keep_truncated: bool
    stored: Stored
    seed: int
    max_rows: int | None = None
    """Instructions of a shard that are answered, the first ones; None: all."""
    name: str = "sample"
    out_type: type[SampledInstruction] = SampledInstruction

    def read(self, inputs: Sequence[str]) -> list[Instruction]:
        return read_instructions(inputs[0], self.stored)[: self.max_rows]

    async def process(
        self, rows: Sequence[Instruction], generate: Generate
    ) -> list[RowResult[SampledInstruction]]:
        completions = await generate([self._request(row) for row in rows])
        results = []
        for row, completion in zip(rows, completions, strict=True):
            result: RowResult[SampledInstruction] = RowResult(row.id)
            drop = failed(completion, row.id, self.name)
            responses = []
            for index, draw in enumerate(completion.draws):
                bad = unusable(draw, row.id, self.name, self.keep_truncated)
                if bad is not None:
                    drop = drop or bad
                    result.lost.append(_with_text(bad, index, draw.text))
                    continue
                responses.append(response_of(completion, draw, row.id, index))
            if responses:
                result.records.append(
                    SampledInstruction(id=row.id, instruction=row, responses=tuple(responses))
                )
            else:
                # One reason a row: drops count instructions, and draws are counted beside them.
                result.dropped.append(drop or _empty(row.id, self.name))
            results.append(result)
        return results

    def _request(self, row: Instruction) -> GenerationRequest:
        return GenerationRequest(
            id=f"{row.id}/{self.name}",
            purpose="candidate",
            messages=row.messages,
            sampling=sampling_of(
                self.sampling,
                seed=derived_seed(self.seed, self.name, row.id),
                n=self.num_responses,
            ),
        )


def _with_text(drop: DroppedRow, index: int, text: str) -> DroppedRow:
    """The drop of one draw, which says what was drawn: no record holds it."""
    told = f"draw {index}: {drop.detail}"
    return replace(drop, detail=f"{told}\n{text.strip()}" if text.strip() else told)


def _empty(row_id: str, stage: str) -> DroppedRow:
    return DroppedRow(
        row_id=row_id, stage=stage, reason=DropReason.EMPTY_RESPONSE, detail="nothing was drawn"
    )
