"""From readings on storage to what a judge said to each question with several responses."""

from collections import defaultdict
from collections.abc import Sequence

from selfreward.judging.best_of import majority_slot
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.records_scores import BestOfReading
from selfreward.stages.best_of import Question
from selfreward.storage.shards import read_records, sealed_shards


def read_best_of(questions: Sequence[Question], folder: str) -> list[BestOfOutcome]:
    """Joins questions with the vote of their readings, in the order of the questions.

    A question without a reading (a prompt too long for the context) is left out, as a pair is: the
    stage that asked has it in its drop file.
    """
    found: dict[str, list[BestOfReading]] = defaultdict(list)
    for url in sealed_shards(folder):
        for reading in read_records(url, BestOfReading):
            found[reading.question_id].append(reading)
    return [
        BestOfOutcome(
            question_id=question.id,
            subset=question.subset,
            gold=found[question.id][0].gold,
            num_shown=found[question.id][0].num_shown,
            verdict=majority_slot([r.verdict for r in found[question.id]]),
        )
        for question in questions
        if question.id in found
    ]
