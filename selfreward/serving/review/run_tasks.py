"""The tasks that a run folder of either loop holds.

Self-taught: pairs with their judgments, of training and held out. Self-rewarding: the responses to
an instruction with their scores, to be ranked, and the pairs that became preferences.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

from selfreward.errors import DataError
from selfreward.layout import Layout, join
from selfreward.records import Judgment, Preference, ResponsePair, content_id
from selfreward.records_scores import Rating
from selfreward.records_self_rewarding import SampledInstruction
from selfreward.serving.review.disagreement import Ratings, pair_task
from selfreward.serving.review.items import ReviewItem
from selfreward.storage import files
from selfreward.storage.shards import read_records, sealed_shards

RecordT = TypeVar("RecordT")

MAX_RANKED = 4
"""Responses of one ranking: more take people long, and add little."""


def tasks_of_run(layout: Layout) -> Iterator[ReviewItem]:
    """All tasks that the files of a run hold by now, pairs first; the same one may come twice.

    Raises:
        DataError: there is no run, or its files do not fit.
        StorageError: a file of the run cannot be read.
    """
    iterations = num_iterations(layout)
    yield from _pair_tasks(layout, iterations)
    yield from _response_tasks(layout, iterations)


def num_iterations(layout: Layout) -> int:
    """How many iterations a run is to have. Raises DataError where there is no run."""
    try:
        record = files.read_json(layout.run_json)
    except FileNotFoundError:
        raise DataError(f"no run at {layout.root}: it has no run.json") from None
    if not isinstance(record, dict) or not isinstance(record.get("iterations"), int):
        raise DataError(f"{layout.run_json} does not say how many iterations the run has")
    return int(record["iterations"])


def _pair_tasks(layout: Layout, iterations: int) -> Iterator[ReviewItem]:
    for pairs, judged in _judged_pairs(layout, iterations):
        for url in sealed_shards(pairs):
            name = url.rpartition("/")[2]
            rows = _read(url, ResponsePair)
            readings: dict[str, list[Judgment]] = {row.id: [] for row in rows}
            for folder in judged:
                for judgment in _read(join(folder, name), Judgment):
                    if judgment.pair_id not in readings:
                        raise DataError(
                            f"{join(folder, name)} is about {judgment.pair_id}, which is not in"
                            f" {url}: they are not of one run; judge the pairs again"
                        )
                    readings[judgment.pair_id].append(judgment)
            for row in rows:
                if readings[row.id] and row.chosen.strip() != row.rejected.strip():
                    yield pair_task(row, readings[row.id])


def _judged_pairs(layout: Layout, iterations: int) -> list[tuple[str, list[str]]]:
    """Folders of pairs, each with those of the judgments of its pairs."""
    heldout = [join(layout.evaluation(i), "heldout") for i in range(iterations + 1)]
    found = {layout.split("heldout", "pairs"): heldout}
    pairs: str | None = None
    for iteration in range(1, iterations + 1):
        # Without pairs of its own an iteration judges those of an earlier one again.
        if sealed_shards(layout.pairs(iteration)):
            pairs = layout.pairs(iteration)
        judgments = layout.judgments(iteration)
        if pairs is not None:
            found.setdefault(pairs, []).append(judgments)
        elif sealed_shards(judgments):
            raise DataError(
                f"{judgments}: its pairs are gone; bring {layout.pairs(iteration)} back"
            )
    return list(found.items())


def _response_tasks(layout: Layout, iterations: int) -> Iterator[ReviewItem]:
    for iteration in range(1, iterations + 1):
        folders = [layout.stage(iteration, name) for name in ("ratings", "first_ratings")]
        for url in sealed_shards(folders[0]):
            name = url.rpartition("/")[2]
            read = Ratings.of(chain(*(_read(join(f, name), Rating) for f in folders)))
            for row in _read(join(layout.responses(iteration), name), SampledInstruction):
                # Of equal texts one: nobody can rank them.
                texts = {r.text.strip(): r for r in row.responses if read.mean(r.id) is not None}
                best_first = sorted(texts.values(), key=lambda r: (-(read.mean(r.id) or 0), r.id))
                picked = {r.id: r.text for r in _spread(best_first)}
                if len(picked) > 1:
                    ident = content_id("rank", row.id, sorted(picked))
                    yield read.task(ident, row.id, row.instruction.messages, picked)
            for pair in _read(join(layout.preferences(iteration), name), Preference):
                sides = {pair.chosen_id: pair.chosen, pair.rejected_id: pair.rejected}
                yield read.task(pair.id, pair.pair_id, pair.messages, sides)


def _spread(rows: Sequence[RecordT]) -> list[RecordT]:
    """The first, the last, and others evenly between, `MAX_RANKED` at most."""
    last = min(len(rows), MAX_RANKED) - 1
    return [rows[round(i * (len(rows) - 1) / max(last, 1))] for i in range(last + 1)]


def _read(url: str, record_type: type[RecordT]) -> list[RecordT]:
    """The records of a shard, none where it is not sealed."""
    try:
        return read_records(url, record_type)
    except FileNotFoundError:
        return []
    except DataError as error:
        raise DataError(f"{url}: {error}") from None
