"""What a run made, as Hugging Face `datasets` that other tools read as they are.

Rows are in TRL's conversational formats: a prompt is a list of turns, a completion a list with the
assistant's one turn. They are streamed shard by shard.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec

from selfreward.errors import ConfigError, DataError
from selfreward.layout import Layout, absolute_path, join
from selfreward.loops.export_rows import COLUMNS, TURNS, Row, row_of
from selfreward.records import Instruction, Judgment, Preference, TrainingExample
from selfreward.records_scores import Rating
from selfreward.records_self_rewarding import SampledInstruction
from selfreward.schemas import STORED_RECORDS
from selfreward.storage import files
from selfreward.storage.find import record_of
from selfreward.storage.manifest import read_manifest
from selfreward.storage.new_folder import new_folder
from selfreward.storage.shards import read_records, sealed_shards

FORMATS = ("dataset", "jsonl", "parquet")
LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Example: `Exported(what="preferences", iteration=2, num_rows=128, out="data/prefs")`
    """

    what: str
    iteration: int
    num_rows: int
    out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A stage folder to export, and what its rows are about."""

    folder: str
    kind: str


def export_rows(run_dir: str, what: str, iteration: str, out: str, form: str) -> Exported:
    """Writes the rows of one iteration into the new folder `out`.

    `iteration` is a number or `latest`. A `dataset` is the folder itself (`load_from_disk`), the
    other forms are the file `WHAT.jsonl` or `WHAT.parquet` in it.

    Raises:
        ConfigError: an option that is none.
        DataError: there is no run, or it has no such rows.
        UserError: `out` is there already.
    """
    if what not in COLUMNS:
        raise ConfigError(f"--what {what!r}: it is one of {', '.join(COLUMNS)}")
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r}: it is one of {', '.join(FORMATS)}")
    layout = Layout(absolute_path(run_dir))
    record = read_run(layout)
    loop = record["loop"]
    number = pick_iteration(
        layout, what, iteration, record, lambda i: _state(_parts(layout, what, i, loop))
    )
    parts = _parts(layout, what, number, loop)
    target = absolute_path(out)
    with new_folder(target) as folder:
        num_rows = _write(folder, what, form, parts)
    return Exported(what=what, iteration=number, num_rows=num_rows, out=target)


def read_run(layout: Layout) -> dict[str, Any]:
    """The record of a run.

    Raises:
        DataError: there is no run.
    """
    try:
        record: dict[str, Any] = files.read_json(layout.run_json)
    except FileNotFoundError:
        raise DataError(f"no run at {layout.root}: it has no run.json") from None
    return record


def pick_iteration(
    layout: Layout,
    what: str,
    text: str,
    record: dict[str, Any],
    state: Callable[[int], str],
    others: Sequence[str] = (LATEST,),
) -> int:
    """The iteration that is meant. `state` says of each `complete`, `running` or `absent`.

    `others` are the words that may stand for a number, `latest` last; the caller looks up what
    any of them but `latest` means.

    Raises:
        ConfigError: `text` is no number from 1 and not `latest`.
        DataError: there is nothing complete; the iterations that have it are named.
    """
    if text != LATEST and not (text.isdecimal() and int(text) > 0):
        raise ConfigError(f"--iteration {text!r}: it is {', '.join(others)} or a number from 1")
    numbers = range(1, record["iterations"] + 1)
    if text == LATEST:
        for number in reversed(numbers):
            if state(number) == "complete":
                return number
        raise DataError(f"run {layout.root} has no {what} yet")
    found = state(int(text))
    if found == "complete":
        return int(text)
    if found == "running":
        raise DataError(
            f"run {layout.root}: {what} of iteration {text} are not complete; run it again to go on"
        )
    complete = ", ".join(str(n) for n in numbers if state(n) == "complete")
    raise DataError(
        f"run {layout.root} has no {what} of iteration {text}; it has them of"
        f" iterations: {complete or 'none'}"
    )


def _parts(layout: Layout, what: str, iteration: int, loop: str) -> list[_Part]:
    """The stage folders that hold the rows, those of them that are there."""
    own = "answer" if loop == "self_rewarding" else "judgment"

    def stages(*named: tuple[str, str]) -> list[_Part]:
        return [_Part(folder=layout.stage(iteration, n), kind=k) for n, k in named]

    if what == "preferences":
        found = _there(stages(("preferences", own), ("meta_preferences", "judgment")), Preference)
        # Where labels are not balanced, the selected rows are the training rows.
        return found or _there(stages(("selected", own)), Preference)
    if what == "sft":
        found = _there(stages(("examples", own), ("eft", "judgment")), TrainingExample)
        return found or _there(stages(("selected", own)), TrainingExample)
    if what == "judgments":
        rated = ("eft_ratings", "ratings", "first_ratings")
        ratings = stages(*((name, "response") for name in rated))
        pairs = stages(("judgments", "pair"), ("meta_judgments", "ratings"))
        return [*_there(ratings, Rating), *_there(pairs, Judgment)]
    if loop == "self_rewarding":
        sampled = _there(stages(("responses", "")), SampledInstruction)
        kept = _rounds(layout.stage(iteration, "kept"))
        # Sampling begins when all rounds are over.
        return kept if kept and sampled else sampled
    # One pool for all iterations.
    pool = [_Part(folder=f, kind="") for f in (layout.instructions, layout.pool)]
    return _there(pool, Instruction)[:1]


def _rounds(folder: str) -> list[_Part]:
    found: list[_Part] = []
    while read_manifest(join(folder, f"{len(found):02d}")) is not None:
        found.append(_Part(folder=join(folder, f"{len(found):02d}"), kind=""))
    return found


def _there(parts: Sequence[_Part], record: type) -> list[_Part]:
    """Those parts that hold such records, or are about to."""
    found = []
    for part in parts:
        if read_manifest(part.folder) is None:
            continue
        shards = sealed_shards(part.folder)
        if not shards or record_of(shards[0]) == record.__name__:
            found.append(part)
    return found


def _state(parts: Sequence[_Part]) -> str:
    manifests = [m for p in parts if (m := read_manifest(p.folder)) is not None]
    if any(not m.is_complete for m in manifests):
        return "running"
    return "complete" if sum(m.num_records for m in manifests) else "absent"


def _records(parts: Sequence[_Part]) -> Iterator[tuple[Any, str]]:
    for part in parts:
        for url in sealed_shards(part.folder):
            name = record_of(url)
            if name is None:
                raise DataError(f"{url} was written by another version of selfreward")
            record_type: type[Any] = STORED_RECORDS[name]
            for record in read_records(url, record_type):
                yield record, part.kind


def _rows(what: str, parts: Sequence[_Part]) -> Iterator[Row]:
    return (row_of(what, record, kind) for record, kind in _records(parts))


def _write(folder: str, what: str, form: str, parts: Sequence[_Part]) -> int:
    if form == "jsonl":
        number = 0
        with fsspec.open(join(folder, f"{what}.jsonl"), "w", encoding="utf-8") as file:
            for row in _rows(what, parts):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                number += 1
        return number
    with _dataset(what, parts) as made:
        if form == "parquet":
            made.to_parquet(join(folder, f"{what}.parquet"))
        else:
            made.save_to_disk(folder)
        return len(made)


@contextmanager
def _dataset(what: str, parts: Sequence[_Part]) -> Iterator[Any]:
    import datasets

    turns = [{"role": datasets.Value("string"), "content": datasets.Value("string")}]
    features = datasets.Features(
        {n: turns if t == TURNS else datasets.Value(t) for n, t in COLUMNS[what].items()}
    )
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        # A cache of its own: the usual one would hand out the rows of an earlier export.
        with tempfile.TemporaryDirectory(prefix="selfreward-export-") as cache:
            yield datasets.Dataset.from_generator(
                _rows,
                features=features,
                cache_dir=cache,
                gen_kwargs={"what": what, "parts": tuple(parts)},
            )
    finally:
        if shown:
            datasets.enable_progress_bars()
