"""Labelled pairs of the user's: files of {prompt | messages, chosen, rejected} as response pairs."""

from collections.abc import Iterator
from typing import Any

from selfreward.config import ColumnsConfig, PoolConfig
from selfreward.errors import DataError
from selfreward.layout import join
from selfreward.records import DroppedRow, DropReason, ResponsePair
from selfreward.stages.sources import read_rows, to_instruction
from selfreward.storage.shards import ShardSummary, shard_name, write_records


def build_labelled(
    path: str, folder: str, shard_size: int, max_pairs: int | None, max_chars: int
) -> list[ShardSummary]:
    """Writes the pairs of one file as shards.

    Raises:
        DataError: the file is unreadable, lacks the columns, or holds no usable pair.
    """
    pairs: list[ResponsePair] = []
    dropped: list[DroppedRow] = []
    seen: set[str] = set()
    for number, row in enumerate(read_rows(PoolConfig(path=path))):
        if number == 0 and not {"chosen", "rejected"} <= set(row):
            raise DataError(
                f"{path}: labelled pairs need the columns chosen and rejected beside prompt or"
                f" messages; it has {sorted(row)}"
            )
        made = _pair(row, path, max_chars)
        if isinstance(made, ResponsePair):
            if made.id not in seen:
                seen.add(made.id)
                pairs.append(made)
        else:
            dropped.append(made)
        if max_pairs is not None and len(pairs) == max_pairs:
            break
    if not pairs:
        raise DataError(f"{path}: no usable pair; {len(dropped)} rows were dropped")
    return list(_write(folder, pairs, dropped, shard_size))


def _pair(row: dict[str, Any], path: str, max_chars: int) -> ResponsePair | DroppedRow:
    found = to_instruction(row, ColumnsConfig(), path, max_chars)
    if isinstance(found, DroppedRow):
        return found
    chosen, rejected = _text(row["chosen"]), _text(row["rejected"])
    if not chosen or not rejected:
        return DroppedRow(
            row_id=found.id,
            stage="labelled",
            reason=DropReason.EMPTY_RESPONSE,
            detail="chosen or rejected has no text",
        )
    return ResponsePair.new(
        instruction_id=found.id,
        messages=found.messages,
        chosen=chosen,
        rejected=rejected,
        corruption=str(row.get("subset") or "labelled"),
        source=found.source,
        category=found.category,
    )


def _text(value: Any) -> str:
    """A response as text; the conversational form's last turn where it is a list of turns."""
    if isinstance(value, list):
        value = value[-1].get("content") if value and isinstance(value[-1], dict) else None
    return value.strip() if isinstance(value, str) else ""


def _write(
    folder: str, pairs: list[ResponsePair], dropped: list[DroppedRow], shard_size: int
) -> Iterator[ShardSummary]:
    write_records(join(folder, "dropped", shard_name(0)), dropped, DroppedRow)
    drops: dict[str, int] = {}
    for drop in dropped:
        drops[drop.reason.value] = drops.get(drop.reason.value, 0) + 1
    for index, start in enumerate(range(0, len(pairs), shard_size)):
        shard = pairs[start : start + shard_size]
        write_records(join(folder, shard_name(index)), shard, ResponsePair)
        yield ShardSummary(
            index=index,
            num_inputs=len(shard) + (len(dropped) if index == 0 else 0),
            num_records=len(shard),
            drops=drops if index == 0 else {},
            ledger={},
        )
