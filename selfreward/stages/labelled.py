"""Labelled pairs of the user's: files of {prompt | messages, chosen, rejected} as response pairs.

Chosen and rejected may be whole conversations: their last turn is the response, and where there
is no prompt column, what both begin with is the prompt.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from selfreward.config import ColumnsConfig
from selfreward.errors import DataError
from selfreward.judging.filters import exact_key
from selfreward.layout import join
from selfreward.records import DroppedRow, DropReason, Message, ResponsePair, content_id
from selfreward.stages.in_training import NO_TRAINING, InTraining
from selfreward.stages.labelled_meta import meta_text, row_id_of
from selfreward.stages.labelled_rows import (
    LABELLED,
    FileReading,
    check_names,
    column_hint,
    renamed,
    row_name,
    styled_pairs,
)
from selfreward.stages.row_limit import RowLimit, limited
from selfreward.stages.sources import clean_text, has_prompt, to_instruction
from selfreward.storage.shards import ShardSummary, remove_shards_from, shard_name, write_records

WRITERS = ("chosen_model", "rejected_model")
"""Columns, and keys of `meta`, with the models that wrote the responses of a pair."""


def build_labelled(
    path: str,
    folder: str,
    shard_size: int,
    limit: RowLimit | None,
    max_chars: int,
    columns: Mapping[str, str] | None = None,
    trained: InTraining = NO_TRAINING,
    keep_same: bool = False,
    reading: FileReading = LABELLED,
) -> list[ShardSummary]:
    """Writes the pairs of one file as shards; `columns` maps our names to the file's own.

    A pair with a prompt in `trained` is dropped: a model knows its task. So is one of two equal
    responses, of which none is better, but with `keep_same`. `limit` counts the file's rows that
    pairs are made of; all pairs of a row are kept, or none.

    Raises:
        DataError: the file is unreadable, lacks the columns, or holds no usable pair.
    """
    of_rows: list[list[ResponsePair]] = []
    dropped: list[DroppedRow] = []
    seen: set[str] = set()
    said: dict[str, str | None] = {}
    known = trained.keys()
    found: set[str] = set()
    for number, raw in enumerate(reading.rows(path, dropped), 1):
        found.update(raw)
        usable: list[ResponsePair] = []
        for row in pair_rows(raw, columns or {}, reading, path, number):
            made = pair_of(row, path, max_chars, keep_same)
            if isinstance(made, ResponsePair) and said.setdefault(made.id, made.meta) != made.meta:
                # The same pair with other things said of it, e.g. by another annotator: a row of
                # its own.
                made = replace(made, id=content_id("pair", made.id, made.meta))
            if isinstance(made, ResponsePair):
                made = already_known(made.id, made.messages, "pair", seen, known) or made
            if isinstance(made, ResponsePair):
                seen.add(made.id)
                usable.append(made)
            else:
                dropped.append(made)
        if usable:
            of_rows.append(usable)
    check_names(found, columns or {}, path, reading.names)
    if not of_rows and found and not {"chosen", "rejected"} <= found | set(columns or {}):
        raise DataError(
            f"{path}: labelled pairs need the columns chosen and rejected beside prompt or"
            f" messages; it has {sorted(found)}{column_hint(reading.names, 'chosen')}"
        )
    if not of_rows:
        raise nothing_usable(path, "pair", dropped)
    drawn = {pair.id for pair in limited([pairs[0] for pairs in of_rows], limit)}
    kept = [pair for pairs in of_rows if pairs[0].id in drawn for pair in pairs]
    return list(write_rows(folder, kept, dropped, shard_size, ResponsePair))


def already_known(
    row_id: str,
    messages: Sequence[Message],
    what: str,
    seen: Collection[str],
    trained: Collection[str],
) -> DroppedRow | None:
    """Why a usable row is left out all the same: it stands above, or the run trains on its prompt;
    None for another. `seen` are ids, `trained` keys of prompts."""
    if row_id in seen:
        return _drop(row_id, DropReason.EXACT_DUPLICATE, f"the same {what} stands above")
    if exact_key(messages) in trained:
        return _drop(row_id, DropReason.IN_TRAINING, "the run trains on this prompt")
    return None


def pair_rows(
    raw: dict[str, Any], columns: Mapping[str, str], reading: FileReading, path: str, number: int
) -> list[dict[str, Any]]:
    """The rows, of one pair each, that row `number` of a file holds.

    Raises:
        DataError: it holds lists of styles that are not of three.
    """
    row = renamed(raw, columns)
    if not reading.styled:
        return [row]
    return styled_pairs(row, f"{path}: {row_name(number, row)}")


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


def pair_of(
    row: dict[str, Any], path: str, max_chars: int, keep_same: bool
) -> ResponsePair | DroppedRow:
    """The pair that a row of the file at `path` holds, or why it holds none."""
    source = path.rstrip("/").rpartition("/")[2]
    found = to_instruction(with_prompt(row), ColumnsConfig(), source, max_chars)
    if isinstance(found, DroppedRow):
        return replace(found, stage="labelled")
    chosen, rejected = response_text(row.get("chosen")), response_text(row.get("rejected"))
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
        meta=meta_text(row, WRITERS),
        source_id=row_id_of(row),
    )


def name_of_pair(
    pair: ResponsePair,
    path: str,
    max_chars: int,
    columns: Mapping[str, str],
    keep_same: bool,
    reading: FileReading,
) -> str:
    """What messages call the row of the file at `path` that a stored pair was made of."""
    known = (pair.messages, pair.chosen, pair.rejected, pair.corruption, pair.meta)
    for number, raw in enumerate(reading.rows(path, []), 1):
        for row in pair_rows(raw, columns, reading, path, number):
            made = pair_of(row, path, max_chars, keep_same)
            if isinstance(made, ResponsePair) and known == (
                *(made.messages, made.chosen, made.rejected, made.corruption, made.meta),
            ):
                return row_name(number, row)
    return f"the pair {pair.id}"


def with_prompt(row: dict[str, Any]) -> dict[str, Any]:
    """Adds the prompt of two whole conversations that part only in their last turn."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if has_prompt(row) or not isinstance(chosen, list) or not isinstance(rejected, list):
        return row
    return row if chosen[:-1] != rejected[:-1] else row | {"prompt": chosen[:-1]}


def response_text(value: Any) -> str:
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
