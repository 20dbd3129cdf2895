"""The gather stage: constructed pairs of all kinds in one place, with lengths that tell nothing.

Where the rejected response of a kind is mostly the shorter one, a judge learns to measure. So each
kind keeps as many pairs in which the better response is the longer as pairs in which it is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.engines.protocol import Generate
from selfreward.judging.perturbations.lengths import balance_lengths
from selfreward.records import DroppedRow, DropReason, ResponsePair
from selfreward.storage import files
from selfreward.storage.shards import RowResult, read_records


def write_dropped(inputs: Sequence[Sequence[str]], url: str, ratio_edges: Sequence[float]) -> int:
    """Writes which pairs have to go for balanced lengths, as JSON; returns how many.

    Reads every shard of every input, but keeps of a pair its id, kind and two texts only.
    """
    ids: list[str] = []
    texts: list[tuple[str, str, str]] = []
    for shard in inputs:
        for path in shard:
            for pair in read_records(path, ResponsePair):
                ids.append(pair.id)
                texts.append((pair.corruption, pair.chosen, pair.rejected))
    kept = balance_lengths(texts, ratio_edges)
    dropped = [ident for ident, keep in zip(ids, kept, strict=True) if not keep]
    files.write_json(url, dropped)
    return len(dropped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """A pair, and whether it stays."""

    pair: ResponsePair
    stays: bool

    @property
    def id(self) -> str:
        return self.pair.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    dropped_url: str | None
    """Where the ids of the pairs that go are written; None keeps all."""
    name: str = "gather"
    out_type: type[ResponsePair] = ResponsePair

    def read(self, inputs: Sequence[str]) -> list[Gathered]:
        """One shard of each kind of construction; of two equal pairs the first stays."""
        going = set(files.read_json(self.dropped_url)) if self.dropped_url else set()
        pairs = {p.id: p for url in reversed(inputs) for p in read_records(url, ResponsePair)}
        return [Gathered(pair=p, stays=p.id not in going) for p in pairs.values()]

    async def process(
        self, rows: Sequence[Gathered], generate: Generate
    ) -> list[RowResult[ResponsePair]]:
        return [
            RowResult[ResponsePair](row.id, [row.pair])
            if row.stays
            else RowResult[ResponsePair](row.id, [], [self._drop(row.pair)])
            for row in rows
        ]

    def _drop(self, pair: ResponsePair) -> DroppedRow:
        return DroppedRow(
            row_id=pair.id,
            stage=self.name,
            reason=DropReason.LENGTH_BALANCE,
            detail=f"{pair.corruption} has more pairs with this side longer",
        )
