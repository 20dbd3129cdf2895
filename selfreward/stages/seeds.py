"""Reading the answered instructions that the self-rewarding loop starts from (IFT).

It runs as one task on the cluster: duplicates are found against everything that was kept. The
ranked responses (EFT) are read in `ranked_seeds.py`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
from selfreward.stages.held_out import NOTHING, HeldOut
from selfreward.stages.labelled import write_rows
from selfreward.stages.ranked_rows import has_ranking, own_score, ranked_answers
from selfreward.stages.ranked_seeds import FromRanked, best_responses
from selfreward.stages.sources import ROLES, clean_text, dropping, read_rows, to_instruction
from selfreward.storage.shards import RowResult, ShardSummary, read_records

_STAGE = "seeds"
HUMAN = ModelRef(name="human", iteration=0, fingerprint="human")
"""Who wrote the responses of the seeds."""


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
    from_ranked: FromRanked | None = None,
) -> tuple[list[ShardSummary], list[ShardSummary]]:
    """Writes the rows to train on into the first folder and the held-out ones into the second.

    Of several responses to one task the best is kept where people scored or ranked them, else the
    first listed. `from_ranked` adds the best responses to some prompts of ranked files. A seed with
    a task in `measured_on` is dropped. `pool` are shards of Instruction that later iterations are
    trained on: a seed with such a task is trained on too and never held out.

    Raises:
        DataError: a file is unreadable or lacks the columns, or too few rows are usable.
    """
    kept, dropped = _read_answered(paths, max_chars, measured_on.keys())
    if from_ranked is not None:
        taken = measured_on.keys() | {exact_key(row.instruction.messages) for row in kept}
        kept += [
            answered(Instruction.new(messages=row.messages, source=row.source), row.response)
            for row in best_responses(from_ranked, taken, max_chars, seed)
        ]
    trained = HeldOut(instructions=pool).keys()
    # By a hash of the content: the same rows in another order give the same seeds.
    kept.sort(key=lambda row: (derived_seed(seed, "seeds", row.id), row.id))
    kept = kept[:max_rows]
    free = [row for row in kept if exact_key(row.instruction.messages) not in trained]
    if len(kept) <= num_heldout or len(free) < num_heldout:
        counts = Counter(d.reason.value for d in dropped)
        names = [*paths, *(from_ranked.paths if from_ranked else ())]
        in_pool = f", {len(kept) - len(free)} of them in the pool," if len(free) < len(kept) else ""
        raise DataError(
            f"{', '.join(names)}: {len(kept)} usable seeds{in_pool} are too few for"
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


def _read_answered(
    paths: Sequence[str], max_chars: int, measured: frozenset[str]
) -> tuple[list[AnsweredInstruction], list[DroppedRow]]:
    """The answered tasks of all files, each once, and why other rows are no seeds."""
    best: dict[str, tuple[AnsweredInstruction, float | None]] = {}
    dropped: list[DroppedRow] = []
    for path in paths:
        columns: set[str] = set()
        fits = False
        for row in read_rows(PoolConfig(path=path), dropping(dropped, _STAGE)):
            columns.update(row)
            fits = fits or _has_response(row)
            made = _answered(row, path.rstrip("/").rpartition("/")[2], max_chars)
            if isinstance(made, DroppedRow):
                dropped.append(made)
                continue
            key, score = exact_key(made.instruction.messages), own_score(row)
            if key in measured:
                detail = "models are measured on this task"
                dropped.append(_drop(made.id, DropReason.HELD_OUT, detail))
                continue
            new = (made, score)
            above = best.setdefault(key, new)
            if above is new:
                continue
            detail = "the same task stands above"
            if score is not None and above[1] is not None and score != above[1]:
                detail = "another response to the task is ranked above"
                best[key] = max(above, new, key=lambda answer: answer[1] or 0.0)
            left = above if best[key] is new else new
            dropped.append(_drop(left[0].id, DropReason.EXACT_DUPLICATE, detail))
        if columns and not fits:
            raise DataError(
                f"{path}: seeds need the column response beside messages, prompt or"
                " instruction, or messages that end with the answer, or ranked responses; it has"
                f" {sorted(columns)}"
            )
    return [made for made, _ in best.values()], dropped


def _has_response(row: dict[str, Any]) -> bool:
    has_answer = isinstance(row.get("response"), str) or _last_answer(row) is not None
    return has_answer or has_ranking(row)


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
    text = row["response"] if isinstance(row.get("response"), str) else _last_answer(row)
    if text is None and has_ranking(row):
        ranked = ranked_answers(row, source, max_chars, _STAGE)
        if isinstance(ranked, DroppedRow):
            return ranked
        scores = ranked.scores
        return answered(ranked.asked, max(scores, key=lambda text: scores[text]))
    found = to_instruction(row, ColumnsConfig(), source, max_chars)
    if isinstance(found, DroppedRow):
        return _drop(found.row_id, found.reason, found.detail)
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


def _drop(row_id: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row_id, stage=_STAGE, reason=reason, detail=detail)


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
