"""The lineage of an id: found by its links through the stage folders of a run, of either loop.

Backwards: all that the record was made from. Forwards: all that was made from it. Beside: every
reading of the responses and pairs found, the training rows about the same thing, the drops of any
id found, and the examples shown for a created instruction (their own examples are another
`explain` away). Instructions created after the asked one are named, not followed.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from selfreward.errors import DataError
from selfreward.layout import Layout, absolute_path, join
from selfreward.loops.explain_prompts import READINGS, prompt_of, side_prompts
from selfreward.reports.lineage import Entry, Lineage, Shown, StageNote
from selfreward.storage import files
from selfreward.storage.find import FoundRow, RunShards, find_rows, resolve_id, run_shards
from selfreward.storage.id_columns import DEFINING, ID_PATTERN, ORIGINS, ids_in, kind_of
from selfreward.storage.manifest import Manifest, read_manifest

WRITTEN = ("own", "made")
SCORED = (*READINGS, "PairScore", "ResponseLikelihood")
TRAINING_ROWS = ("TrainingExample", "Preference")
WITH_INSTRUCTION = ("Instruction", "AnsweredInstruction", "CreatedInstruction")

_ITERATION = re.compile(r"(?:^|/)iter_(\d+)(?:/|$)")


def explain(run_dir: str, ident: str) -> Lineage:
    """Finds all that led to an id of a run, and all that became of it.

    `ident` may be the beginning of an id, at least six characters behind the dash.

    Raises:
        DataError: there is no run.
        UserError: the run has no such id, or several that begin so.
    """
    layout = Layout(absolute_path(run_dir))
    try:
        record = files.read_json(layout.run_json)
    except FileNotFoundError:
        raise DataError(f"no run at {layout.root}: it has no run.json") from None
    shards = run_shards(layout.root)
    target = resolve_id(shards, ident)
    found = _Search(shards, target)
    found.run()
    shown = _shown(shards, found.references())
    return _Notes(layout, shards).lineage(record.get("loop", ""), target, found, shown)


class _Search:
    """Collects rows outwards from the target; a row is kept once, with all its folders."""

    def __init__(self, shards: RunShards, target: str) -> None:
        self._shards = shards
        self.target = target
        self.rows: dict[tuple[str, ...], tuple[FoundRow, list[str]]] = {}
        self.drops: list[FoundRow] = []
        self.shown_for: list[str] = []

    def run(self) -> None:
        start = self._add(find_rows(self._shards, {self.target}, DEFINING))
        if not start:
            # A rejected answer has no record of its own; what mentions it holds its text.
            start = self._add(find_rows(self._shards, {self.target}, ORIGINS))
        self._backwards(start)
        origins = self._ids(WRITTEN)
        self._forwards(start)
        self._read(start)
        if not any(row.record in TRAINING_ROWS for row in start):
            about = origins | self._ids(ORIGINS)
            rows = find_rows(self._shards, about, ("parent",), TRAINING_ROWS)
            self._add(row for row in rows if row.row["pair_id"] in about)
        self.drops = list(
            find_rows(self._shards, self._ids(DEFINING) | {self.target}, ("dropped",))
        )
        used = find_rows(
            self._shards, {self.target}, ("shot",), ("CreatedInstruction",), columns=["id"]
        )
        self.shown_for = list(dict.fromkeys(row.row["id"] for row in used))

    def _add(self, rows: Iterable[FoundRow]) -> list[FoundRow]:
        """Keeps rows and returns those that are new."""
        new = []
        for found in rows:
            key = _key(found)
            if key not in self.rows:
                self.rows[key] = (found, [])
                new.append(found)
            kept, folders = self.rows[key]
            if _num_known(found.row) > _num_known(kept.row):
                self.rows[key] = (found, folders)  # sorted by a later stage
            if found.folder not in folders:
                folders.append(found.folder)
        return new

    def _ids(self, roles: Collection[str]) -> set[str]:
        return {i for row, _ in self.rows.values() for i in ids_in(row.record, row.row, roles)}

    def _backwards(self, rows: list[FoundRow]) -> None:
        asked: set[str] = set()
        while rows:
            wanted = {i for r in rows for i in ids_in(r.record, r.row, ORIGINS)} - asked
            asked |= wanted
            rows = self._add(find_rows(self._shards, wanted, DEFINING))

    def _forwards(self, start: list[FoundRow]) -> None:
        wanted = {self.target}
        for row in start:
            if row.row.get("id") == self.target:
                wanted |= set(ids_in(row.record, row.row, ("made",)))
        asked: set[str] = set()
        while wanted:
            asked |= wanted
            # Rows that were there already lead on as well.
            rows = list(find_rows(self._shards, wanted, ORIGINS))
            self._add(rows)
            made = {i for r in rows for i in ids_in(r.record, r.row, WRITTEN)}
            wanted = made - asked
        for prompt in start:
            if prompt.record == "CreationPrompt":
                self._written_after(prompt)

    def _written_after(self, prompt: FoundRow) -> None:
        """What was made of a prompt's completion: of the same round, after the same examples."""
        shots, where = prompt.row["shot_ids"], prompt.folder.split("/")
        found = find_rows(self._shards, set(shots), ("shot",), ("CreatedInstruction",))
        self._add(
            row
            for row in found
            if row.row["shot_ids"] == shots and row.folder.split("/")[::2] == where[::2]
        )

    def _read(self, start: list[FoundRow]) -> None:
        """Every draw about what was found, and what compares those a preference is made of."""
        self._add(find_rows(self._shards, self._ids(WRITTEN), ("parent",), SCORED))
        sides = {row.row[s] for row in start if row.record == "Preference" for s in _SIDES}
        if any(kind_of(side) == "rat" for side in sides):
            ratings = {r.row["id"] for r, _ in self.rows.values() if r.record == "Rating"}
            pairs = self._add(find_rows(self._shards, ratings, ("parent",), ("RatingPair",)))
            compared = {row.row["id"] for row in pairs}
            self._add(find_rows(self._shards, compared, ("parent",), SCORED))

    def references(self) -> set[str]:
        """Ids whose texts are told beside: examples shown, and what drops refer to."""
        return self._ids(("shot",)) | {i for d in self.drops for i in refers_to(d.row)}


_SIDES = ("chosen_id", "rejected_id")


def _key(found: FoundRow) -> tuple[str, ...]:
    row = found.row
    if found.record == "CreatedInstruction":
        # The same instruction may be written twice: in another iteration, or in one round after
        # other examples. As written and as kept it is the same.
        where = _ITERATION.search(found.folder)
        numbers = (str(row[name]) for name in ("round", "draw", "part"))
        written = (where[1] if where else "", *numbers, *row["shot_ids"], row["text"])
        return (found.record, row["id"], *written)
    return (found.record, row["id"])


def _num_known(row: Mapping[str, Any]) -> int:
    return sum(value is not None for value in row.values())


def refers_to(drop: Mapping[str, Any]) -> list[str]:
    """Ids named in a drop's detail, such as the earlier of two duplicates."""
    return list(dict.fromkeys(re.findall(rf"\b{ID_PATTERN}\b", drop["detail"])))


def _shown(shards: RunShards, ids: set[str]) -> dict[str, Shown]:
    found: dict[str, Shown] = {}
    for row in find_rows(shards, ids, ("own", "copy"), WITH_INSTRUCTION):
        instruction = row.row if row.record == "Instruction" else row.row["instruction"]
        ident = instruction["id"]
        folders = found[ident].folders if ident in found else ()
        if row.folder not in folders:
            folders = tuple(sorted((*folders, row.folder)))
        found[ident] = Shown(messages=instruction["messages"], folders=folders)
    return found


class _Notes:
    """What the manifests of a run say of the folders rows were found in."""

    def __init__(self, layout: Layout, shards: RunShards) -> None:
        self._layout = layout
        self._shards = shards
        self._manifests: dict[str, Manifest | None] = {}

    def lineage(self, loop: str, target: str, found: _Search, shown: dict[str, Shown]) -> Lineage:
        entries = tuple(
            Entry(
                record=row.record,
                id=row.row["id"],
                row=row.row,
                folders=tuple(folders),
                trained=self._trained(folders) if row.record in TRAINING_ROWS else (),
            )
            for row, folders in found.rows.values()
        )
        drops = tuple(
            d.row | {"folder": d.folder, "refers_to": refers_to(d.row)} for d in found.drops
        )
        folders = {f for e in entries for f in e.folders} | {d.folder for d in found.drops}
        trained = {i for e in entries for i in e.trained}
        folders |= {Layout("").training(i).strip("/") for i in trained}
        notes = {f: m for f in sorted(folders) if (m := self._of(f)) is not None}
        recipes = {f: m.recipe for f, m in notes.items()}
        return Lineage(
            run=self._layout.root,
            loop=loop,
            target=target,
            entries=entries,
            drops=drops,
            shown=shown,
            shown_for=tuple(found.shown_for),
            prompt=prompt_of(target, entries, shown, recipes),
            side_prompts=side_prompts(target, entries, shown, recipes),
            stages={
                folder: StageNote(
                    stage=m.stage, status=m.status, recipe=m.recipe, versions=m.versions
                )
                for folder, m in notes.items()
            },
            unread=tuple(self._shards.unread),
        )

    def _of(self, folder: str) -> Manifest | None:
        return self._read(join(self._layout.root, folder))

    def _read(self, url: str) -> Manifest | None:
        if url not in self._manifests:
            self._manifests[url] = read_manifest(url)
        return self._manifests[url]

    def _trained(self, folders: Iterable[str]) -> tuple[int, ...]:
        """Iterations whose training has read one of these folders, by its fingerprint."""
        made = {m.fingerprint for f in folders if (m := self._of(f)) is not None}
        read = []
        for iteration in self._iterations():
            training = self._read(self._layout.training(iteration))
            if training is not None and training.is_complete and made & _texts(training.recipe):
                read.append(iteration)
        return tuple(read)

    def _iterations(self) -> list[int]:
        names = (name for names in self._shards.shards.values() for name in names)
        return sorted({int(found[1]) for n in names if (found := _ITERATION.search(n))})


def _texts(recipe: Mapping[str, Any]) -> set[str]:
    """Every text of a recipe, those in lists too: fingerprints are among them."""
    found: set[str] = set()
    for value in recipe.values():
        found.update(v for v in (value if isinstance(value, list) else [value]) if type(v) is str)
    return found
