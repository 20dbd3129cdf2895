"""Reads the records a training worker is pointed at; the driver never does."""

from collections.abc import Sequence
from typing import Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from selfreward.errors import DataError
from selfreward.records import Preference, TrainingExample
from selfreward.schemas import from_table
from selfreward.storage import files

RecordT = TypeVar("RecordT", TrainingExample, Preference)

Record = Literal["TrainingExample", "Preference", "PackedText"]

RECORD_OF: dict[str, Record] = {
    "sft": "TrainingExample",
    "dpo": "Preference",
    "reward_model": "Preference",
    "text": "PackedText",
}
"""What each `training.objective` learns from."""


def read_records(urls: Sequence[str], record_type: type[RecordT]) -> list[RecordT]:
    """Reads the records of Parquet files at any fsspec URLs, in the order of the URLs.

    Raises:
        DataError: a file is missing or does not hold such records.
        StorageError: the storage cannot be reached or read.
    """
    records: list[RecordT] = []
    for url in urls:
        try:
            table = pq.read_table(pa.BufferReader(files.read_bytes(url)))
        except FileNotFoundError as error:
            raise DataError(f"no training data at {url}") from error
        except ValueError as error:  # pyarrow's ArrowInvalid is one
            raise DataError(f"{url} is not a Parquet file: {error}") from error
        records += from_table(table, record_type)
    return records
