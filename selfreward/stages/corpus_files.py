"""What a corpus keeps on the local disk while it is made: documents by their shuffle, and drops."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from selfreward.layout import join
from selfreward.records import DroppedRow, DropReason, derived_seed
from selfreward.records_custom_llm import Document
from selfreward.storage.shards import remove_shards_from, shard_name, write_records
from selfreward.text.quality import Flaw

STAGE = "corpus"
DROPS_PER_FILE = 50_000
_BUCKET_BITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A document and the place of its whole text in [0, 1), by a hash."""

    document: Document
    place: float


class Spool:
    """Pieces on the local disk, read back shuffled by a hash of (seed, id).

    The same pieces in another order come back the same. Each bucket holds a range of the hash, so
    one bucket at a time is sorted in memory.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir()
        self._seed = seed
        self._files = [
            open(folder / f"{n:02}.jsonl", "w+", encoding="utf-8")  # noqa: SIM115
            for n in range(2**_BUCKET_BITS)
        ]

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def add(self, piece: Piece) -> None:
        rank = derived_seed(self._seed, "shuffle", piece.document.id)  # 31 bits
        row = [rank, piece.document.id, piece.document.text, piece.document.source, piece.place]
        self._files[rank >> (31 - _BUCKET_BITS)].write(json.dumps(row, ensure_ascii=False) + "\n")

    def pieces(self) -> Iterator[Piece]:
        for file in self._files:
            file.seek(0)
            for _, ident, text, source, place in sorted(map(json.loads, file)):
                yield Piece(document=Document(id=ident, text=text, source=source), place=place)

    def without(self, place: float | None) -> Iterator[Document]:
        """The documents but for those of the text at `place`."""
        return (piece.document for piece in self.pieces() if piece.place != place)


class Drops:
    """Dropped documents on the local disk, and how many there are of each reason."""

    def __init__(self, path: Path) -> None:
        self.counts: dict[str, int] = Counter()
        self._file = open(path, "w+", encoding="utf-8")  # noqa: SIM115

    def __enter__(self) -> "Drops":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, document: Document, flaw: Flaw) -> None:
        detail = f"{document.source}: {flaw.detail}"
        drop = DroppedRow(row_id=document.id, stage=STAGE, reason=flaw.reason, detail=detail)
        self._file.write(json.dumps(asdict(drop), ensure_ascii=False) + "\n")
        self.counts[flaw.reason.value] += 1

    def write(self, folder: str) -> dict[str, int]:
        """Writes them as drop files, at least one, and returns the counts."""
        self._file.seek(0)
        index = 0
        rows = map(json.loads, self._file)
        while (chunk := list(islice(rows, DROPS_PER_FILE))) or index == 0:
            dropped = [DroppedRow(**row | {"reason": DropReason(row["reason"])}) for row in chunk]
            write_records(join(folder, shard_name(index)), dropped, DroppedRow)
            index += 1
        remove_shards_from(folder, index)
        return dict(self.counts)
