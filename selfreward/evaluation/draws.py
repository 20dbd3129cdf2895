"""What became of a judge's single draws: a vote hides the failed ones among them."""

from collections import Counter
from collections.abc import Hashable

from selfreward.errors import DataError
from selfreward.records import Judgment, Outcome
from selfreward.records_scores import BestOfReading, Rating
from selfreward.storage.shards import read_records, sealed_shards

Reading = Judgment | Rating | BestOfReading


def draws_by_outcome(
    folder: str, record_type: type[Judgment] | type[Rating] | type[BestOfReading], votes: int
) -> dict[str, int]:
    """Number of draws of each outcome in a judge's stage, those that never occurred left out.

    Raises:
        DataError: a reading has another number of draws than `votes`.
    """
    found: Counter[Outcome] = Counter()
    drawn: Counter[Hashable] = Counter()
    for url in sealed_shards(folder):
        for record in read_records(url, record_type):
            found[record.verdict.outcome] += 1
            drawn[_reading(record)] += 1
    others = {num for num in drawn.values() if num != votes}
    if others:
        raise DataError(
            f"{folder} holds readings of {', '.join(map(str, sorted(others)))} draws, not of the"
            f" {votes} that --votes asks for: remove it to ask again"
        )
    return {outcome.value: found[outcome] for outcome in Outcome if found[outcome]}


def _reading(record: Reading) -> Hashable:
    """What the draws of one reading have in common."""
    if isinstance(record, Judgment):
        return record.pair_id, record.position
    return record.response_id if isinstance(record, Rating) else record.question_id
