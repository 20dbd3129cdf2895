"""The files an evaluation reads, as stage folders: labelled pairs and scored responses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

from selfreward.config import PoolConfig
from selfreward.errors import DataError
from selfreward.layout import join
from selfreward.loops.file_content import file_content
from selfreward.loops.in_training import in_training, told_of
from selfreward.loops.pairs import labelled_names
from selfreward.loops.sources import Source, build_folder
from selfreward.loops.steps import Run
from selfreward.records import DroppedRow, ResponsePair
from selfreward.stages.held_out import HeldOut
from selfreward.stages.in_training import NO_TRAINING, InTraining
from selfreward.stages.labelled import build_labelled, renamed
from selfreward.stages.row_limit import RowLimit
from selfreward.stages.scored import build_scored, is_scored
from selfreward.stages.sources import dropping, read_rows
from selfreward.storage.shards import read_records, sealed_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One file, read into records.

    Example: `DataSet(name="pairs", kind="pairs", source=Source(…), dropped={"too_long": 1})`
    """

    name: str
    kind: Literal["pairs", "scores"]
    source: Source
    dropped: Mapping[str, int]
    """Rows of the file that could not be used, by reason."""

    def read_meta(self) -> dict[str, dict[str, Any]]:
        """What the file says of its pairs besides, by pair id, where it says anything."""
        if self.kind == "scores":
            return {}
        found = {}
        for url in sealed_shards(self.source.folder):
            for pair in read_records(url, ResponsePair):
                value = json.loads(pair.meta) if pair.meta else None
                if isinstance(value, dict):
                    found[pair.id] = value
        return found


def build_data_sets(
    run: Run,
    paths: Sequence[str],
    columns: Mapping[str, str],
    limit: RowLimit | None,
    trained: InTraining = NO_TRAINING,
    keep_same: bool = False,
) -> list[DataSet]:
    """Reads every file once into shards under the evaluation's folder, by short names.

    Rows with a prompt in `trained` are dropped, and without `keep_same` pairs of equal responses.

    Raises:
        DataError: a file is unreadable, of other columns, or without a usable row.
    """
    sets = []
    for name, path in labelled_names(paths).items():
        kind: Literal["pairs", "scores"] = "scores" if _holds_scores(path, columns) else "pairs"
        folder = join(run.layout.root, "data", name)
        config = run.config
        known_as, content = file_content(path)
        recipe = {
            "path": known_as,
            "content": content,
            "kind": kind,
            "max": None if limit is None else asdict(limit),
            "max_chars": config.evaluation.max_prompt_chars,
            "columns": dict(columns),
        }
        of_pairs = () if kind == "scores" else (keep_same,)
        if keep_same and kind == "pairs":
            recipe["keep_same"] = True
        manifest = build_folder(
            run,
            folder,
            "labelled",
            recipe,
            build_scored if kind == "scores" else build_labelled,
            path,
            folder,
            config.pool.shard_size,
            limit,
            config.evaluation.max_prompt_chars,
            dict(columns),
            trained,
            *of_pairs,
            told=partial(told_of, name, kind),
        )
        source = Source.of(folder, manifest)
        sets.append(DataSet(name=name, kind=kind, source=source, dropped=manifest.drops))
    return sets


def build_scored_sets(run: Run) -> dict[str, Source]:
    """The responses with people's scores that a run is measured on, by their short names.

    Those to prompts that the run trains on by now are left out.

    Raises:
        DataError: a file is unreadable or holds no scored responses.
    """
    config = run.config.evaluation
    most = config.max_scored_responses
    limit = (
        None
        if most is None
        else RowLimit(most, whole_prompts=True, setting="evaluation.max_scored_responses")
    )
    sets = build_data_sets(run, config.scored_responses, {}, limit, in_training(run))
    for found in sets:
        if found.kind != "scores":
            raise DataError(
                f"evaluation.scored_responses: {found.name} holds pairs; name it under"
                " evaluation.labelled_pairs"
            )
    return {found.name: found.source for found in sets}


def held_out_of(labelled: Mapping[str, Source], scored: Mapping[str, Source]) -> HeldOut:
    """What the user's files measure models on, to be kept out of all that is trained on.

    It enters no recipe: what was made before a file was named stays, and the file is measured
    without it (`loops/in_training.py`).
    """
    return HeldOut(
        pairs=[url for source in labelled.values() for url in sealed_shards(source.folder)],
        scored=[url for source in scored.values() for url in sealed_shards(source.folder)],
    )


def instructions_aside(source: Source) -> HeldOut:
    """A pool's held-out part, as what is held out."""
    return HeldOut(instructions=sealed_shards(source.folder), fingerprints=(source.fingerprint,))


def _holds_scores(path: str, columns: Mapping[str, str]) -> bool:
    """Whether the first row that is of either kind holds scored responses."""
    unreadable: list[DroppedRow] = []
    is_empty = True
    for raw in read_rows(PoolConfig(path=path), dropping(unreadable, "labelled")):
        is_empty = False
        row = renamed(raw, columns)
        if is_scored(row):
            return True
        if {"chosen", "rejected"} <= set(row):
            return False
    if is_empty and not unreadable:
        raise DataError(f"{path}: the file has no rows")
    return False
