"""The files an evaluation reads, as stage folders: labelled pairs and scored responses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from selfreward.errors import DataError
from selfreward.evaluation.own_answers import metas_of
from selfreward.layout import join
from selfreward.loops.file_content import file_content
from selfreward.loops.in_training import in_training, told_of
from selfreward.loops.pairs import labelled_names
from selfreward.loops.sources import Source, build_folder
from selfreward.loops.steps import Run
from selfreward.records import DroppedRow, ResponsePair
from selfreward.stages.held_out import HeldOut
from selfreward.stages.in_training import NO_TRAINING, InTraining
from selfreward.stages.labelled import build_labelled, name_of_pair
from selfreward.stages.labelled_rows import SCORED, FileReading, has_lists, renamed
from selfreward.stages.row_limit import RowLimit
from selfreward.stages.scored import build_scored, is_scored
from selfreward.storage.shards import read_records, sealed_shards


def _by_id(pair: ResponsePair) -> str:
    return f"the pair {pair.id}"


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
    name_row: Callable[[ResponsePair], str] = field(default=_by_id, compare=False)
    """What messages call the row of a pair; it reads the file again."""

    def read_pairs(self) -> list[ResponsePair]:
        """The pairs, in the file's order; none of scored responses."""
        urls = sealed_shards(self.source.folder) if self.kind == "pairs" else []
        return [pair for url in urls for pair in read_records(url, ResponsePair)]

    def read_meta(self) -> dict[str, dict[str, Any]]:
        """What the file says of its pairs besides, by pair id, where it says anything."""
        return metas_of(self.read_pairs())


def build_data_sets(
    run: Run,
    paths: Sequence[str],
    columns: Mapping[str, str],
    limit: RowLimit | None,
    trained: InTraining = NO_TRAINING,
    keep_same: bool = False,
    reading: FileReading = SCORED,
) -> list[DataSet]:
    """Reads every file once into shards under the evaluation's folder, by short names.

    Rows with a prompt in `trained` are dropped, and without `keep_same` pairs of equal responses.

    Raises:
        DataError: a file is unreadable, of other columns, or without a usable row.
    """
    sets = []
    for name, path in labelled_names(paths).items():
        holds_scores = _holds_scores(path, columns, reading)
        kind: Literal["pairs", "scores"] = "scores" if holds_scores else "pairs"
        folder = join(run.layout.root, "data", name)
        config = run.config
        known_as, content = file_content(path)
        recipe = {
            "path": known_as,
            "content": content,
            "kind": kind,
            "max": None if limit is None else limit.recipe,
            "max_chars": config.evaluation.max_prompt_chars,
            "columns": dict(columns),
        }
        of_pairs = () if kind == "scores" else (keep_same,)
        if keep_same and kind == "pairs":
            recipe["keep_same"] = True
        if reading.styled and kind == "pairs":
            recipe["styled"] = True
        if reading.split != "train":
            recipe["split"] = reading.split
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
            reading,
            told=partial(told_of, name, kind),
        )
        source = Source.of(folder, manifest)
        name_row = partial(
            name_of_pair,
            path=path,
            max_chars=config.evaluation.max_prompt_chars,
            columns=columns,
            keep_same=keep_same,
            reading=reading,
        )
        sets.append(
            DataSet(name=name, kind=kind, source=source, dropped=manifest.drops, name_row=name_row)
        )
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


def _holds_scores(path: str, columns: Mapping[str, str], reading: FileReading) -> bool:
    """Whether the first row that is of either kind holds scored responses."""
    unreadable: list[DroppedRow] = []
    is_empty = True
    for raw in reading.rows(path, unreadable):
        is_empty = False
        row = renamed(raw, columns)
        if reading.styled and has_lists(row):
            return False
        if is_scored(row):
            return True
        if {"chosen", "rejected"} <= set(row):
            return False
    if is_empty and not unreadable:
        raise DataError(f"{path}: the file has no rows")
    return False
