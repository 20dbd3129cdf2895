"""Finding the records of a run by their ids, reading little.

Footers and columns of ids are read first; whole rows only of shards that hold a match. Which
record a shard holds is read off its columns, so nothing here knows stages or loops.
"""

import heapq
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selfreward.errors import StorageError, UserError
from selfreward.layout import join
from selfreward.schemas import STORED_RECORDS, missing_columns, schema_of
from selfreward.storage import files
from selfreward.storage.id_columns import ID_COLUMNS, ID_PATTERN, IdColumn, kind_of

MIN_PREFIX_CHARS = 6
MAX_SHOWN = 8
NEAREST = 3

_SHARD = re.compile(r"shard-\d+\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """A row that mentions a wanted id.

    Example: `FoundRow(record="Judgment", folder="iter_01/judgments", row={"id": "jud-3d…", …})`
    """

    record: str
    folder: str
    """The stage's folder, relative to the run."""
    row: dict[str, Any]


@dataclass(slots=True)
class RunShards:
    """The sealed shards of a run by the record they hold.

    Example: `RunShards(root="runs/a", shards={"Judgment": ["iter_01/judgments/shard-00000…"]},
    unread=[])`
    """

    root: str
    shards: dict[str, list[str]] = field(default_factory=dict)
    """Record name to paths relative to the root, in order."""
    unread: list[str] = field(default_factory=list)
    """Folders whose shards hold no record of this version."""


@contextmanager
def open_parquet(url: str) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file of which only what is asked for is read.

    Raises:
        StorageError: it cannot be reached, or is no Parquet.
    """
    fs, path = files.filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            yield pq.ParquetFile(file)
    except pa.ArrowInvalid:
        raise StorageError(f"{url} is not readable as Parquet; remove it and run again") from None
    except OSError as error:
        raise StorageError(f"cannot read {url}: {error.strerror or error}") from error


def record_of(url: str) -> str | None:
    """The name of the record a shard holds, None for one that is none of this version."""
    with open_parquet(url) as file:
        names = set(file.schema_arrow.names)
    for name, kind in STORED_RECORDS.items():
        if names <= set(schema_of(kind).names) and not missing_columns(kind, names):
            return name
    return None


def run_shards(root: str) -> RunShards:
    """Lists the sealed shards of a run; what is not sealed yet is not part of it."""
    fs, path = files.filesystem(root)
    path = path.rstrip("/")
    fs.invalidate_cache()  # a cached listing would hide what another process has just written
    try:
        found = sorted(p[len(path) :].lstrip("/") for p in fs.find(path))
    except OSError as error:
        raise StorageError(f"cannot list {root}: {error.strerror or error}") from error
    by_folder: dict[str, list[str]] = {}
    for name in found:
        folder, _, last = name.rpartition("/")
        if _SHARD.fullmatch(last):
            by_folder.setdefault(folder, []).append(name)
    made = RunShards(root=root)
    for folder, names in by_folder.items():
        record = record_of(join(root, names[0]))
        if record is None:
            made.unread.append(folder)
        else:
            made.shards.setdefault(record, []).extend(names)
    return made


def find_rows(
    run: RunShards,
    ids: Collection[str],
    roles: Collection[str],
    records: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Iterator[FoundRow]:
    """Yields the rows that mention one of `ids` in a column of one of `roles`.

    `records` limits what is searched; `columns`, what is read of the rows found.
    """
    if not ids:
        return
    kinds = {kind_of(i) for i in ids}
    wanted = pa.array(sorted(ids), pa.string())
    for record, names in run.shards.items():
        if records is not None and record not in records:
            continue
        searched = [c for c in ID_COLUMNS[record] if c.role in roles and _may_hold(c, kinds)]
        if not searched:
            continue
        for name in names:
            with open_parquet(join(run.root, name)) as file:
                hits = _hits(file, searched, wanted)
                if not hits:
                    continue
                table = file.read(columns=None if columns is None else list(columns))
                folder = name.rpartition("/")[0].removesuffix("/dropped")
                for row in table.take(pa.array(hits)).to_pylist():
                    yield FoundRow(record=record, folder=folder, row=row)


def resolve_id(run: RunShards, text: str) -> str:
    """The id that `text` is, or is the beginning of.

    A beginning has at least `MIN_PREFIX_CHARS` characters behind the dash. Of a dropped row's id
    such as `pair-0c…/chosen_first`, the part before the slash counts.

    Raises:
        UserError: nothing or several things begin so; the nearest ids are named.
    """
    text = re.sub(rf"^({ID_PATTERN})/.*$", r"\1", text.strip())
    if len(text.partition("-")[2] or text) < MIN_PREFIX_CHARS:
        raise UserError(
            f"{text!r} is too short: give an id, or at least its first {MIN_PREFIX_CHARS}"
            " characters behind the dash"
        )
    found: set[str] = set()
    for values in _all_ids(run, {kind_of(text)}):
        begins = values.filter(pc.starts_with(values, pattern=text))
        found.update(begins.unique().to_pylist())
    if text in found:
        return text
    if len(found) == 1:
        return found.pop()
    if found:
        shown = sorted(found)[:MAX_SHOWN]
        more = f" and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
        raise UserError(
            f"{text} is the beginning of {len(found)} ids of run {run.root}: "
            f"{', '.join(shown)}{more}"
        )
    near = _nearest(run, text)
    ids = f"; nearest: {', '.join(near)}" if near else f" and none that begins {kind_of(text)}-"
    raise UserError(f"run {run.root} has no id {text}{ids}")


def _nearest(run: RunShards, text: str) -> list[str]:
    """The ids most alike: those that share most characters from both ends."""
    kind = kind_of(text)

    def alike(ident: str) -> int:
        return _num_shared(text, ident) + _num_shared(text[::-1], ident[::-1])

    best: list[str] = []
    for values in _all_ids(run, {kind}):
        same = (i for i in values.unique().to_pylist() if i and kind_of(i) == kind)
        best = heapq.nlargest(NEAREST, sorted({*best, *same}), key=alike)
    return best


def _num_shared(a: str, b: str) -> int:
    """How many characters two texts begin alike with."""
    different = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(different, min(len(a), len(b)))


def _all_ids(run: RunShards, kinds: set[str]) -> Iterator[pa.Array]:
    """The ids of every shard, column by column, that may be of these kinds."""
    for record, names in run.shards.items():
        columns = [c for c in ID_COLUMNS[record] if _may_hold(c, kinds)]
        if not columns:
            continue
        for name in names:
            with open_parquet(join(run.root, name)) as file:
                table = file.read(columns=[c.path for c in columns])
            for column in columns:
                yield _values(table, column)[1]


def _may_hold(column: IdColumn, kinds: set[str]) -> bool:
    return not column.kinds or not kinds.isdisjoint(column.kinds)


def _hits(file: pq.ParquetFile, columns: Sequence[IdColumn], wanted: pa.Array) -> list[int]:
    """Numbers of the rows that hold a wanted id, in order."""
    table = file.read(columns=[c.path for c in columns])
    hits: set[int] = set()
    for column in columns:
        rows, values = _values(table, column)
        hits.update(rows.filter(pc.is_in(values, value_set=wanted)).to_pylist())
    return sorted(hits)


def _values(table: pa.Table, column: IdColumn) -> tuple[pa.Array, pa.Array]:
    """(row numbers, ids) of a column; a list gives several ids of one row."""
    first, *rest = column.path.split(".")
    values = table[first].combine_chunks()
    rows = pa.array(range(table.num_rows), pa.int64())
    for part in rest:
        if part == "element":
            rows = rows.take(pc.list_parent_indices(values))
            values = pc.list_flatten(values)
        elif part != "list":
            values = pc.struct_field(values, part)
    if column.role == "dropped":
        # Some stages drop one side of a row, as in `pair-0c…/chosen_first`.
        values = pc.replace_substring_regex(values, rf"^({ID_PATTERN})/.*$", r"\1")
    return rows, values
