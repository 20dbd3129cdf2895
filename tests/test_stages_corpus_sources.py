"""Reading the texts of a corpus: every form of a source, and what is said when it fails."""

import bz2
import gzip
import json
import lzma
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfreward.config_custom_llm import CorpusConfig
from selfreward.errors import DataError
from selfreward.stages.corpus_sources import read_documents
from selfreward.stages.sample_text import docstring_documents, topic_documents
from selfreward.storage import files


def read(*sources: str | Path, **options: Any) -> list[tuple[str, str]]:
    config = CorpusConfig(sources=tuple(str(s) for s in sources), **options)
    return list(read_documents(config))


def refusal(*sources: str | Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(*sources, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# --- files ---------------------------------------------------------------------------------------

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("name", ["a.txt", "a.md", "A.TXT", "a.txt.gz", "a.txt.bz2", "a.md.xz"])
def test_a_text_file_is_one_document(tmp_path: Path, name: str) -> None:
    packed = PACKERS[Path(name).suffix if name.count(".") > 1 else ""]
    (tmp_path / name).write_bytes(packed("\ufeffLine \u00fc\n\nLast".encode()))
    assert read(tmp_path / name) == [(name, "Line \u00fc\n\nLast")]


def test_rows_of_jsonl_and_parquet(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "One", "source": "wiki"},
        {"text": "Two"},
        {"text": None},
        {"text": 4},
    ]
    expected = [("wiki", "One"), ("a.jsonl", "Two"), ("a.jsonl", ""), ("a.jsonl", "")]
    assert read(jsonl(tmp_path / "a.jsonl", *rows)) == expected
    pq.write_table(pa.table({"content": ["One", None]}), tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet") == [("b.parquet", "One"), ("b.parquet", "")]


@pytest.mark.parametrize("column", ["text", "content", "document", "body"])
def test_usual_columns_need_no_config(tmp_path: Path, column: str) -> None:
    assert read(jsonl(tmp_path / "a.jsonl", {"id": 1, column: "One"})) == [("a.jsonl", "One")]


def test_a_named_column_goes_before_the_usual_ones(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"text": "no", "story": "One"}, {"text": "no"})
    assert read(path, text_column="story") == [("a.jsonl", "One"), ("a.jsonl", "")]


def test_saved_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    saved = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list([{"text": "One"}, {"text": "Two"}])}
    )
    saved.save_to_disk(str(tmp_path / "saved"))
    assert read(tmp_path / "saved") == [("saved", "One"), ("saved", "Two")]
    text = refusal(tmp_path / "saved", dataset_split="dev")
    assert text.endswith("no split 'dev'; set the corpus's `dataset_split` to one of ['train']")


def test_sources_follow_each_other_and_a_glob_may_mix_formats(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("Two")
    jsonl(tmp_path / "a.jsonl", {"text": "One"})
    both = [("a.jsonl", "One"), ("b.txt", "Two")]
    assert read(tmp_path / "*") == both
    assert read(tmp_path / "b.txt", tmp_path / "a.jsonl") == both[::-1]
    (tmp_path / "c.log").write_text("Three")
    assert refusal(tmp_path / "*").endswith(
        "c.log: its ending names no format; set the corpus's `format`"
    )
    assert read(tmp_path / "c.log", format="text") == [("c.log", "Three")]


def test_other_filesystems() -> None:
    files.write_bytes("memory://corpus/a.txt", b"One")
    files.write_bytes("memory://corpus/b.txt", b"Two")
    assert read("memory://corpus/*.txt") == [("a.txt", "One"), ("b.txt", "Two")]


# --- what is refused -----------------------------------------------------------------------------


def test_a_missing_file_is_named_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "none-*.txt"
    mend = "set the corpus's `sources` to a file, a glob or a dataset"
    assert refusal(path) == f"no file at {path}; {mend}"
    text = refusal(tmp_path)
    assert f"saved dataset or reachable hub dataset at {tmp_path}" in text
    assert text.endswith(mend)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    assert "a.txt: 'utf-8' codec can't decode" in refusal(tmp_path / "a.txt")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"text " * 900)[:-9])
    assert "b.txt.gz: " in refusal(tmp_path / "b.txt.gz")
    (tmp_path / "c.txt.xz").write_bytes(b"not packed at all")
    assert "c.txt.xz: " in refusal(tmp_path / "c.txt.xz")


def test_rows_without_the_column_list_what_they_have(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"story": "One", "id": 3})
    text = refusal(path)
    assert "a.jsonl: no column text or content or document or body; it has id, story;" in text
    assert text.endswith("`text_column`")
    assert "no column tale; it has id, story" in refusal(path, text_column="tale")


def test_an_unknown_sample_lists_those_there_are() -> None:
    text = refusal("sample:instructions")
    assert "there are sample:docstrings and sample:python_docs" in text


# --- samples -------------------------------------------------------------------------------------


def test_docstrings_of_a_module_stand_in_order_and_dedented() -> None:
    ((source, text),) = docstring_documents(("textwrap",))
    assert source == "docstrings/textwrap"
    assert text.startswith("Text wrapping and filling.\n\n")
    parts = [
        "Object for wrapping/filling text.",
        "Reformat the single paragraph in 'text' to fit in lines of no more\nthan 'width'",
        "Remove any common leading whitespace from every line in `text`.",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "import re" not in text, "no code"


def test_every_module_of_a_package_is_a_document() -> None:
    documents = dict(docstring_documents(("json", "no_such_package", "sys")))
    # json.scanner has a docstring in one line and json.encoder many; builtins have no source.
    assert {"docstrings/json", "docstrings/json.decoder", "docstrings/json.encoder"} <= set(
        documents
    )
    assert list(documents) == sorted(documents)


def test_a_package_is_read_and_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "unheard_of"
    (package / "tests").mkdir(parents=True)
    (package / "_vendor").mkdir()
    (package / "__init__.py").write_text(
        '"""All of it."""\nraise RuntimeError("imported")\n'
        "if True:\n"
        "    def plain():\n"
        '        """One\n            two.\n        three.\n        """\n'
        "    class Kept:\n"
        "        async def later(self):\n"
        "            '''Later \\d.'''\n"
        "        def again(self):\n"
        "            '''Later \\d.'''\n"
        "try:\n"
        "    pass\n"
        "except OSError:\n"
        "    def rescue():\n"
        '        """Rescue."""\n'
    )
    (package / "template.py").write_text('"""Broken."""\ndef {{ name }}():\n')
    (package / "tests" / "test_it.py").write_text('"""A test."""\n')
    (package / "_vendor" / "other.py").write_text('"""Of somebody else."""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    documents = list(docstring_documents(("unheard_of",)))
    assert documents == [
        ("docstrings/unheard_of", "All of it.\n\nOne\n    two.\nthree.\n\nLater \\d.\n\nRescue.")
    ]
    assert "unheard_of" not in sys.modules


def test_topics_of_the_language_reference() -> None:
    documents = dict(topic_documents())
    assert len(documents) > 50
    assert "with" in documents["python_docs/with"]
    assert list(documents) == sorted(documents)
    assert read("sample:python_docs") == list(documents.items())


def test_a_python_without_its_topics_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data", types.ModuleType("pydoc_data"))
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert "sample:python_docs" in refusal("sample:python_docs")
