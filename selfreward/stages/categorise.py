"""Selecting instructions: the model sorts them, the config says which sorts to keep.

Two passes over shards. The first asks the model (arXiv 2408.02666, section 3.1: category,
complexity, expected length; guided, so that small models answer in form). The second, which needs
no engine, keeps what is wanted and cuts frequent categories down to a quota.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from selfreward.config import SelectInstructionsConfig
from selfreward.engines.protocol import Generate, GenerationRequest
from selfreward.judging.balance import balance_categories, balance_rank
from selfreward.judging.categories import (
    categorise_messages,
    category_json_schema,
    parse_category,
)
from selfreward.records import DroppedRow, DropReason, Instruction, derived_seed
from selfreward.stages.sampling import failed, sampling_of
from selfreward.storage.shards import RowResult, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Categorise:
    config: SelectInstructionsConfig
    seed: int
    name: str = "categorise"
    out_type: type[Instruction] = Instruction

    def read(self, inputs: Sequence[str]) -> list[Instruction]:
        return read_records(inputs[0], Instruction)

    async def process(
        self, rows: Sequence[Instruction], generate: Generate
    ) -> list[RowResult[Instruction]]:
        schema = category_json_schema()
        requests = [
            GenerationRequest(
                id=f"{row.id}/{self.name}",
                purpose="categorise",
                messages=categorise_messages(row.messages),
                sampling=sampling_of(
                    self.config.sampling,
                    seed=derived_seed(self.seed, self.name, row.id),
                    json_schema=schema,
                ),
            )
            for row in rows
        ]
        results = []
        for row, completion in zip(rows, await generate(requests), strict=True):
            result: RowResult[Instruction] = RowResult(row.id)
            drop = failed(completion, row.id, self.name)
            sorted_as = None if drop else parse_category(completion.draws[0].text)
            if sorted_as is not None:
                result.records.append(
                    replace(
                        row,
                        category=sorted_as.category,
                        complexity=sorted_as.complexity,
                        expected_length=sorted_as.expected_length,
                    )
                )
            else:
                result.dropped.append(
                    drop
                    or _drop(row, self.name, DropReason.UNPARSED_CATEGORY, "no category in form")
                )
            results.append(result)
        return results


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepCategories:
    """Keeps wanted instructions, and of each category those up to its cutoff rank."""

    config: SelectInstructionsConfig
    cutoffs: Mapping[str, int]
    """Category to the largest `balance_rank` kept."""
    name: str = "select_instructions"
    out_type: type[Instruction] = Instruction

    def read(self, inputs: Sequence[str]) -> list[Instruction]:
        return read_records(inputs[0], Instruction)

    async def process(
        self, rows: Sequence[Instruction], generate: Generate
    ) -> list[RowResult[Instruction]]:
        results = []
        for row in rows:
            result: RowResult[Instruction] = RowResult(row.id)
            unwanted = why_unwanted(row, self.config)
            if unwanted is not None:
                result.dropped.append(_drop(row, self.name, DropReason.NOT_SELECTED, unwanted))
            elif balance_rank(row.id) > self.cutoffs.get(row.category or "", -1):
                detail = f"enough of category {row.category}"
                result.dropped.append(_drop(row, self.name, DropReason.OVER_CATEGORY_SHARE, detail))
            else:
                result.records.append(row)
            results.append(result)
        return results


def why_unwanted(row: Instruction, config: SelectInstructionsConfig) -> str | None:
    """Says why an instruction is not wanted, None where it is."""
    if config.categories and row.category not in config.categories:
        return f"category {row.category}"
    complexity = row.complexity or 0
    if not config.min_complexity <= complexity <= config.max_complexity:
        return f"complexity {row.complexity}"
    if config.expected_lengths and row.expected_length not in config.expected_lengths:
        return f"expected length {row.expected_length}"
    return None


def category_ranks(url: str, config: SelectInstructionsConfig) -> dict[str, list[int]]:
    """Ranks of the wanted instructions of one shard, by category."""
    ranks: dict[str, list[int]] = {}
    for row in read_records(url, Instruction):
        if why_unwanted(row, config) is None:
            ranks.setdefault(row.category or "", []).append(balance_rank(row.id))
    return ranks


def category_cutoffs(
    ranks: Mapping[str, Sequence[int]], config: SelectInstructionsConfig
) -> dict[str, int]:
    """The largest rank to keep of each category, so that each meets its quota exactly."""
    counts = Counter({category: len(values) for category, values in ranks.items()})
    quotas: Mapping[str, int] = counts
    if config.balance:
        quotas = balance_categories(dict(counts), config.max_category_ratio)
    return {c: sorted(values)[quotas[c] - 1] for c, values in ranks.items() if quotas[c] > 0}


def _drop(row: Instruction, stage: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row.id, stage=stage, reason=reason, detail=detail)
