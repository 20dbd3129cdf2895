"""The pool stage: from a user's file to deduplicated, shuffled, sharded instructions.

Runs as one task on the cluster, never on the driver, since near-duplicates are found against
everything that was kept. Three splits come out: `train`, and `validation` and `heldout`, which
are never trained on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from selfreward.config import PoolConfig
from selfreward.errors import DataError
from selfreward.judging.filters import NearDuplicateIndex, exact_key
from selfreward.layout import join
from selfreward.records import DroppedRow, DropReason, Instruction, derived_seed
from selfreward.stages.held_out import NOTHING, HeldOut
from selfreward.stages.sources import check_columns, dropping, read_rows, to_instruction
from selfreward.storage.shards import ShardSummary, remove_shards_from, shard_name, write_records


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSizes:
    validation: int
    heldout: int


def build_pool(
    config: PoolConfig,
    sizes: SplitSizes,
    seed: int,
    folders: dict[str, str],
    held_out: HeldOut = NOTHING,
) -> dict[str, list[ShardSummary]]:
    """Reads the source and writes the shards of each split into `folders[split]`.

    An instruction whose prompt is in `held_out` is dropped: models are measured on it elsewhere.

    Raises:
        DataError: the source is unreadable, or too little of it is usable.
    """
    kept: list[Instruction] = []
    dropped: list[DroppedRow] = []
    columns: set[str] = set()
    items = _instructions(config, dropped, columns)
    if config.shuffle and config.max_instructions:
        items = _in_order_of_hash(items, seed)
    for item in _deduplicated(items, config, seed, held_out.keys()):
        if isinstance(item, DroppedRow):
            dropped.append(item)
        else:
            kept.append(item)
            if config.max_instructions and len(kept) == config.max_instructions:
                break
    if columns:
        check_columns(columns, config.columns, config.path)
    _check_usable(config, kept, dropped, sizes)
    if config.shuffle:
        kept.sort(key=lambda ins: _place(ins, seed))
    aside = sizes.validation + sizes.heldout
    splits = {
        "validation": kept[: sizes.validation],
        "heldout": kept[sizes.validation : aside],
        "train": kept[aside:],
    }
    write_records(join(folders["train"], "dropped", shard_name(0)), dropped, DroppedRow)
    summaries = {name: _write(folders[name], rows, config) for name, rows in splits.items()}
    drops: dict[str, int] = {}
    for drop in dropped:
        drops[drop.reason.value] = drops.get(drop.reason.value, 0) + 1
    # The drops belong to the pool as a whole; they are counted with the first training shard.
    first = summaries["train"][0]
    summaries["train"][0] = replace(first, num_inputs=first.num_inputs + len(dropped), drops=drops)
    return summaries


def _instructions(
    config: PoolConfig, unreadable: list[DroppedRow], columns: set[str]
) -> Iterator[Instruction | DroppedRow]:
    """One item for each row; lines that are no rows go to `unreadable`, names to `columns`."""
    for row in read_rows(config, dropping(unreadable, "pool")):
        columns.update(row)
        source = config.path.rstrip("/").rpartition("/")[2]
        yield to_instruction(row, config.columns, source, config.max_instruction_chars)


def _place(instruction: Instruction, seed: int) -> tuple[int, str]:
    """By a hash of the content: the same rows in another order give the same pool."""
    return derived_seed(seed, "shuffle", instruction.id), instruction.id


def _in_order_of_hash(
    items: Iterator[Instruction | DroppedRow], seed: int
) -> Iterator[Instruction | DroppedRow]:
    """Of a pool that is cut, a part of all of it: many are one source after the other."""
    found: list[Instruction] = []
    for item in items:
        if isinstance(item, DroppedRow):
            yield item
        else:
            found.append(item)
    yield from sorted(found, key=lambda ins: _place(ins, seed))


def _deduplicated(
    items: Iterator[Instruction | DroppedRow],
    config: PoolConfig,
    seed: int,
    held_out: frozenset[str],
) -> Iterator[Instruction | DroppedRow]:
    seen: dict[str, str] = {}
    near = None
    if config.near_duplicate_threshold is not None:
        near = NearDuplicateIndex(config.near_duplicate_threshold, seed=seed)
    ids: set[str] = set()
    for item in items:
        if isinstance(item, DroppedRow):
            yield item
            continue
        if exact_key(item.messages) in held_out:
            yield DroppedRow(
                row_id=item.id,
                stage="pool",
                reason=DropReason.HELD_OUT,
                detail="models are measured on this prompt",
            )
            continue
        reason = None
        earlier = seen.get(exact_key(item.messages)) if config.exact_dedupe else None
        if earlier is not None or item.id in ids:
            # Equal ids are equal conversations; two of them would collide in every later stage.
            reason, earlier = DropReason.EXACT_DUPLICATE, earlier or item.id
        elif near is not None:
            text = "\n".join(m.content for m in item.messages)
            earlier = near.is_duplicate_then_add(item.id, text)
            reason = DropReason.NEAR_DUPLICATE if earlier is not None else None
        if reason is not None:
            yield DroppedRow(row_id=item.id, stage="pool", reason=reason, detail=f"of {earlier}")
            continue
        seen[exact_key(item.messages)] = item.id
        ids.add(item.id)
        yield item


def _check_usable(
    config: PoolConfig, kept: list[Instruction], dropped: list[DroppedRow], sizes: SplitSizes
) -> None:
    aside = sizes.validation + sizes.heldout
    if len(kept) > aside:
        return
    reasons = sorted({d.reason.value for d in dropped})
    why = f"; {len(dropped)} rows were dropped ({', '.join(reasons)})" if dropped else ""
    if not kept:
        # A file of another format has nothing but such lines: the first says what is wrong.
        if reasons == [DropReason.UNREADABLE.value]:
            why += f"; {dropped[0].row_id}: {dropped[0].detail}"
        raise DataError(f"{config.path}: no usable instruction{why}")
    cut = " (pool.max_instructions)" if len(kept) == config.max_instructions else ""
    raise DataError(
        f"{config.path}: {len(kept)} usable instructions{cut} are too few for {sizes.heldout}"
        f" held-out and {sizes.validation} validation ones plus at least one to train on{why};"
        " lower evaluation.heldout_pairs and evaluation.validation_pairs or give a larger pool"
    )


def _write(folder: str, rows: list[Instruction], config: PoolConfig) -> list[ShardSummary]:
    summaries = []
    for index, start in enumerate(range(0, len(rows), config.shard_size)):
        shard = rows[start : start + config.shard_size]
        write_records(join(folder, shard_name(index)), shard, Instruction)
        summaries.append(
            ShardSummary(
                index=index, num_inputs=len(shard), num_records=len(shard), drops={}, ledger={}
            )
        )
    remove_shards_from(folder, len(summaries))
    return summaries
