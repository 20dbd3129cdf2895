"""Packs documents into sequences of one length with hardly any padding and no needless cut.

Best-fit-decreasing packing ("Fewer Truncations Improve Language Modeling", arXiv 2404.10830,
section 3): only documents longer than a sequence are cut; every piece goes, the longest first,
into the sequence it leaves the least room in.
"""

from collections.abc import Sequence
from typing import NamedTuple

MIN_PIECE = 2
"""A piece of one token has nothing to predict and is left out."""


class Piece(NamedTuple):
    """Tokens `start` to `stop` (exclusive) of a document.

    Example: `Piece(document=3, start=512, stop=700)`
    """

    document: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def _cut(lengths: Sequence[int], sequence_length: int) -> list[Piece]:
    pieces = (
        Piece(document, start, min(start + sequence_length, length))
        for document, length in enumerate(lengths)
        for start in range(0, length, sequence_length)
    )
    return [piece for piece in pieces if piece.length >= MIN_PIECE]


def pack_documents(lengths: Sequence[int], sequence_length: int) -> list[list[Piece]]:
    """Returns the pieces of each sequence, their lengths adding up to at most `sequence_length`.

    `lengths` are the documents' lengths in tokens. Sequences come in the order of the documents
    their longest pieces are of, so that documents in random order make sequences in random order.
    The pieces of a sequence come longest first.

    Takes O(n log n) time for n pieces: rooms that some sequence has left are bits of one number,
    in which the next larger one is found by a shift over sequence_length / 64 machine words.

    Example: `pack_documents([3, 6, 4], sequence_length=8)` is
    `[[Piece(1, 0, 6)], [Piece(2, 0, 4), Piece(0, 0, 3)]]`.

    Raises:
        ValueError: `sequence_length` is less than two tokens.
    """
    if sequence_length < MIN_PIECE:
        raise ValueError(f"sequence_length={sequence_length} leaves nothing to predict")
    sequences: list[list[Piece]] = []
    rooms = 0
    with_room: dict[int, list[int]] = {}
    for piece in sorted(_cut(lengths, sequence_length), key=lambda p: (-p.length, p)):
        fitting = rooms >> piece.length
        if fitting:
            room = piece.length + (fitting & -fitting).bit_length() - 1
            index = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, index = sequence_length, len(sequences)
            sequences.append([])
        sequences[index].append(piece)
        left = room - piece.length
        if left >= MIN_PIECE:
            with_room.setdefault(left, []).append(index)
            rooms |= 1 << left
    return sorted(sequences, key=lambda pieces: pieces[0])
