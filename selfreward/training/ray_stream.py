"""Reads packed sequences through Ray Data, for training workers on a Ray cluster.

Reads run as small tasks anywhere on the cluster, a few at a time, and come back in order.
"""

import json
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from selfreward import errors
from selfreward.errors import SelfRewardError
from selfreward.storage.token_shards import PackedRow
from selfreward.training.text_stream import Chunk, read_chunk

CHUNKS_PER_DATASET = 32
"""Chunks of one dataset: what is ever in Ray's object store at once. The next dataset starts when
the last chunk of this one was taken, while the worker still has chunks that it read ahead."""
READS_IN_FLIGHT = 2
READ_CPUS = 0.1


def _read(row: dict[str, Any]) -> dict[str, Any]:
    try:
        steps = read_chunk([[(url, index) for url, index in s] for s in json.loads(row["chunk"])])
    except SelfRewardError as error:
        # As a value: on its way through Ray Data an exception loses what caused it.
        return {"steps": b"", "error": type(error).__name__, "detail": str(error)}
    return {"steps": pickle.dumps(steps), "error": "", "detail": ""}


def read_with_ray_data(chunks: Sequence[Chunk]) -> Iterator[list[list[PackedRow]]]:
    """A `Reader`: each chunk is read by one task of a lazy dataset.

    Raises:
        SelfRewardError: what a task raised.
    """
    import ray.data

    for begin in range(0, len(chunks), CHUNKS_PER_DATASET):
        end = min(begin + CHUNKS_PER_DATASET, len(chunks))
        items = [{"chunk": json.dumps(chunks[i])} for i in range(begin, end)]
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        dataset.context.print_on_execution_start = False
        rows = dataset.map(
            _read,
            num_cpus=READ_CPUS,
            compute=ray.data.TaskPoolStrategy(size=READS_IN_FLIGHT),
        )
        for row in rows.iter_rows():
            if row["error"]:
                raise getattr(errors, row["error"])(row["detail"])
            yield pickle.loads(row["steps"])
