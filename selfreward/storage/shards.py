"""Shards of a stage: written part by part while rows finish, then sealed in input order.

    STAGE/shard-00003.parquet            the records, complete; its footer holds the ledger
    STAGE/dropped/shard-00003.parquet    the rows that left, with their reasons
    STAGE/_parts/00003/<digest>.parquet  rows finished so far, while the shard is open

The shard file appears last and whole, so its presence is the completion mark. A crash loses only
the rows that had not been written as a part; what is sealed does not depend on how often the work
was interrupted: records are ordered by their input row, never by when they finished.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from selfreward.errors import StorageError
from selfreward.layout import join
from selfreward.records import DroppedRow, DropReason
from selfreward.schemas import from_table, to_table
from selfreward.storage import files

RecordT = TypeVar("RecordT")

_META_KEY = b"selfreward"


def shard_name(index: int) -> str:
    return f"shard-{index:05d}.parquet"


@dataclass(slots=True)
class RowResult(Generic[RecordT]):
    """What became of one input row: records, or drops, or both."""

    row_id: str
    records: list[RecordT] = field(default_factory=list)
    dropped: list[DroppedRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """Counts of one sealed shard; `ledger` is plain data so that storage knows no engine."""

    index: int
    num_inputs: int
    num_records: int
    drops: dict[str, int]
    ledger: dict[str, Any]


def _open(url: str) -> pq.ParquetFile:
    data = files.read_bytes(url)
    try:
        return pq.ParquetFile(io.BytesIO(data))
    except pa.ArrowInvalid:
        raise StorageError(f"{url} is not readable as Parquet; remove it and run again") from None


def read_records(url: str, record_type: type[RecordT]) -> list[RecordT]:
    """Reads the records of a Parquet file.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it is not Parquet.
        DataError: it lacks a column of the record.
    """
    return from_table(_open(url).read(), record_type)


def write_records(url: str, records: Iterable[RecordT], record_type: type[RecordT]) -> None:
    """Writes records as one Parquet file, whole or absent."""
    files.write_bytes(url, _to_parquet(to_table(records, record_type), {}))


def sealed_shards(folder: str) -> list[str]:
    """URLs of the complete shards of a stage folder, in order."""
    return [join(folder, n) for n in files.list_files(folder, ".parquet") if n.startswith("shard-")]


def read_drops(folder: str) -> list[DroppedRow]:
    """The rows that left the run in a stage, those of its complete shards in order."""
    urls = sealed_shards(join(folder, "dropped"))
    return [drop for url in urls for drop in read_records(url, DroppedRow)]


def remove_shards_from(folder: str, index: int) -> None:
    """Removes what an interrupted attempt at a source that was longer then has left."""
    for url in sealed_shards(folder)[index:]:
        files.remove(url)


def _to_parquet(table: pa.Table, meta: dict[str, Any]) -> bytes:
    table = table.replace_schema_metadata({_META_KEY: json.dumps(meta).encode()})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _meta(file: pq.ParquetFile) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((file.schema_arrow.metadata or {}).get(_META_KEY, b"{}"))
    return raw


class ShardWriter(Generic[RecordT]):
    """Collects the rows of one shard, durably, and seals it.

    Example::

        writer = ShardWriter("runs/a/iter_01/responses", 3, AnsweredInstruction)
        for chunk in chunks(rows not in writer.finished_ids()):
            writer.add(results_of(chunk), ledger)
        summary = writer.seal([row.id for row in rows])
    """

    def __init__(self, folder: str, index: int, record_type: type[RecordT]) -> None:
        self.url = join(folder, shard_name(index))
        self._dropped_url = join(folder, "dropped", shard_name(index))
        self._parts = join(folder, "_parts", f"{index:05d}")
        self._index = index
        self._record_type = record_type

    def summary_if_sealed(self) -> ShardSummary | None:
        """The summary of this shard if it is already complete.

        Parts that are still there, since a crash came between sealing and removing them, go.
        """
        try:
            file = _open(self.url)
        except FileNotFoundError:
            return None
        files.remove(self._parts)
        return ShardSummary(index=self._index, **_meta(file))

    def add(self, results: Sequence[RowResult[RecordT]], ledger: dict[str, Any]) -> None:
        """Makes the results of some rows durable as one part."""
        rows = [
            {"row_id": r.row_id, "num_records": len(r.records), "dropped": _plain_drops(r.dropped)}
            for r in results
        ]
        table = to_table([rec for r in results for rec in r.records], self._record_type)
        # The name depends on the rows alone: the same rows written twice are one part.
        digest = hashlib.sha256("\n".join(r.row_id for r in results).encode()).hexdigest()[:16]
        files.write_bytes(
            join(self._parts, f"{digest}.parquet"),
            _to_parquet(table, {"rows": rows, "ledger": ledger}),
        )

    def _read_parts(self) -> tuple[dict[str, RowResult[RecordT]], list[dict[str, Any]]]:
        results: dict[str, RowResult[RecordT]] = {}
        ledgers = []
        for name in files.list_files(self._parts, ".parquet"):
            file = _open(join(self._parts, name))
            meta = _meta(file)
            records = iter(from_table(file.read(), self._record_type))
            for row in meta["rows"]:
                results[row["row_id"]] = RowResult(
                    row["row_id"],
                    [next(records) for _ in range(row["num_records"])],
                    [_to_drop(d) for d in row["dropped"]],
                )
            ledgers.append(meta["ledger"])
        return results, ledgers

    def finished_ids(self) -> set[str]:
        """Ids of the input rows whose results are durable."""
        return set(self._read_parts()[0])

    def seal(self, row_ids: Sequence[str]) -> ShardSummary:
        """Writes the shard in input order and removes its parts.

        Where another attempt at the same shard has sealed it meanwhile, that one stands.

        Raises:
            ValueError: a row has no result (a fault of the caller).
        """
        results, ledgers = self._read_parts()
        missing = [r for r in row_ids if r not in results]
        if missing:
            sealed = self.summary_if_sealed()
            if sealed is not None:
                return sealed
            raise ValueError(
                f"{self.url}: {len(missing)} rows without a result, first {missing[0]}"
            )
        ordered = [results[r] for r in row_ids]
        records = [rec for r in ordered for rec in r.records]
        dropped = [d for r in ordered for d in r.dropped]
        drops: dict[str, int] = {}
        for drop in dropped:
            drops[drop.reason.value] = drops.get(drop.reason.value, 0) + 1
        summary = ShardSummary(
            index=self._index,
            num_inputs=len(row_ids),
            num_records=len(records),
            drops=drops,
            ledger=add_ledgers(ledgers),
        )
        meta = asdict(summary)
        del meta["index"]
        write_records(self._dropped_url, dropped, DroppedRow)
        files.write_bytes(self.url, _to_parquet(to_table(records, self._record_type), meta))
        files.remove(self._parts)
        return summary


def _plain_drops(dropped: Sequence[DroppedRow]) -> list[dict[str, str]]:
    return [asdict(d) | {"reason": d.reason.value} for d in dropped]


def _to_drop(row: dict[str, str]) -> DroppedRow:
    return DroppedRow(
        row_id=row["row_id"],
        stage=row["stage"],
        reason=DropReason(row["reason"]),
        detail=row["detail"],
    )


def add_ledgers(ledgers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Adds plain ledgers field by field; nested mappings likewise."""
    total: dict[str, Any] = {}
    for ledger in ledgers:
        for key, value in ledger.items():
            if isinstance(value, dict):
                total[key] = add_ledgers([total.get(key, {}), value])
            else:
                total[key] = total.get(key, 0) + value
    return total
