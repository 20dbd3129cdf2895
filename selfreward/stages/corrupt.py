"""The corrupt stage: from an answered instruction to a pair whose better side is known."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.config import CorruptConfig, SamplingConfig
from selfreward.engines.protocol import Generate
from selfreward.judging.answers import is_checkable
from selfreward.records import (
    AnsweredInstruction,
    Corruption,
    DroppedRow,
    DropReason,
    ResponsePair,
    derived_seed,
)
from selfreward.stages.corrupt_rows import corrupt_drop
from selfreward.stages.corruptions import Corruptor
from selfreward.storage.shards import RowResult, read_records

_HASH_SPAN = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupt:
    config: CorruptConfig
    respond_sampling: SamplingConfig
    """Sampling of plain answers: what the reference method draws its samples with."""
    seed: int
    name: str = "corrupt"
    out_type: type[ResponsePair] = ResponsePair

    def read(self, inputs: Sequence[str]) -> list[AnsweredInstruction]:
        return read_records(inputs[0], AnsweredInstruction)

    async def process(
        self, rows: Sequence[AnsweredInstruction], generate: Generate
    ) -> list[RowResult[ResponsePair]]:
        results = {row.id: RowResult[ResponsePair](row.id) for row in rows}
        groups: dict[Corruption, list[AnsweredInstruction]] = {}
        for row in rows:
            method = pick_method(row, self.config, self.seed)
            if method is None:
                results[row.id].dropped.append(
                    corrupt_drop(row, DropReason.NO_REFERENCE, "no answer that can be checked")
                )
            else:
                groups.setdefault(method, []).append(row)
        corruptor = Corruptor(
            config=self.config,
            respond_sampling=self.respond_sampling,
            seed=self.seed,
            name=self.name,
        )
        for method, group in groups.items():
            for row, made in zip(group, await corruptor.make(method, group, generate), strict=True):
                if isinstance(made, DroppedRow):
                    results[row.id].dropped.append(made)
                elif made.chosen.strip() == made.rejected.strip():
                    results[row.id].dropped.append(
                        corrupt_drop(
                            row, DropReason.SAME_RESPONSE, "both answers are the same text"
                        )
                    )
                else:
                    results[row.id].records.append(made)
        return list(results.values())


def pick_method(row: AnsweredInstruction, config: CorruptConfig, seed: int) -> Corruption | None:
    """Picks a method by the configured shares; `reference` only where the answer can be checked."""
    reference = row.instruction.reference_answer
    # In a fixed order: a fingerprint does not know in which order the config lists them.
    shares = {
        Corruption(name): share
        for name, share in sorted(config.methods.items())
        if share > 0
        and (name != Corruption.REFERENCE or (reference is not None and is_checkable(reference)))
    }
    if not shares:
        return None
    point = derived_seed(seed, "method", row.instruction.id) / _HASH_SPAN * sum(shares.values())
    for method, share in shares.items():
        point -= share
        if point < 0:
            return method
    return list(shares)[-1]
