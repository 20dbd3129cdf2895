"""Which columns of the stored records hold ids, and what those ids are to the row."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from selfreward.records import ID_HEX_CHARS

Role = Literal["own", "made", "copy", "group", "parent", "shot", "dropped"]

DEFINING: tuple[Role, ...] = ("own", "made", "copy", "group")
"""Columns of ids whose content stands in the row."""
ORIGINS: tuple[Role, ...] = ("parent", "copy")
"""Columns of ids of what the row was made from."""

ID_PATTERN = rf"[a-z]+-[0-9a-f]{{{ID_HEX_CHARS}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdColumn:
    """A column of ids and what they are to the row.

    Example: `IdColumn(path="responses.list.element.id", role="made", kinds=("res",))`
    """

    path: str
    """As Parquet names it."""
    role: Role
    """`own`: the record's id; `made`: of a record made with it and kept inside; `copy`: of an
    earlier record kept inside; `group`: shared by several rows; `parent`: of what it was made
    from; `shot`: shown as an example; `dropped`: of a row that left."""
    kinds: tuple[str, ...] = ()
    """What stands before the dash of the ids; empty: anything."""


def _column(path: str, role: Role, *kinds: str) -> IdColumn:
    return IdColumn(path=path, role=role, kinds=kinds)


ID_COLUMNS: dict[str, tuple[IdColumn, ...]] = {
    "Instruction": (_column("id", "own", "ins"),),
    "AnsweredInstruction": (
        _column("id", "own", "ans"),
        _column("instruction.id", "copy", "ins"),
        _column("response.id", "made", "res"),
    ),
    "CreationPrompt": (
        _column("id", "own", "cre"),
        _column("shot_ids.list.element", "shot", "ins"),
    ),
    "CreatedInstruction": (
        _column("id", "own", "ins"),
        _column("shot_ids.list.element", "shot", "ins"),
    ),
    "SampledInstruction": (
        _column("id", "own", "ins"),
        _column("instruction.id", "copy", "ins"),
        _column("responses.list.element.id", "made", "res"),
    ),
    "ScoredResponse": (_column("id", "own"), _column("group", "group")),
    "ResponsePair": (
        _column("id", "own", "pair"),
        _column("instruction_id", "parent", "ins"),
        _column("chosen_id", "parent"),
        _column("rejected_id", "parent"),
    ),
    "Judgment": (_column("id", "own", "jud"), _column("pair_id", "parent")),
    "Rating": (_column("id", "own", "rat"), _column("response_id", "parent")),
    "PairScore": (_column("id", "own", "psc"), _column("pair_id", "parent")),
    "BestOfReading": (_column("id", "own", "bor"),),
    "ResponseLikelihood": (_column("id", "own", "lik"), _column("response_id", "parent")),
    "RatingPair": (
        _column("id", "own", "rap"),
        _column("response.id", "parent"),
        _column("first.id", "parent", "rat"),
        _column("second.id", "parent", "rat"),
    ),
    "TrainingExample": (
        _column("id", "own", "exa"),
        _column("pair_id", "parent"),
        _column("judgment_id", "parent"),
    ),
    "Preference": (
        _column("id", "own", "pre"),
        _column("pair_id", "parent"),
        _column("chosen_id", "parent"),
        _column("rejected_id", "parent"),
    ),
    "Document": (_column("id", "own", "doc"),),
    "TaskItem": (_column("id", "own", "task"),),
    "TaskAnswer": (
        _column("id", "own", "tan"),
        _column("item.id", "copy", "task"),
        _column("response.id", "made", "res"),
    ),
    "Ranking": (_column("id", "own", "rank"),),
    "AnswerReward": (
        _column("id", "own", "rew"),
        _column("item_id", "parent", "task"),
        _column("response_id", "parent", "res"),
    ),
    "ScoredRanking": (_column("id", "own", "srk"), _column("ranking.id", "copy", "rank")),
    "DroppedRow": (_column("row_id", "dropped"),),
}


def ids_in(record: str, row: dict[str, Any], roles: Collection[str]) -> list[str]:
    """The ids a row holds in columns of these roles, in the order of its columns."""
    found: list[str] = []
    for column in ID_COLUMNS[record]:
        if column.role not in roles:
            continue
        values: list[Any] = [row]
        for part in column.path.split("."):
            if part == "element":
                values = [inner for value in values for inner in value or ()]
            elif part != "list":
                values = [value[part] for value in values if value is not None]
        found += [v for v in values if v is not None]
    return found


def kind_of(ident: str) -> str:
    """What stands before the dash of an id."""
    return ident.partition("-")[0]
