"""The parts of a score file that an evaluation asks about as one choice, and the rest of it."""

from dataclasses import replace

from selfreward.errors import DataError
from selfreward.loops.labelled import DataSet
from selfreward.loops.steps import Output
from selfreward.metrics.protocols.rewardbench2 import DATA_NEEDED, TIES
from selfreward.records_scores import ScoredResponse
from selfreward.stages.best_of import Question, read_questions
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


def in_one_shard(output: Output, num_rows: int) -> Output:
    """One shard made of all input shards: a question's responses may stand in two of them."""
    return replace(
        output, inputs=[tuple(url for urls in output.inputs for url in urls)], num_rows=num_rows
    )
