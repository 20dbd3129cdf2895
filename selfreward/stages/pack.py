"""The pack stage: a shard of documents becomes a shard of packed token sequences.

It has a task of its own instead of a stage's logic: what a sequence is made of depends on all
documents of the shard at once, and tokens are arrays, not records. A shard takes seconds, so
an interrupted one is begun anew; a complete one is not touched.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from selfreward.config import RayConfig
from selfreward.errors import own_error_in
from selfreward.layout import join
from selfreward.records_custom_llm import Document
from selfreward.stages.runner import Progress, ShardJob, ShardTask, run_shards
from selfreward.stages.tokenizer import text_encoder
from selfreward.storage.shards import ShardSummary, read_records, shard_name
from selfreward.storage.small_folders import local_folder
from selfreward.storage.token_shards import IntArray, token_shard_summary, write_token_shard
from selfreward.text.mixing import shuffled
from selfreward.text.packing import Piece, pack_documents
from selfreward.text.special_tokens import document_end_id


def encode_documents(tokenizer: Any, texts: Sequence[str]) -> list[IntArray]:
    """Token ids of each text as a document: with the start token of a tokenizer that has one, and
    with the token that ends a document."""
    end = document_end_id(tokenizer)
    encoded = text_encoder(tokenizer).encode_batch_fast(list(texts), add_special_tokens=True)
    # A tokenizer that ends each text by itself has said it already.
    ids = (e.ids if e.ids and e.ids[-1] == end else [*e.ids, end] for e in encoded)
    return [np.asarray(i, dtype=np.int32) for i in ids]


def lay_out(
    documents: Sequence[IntArray],
    packed: Sequence[Sequence[Piece]],
    sequence_length: int,
    pad_id: int,
) -> IntArray:
    """The tokens of each sequence, padded on the right, shape (S, sequence_length)."""
    tokens_ST = np.full((len(packed), sequence_length), pad_id, dtype=np.int32)
    for row_T, pieces in zip(tokens_ST, packed, strict=True):
        joined = np.concatenate([documents[p.document][p.start : p.stop] for p in pieces])
        row_T[: len(joined)] = joined
    return tokens_ST


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """How documents are packed.

    Example: `Pack(tokenizer="runs/llm/tokenizer", sequence_length=512)`
    """

    tokenizer: str
    """A folder that every node sees, or a Hugging Face id."""
    sequence_length: int

    def shard(self, job: ShardJob) -> ShardSummary:
        """Makes one shard, unless it is complete; the ledger counts `tokens` and `padding`."""
        url = join(job.folder, shard_name(job.index))
        done = token_shard_summary(url, job.index)
        if done is not None:
            return done
        documents = [d for i in job.inputs for d in read_records(i, Document)]
        tokenizer = self._load()
        pad_id = tokenizer.pad_token_id
        ids = encode_documents(tokenizer, [d.text for d in documents])
        in_order = pack_documents([len(i) for i in ids], self.sequence_length)
        # A shard is trained on from its beginning to its end, and the pieces of a long text, or of
        # texts that stood together in the source, should not all meet in one batch.
        places = (shuffled(place, len(in_order), job.index) for place in range(len(in_order)))
        packed = [in_order[place] for place in places]
        num_tokens = sum(p.length for pieces in packed for p in pieces)
        padding = len(packed) * self.sequence_length - num_tokens
        summary = ShardSummary(
            index=job.index,
            num_inputs=len(documents),
            num_records=len(packed),
            drops={},
            ledger={"tokens": num_tokens, "padding": padding},
        )
        write_token_shard(
            url,
            lay_out(
                ids,
                packed,
                self.sequence_length,
                tokenizer.eos_token_id if pad_id is None else pad_id,
            ),
            [np.asarray([p.length for p in pieces], dtype=np.int32) for pieces in packed],
            [[documents[p.document].id for p in pieces] for pieces in packed],
            summary,
        )
        return summary

    def _load(self) -> Any:
        from transformers import AutoTokenizer

        with local_folder(self.tokenizer) as folder:
            return AutoTokenizer.from_pretrained(folder)


class PackTask:
    """The callable Ray Data runs on each row `{folder, index, inputs}`, as `ShardTask` is."""

    def __init__(self, pack: Pack, tell: Callable[[Progress], None]) -> None:
        self._pack = pack
        self._tell = tell

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        job = ShardJob(folder=row["folder"], index=row["index"], inputs=tuple(row["inputs"]))
        out = {"folder": job.folder, "summary": "", "error": "", "detail": ""}
        try:
            summary = self._pack.shard(job)
        except Exception as error:
            own = own_error_in(error)
            if own is None:
                raise
            return out | {"error": type(own).__name__, "detail": str(own)}
        self._tell(Progress(rows=summary.num_inputs, ledger={}))
        return out | {"summary": json.dumps(asdict(summary))}


def pack_shards(
    jobs: Sequence[ShardJob],
    pack: Pack,
    ray_config: RayConfig,
    shards_in_flight: int,
    tell: Callable[[Progress], None],
) -> Iterator[tuple[str, ShardSummary]]:
    """Yields (folder, summary) as shards are made, in the order they finish.

    Raises:
        SelfRewardError: what a shard task raised, as it raised it.
    """
    # All that is asked of a task is that it can be called.
    task = cast(ShardTask, PackTask(pack, tell))
    return run_shards(jobs, task, ray_config, shards_in_flight)
