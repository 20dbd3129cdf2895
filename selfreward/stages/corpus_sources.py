"""Reading the raw texts of a corpus: text files, rows with a text column, samples."""

import glob
import re
from collections.abc import Iterable, Iterator
from typing import Any

from selfreward.config_custom_llm import CorpusConfig
from selfreward.errors import DataError
from selfreward.stages.row_files import (
    SettingNames,
    dataset_rows,
    expand,
    file_rows,
    guess_format,
    open_text,
)
from selfreward.stages.sample_text import docstring_documents, topic_documents
from selfreward.stages.sources import clean_text, is_sample

TEXT_COLUMNS = ("text", "content", "document", "body")
"""Tried in this order where the config names no column."""

_SAMPLES = {"sample:docstrings": docstring_documents, "sample:python_docs": topic_documents}
_TEXT = re.compile(r"\.(txt|text|md|markdown|rst)(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
_NAMES = SettingNames(
    path="the corpus's `sources`",
    format="the corpus's `format`",
    split="the corpus's `dataset_split`",
)


def read_documents(config: CorpusConfig) -> Iterator[tuple[str, str]]:
    """Yields (where it is from, raw text) of every document, source by source, as they stand.

    A text file is one document, held in memory as a whole; of rows only a few are held at a time.
    A row whose text is missing is an empty text, so that it is counted with those too short.

    Raises:
        DataError: a source is missing or unreadable, or no column holds its text; one line names
            it and the mend.
    """
    for path in config.sources:
        if not is_sample(path):
            yield from _documents_at(path, config)
        elif path in _SAMPLES:
            yield from _SAMPLES[path]()
        else:
            shipped = " and ".join(_SAMPLES)
            raise DataError(f"no sample of text {path}: there are {shipped}; set {_NAMES.path}")


def _documents_at(path: str, config: CorpusConfig) -> Iterator[tuple[str, str]]:
    named = None if config.format == "auto" else config.format
    # Of a glob each file has its own ending.
    if (named or _kind(path)) == "dataset" and not glob.has_magic(path):
        rows = dataset_rows(path, config.dataset_split, config.dataset_config, _NAMES)
        yield from _texts(rows, path, config.text_column)
        return
    for url in expand(path, _NAMES):
        kind = named or _kind(url)
        if kind == "dataset":
            raise DataError(f"{url}: its ending names no format; set {_NAMES.format}")
        if kind == "text":
            with open_text(url) as file:
                text = file.read()
            yield _file_name(url), text
        else:
            yield from _texts(file_rows(url, kind), url, config.text_column)


def _kind(path: str) -> str:
    return "text" if _TEXT.search(path) else guess_format(path)


def _texts(
    rows: Iterable[dict[str, Any]], path: str, column: str | None
) -> Iterator[tuple[str, str]]:
    columns = TEXT_COLUMNS if column is None else (column,)
    for number, row in enumerate(rows):
        if number == 0 and not any(name in row for name in columns):
            wanted = " or ".join(columns)
            raise DataError(
                f"{path}: no column {wanted}; it has {', '.join(sorted(row))}; name the one with"
                " the text in the corpus's `text_column`"
            )
        texts = (row[name] for name in columns if isinstance(row.get(name), str))
        source = clean_text(str(row.get("source") or _file_name(path)))
        yield source, next(texts, "")


def _file_name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
