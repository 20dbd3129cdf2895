"""Reading a user's pool: JSONL, Parquet or a Hugging Face dataset, one row at a time.

Rows that cannot be an instruction become drops with a reason; only a source that cannot be read
at all, or that has none of the wanted columns, is an error.
"""

import glob
import io
import json
import re
import zlib
from collections.abc import Iterator
from importlib.resources import files as package_files
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from selfreward.config import ColumnsConfig, PoolConfig
from selfreward.errors import DataError
from selfreward.records import DroppedRow, DropReason, Instruction, Message

_SHIPPED = "sample:"
SAMPLE = f"{_SHIPPED}instructions"

# Tried in this order where the config names no column.
_MESSAGES = ("messages", "conversation", "conversations", "prompt")
_INSTRUCTION = ("instruction", "prompt", "question", "query", "text")
PROMPT_COLUMNS = frozenset({*_MESSAGES, *_INSTRUCTION})
_REFERENCE = ("reference_answer", "reference", "answer")
_CATEGORY = ("category",)
_JSONL = re.compile(r"\.(jsonl?|ndjson)(\.(gz|bz2|xz|zst))?$")
# Half of a pair that was cut apart, as JSON escapes can write it: no file can hold it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# Speakers as data sets name them.
ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant"}
ROLES |= {"system": "system", "prompter": "user", "bot": "assistant", "model": "assistant"}


def read_rows(config: PoolConfig) -> Iterator[dict[str, Any]]:
    """Yields the source's rows as dictionaries, without holding the source in memory.

    Raises:
        DataError: the path is missing or unreadable; one line names it and the mend.
    """
    if is_sample(config.path):
        yield from _jsonl_lines(io.StringIO(sample_bytes(config.path).decode()), config.path)
        return
    kind = config.format if config.format != "auto" else _guess_format(config.path)
    if kind == "dataset":
        yield from _dataset_rows(config)
        return
    for url in _expand(config.path):
        yield from _parquet_rows(url) if kind == "parquet" else _jsonl_rows(url)


def to_instruction(
    row: dict[str, Any], columns: ColumnsConfig, source: str, max_chars: int
) -> Instruction | DroppedRow:
    """Maps one row to an instruction, or says why it is none.

    The last assistant turns of a finished conversation are cut off: what remains ends with the
    user's turn, which is what the model has to answer. Characters that are no Unicode text become
    U+FFFD.
    """
    found = _conversation(row, columns)
    if isinstance(found, str):
        reason = DropReason.MISSING_COLUMN if found == "no column" else DropReason.BAD_CONVERSATION
        return _drop(row, reason, found)
    while found and found[-1].role == "assistant":
        found = found[:-1]
    if not found or found[-1].role != "user" or not found[-1].content.strip():
        return _drop(row, DropReason.EMPTY_INSTRUCTION, "nothing is asked")
    size = sum(len(m.content) for m in found)
    if size > max_chars:
        return _drop(row, DropReason.TOO_LONG, f"{size} characters, the limit is {max_chars}")
    reference = _first(row, columns.reference_answer, _REFERENCE)
    category = _first(row, columns.category, _CATEGORY)
    return Instruction.new(
        messages=found,
        source=clean_text(str(row.get("source") or source)),
        category=None if category is None else clean_text(str(category)),
        reference_answer=None if reference is None else clean_text(str(reference)),
    )


def has_prompt(row: dict[str, Any]) -> bool:
    """Whether a column of the usual names holds what is asked."""
    return _first(row, None, (*_MESSAGES, *_INSTRUCTION)) is not None


def clean_text(text: str) -> str:
    return _LONE_SURROGATE.sub("\ufffd", text)


def _drop(row: dict[str, Any], reason: DropReason, detail: str) -> DroppedRow:
    shown = str(row.get("id") or json.dumps(row, ensure_ascii=False, default=str))[:200]
    return DroppedRow(row_id=clean_text(shown), stage="pool", reason=reason, detail=detail)


def check_columns(first_row: dict[str, Any], columns: ColumnsConfig, path: str) -> None:
    """Raises DataError when a pool has no column that can hold an instruction."""
    for wanted in columns.model_dump().values():
        if wanted is not None and wanted not in first_row:
            raise DataError(
                f"{path}: no column {wanted!r}; it has {sorted(first_row)}; set pool.columns"
            )
    known = [columns.messages, columns.instruction, *_MESSAGES, *_INSTRUCTION]
    if not any(name in first_row for name in known if name):
        raise DataError(
            f"{path}: no column holds instructions; it has {sorted(first_row)}; name one with"
            " pool.columns.messages or pool.columns.instruction"
        )


def _first(
    row: dict[str, Any], named: str | None, usual: tuple[str, ...], kind: type = object
) -> Any:
    for name in (named,) if named else usual:
        if row.get(name) is not None and isinstance(row[name], kind):
            return row[name]
    return None


def _conversation(row: dict[str, Any], columns: ColumnsConfig) -> list[Message] | str:
    turns = None
    if columns.instruction is None:
        turns = _first(row, columns.messages, _MESSAGES, list)
    if turns is not None:
        return _turns(turns)
    text = _first(row, columns.instruction, _INSTRUCTION, str)
    if text is not None:
        return [Message(role="user", content=clean_text(text))]
    return "no column"


def _turns(turns: list[Any]) -> list[Message] | str:
    messages: list[Message] = []
    for turn in turns:
        if not isinstance(turn, dict):
            return "a turn is not a mapping of role and content"
        role = ROLES.get(str(turn.get("role", turn.get("from"))))
        content = turn.get("content", turn.get("value"))
        if role is None or not isinstance(content, str):
            return f"a turn has role {turn.get('role', turn.get('from'))!r} or no text"
        if role == "system" and messages:
            return "a system turn after the first"
        if messages and messages[-1].role == role:
            return f"two {role} turns in a row"
        messages.append(Message(role=role, content=clean_text(content)))  # type: ignore[arg-type]
    return messages


def _guess_format(path: str) -> str:
    if _JSONL.search(path):
        return "jsonl"
    if path.endswith((".parquet", ".pq")):
        return "parquet"
    return "dataset"


def _expand(path: str) -> list[str]:
    try:
        fs, inner = fsspec.core.url_to_fs(path)
        found = sorted(fs.glob(inner)) if glob.has_magic(inner) else [inner]
        if found and all(fs.isfile(f) for f in found):
            return [fs.unstrip_protocol(f) for f in found]
    except Exception as error:  # each object store has exceptions of its own
        raise DataError(f"cannot read {path}: {_line(error)}") from None
    raise DataError(f"no file at {path}; set pool.path to a file, a glob or a dataset")


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def is_sample(path: str) -> bool:
    """Whether the path names data shipped with the package."""
    return path.startswith(_SHIPPED)


def sample_bytes(path: str) -> bytes:
    """Returns a shipped file; raises DataError if there is none of that name."""
    folder = package_files("selfreward.samples")
    shipped = {
        _SHIPPED + file.name.removesuffix(".jsonl"): file
        for file in folder.iterdir()
        if file.name.endswith(".jsonl")
    }
    if path not in shipped:
        raise DataError(f"no sample {path} is shipped; there are {', '.join(sorted(shipped))}")
    return shipped[path].read_bytes()


def _jsonl_rows(url: str) -> Iterator[dict[str, Any]]:
    try:
        # utf-8-sig: some editors put a byte order mark in front.
        with fsspec.open(url, "rt", encoding="utf-8-sig", compression="infer") as file:
            yield from _jsonl_lines(file, url)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        # EOFError: compressed and cut off; ValueError: not UTF-8, or an unknown compression.
        raise DataError(f"cannot read {url}: {_line(error)}") from None


def _jsonl_lines(file: Any, url: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise DataError(
                f"{url}, line {number}: not JSON; one object a line is wanted"
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{url}, line {number}: a {type(row).__name__}, not an object")
        yield row


def _parquet_rows(url: str) -> Iterator[dict[str, Any]]:
    try:
        with fsspec.open(url, "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot read {url} as Parquet: {_line(error)}") from None


def _dataset_rows(config: PoolConfig) -> Iterator[dict[str, Any]]:
    import datasets  # heavy, and only some pools need it

    path, split = config.path, config.dataset_split
    try:
        fs, inner = fsspec.core.url_to_fs(path)
        if fs.isfile(inner):
            raise DataError(f"{path}: its ending names no format; set pool.format")
        if fs.isdir(inner):
            loaded = datasets.load_from_disk(path)
        else:
            loaded = datasets.load_dataset(path, config.dataset_config, split=split, streaming=True)
    except DataError:
        raise
    except Exception as error:  # `datasets` raises a different class for each kind of miss
        raise DataError(
            f"no file, saved dataset or reachable hub dataset at {path} ({_line(error)})"
        ) from None
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise DataError(
                f"{path} has no split {split!r}; set pool.dataset_split to one of {list(loaded)}"
            )
        loaded = loaded[split]
    yield from loaded
