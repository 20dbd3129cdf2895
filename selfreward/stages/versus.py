"""Pairs of two models' answers to the same instructions, for a judge outside the loop to compare.

The newer model's answer takes the place of `chosen`: that is which side a win counts for, not a
label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.engines.protocol import Generate
from selfreward.records import DroppedRow, DropReason, ResponsePair
from selfreward.records_self_rewarding import SampledInstruction
from selfreward.storage.shards import RowResult, read_records

KIND = "head_to_head"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredTwice:
    id: str
    new: SampledInstruction
    old: SampledInstruction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """Inputs: the newer model's responses, then the older one's."""

    name: str = "versus"
    out_type: type[ResponsePair] = ResponsePair

    def read(self, inputs: Sequence[str]) -> list[AnsweredTwice]:
        old = {row.id: row for row in read_records(inputs[1], SampledInstruction)}
        return [
            AnsweredTwice(id=row.id, new=row, old=old.get(row.id))
            for row in read_records(inputs[0], SampledInstruction)
        ]

    async def process(
        self, rows: Sequence[AnsweredTwice], generate: Generate
    ) -> list[RowResult[ResponsePair]]:
        return [self._pair(row) for row in rows]

    def _pair(self, row: AnsweredTwice) -> RowResult[ResponsePair]:
        if row.old is None:
            return self._dropped(row.id, DropReason.EMPTY_RESPONSE, "the older model has no answer")
        new, old = row.new.responses[0], row.old.responses[0]
        if new.text == old.text:
            # Counted as a tie: nobody has to be asked.
            return self._dropped(row.id, DropReason.SAME_RESPONSE, "both answers are the same text")
        pair = ResponsePair.new(
            instruction_id=row.id,
            messages=row.new.instruction.messages,
            chosen=new.text,
            rejected=old.text,
            corruption=KIND,
            chosen_id=new.id,
            rejected_id=old.id,
            source=row.new.instruction.source,
            category=row.new.instruction.category,
        )
        return RowResult(row.id, [pair])

    def _dropped(self, row_id: str, reason: DropReason, detail: str) -> RowResult[ResponsePair]:
        drop = DroppedRow(row_id=row_id, stage=self.name, reason=reason, detail=detail)
        return RowResult(row_id, [], [drop])
