"""From rows of files to exercises: prompts in every form, a target, checks, and what is asked.

A row is a conversation (`messages`, with a target or answered turns), columns that prompt forms
name, or a single prompt column. Rows of samples bring their own forms in `templates`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfreward.config import ColumnsConfig, PoolConfig
from selfreward.config_custom_llm import TasksConfig
from selfreward.errors import ConfigError, DataError
from selfreward.judging.checks import check_known, passes
from selfreward.judging.filters import exact_key, normalised_text
from selfreward.judging.ifeval import from_ifeval
from selfreward.records import Conversation, DroppedRow, DropReason, Message, content_id
from selfreward.records_custom_llm import Check
from selfreward.stages.row_files import (
    SettingNames,
    dataset_rows,
    expand,
    file_rows,
    guess_format,
)
from selfreward.stages.sources import (
    ROLES,
    clean_text,
    has_prompt,
    is_sample,
    read_rows,
    to_instruction,
)
from selfreward.text.task_templates import check_templates, columns_of, fill

STAGE = "tasks"

_CONVERSATIONS = ("messages", "conversation", "conversations", "prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedTask:
    """An exercise with its prompt in every form.

    Example: `PosedTask(key="exe-5d…", task="plural", prompts=((Message(role="user",
    content="Write the plural of the old box."),),), target="the old boxes", checks=())`
    """

    key: str
    """What is asked, whatever the form: all of one key are trained on, or none is."""
    task: str
    prompts: tuple[Conversation, ...]
    target: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReading:
    """How the rows of one file are read.

    Example: `RowReading(where="tasks.jsonl", task="tasks", templates=("Translate: {en}",),
    target_column="de", max_chars=4000)`
    """

    where: str
    """The file, for messages and as the source."""
    task: str
    """Of rows that name none."""
    templates: tuple[str, ...]
    target_column: str
    max_chars: int


def reading_of(path: str, config: TasksConfig, max_chars: int, setting: str) -> RowReading:
    """How a section reads one of its files; mappings go by the file's name, or its task: the name
    up to the first dot.

    Raises:
        ConfigError: a mapping names a file that the section does not read.
    """
    known = {name for file in config.data for name in _names(file)}
    for what, given in (("templates", config.templates), ("target_column", config.target_column)):
        unknown = [n for n in given if n not in known] if isinstance(given, dict) else []
        if unknown:
            raise ConfigError(
                f"{setting}.{what} names {unknown[0]!r}, which is no file of {setting}.data;"
                f" there are {', '.join(sorted(name for name, _ in map(_names, config.data)))}"
            )
    name, task = _names(path)
    templates, target = config.templates, config.target_column
    if isinstance(templates, dict):
        templates = templates.get(name, templates.get(task, ()))
    if isinstance(target, dict):
        target = target.get(name, target.get(task, "target"))
    return RowReading(
        where=path, task=task, templates=templates, target_column=target, max_chars=max_chars
    )


def _names(path: str) -> tuple[str, str]:
    """A file's name, and the task that its rows are of unless they say it themselves."""
    name = path.rstrip("/").rpartition("/")[2]
    return name, name.partition(".")[0]


def raw_rows(path: str, setting: str) -> Iterator[dict[str, Any]]:
    """Rows of a file, a saved dataset or a shipped sample; `setting` names it in messages.

    Raises:
        DataError: the path is missing or unreadable.
    """
    names = SettingNames(path=setting, format=setting, split=setting)
    if is_sample(path):
        yield from read_rows(PoolConfig(path=path))
    elif (kind := guess_format(path)) == "dataset":
        yield from dataset_rows(path, "train", None, names)
    else:
        for url in expand(path, names):
            yield from file_rows(url, kind)


def check_first_row(row: Mapping[str, Any], reading: RowReading) -> None:
    """Raises ConfigError or DataError where a file lacks what its rows need."""
    if _turns_of(row) is None and not row.get("templates"):
        if reading.templates:
            check_templates(reading.templates, list(row), reading.where)
        elif not has_prompt(dict(row)):
            raise DataError(
                f"{reading.where}: tasks need messages, a prompt, or columns and `templates` that"
                f" name them; it has {sorted(row)}"
            )
    turns = _turns_of(row)
    if reading.target_column not in row and not (turns and any(_is_answer(t) for t in turns)):
        raise DataError(
            f"{reading.where}: no column {reading.target_column!r} holds the target; it has"
            f" {sorted(row)}; set target_column"
        )


def row_checks(row: Mapping[str, Any], where: str) -> tuple[Check, ...]:
    """The checks of a row: its `checks` ({kind, args}), or those of IFEval's columns.

    Raises:
        DataError: a check is unknown or has wrong arguments; the line names the file.
    """
    try:
        if row.get("checks") is None:
            return from_ifeval(row) or ()
        checks = []
        for found in row["checks"]:
            if not isinstance(found, Mapping) or "kind" not in found:
                raise DataError(f"a check is {{kind, args}}, not {found!r}")
            args = tuple(str(arg) for arg in found.get("args") or ())
            checks.append(Check(kind=str(found["kind"]), args=args))
            check_known(checks[-1])
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return tuple(checks)


def posed_tasks(row: Mapping[str, Any], reading: RowReading) -> list[PosedTask | DroppedRow]:
    """The exercises of a row: one, or of a conversation without target one for every answer in it.

    Raises:
        ConfigError: a prompt form names a column the row lacks.
        DataError: a check is unknown or has wrong arguments.
    """
    task = clean_text(str(row.get("task") or reading.task))
    checks = row_checks(row, reading.where)
    target = _target(row.get(reading.target_column))
    turns = _turns_of(row)
    if turns is not None:
        made = _of_conversation(row, turns, target, task, checks, reading)
    elif templates := tuple(row.get("templates") or reading.templates):
        made = [_of_columns(row, templates, target, task, checks, reading)]
    else:
        made = [_of_prompt(dict(row), target, task, checks, reading)]
    return [_usable(m, reading.max_chars) if isinstance(m, PosedTask) else m for m in made]


def _target(value: Any) -> str | None:
    """A target as text; numbers of a table are written out."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return clean_text(str(value)).strip()


def _turns_of(row: Mapping[str, Any]) -> list[Any] | None:
    return next((row[name] for name in _CONVERSATIONS if isinstance(row.get(name), list)), None)


def _is_answer(turn: Any) -> bool:
    role = str(turn.get("role", turn.get("from"))) if isinstance(turn, dict) else ""
    return ROLES.get(role) == "assistant"


def _of_conversation(
    row: Mapping[str, Any],
    turns: Sequence[Any],
    target: str | None,
    task: str,
    checks: tuple[Check, ...],
    reading: RowReading,
) -> list[PosedTask | DroppedRow]:
    if target is not None:
        if turns and _is_answer(turns[-1]):
            detail = "messages end with an answer, and there is a target besides"
            return [_drop(str(row.get("id") or task), DropReason.BAD_CONVERSATION, detail)]
        return [_of_prompt({"messages": list(turns)}, target, task, checks, reading)]
    ends = [index for index, turn in enumerate(turns) if _is_answer(turn)]
    made: list[PosedTask | DroppedRow] = []
    for end in ends:
        answer = _target(turns[end].get("content", turns[end].get("value")))
        # The row's checks are about its last answer.
        about = checks if end == ends[-1] else ()
        made.append(_of_prompt({"messages": list(turns[:end])}, answer, task, about, reading))
    return made or [_no_target(str(row.get("id") or task))]


def _of_prompt(
    row: dict[str, Any],
    target: str | None,
    task: str,
    checks: tuple[Check, ...],
    reading: RowReading,
) -> PosedTask | DroppedRow:
    found = to_instruction(row, ColumnsConfig(), reading.where, reading.max_chars)
    if isinstance(found, DroppedRow):
        return replace(found, stage=STAGE)
    if not target:
        return _no_target(found.id)
    # By how the conversation begins: those that part later are not told apart by the split. The
    # task is left out, since the same rows in two files are named by their files.
    first = next(i for i, turn in enumerate(found.messages) if turn.role == "user")
    key = content_id("exe", exact_key(found.messages[: first + 1]))
    return PosedTask(key=key, task=task, prompts=(found.messages,), target=target, checks=checks)


def _of_columns(
    row: Mapping[str, Any],
    templates: tuple[str, ...],
    target: str | None,
    task: str,
    checks: tuple[Check, ...],
    reading: RowReading,
) -> PosedTask | DroppedRow:
    check_templates(templates, list(row), reading.where)
    columns = columns_of(templates)
    key = content_id("exe", task, [normalised_text(str(row[name])) for name in sorted(columns)])
    empty = [name for name in columns if row[name] is None]
    if empty:
        return _drop(key, DropReason.MISSING_COLUMN, f"no value in {empty[0]}")
    if not target:
        return _no_target(key)
    texts = [clean_text(fill(template, row)) for template in templates]
    prompts = tuple((Message(role="user", content=text),) for text in texts)
    return PosedTask(key=key, task=task, prompts=prompts, target=target, checks=checks)


def _usable(posed: PosedTask, max_chars: int) -> PosedTask | DroppedRow:
    size = max(sum(len(m.content) for m in prompt) for prompt in posed.prompts)
    size += len(posed.target)
    if size > max_chars:
        detail = f"{size} characters, the limit is {max_chars}"
        return _drop(posed.key, DropReason.TOO_LONG, detail)
    for check in posed.checks:
        if not passes(check, posed.target):
            detail = f"the target itself does not pass {check.kind}{list(check.args)}"
            return _drop(posed.key, DropReason.LOW_QUALITY, detail)
    return posed


def _no_target(row_id: str) -> DroppedRow:
    return _drop(row_id, DropReason.EMPTY_RESPONSE, "the row has no target")


def _drop(row_id: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=clean_text(row_id), stage=STAGE, reason=reason, detail=detail)
