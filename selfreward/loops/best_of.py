"""The parts of a score file that an evaluation asks about as one choice, and the rest of it."""

from dataclasses import replace

from selfreward.errors import DataError
from selfreward.layout import join
from selfreward.loops.labelled import DataSet
from selfreward.loops.sources import build_folder
from selfreward.loops.steps import Output, Run, shards_of
from selfreward.metrics.protocols.rewardbench2 import DATA_NEEDED, TIES
from selfreward.records_scores import ScoredResponse
from selfreward.stages.best_of import Question, build_questions, read_questions
from selfreward.storage.shards import read_records, sealed_shards


def questions_of(data: DataSet) -> list[Question]:
    """The questions of a file of which one response is right.

    Raises:
        DataError: a question has other responses than can be shown.
    """
    try:
        return read_questions(sealed_shards(data.source.folder), apart=TIES)
    except ValueError as error:
        raise DataError(f"{data.name}: {error}; {DATA_NEEDED}") from None


def num_responses(data: DataSet, subset: str | None) -> int:
    """How many responses a score file has, in all or of one subset."""
    if subset is None:
        return data.source.num_records
    return sum(
        row.subset == subset
        for url in sealed_shards(data.source.folder)
        for row in read_records(url, ScoredResponse)
    )


def by_question(run: Run, data: DataSet, output: Output, num_questions: int) -> Output:
    """The output made of shards of `pool.shard_size` questions each.

    Those of the file will not do: a question's responses may stand in two of them. Nor will one
    shard of all: only the number of open shards bounds what waits at the engines, and a request's
    time runs while it waits.
    """
    folder = join(run.layout.root, "questions", data.name)
    recipe = {"input": data.source.fingerprint, "apart": TIES}
    shards = sealed_shards(data.source.folder)
    size = run.config.pool.shard_size
    build_folder(run, folder, "questions", recipe, build_questions, shards, folder, size, TIES)
    return replace(output, inputs=shards_of(folder), num_rows=num_questions)
