"""The creation stages: examples are drawn, a model writes an instruction, filters keep the new.

A round is three steps: its prompts (one task, from what is kept so far), the completions (shards
over the engines), the filters (one task, since each text is compared with all that were kept).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.config import SamplingConfig
from selfreward.config_self_rewarding import SelfInstructConfig
from selfreward.engines.protocol import Draw, Generate, GenerationRequest
from selfreward.errors import DataError
from selfreward.judging.new_instructions import Candidate, NewInstructions, filters_of
from selfreward.judging.self_instruct import render_creation, shots, split_creation
from selfreward.records import (
    AnsweredInstruction,
    DroppedRow,
    Instruction,
    Message,
    ModelRef,
    content_id,
    derived_seed,
)
from selfreward.records_self_rewarding import CreatedInstruction, CreationPrompt
from selfreward.stages.held_out import HeldOut
from selfreward.stages.labelled import write_rows
from selfreward.stages.sampling import failed, sampling_of
from selfreward.storage.shards import RowResult, ShardSummary, read_records

SOURCE = "created"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """Which round of which iteration, and what it starts from.

    Example: `RoundPlan(iteration=2, round=0, num_prompts=64, seeds=("…/seeds/ift/00000.parquet",),
    kept=("…/iter_02/kept/00/00000.parquet",), held_out=HeldOut(…), seed=0)`
    """

    iteration: int
    round: int
    num_prompts: int
    seeds: tuple[str, ...]
    """Shards of AnsweredInstruction."""
    kept: tuple[str, ...]
    """Shards of CreatedInstruction: all that earlier rounds and iterations kept."""
    held_out: HeldOut
    """What models are measured on: none may be written anew, its instructions and answered seeds
    not in other words either."""
    seed: int


def build_prompts(
    plan: RoundPlan, config: SelfInstructConfig, folder: str, shard_size: int
) -> list[ShardSummary]:
    """Writes the round's prompts.

    Raises:
        DataError: no seed has a single user turn that could be an example.
    """
    seeds = _tasks(row.instruction for url in plan.seeds for row in _seeds(url))
    if not seeds:
        raise DataError("seeds.ift has no row of one user turn, so no example to show")
    made = _tasks(row.instruction for url in plan.kept for row in _kept(url))
    rows = []
    for number in range(plan.num_prompts):
        chosen = shots(
            list(seeds),
            list(made),
            num_seed=config.seed_shots,
            num_generated=config.generated_shots,
            seed=derived_seed(plan.seed, "shots", plan.iteration, plan.round, number),
        )
        rows.append(
            CreationPrompt(
                id=content_id("cre", plan.iteration, plan.round, number, *chosen),
                round=plan.round,
                shot_ids=tuple(chosen),
                shots=tuple(seeds.get(i) or made[i] for i in chosen),
            )
        )
    return list(write_rows(folder, rows, [], shard_size, CreationPrompt))


def _seeds(url: str) -> list[AnsweredInstruction]:
    return read_records(url, AnsweredInstruction)


def _kept(url: str) -> list[CreatedInstruction]:
    return read_records(url, CreatedInstruction)


def _tasks(instructions: Iterable[Instruction]) -> dict[str, str]:
    """Texts by id of the instructions that are one user turn."""
    return {row.id: row.messages[0].content for row in instructions if len(row.messages) == 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """One completion behind each prompt, split into the instructions it holds."""

    sampling: SamplingConfig
    several: Literal["split", "drop"]
    seed: int
    name: str = "create"
    out_type: type[CreatedInstruction] = CreatedInstruction

    def read(self, inputs: Sequence[str]) -> list[CreationPrompt]:
        return read_records(inputs[0], CreationPrompt)

    async def process(
        self, rows: Sequence[CreationPrompt], generate: Generate
    ) -> list[RowResult[CreatedInstruction]]:
        completions = await generate([self._request(row) for row in rows])
        results = []
        for row, completion in zip(rows, completions, strict=True):
            result: RowResult[CreatedInstruction] = RowResult(row.id)
            drop = failed(completion, row.id, self.name)
            if drop is not None:
                result.dropped.append(drop)
            else:
                self._split(row, completion.draws[0], completion.model, result)
            results.append(result)
        return results

    def _request(self, row: CreationPrompt) -> GenerationRequest:
        return GenerationRequest(
            id=f"{row.id}/create",
            purpose="create",
            messages=render_creation(row.shots),
            sampling=sampling_of(self.sampling, seed=derived_seed(self.seed, "create", row.id)),
        )

    def _split(
        self,
        row: CreationPrompt,
        draw: Draw,
        model: ModelRef,
        result: RowResult[CreatedInstruction],
    ) -> None:
        parts = split_creation(draw.text, draw.finish_reason, self.several)
        if parts.reason is not None:
            detail = (parts.left_out or draw.text.strip())[:200]
            result.dropped.append(
                DroppedRow(row_id=row.id, stage=self.name, reason=parts.reason, detail=detail)
            )
        for number, text in enumerate(parts.texts):
            instruction = Instruction.new(
                messages=(Message(role="user", content=text),), source=SOURCE
            )
            result.records.append(
                CreatedInstruction(
                    id=instruction.id,
                    instruction=instruction,
                    shot_ids=row.shot_ids,
                    model=model,
                    round=row.round,
                    draw=0,
                    text=draw.text,
                    part=number,
                )
            )


def filter_round(
    plan: RoundPlan,
    config: SelfInstructConfig,
    created: Sequence[str],
    folder: str,
    shard_size: int,
) -> list[ShardSummary]:
    """Writes the created instructions that are usable and unlike all kept ones and seeds.

    One that models are measured on is dropped as held out.
    """
    instructions = NewInstructions(filters_of(config, plan.held_out.keys(), plan.seed))
    known = [row.instruction for url in plan.seeds for row in _seeds(url)]
    known += [row.instruction for url in plan.kept for row in _kept(url)]
    known += [row for u in plan.held_out.instructions for row in read_records(u, Instruction)]
    known += [row.instruction for url in plan.held_out.answered for row in _seeds(url)]
    for instruction in known:
        instructions.know(Candidate(id=instruction.id, messages=instruction.messages))
    kept: list[CreatedInstruction] = []
    dropped: list[DroppedRow] = []
    for row in (row for url in created for row in _kept(url)):
        found = instructions.take(Candidate(id=row.id, messages=row.instruction.messages))
        if found is None:
            kept.append(row)
            continue
        reason, detail = found
        dropped.append(DroppedRow(row_id=row.id, stage="filter", reason=reason, detail=detail))
    # Each shard is a part of the round: sizes follow what was kept.
    return list(write_rows(folder, kept, dropped, shard_size, CreatedInstruction))
