"""Rows and texts of files: JSONL, Parquet, plain text, and what `datasets` can load.

Knows formats and endings, not what the rows mean.
"""

import glob
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, TextIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from selfreward.errors import DataError

_JSONL = re.compile(r"\.(jsonl?|ndjson)(\.(gz|bz2|xz|zst))?$")
_JSON = re.compile(r"\.json(\.(gz|bz2|xz|zst))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingNames:
    """What messages call the settings that say where rows are.

    Example: `SettingNames(path="eval.path", format="eval.format", split="eval.split")`
    """

    path: str = "pool.path"
    format: str = "pool.format"
    split: str = "pool.dataset_split"
    column: str | None = None
    """What maps a column, where something does; its value follows, e.g. `chosen=better`."""


POOL_NAMES = SettingNames()

Unreadable = Callable[[str, str], None]
"""Told of each line that holds no row: where it is, and why."""


def refuse_line(where: str, why: str) -> None:
    """Raises DataError: for files in which every line is meant to be a row."""
    raise DataError(f"{where}: {why}")


def guess_format(path: str) -> str:
    """`jsonl` or `parquet` by the ending; anything else is `dataset`."""
    if _JSONL.search(path):
        return "jsonl"
    if path.endswith((".parquet", ".pq")):
        return "parquet"
    return "dataset"


def expand(path: str, names: SettingNames = POOL_NAMES) -> list[str]:
    """URLs of the files that a path or glob means, sorted.

    Raises:
        DataError: there is none, or its filesystem cannot be used.
    """
    try:
        fs, inner = fsspec.core.url_to_fs(path)
        found = sorted(fs.glob(inner)) if glob.has_magic(inner) else [inner]
        if found and all(fs.isfile(f) for f in found):
            return [fs.unstrip_protocol(f) for f in found]
    except Exception as error:  # each object store has exceptions of its own
        raise DataError(f"cannot read {path}: {_line(error)}") from None
    raise DataError(f"no file at {path}; set {names.path} to a file, a glob or a dataset")


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def file_rows(
    url: str, kind: str, unreadable: Unreadable = refuse_line
) -> Iterator[dict[str, Any]]:
    """Yields the rows of one file, whose kind is `parquet` or `jsonl`.

    A `.json` file may be one array of objects too, as some benchmarks are published.
    """
    if kind == "parquet":
        yield from _parquet_rows(url)
        return
    with open_text(url) as file:
        if _JSON.search(url):
            first = file.readline()
            if first.lstrip().startswith("["):
                yield from _array_rows(first + file.read(), url, unreadable)
                return
            yield from jsonl_lines(chain((first,), file), url, unreadable)
        else:
            yield from jsonl_lines(file, url, unreadable)


def _array_rows(text: str, url: str, unreadable: Unreadable) -> Iterator[dict[str, Any]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        # Lines that each hold an array are no array of rows.
        yield from jsonl_lines(text.splitlines(), url, unreadable)
        return
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield row
        else:
            unreadable(f"{url}, row {number}", f"a {type(row).__name__}, not an object")


@contextmanager
def open_text(url: str) -> Iterator[TextIO]:
    """Opens a text file, compressed or not by its ending; what fails while it is read is one line.

    Raises:
        DataError: it cannot be opened or unpacked, or is not UTF-8.
    """
    if url.endswith(".zst") and "zstd" not in fsspec.available_compressions():
        raise DataError(f"cannot read {url}: install the package zstandard, or unpack the file")
    try:
        # utf-8-sig: some editors put a byte order mark in front.
        with fsspec.open(url, "rt", encoding="utf-8-sig", compression="infer") as file:
            yield file
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        # EOFError: compressed and cut off; ValueError: not UTF-8, or an unknown compression.
        raise DataError(f"cannot read {url}: {_line(error)}") from None


def jsonl_lines(
    file: Iterable[str], url: str, unreadable: Unreadable = refuse_line
) -> Iterator[dict[str, Any]]:
    """Yields the objects of lines of JSON; `url` is what is named of lines that are none."""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            unreadable(f"{url}, line {number}", "not JSON; one object a line is wanted")
            continue
        if isinstance(row, dict):
            yield row
        else:
            unreadable(f"{url}, line {number}", f"a {type(row).__name__}, not an object")


def _parquet_rows(url: str) -> Iterator[dict[str, Any]]:
    try:
        with fsspec.open(url, "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot read {url} as Parquet: {_line(error)}") from None


def dataset_rows(
    path: str, split: str, name: str | None, names: SettingNames = POOL_NAMES
) -> Iterator[dict[str, Any]]:
    """Yields the rows of a folder saved by `datasets`, or of configuration `name` of a hub id.

    Raises:
        DataError: it is neither, or has no such split.
    """
    import datasets  # heavy, and only some pools need it

    try:
        fs, inner = fsspec.core.url_to_fs(path)
        if fs.isfile(inner):
            raise DataError(f"{path}: its ending names no format; set {names.format}")
        if fs.isdir(inner):
            loaded = datasets.load_from_disk(path)
        else:
            loaded = datasets.load_dataset(path, name, split=split, streaming=True)
    except DataError:
        raise
    except Exception as error:  # `datasets` raises a different class for each kind of miss
        raise DataError(
            f"no file, saved dataset or reachable hub dataset at {path} ({_line(error)});"
            f" set {names.path} to a file, a glob or a dataset"
        ) from None
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise DataError(
                f"{path} has no split {split!r}; set {names.split} to one of {list(loaded)}"
            )
        loaded = loaded[split]
    yield from loaded
