"""Reading the seeds of the self-rewarding loop: answered instructions (IFT) and ranked responses.

Each runs as one task on the cluster: duplicates are found against everything that was kept.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfreward.config import ColumnsConfig, PoolConfig
from selfreward.engines.protocol import Generate
from selfreward.errors import DataError
from selfreward.judging.filters import exact_key
from selfreward.records import (
    AnsweredInstruction,
    DroppedRow,
    DropReason,
    Instruction,
    ModelRef,
    Response,
    TrainingExample,
    content_id,
    derived_seed,
)
from selfreward.records_scores import ScoredResponse
from selfreward.stages.held_out import NOTHING, HeldOut
from selfreward.stages.labelled import write_rows, write_shards
from selfreward.stages.labelled_rows import FileReading, names_of
from selfreward.stages.row_limit import RowLimit
from selfreward.stages.scored import read_scored
from selfreward.stages.sources import ROLES, clean_text, dropping, read_rows, to_instruction
from selfreward.storage.shards import RowResult, ShardSummary, read_records

HUMAN = ModelRef(name="human", iteration=0, fingerprint="human")
"""Who wrote the responses of the seeds."""
_RANKED = FileReading(names=names_of("seeds.ranked"))


def build_ift(
    paths: Sequence[str],
    folders: tuple[str, str],
    shard_size: int,
    max_rows: int | None,
    num_heldout: int,
    max_chars: int,
    seed: int,
    measured_on: HeldOut = NOTHING,
    pool: Sequence[str] = (),
) -> tuple[list[ShardSummary], list[ShardSummary]]:
    """Writes the rows to train on into the first folder and the held-out ones into the second.

    A seed with a task in `measured_on` is dropped. `pool` are shards of Instruction that later
    iterations are trained on: a seed with such a task is trained on too and never held out.

    Raises:
        DataError: a file is unreadable or lacks the columns, or too few rows are usable.
    """
    kept: list[AnsweredInstruction] = []
    dropped: list[DroppedRow] = []
    measured = measured_on.keys()
    trained = HeldOut(instructions=pool).keys()
    seen: set[str] = set()
    for path in paths:
        columns: set[str] = set()
        fits = False
        for row in read_rows(PoolConfig(path=path), dropping(dropped, "seeds")):
            columns.update(row)
            fits = fits or _has_response(row)
            made = _answered(row, path.rstrip("/").rpartition("/")[2], max_chars)
            if isinstance(made, AnsweredInstruction):
                key = exact_key(made.instruction.messages)
                if key in measured:
                    made = _drop(made.id, DropReason.HELD_OUT, "models are measured on this task")
                elif key in seen:
                    made = _drop(made.id, DropReason.EXACT_DUPLICATE, "the same task stands above")
                seen.add(key)
            if isinstance(made, AnsweredInstruction):
                kept.append(made)
            else:
                dropped.append(made)
        if columns and not fits:
            raise DataError(
                f"{path}: seeds need the column response beside messages, prompt or"
                f" instruction, or messages that end with the answer; it has {sorted(columns)}"
            )
    # By a hash of the content: the same rows in another order give the same seeds.
    kept.sort(key=lambda row: (derived_seed(seed, "seeds", row.id), row.id))
    kept = kept[:max_rows]
    free = [row for row in kept if exact_key(row.instruction.messages) not in trained]
    if len(kept) <= num_heldout or len(free) < num_heldout:
        counts = Counter(d.reason.value for d in dropped)
        in_pool = f", {len(kept) - len(free)} of them in the pool," if len(free) < len(kept) else ""
        raise DataError(
            f"{', '.join(paths)}: {len(kept)} usable seeds{in_pool} are too few for"
            f" seeds.ift_heldout={num_heldout} and at least one to train on (dropped:"
            f" {dict(counts) or 'none'})"
        )
    heldout = free[:num_heldout]
    aside = {row.id for row in heldout}
    train = [row for row in kept if row.id not in aside]
    return (
        list(write_rows(folders[0], train, dropped, shard_size, AnsweredInstruction)),
        list(write_rows(folders[1], heldout, [], shard_size, AnsweredInstruction)),
    )


def _has_response(row: dict[str, Any]) -> bool:
    return isinstance(row.get("response"), str) or _last_answer(row) is not None


def _last_answer(row: dict[str, Any]) -> str | None:
    """The answer that a whole conversation ends with."""
    turns = row.get("messages") or row.get("conversation") or row.get("conversations")
    last = turns[-1] if isinstance(turns, list) and turns else None
    if not isinstance(last, dict):
        return None
    if ROLES.get(str(last.get("role", last.get("from")))) != "assistant":
        return None
    text = last.get("content", last.get("value"))
    return text if isinstance(text, str) else None


def _answered(row: dict[str, Any], source: str, max_chars: int) -> AnsweredInstruction | DroppedRow:
    found = to_instruction(row, ColumnsConfig(), source, max_chars)
    if isinstance(found, DroppedRow):
        return _drop(found.row_id, found.reason, found.detail)
    text = row["response"] if isinstance(row.get("response"), str) else _last_answer(row)
    if text is None or not text.strip():
        return _drop(found.id, DropReason.EMPTY_RESPONSE, "the seed has no answer")
    return answered(found, clean_text(text.strip()))


def answered(instruction: Instruction, text: str) -> AnsweredInstruction:
    """An instruction with a person's answer."""
    response = Response.new(
        instruction_id=instruction.id,
        text=text,
        model=HUMAN,
        draw=0,
        finish_reason="stop",
        # Counted by the tokenizer that trains on it; nothing generated it.
        num_tokens=0,
    )
    return AnsweredInstruction(
        id=content_id("ans", instruction.id, response.id),
        instruction=instruction,
        response=response,
    )


def build_ranked(
    paths: Sequence[str],
    folder: str,
    shard_size: int,
    max_rows: int | None,
    max_chars: int,
    ift: Sequence[str],
    measured_on: HeldOut = NOTHING,
) -> list[ShardSummary]:
    """Writes ranked responses, those of one prompt always in one shard.

    `ift` are shards of the answered seeds to train on: judgments and answers are learnt from
    different prompts (arXiv 2401.10020, section 3.1.1). Dropped are also prompts in `measured_on`,
    and those with fewer than two different scores, which say nothing about a ranking.

    Raises:
        DataError: a file is unreadable or lacks the columns, or no prompt is usable.
    """
    rows: dict[str, ScoredResponse] = {}
    dropped: list[DroppedRow] = []
    for path in paths:
        limit = None if max_rows is None else RowLimit(max_rows, whole_prompts=True)
        found, drops = read_scored(path, limit, max_chars, reading=_RANKED)
        dropped += drops
        for row in found:
            if row.id in rows:
                # Of another file; a response that is there twice cannot be ordered.
                detail = "the same row stands above"
                dropped.append(_drop(row.id, DropReason.EXACT_DUPLICATE, detail))
            rows.setdefault(row.id, row)
    groups: dict[str, list[ScoredResponse]] = {}
    prompts: dict[str, str] = {}
    for row in list(rows.values())[:max_rows]:
        prompt = exact_key(row.messages)
        if prompts.setdefault(row.group, prompt) != prompt:
            # Files name groups without knowing of each other: responses to other prompts are
            # another group.
            row = replace(row, group=content_id("grp", row.group, prompt))
        groups.setdefault(row.group, []).append(row)
    known, measured = HeldOut(answered=ift).keys(), measured_on.keys()
    kept: list[list[ScoredResponse]] = []
    for group in groups.values():
        reason = None
        key = exact_key(group[0].messages)
        if key in measured:
            reason = (DropReason.HELD_OUT, "models are measured on this prompt")
        elif key in known:
            reason = (DropReason.EXACT_DUPLICATE, "the prompt is an answered seed")
        elif len({row.score for row in group}) < 2:
            reason = (DropReason.TOO_FEW_SCORES, "fewer than two different scores")
        if reason is None:
            kept.append(group)
        else:
            dropped += [_drop(row.id, *reason) for row in group]
    if not kept:
        raise DataError(f"{', '.join(paths)}: no prompt with two responses that people rank apart")
    return list(_write_groups(folder, kept, dropped, shard_size))


def _write_groups(
    folder: str,
    groups: Sequence[Sequence[ScoredResponse]],
    dropped: Sequence[DroppedRow],
    shard_size: int,
) -> Iterator[ShardSummary]:
    """Shards of whole groups: as many of them as fit the size of the largest group allows."""
    size = max(len(group) for group in groups)
    per_shard = max(1, shard_size // size)
    shards = [groups[i : i + per_shard] for i in range(0, len(groups), per_shard)]
    rows = [[row for group in shard for row in group] for shard in shards]
    return write_shards(folder, rows, dropped, ScoredResponse)


def _drop(row_id: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row_id, stage="seeds", reason=reason, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class IftExamples:
    """Answered seeds as training examples: the loss falls on the person's answer."""

    name: str = "ift"
    out_type: type[TrainingExample] = TrainingExample

    def read(self, inputs: Sequence[str]) -> list[AnsweredInstruction]:
        return read_records(inputs[0], AnsweredInstruction)

    async def process(
        self, rows: Sequence[AnsweredInstruction], generate: Generate
    ) -> list[RowResult[TrainingExample]]:
        return [RowResult(row.id, [_example(row)]) for row in rows]


def _example(row: AnsweredInstruction) -> TrainingExample:
    return TrainingExample(
        id=content_id("exa", "ift", row.id),
        messages=row.instruction.messages,
        target=row.response.text,
        pair_id=row.instruction.id,
        judgment_id=None,
    )
