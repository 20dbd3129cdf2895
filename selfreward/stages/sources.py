"""Reading a user's pool: JSONL, Parquet or a Hugging Face dataset, one row at a time.

Rows that cannot be an instruction become drops with a reason; only a source that cannot be read
at all, or that has none of the wanted columns, is an error.
"""

import difflib
import io
import json
import re
from collections.abc import Collection, Iterator
from importlib.resources import files as package_files
from typing import Any

from selfreward.config import ColumnsConfig, PoolConfig
from selfreward.errors import DataError
from selfreward.records import DroppedRow, DropReason, Instruction, Message
from selfreward.stages.row_files import (
    POOL_NAMES,
    SettingNames,
    Unreadable,
    dataset_rows,
    expand,
    file_rows,
    guess_format,
    jsonl_lines,
    refuse_line,
)

_SHIPPED = "sample:"
SAMPLE = f"{_SHIPPED}instructions"

# Tried in this order where the config names no column.
_MESSAGES = ("messages", "conversation", "conversations", "prompt")
_INSTRUCTION = ("instruction", "prompt", "question", "query", "text")
PROMPT_COLUMNS = frozenset({*_MESSAGES, *_INSTRUCTION})
_REFERENCE = ("reference_answer", "reference", "answer")
_CATEGORY = ("category",)
# Half of a pair that was cut apart, as JSON escapes can write it: no file can hold it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# Speakers as data sets name them.
ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant"}
ROLES |= {"system": "system", "prompter": "user", "bot": "assistant", "model": "assistant"}


def read_rows(
    config: PoolConfig, unreadable: Unreadable = refuse_line, names: SettingNames = POOL_NAMES
) -> Iterator[dict[str, Any]]:
    """Yields the source's rows as dictionaries, without holding the source in memory.

    `unreadable` is told of each line that is no row; by default it is an error. `names` says what
    messages call the settings that the source was named by.

    Raises:
        DataError: the path is missing or unreadable; one line names it and the mend.
    """
    if is_sample(config.path):
        yield from jsonl_lines(io.StringIO(sample_bytes(config.path).decode()), config.path)
        return
    kind = config.format if config.format != "auto" else guess_format(config.path)
    if kind == "dataset":
        yield from dataset_rows(config.path, config.dataset_split, config.dataset_config, names)
        return
    for url in expand(config.path, names):
        yield from file_rows(url, kind, unreadable)


def dropping(dropped: list[DroppedRow], stage: str) -> Unreadable:
    """For `read_rows`: notes lines that are no rows among the rows that a stage dropped."""

    def drop(where: str, why: str) -> None:
        row_id = where.rpartition("/")[2]
        dropped.append(
            DroppedRow(row_id=row_id, stage=stage, reason=DropReason.UNREADABLE, detail=why)
        )

    return drop


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


def check_columns(found: Collection[str], columns: ColumnsConfig, path: str) -> None:
    """Raises DataError when a pool lacks a column that is named, or any that can hold an
    instruction; `found` are those that one row or another has."""
    has = f"it has {sorted(found)}"
    for wanted in columns.model_dump().values():
        if wanted is not None and wanted not in found:
            near = difflib.get_close_matches(wanted, found, n=1)
            nearest = f", {near[0]!r} among them" if near else ""
            raise DataError(f"{path}: no column {wanted!r}; {has}{nearest}; set pool.columns")
    usual = (*_MESSAGES, *_INSTRUCTION)
    known = {columns.messages, columns.instruction, *usual}
    if known.isdisjoint(found):
        near = [name for name in sorted(found) if difflib.get_close_matches(name, usual, n=1)]
        example = near[0] if near else "COLUMN"
        raise DataError(
            f"{path}: no column holds instructions; {has}; name one with"
            f" pool.columns.instruction={example} or pool.columns.messages={example}"
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


def is_sample(path: str) -> bool:
    """Whether the path names data shipped with the package."""
    return path.startswith(_SHIPPED)


def is_shipped(path: str) -> bool:
    """Whether the path names a file shipped with the package; other samples are made here."""
    return path in _shipped_files()


def sample_bytes(path: str) -> bytes:
    """Returns a shipped file; raises DataError if there is none of that name."""
    shipped = _shipped_files()
    if path not in shipped:
        raise DataError(f"no sample {path} is shipped; there are {', '.join(sorted(shipped))}")
    return shipped[path].read_bytes()


def _shipped_files() -> dict[str, Any]:
    folder = package_files("selfreward.samples")
    return {
        _SHIPPED + file.name.removesuffix(".jsonl"): file
        for file in folder.iterdir()
        if file.name.endswith(".jsonl")
    }
