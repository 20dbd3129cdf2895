"""What led to a record of a run and what became of it: rows, where they lie, how they were made."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record, and where it lies.

    Example: `Entry(record="TrainingExample", id="exa-9e…", row={…},
    folders=("iter_01/selected", "iter_01/examples"), trained=(1,))`
    """

    record: str
    id: str
    row: dict[str, Any]
    folders: tuple[str, ...]
    trained: tuple[int, ...] = ()
    """Iterations whose training read it."""

    @property
    def inside(self) -> list[str]:
        """Its own id and those of the records that stand in it."""
        row = self.row
        held = [row[n] for n in ("instruction", "response") if isinstance(row.get(n), dict)]
        return [self.id, *(r["id"] for r in [*held, *row.get("responses", ())])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An instruction that was shown as an example, or that a drop refers to.

    Example: `Shown(messages=[{"role": "user", "content": "Name a river."}],
    folders=("seeds/ift",))`
    """

    messages: list[dict[str, str]]
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageNote:
    """What a stage's manifest says of how its output was made.

    Example: `StageNote(stage="judge", status="complete", recipe={"judge.num_draws": 15, …},
    versions={"vllm": "0.29.0", …})`
    """

    stage: str
    status: str
    recipe: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The whole lineage of one id of a run; `dataclasses.asdict` makes it JSON-ready.

    Example: `Lineage(run="runs/a", loop="self_taught", target="exa-9e…", entries=(Entry(…), …),
    drops=({"row_id": "pair-0c…/chosen_first", "folder": "iter_01/selected", …},), …)`
    """

    run: str
    loop: str
    target: str
    entries: tuple[Entry, ...]
    drops: tuple[dict[str, Any], ...] = ()
    """Dropped rows of these ids, with the folder of the stage that dropped them."""
    shown: dict[str, Shown] = field(default_factory=dict)
    """Instructions shown as examples, or that drops refer to, by id."""
    shown_for: tuple[str, ...] = ()
    """Instructions that were written with the target as an example."""
    prompt: list[dict[str, str]] | None = None
    """What the model read, where the target is a reading or a created instruction."""
    side_prompts: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """What the judge of each response read, where the target is a preference of two."""
    stages: dict[str, StageNote] = field(default_factory=dict)
    """By folder."""
    unread: tuple[str, ...] = ()
    """Folders whose shards this version cannot read."""
