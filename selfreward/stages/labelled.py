"""Labelled pairs of the user's: files of {prompt | messages, chosen, rejected} as response pairs.

Chosen and rejected may be whole conversations: their last turn is the response, and where there
is no prompt column, what both begin with is the prompt.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from selfreward.config import ColumnsConfig, PoolConfig
from selfreward.errors import DataError
from selfreward.judging.filters import exact_key
from selfreward.layout import join
from selfreward.records import DroppedRow, DropReason, ResponsePair, content_id
from selfreward.stages.in_training import NO_TRAINING, InTraining
from selfreward.stages.sources import (
    PROMPT_COLUMNS,
    clean_text,
    dropping,
    has_prompt,
    read_rows,
    to_instruction,
)
from selfreward.storage.shards import ShardSummary, remove_shards_from, shard_name, write_records

WRITERS = ("chosen_model", "rejected_model")
"""Columns, and keys of `meta`, with the models that wrote the responses of a pair."""


def build_labelled(
    path: str,
    folder: str,
    shard_size: int,
    max_pairs: int | None,
    max_chars: int,
    columns: Mapping[str, str] | None = None,
    trained: InTraining = NO_TRAINING,
    keep_same: bool = False,
) -> list[ShardSummary]:
    """Writes the pairs of one file as shards; `columns` maps our names to the file's own.

    A pair with a prompt in `trained` is dropped: a model knows its task. So is one of two equal
    responses, of which none is better, but with `keep_same`.

    Raises:
        DataError: the file is unreadable, lacks the columns, or holds no usable pair.
    """
    pairs: list[ResponsePair] = []
    dropped: list[DroppedRow] = []
    seen: set[str] = set()
    said: dict[str, str | None] = {}
    known = trained.keys()
    found: set[str] = set()
    for raw in read_rows(PoolConfig(path=path), dropping(dropped, "labelled")):
        found.update(raw)
        row = renamed(raw, columns or {})
        made = _pair(row, path.rstrip("/").rpartition("/")[2], max_chars, keep_same)
        if isinstance(made, ResponsePair) and said.setdefault(made.id, made.meta) != made.meta:
            # The same pair with other things said of it, e.g. by another annotator: its own row.
            made = replace(made, id=content_id("pair", made.id, made.meta))
        if isinstance(made, ResponsePair) and made.id in seen:
            made = _drop(made.id, DropReason.EXACT_DUPLICATE, "the same pair stands above")
        if isinstance(made, ResponsePair) and exact_key(made.messages) in known:
            made = _drop(made.id, DropReason.IN_TRAINING, "the run trains on this prompt")
        if isinstance(made, ResponsePair):
            seen.add(made.id)
            pairs.append(made)
        else:
            dropped.append(made)
        if max_pairs is not None and len(pairs) == max_pairs:
            break
    check_names(found, columns or {}, path)
    if not pairs and found and not {"chosen", "rejected"} <= found | set(columns or {}):
        raise DataError(
            f"{path}: labelled pairs need the columns chosen and rejected beside prompt or"
            f" messages; it has {sorted(found)}"
        )
    if not pairs:
        raise nothing_usable(path, "pair", dropped)
    return list(write_rows(folder, pairs, dropped, shard_size, ResponsePair))


def nothing_usable(path: str, what: str, dropped: Sequence[DroppedRow]) -> DataError:
    """What to raise where all rows of a file were dropped."""
    counts = Counter(drop.reason for drop in dropped)
    reasons = ", ".join(f"{reason.value} {n}" for reason, n in counts.items())
    line = f"{path}: no usable {what}; dropped rows: {reasons or 'none'}"
    if set(counts) == {DropReason.UNREADABLE}:
        line += f"; {dropped[0].row_id}: {dropped[0].detail}"
    if counts[DropReason.IN_TRAINING]:
        line += "; the run trains on the prompts of this file: name another, or use another run_dir"
    return DataError(line)


def _pair(
    row: dict[str, Any], source: str, max_chars: int, keep_same: bool
) -> ResponsePair | DroppedRow:
    found = to_instruction(_with_prompt(row), ColumnsConfig(), source, max_chars)
    if isinstance(found, DroppedRow):
        return replace(found, stage="labelled")
    chosen, rejected = _text(row.get("chosen")), _text(row.get("rejected"))
    if not chosen or not rejected:
        return _drop(found.id, DropReason.EMPTY_RESPONSE, "chosen or rejected has no text")
    if chosen == rejected and not keep_same:
        return _drop(found.id, DropReason.SAME_RESPONSE, "chosen and rejected are the same text")
    return ResponsePair.new(
        instruction_id=found.id,
        messages=found.messages,
        chosen=chosen,
        rejected=rejected,
        corruption=str(row.get("subset") or "labelled"),
        source=found.source,
        category=found.category,
        meta=meta_of(row, WRITERS),
        source_id=row_id_of(row),
    )


def check_names(found: Collection[str], columns: Mapping[str, str], path: str) -> None:
    """Raises DataError where no row of a file has a column that `columns` names."""
    for ours, theirs in columns.items():
        if found and theirs not in found:
            raise DataError(f"{path}: no column {theirs!r} (for {ours}); it has {sorted(found)}")


def renamed(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A row with the columns `columns` names under our names for them, where it has them."""
    named = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    row = {name: value for name, value in row.items() if name not in columns}
    if {"prompt", "messages"} & set(columns):
        # Of the usual names another one would come first.
        row = {name: value for name, value in row.items() if name not in PROMPT_COLUMNS}
    return row | named


def meta_of(row: Mapping[str, Any], writers: Sequence[str]) -> str | None:
    """JSON of a row's `meta`, with the names of its `writers` that stand in columns of their own;
    of two names that in `meta` counts."""
    value = row.get("meta")
    named = {key: row[key] for key in writers if isinstance(row.get(key), str) and row[key]}
    if named and (value is None or isinstance(value, Mapping)):
        said = {key: name for key, name in (value or {}).items() if name is not None}
        value = {**(value or {}), **named, **said}
    if value is None:
        return None
    return clean_text(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str))


def row_id_of(row: Mapping[str, Any]) -> str | None:
    """A row's own `id` as text, where it has one."""
    value = row.get("id")
    return None if value is None else clean_text(str(value))


def _with_prompt(row: dict[str, Any]) -> dict[str, Any]:
    """Adds the prompt of two whole conversations that part only in their last turn."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if has_prompt(row) or not isinstance(chosen, list) or not isinstance(rejected, list):
        return row
    return row if chosen[:-1] != rejected[:-1] else row | {"prompt": chosen[:-1]}


def _text(value: Any) -> str:
    """A response as text; the conversational form's last turn where it is a list of turns."""
    if isinstance(value, list):
        last = value[-1] if value and isinstance(value[-1], dict) else {}
        value = last.get("content", last.get("value"))
    return clean_text(value.strip()) if isinstance(value, str) else ""


def _drop(row_id: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row_id, stage="labelled", reason=reason, detail=detail)


def write_rows(
    folder: str,
    rows: Sequence[Any],
    dropped: Sequence[DroppedRow],
    shard_size: int,
    record_type: type,
) -> Iterator[ShardSummary]:
    """Writes records as shards of `shard_size` rows and the drops beside them."""
    shards = [rows[i : i + shard_size] for i in range(0, len(rows), shard_size)]
    return write_shards(folder, shards, dropped, record_type)


def write_shards(
    folder: str, shards: Sequence[Sequence[Any]], dropped: Sequence[DroppedRow], record_type: type
) -> Iterator[ShardSummary]:
    """Writes shards of any sizes and the drops beside them; the first summary counts the drops."""
    write_records(join(folder, "dropped", shard_name(0)), dropped, DroppedRow)
    drops = dict(Counter(drop.reason.value for drop in dropped))
    # Nothing kept is one empty shard: it still says what was dropped.
    shards = shards or [[]]
    remove_shards_from(folder, len(shards))
    for index, shard in enumerate(shards):
        write_records(join(folder, shard_name(index)), shard, record_type)
        yield ShardSummary(
            index=index,
            num_inputs=len(shard) + (len(dropped) if index == 0 else 0),
            num_records=len(shard),
            drops=drops if index == 0 else {},
            ledger={},
        )
