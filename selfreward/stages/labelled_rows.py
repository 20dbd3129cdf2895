"""Rows of a user's labelled files under our names, with lists of three styles made into pairs."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selfreward.config import PoolConfig
from selfreward.errors import DataError
from selfreward.metrics.protocols.rm_bench import STYLES
from selfreward.records import DroppedRow
from selfreward.stages.labelled_meta import meta_of
from selfreward.stages.row_files import SettingNames
from selfreward.stages.sources import PROMPT_COLUMNS, dropping, read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """How a labelled file is read, and what messages call the settings that say so.

    Example: `FileReading(names=SettingNames(path="--data", split="--split"), split="filtered")`
    """

    names: SettingNames
    split: str = "train"
    """Of a saved dataset or one on a hub."""
    styled: bool = False
    """Whether lists of `chosen` and `rejected` are the styles of RM-Bench, nine pairs a row."""

    def rows(self, path: str, dropped: list[DroppedRow]) -> Iterator[dict[str, Any]]:
        """Yields the rows as they stand; lines that are none are noted in `dropped`.

        Raises:
            DataError: the file is missing or unreadable.
        """
        config = PoolConfig(path=path, dataset_split=self.split)
        return read_rows(config, dropping(dropped, "labelled"), self.names)


def names_of(setting: str) -> SettingNames:
    """What messages call a setting that is a list of files."""
    return SettingNames(
        path=setting, format=f"{setting} to a .jsonl or .parquet file", split=setting
    )


LABELLED = FileReading(names=names_of("evaluation.labelled_pairs"))
SCORED = FileReading(names=names_of("evaluation.scored_responses"))


def renamed(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A row with the columns `columns` names under our names for them, where it has them."""
    named = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    row = {name: value for name, value in row.items() if name not in columns}
    if {"prompt", "messages"} & set(columns):
        # Of the usual names another one would come first.
        row = {name: value for name, value in row.items() if name not in PROMPT_COLUMNS}
    return row | named


def has_lists(row: Mapping[str, Any]) -> bool:
    """Whether `chosen` and `rejected` are lists of texts (turns of a conversation are no texts)."""
    return all(
        isinstance(row.get(side), list) and all(isinstance(t, str) for t in row[side])
        for side in ("chosen", "rejected")
    )


def styled_pairs(row: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The nine pairs of a row as RM-Bench is published (arXiv 2410.16184); another row as it is.

    `chosen` and `rejected` are three responses each, in the order of `STYLES`, which each pair's
    `meta` names; `domain` is the subset unless there is one. `where` names the row.

    Raises:
        DataError: the lists are not of three.
    """
    if not has_lists(row):
        return [row]
    chosen, rejected = row["chosen"], row["rejected"]
    if not len(chosen) == len(rejected) == len(STYLES):
        raise DataError(
            f"{where} has {len(chosen)} chosen and {len(rejected)} rejected responses; RM-Bench has"
            f" three of each: {', '.join(STYLES)}"
        )
    said = meta_of(row) or {}
    return [
        row
        | {
            "chosen": better,
            "rejected": worse,
            "subset": row.get("subset") or row.get("domain"),
            "meta": said | {"chosen_style": style, "rejected_style": other},
        }
        for style, better in zip(STYLES, chosen, strict=True)
        for other, worse in zip(STYLES, rejected, strict=True)
    ]


def row_name(number: int, row: Mapping[str, Any]) -> str:
    """What messages call a row: its number, from 1, and its id where it has one."""
    return f"row {number}" if row.get("id") is None else f"row {number} (id {row['id']!r})"


def check_names(
    found: Collection[str], columns: Mapping[str, str], path: str, names: SettingNames
) -> None:
    """Raises DataError where no row of a file has a column that `columns` names."""
    for ours, theirs in columns.items():
        if found and theirs not in found:
            raise DataError(
                f"{path}: no column {theirs!r} (for {ours}); it has"
                f" {sorted(found)}{column_hint(names, ours)}"
            )


def column_hint(names: SettingNames, ours: str) -> str:
    """How another column is named, for the end of a message; empty where nothing maps columns."""
    return f"; name another with {names.column} {ours}=COLUMN" if names.column else ""
