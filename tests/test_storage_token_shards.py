"""Shards of packed sequences: what is written is read back, and only what is asked for."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from selfreward.errors import DataError, StorageError
from selfreward.records_custom_llm import Document
from selfreward.storage import files
from selfreward.storage.shards import ShardSummary, sealed_shards, write_records
from selfreward.storage.token_shards import (
    ROW_GROUP_TOKENS,
    num_sequences,
    read_rows,
    token_shard_summary,
    write_token_shard,
)

SUMMARY = ShardSummary(
    index=2, num_inputs=9, num_records=3, drops={}, ledger={"tokens": 12, "padding": 3}
)
TOKENS = np.array([[5, 6, 7, 8, 9], [1, 2, 3, 0, 0], [4, 4, 4, 4, 0]], dtype=np.int32)
LENGTHS = [np.array([3, 2]), np.array([3]), np.array([2, 2])]
DOC_IDS = [["doc-a", "doc-b"], ["doc-a"], ["doc-c", "doc-é"]]


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        MemoryFileSystem.store.clear()
        return "memory://run/packed/shard-00002.parquet"
    return str(tmp_path / "packed" / "shard-00002.parquet")


def test_sequences_come_back_as_they_were(url: str) -> None:
    assert token_shard_summary(url, 2) is None
    write_token_shard(url, TOKENS, LENGTHS, DOC_IDS, SUMMARY)
    assert num_sequences(url) == 3
    rows = read_rows(url, 0, 3)
    assert [r.tokens.tolist() for r in rows] == TOKENS.tolist()
    assert [r.lengths.tolist() for r in rows] == [[3, 2], [3], [2, 2]]
    assert all(r.tokens.dtype == r.lengths.dtype == np.int32 for r in rows)
    assert all(r.tokens.flags.writeable for r in rows)
    assert token_shard_summary(url, 2) == SUMMARY
    assert sealed_shards(url.rpartition("/")[0]) == [url]


def test_the_documents_are_named(tmp_path: Path) -> None:
    url = str(tmp_path / "shard-00002.parquet")
    write_token_shard(url, TOKENS, LENGTHS, DOC_IDS, SUMMARY)
    assert pq.read_table(url)["doc_ids"].to_pylist() == DOC_IDS


def test_some_sequences_of_several_row_groups(tmp_path: Path) -> None:
    url, width = str(tmp_path / "shard-00000.parquet"), ROW_GROUP_TOKENS // 4
    tokens = np.repeat(np.arange(10, dtype=np.int32)[:, None], width, axis=1)
    lengths = [np.array([width - i, i]) for i in range(1, 11)]
    write_token_shard(url, tokens, lengths, [["a", "b"]] * 10, SUMMARY)
    assert pq.ParquetFile(url).metadata.num_row_groups == 3  # of 4, 4 and 2 sequences
    for start, stop in [(0, 10), (3, 5), (4, 8), (9, 10), (5, 5), (10, 10)]:
        rows = read_rows(url, start, stop)
        assert [int(r.tokens[0]) for r in rows] == list(range(start, stop))
        assert [int(r.lengths[1]) for r in rows] == list(range(start + 1, stop + 1))
        assert all(len(r.tokens) == width for r in rows)
    with pytest.raises(IndexError, match="has 10 sequences, not 8 to 11"):
        read_rows(url, 8, 11)


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    urls = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    for url in urls:
        write_token_shard(url, TOKENS, LENGTHS, DOC_IDS, SUMMARY)
    assert files.read_bytes(urls[0]) == files.read_bytes(urls[1])


def test_an_empty_shard(url: str) -> None:
    write_token_shard(url, np.zeros((0, 8), np.int32), [], [], SUMMARY)
    assert num_sequences(url) == 0
    assert read_rows(url, 0, 0) == []


def test_parts_that_do_not_fit_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="3 sequences, 2 lengths"):
        write_token_shard(url, TOKENS, LENGTHS[:2], DOC_IDS, SUMMARY)
    with pytest.raises(ValueError, match=r"\[3, 3\] of 2 documents in 5"):
        write_token_shard(url, TOKENS, [np.array([3, 3]), *LENGTHS[1:]], DOC_IDS, SUMMARY)
    assert not files.exists(url)


def test_other_files_are_named_as_such(url: str) -> None:
    with pytest.raises(FileNotFoundError):
        num_sequences(url)
    files.write_bytes(url, b"no parquet")
    with pytest.raises(StorageError, match="not readable as Parquet"):
        num_sequences(url)
    write_records(url, [Document.new(text="a", source="s")], Document)
    with pytest.raises(DataError, match="no packed sequences but the columns"):
        read_rows(url, 0, 1)
