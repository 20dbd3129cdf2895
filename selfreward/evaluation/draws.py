"""What became of a judge's single draws: a vote hides the failed ones among them."""

from collections import Counter

from selfreward.records import Judgment, Outcome
from selfreward.records_scores import BestOfReading, Rating
from selfreward.storage.shards import read_records, sealed_shards


def draws_by_outcome(
    folder: str, record_type: type[Judgment] | type[Rating] | type[BestOfReading]
) -> dict[str, int]:
    """Number of draws of each outcome in a judge's stage, those that never occurred left out."""
    found = Counter[Outcome](
        record.verdict.outcome
        for url in sealed_shards(folder)
        for record in read_records(url, record_type)
    )
    return {outcome.value: found[outcome] for outcome in Outcome if found[outcome]}
