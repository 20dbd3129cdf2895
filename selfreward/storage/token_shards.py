"""Packed token sequences as Parquet files, of which any few rows are read without the rest.

    STAGE/shard-00003.parquet    one row a sequence; its footer holds the shard's summary

As with records, a shard appears last and whole, so its presence is the completion mark. Shape
suffixes: _ST sequences by positions, _T positions of one sequence, _K pieces of one sequence.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selfreward.errors import DataError, StorageError
from selfreward.storage import files
from selfreward.storage.shards import ShardSummary

IntArray = np.ndarray[Any, np.dtype[np.int32]]

ROW_GROUP_TOKENS = 1 << 17
"""512 KiB: 256 sequences of 512 tokens, 16 of 8,192."""
TOKEN_SCHEMA = pa.schema(
    [
        pa.field("tokens", pa.list_(pa.int32()), nullable=False),
        pa.field("lengths", pa.list_(pa.int32()), nullable=False),
        pa.field("doc_ids", pa.list_(pa.string()), nullable=False),
    ]
)
_META_KEY = b"selfreward"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedRow:
    """One packed sequence: its tokens, and how long the pieces are that it is made of, in order.

    What is left behind the last piece is padding.

    Example: `PackedRow(tokens=array([17, 5, 0, 9, 0, 3]), lengths=array([3, 2]))`
    """

    tokens: IntArray
    lengths: IntArray


def _lists(offsets: IntArray, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _offsets(counts: Sequence[int]) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _table(
    tokens_ST: IntArray, lengths: Sequence[IntArray], doc_ids: Sequence[Sequence[str]]
) -> pa.Table:
    num_rows, width = tokens_ST.shape
    pieces = _offsets([len(lengths_K) for lengths_K in lengths])
    columns = [
        _lists(_offsets([width] * num_rows), pa.array(tokens_ST.ravel())),
        _lists(pieces, pa.array(np.concatenate(lengths))),
        _lists(pieces, pa.array(list(chain.from_iterable(doc_ids)), pa.string())),
    ]
    return pa.Table.from_arrays(columns, schema=TOKEN_SCHEMA)


def write_token_shard(
    url: str,
    tokens_ST: IntArray,
    lengths: Sequence[IntArray],
    doc_ids: Sequence[Sequence[str]],
    summary: ShardSummary,
) -> None:
    """Writes a shard of packed sequences, whole or absent.

    `lengths[s]` and `doc_ids[s]` say of each piece of sequence s how many tokens it has and which
    document it is from.

    Raises:
        ValueError: the parts do not fit each other (a fault of the caller).
    """
    num_rows, width = tokens_ST.shape
    if not num_rows == len(lengths) == len(doc_ids):
        raise ValueError(f"{num_rows} sequences, {len(lengths)} lengths, {len(doc_ids)} doc_ids")
    for lengths_K, ids in zip(lengths, doc_ids, strict=True):
        if len(lengths_K) != len(ids) or lengths_K.sum() > width:
            raise ValueError(f"pieces {lengths_K.tolist()} of {len(ids)} documents in {width}")
    meta = asdict(summary)
    del meta["index"]
    sink = io.BytesIO()
    schema = TOKEN_SCHEMA.with_metadata({_META_KEY: json.dumps(meta).encode()})
    group = max(1, ROW_GROUP_TOKENS // max(1, width))
    tokens_ST = tokens_ST.astype(np.int32, copy=False)
    lengths = [lengths_K.astype(np.int32, copy=False) for lengths_K in lengths]
    # Token ids hardly repeat within a page: a dictionary of them only costs time.
    with pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False) as writer:
        for start in range(0, num_rows, group):
            rows = slice(start, start + group)
            writer.write_table(_table(tokens_ST[rows], lengths[rows], doc_ids[rows]))
    files.write_bytes(url, sink.getvalue())


@contextmanager
def _opened(url: str) -> Iterator[pq.ParquetFile]:
    fs, path = files.filesystem(url)
    with fs.open(path, "rb") as handle:
        try:
            file = pq.ParquetFile(handle)
        except pa.ArrowInvalid:
            raise StorageError(
                f"{url} is not readable as Parquet; remove it and run again"
            ) from None
        if file.schema_arrow.remove_metadata() != TOKEN_SCHEMA:
            raise DataError(
                f"{url} holds no packed sequences but the columns {file.schema_arrow.names}"
            )
        yield file


def num_sequences(url: str) -> int:
    """Returns how many sequences a shard holds, from its footer alone.

    Raises:
        FileNotFoundError: there is none.
        StorageError, DataError: it is not Parquet, or holds something else.
    """
    with _opened(url) as file:
        return int(file.metadata.num_rows)


def token_shard_summary(url: str, index: int) -> ShardSummary | None:
    """The summary of shard `index` at `url`; None while it is not complete."""
    if not files.exists(url):
        return None
    with _opened(url) as file:
        return ShardSummary(index=index, **json.loads(file.schema_arrow.metadata[_META_KEY]))


def read_rows(url: str, start: int, stop: int) -> list[PackedRow]:
    """Returns sequences `start` to `stop` (exclusive), reading only the row groups they are in.

    The arrays are the caller's own. Neighbours share a row group, so asking for many at once is
    much cheaper than for each alone.

    Raises:
        IndexError: the shard has fewer.
        FileNotFoundError, StorageError, DataError: as `num_sequences`.
    """
    with _opened(url) as file:
        meta = file.metadata
        if not 0 <= start <= stop <= meta.num_rows:
            raise IndexError(f"{url} has {meta.num_rows} sequences, not {start} to {stop}")
        edges = _offsets([meta.row_group(g).num_rows for g in range(meta.num_row_groups)])
        first = int(np.searchsorted(edges, start, side="right")) - 1
        last = int(np.searchsorted(edges, stop, side="left"))
        if start == stop:
            return []
        table = file.read_row_groups(list(range(first, last)), columns=["tokens", "lengths"])
        before = int(edges[first])
    table = table.slice(start - before, stop - start).combine_chunks()
    tokens, lengths = (_split(table[name].chunk(0)) for name in ("tokens", "lengths"))
    return [PackedRow(tokens=t, lengths=n) for t, n in zip(tokens, lengths, strict=True)]


def _split(column: pa.ListArray) -> list[IntArray]:
    counts = column.value_lengths().to_numpy()
    # A copy: Arrow's memory is read-only, and would be kept whole for the sake of one row.
    return [part.copy() for part in np.split(column.flatten().to_numpy(), np.cumsum(counts)[:-1])]
