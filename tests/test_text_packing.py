"""Packing by hand, and against a slow best fit."""

import random
from collections import Counter

import pytest

from selfreward.text.packing import Piece, pack_documents


def test_by_hand() -> None:
    # L = 10. Document 4 (12) is cut into 10 + 2; document 5 has one token and is left out.
    # Longest first: 10 -> A (full); 7 -> B (room 3); 5 -> C (room 5); 4 -> C, the only one with
    # room for it (room 1); 3 -> B (full); 2 fits nowhere -> D.
    # Documents of their longest pieces: A 4, B 0, C 2, D 4 (from token 10 on).
    assert pack_documents([7, 3, 5, 4, 12, 1], 10) == [
        [Piece(0, 0, 7), Piece(1, 0, 3)],
        [Piece(2, 0, 5), Piece(3, 0, 4)],
        [Piece(4, 0, 10)],
        [Piece(4, 10, 12)],
    ]


def test_a_piece_goes_where_it_leaves_the_least_room() -> None:
    # 7 and 6 open two sequences with rooms 3 and 4; the 3 fills the first to the brim, so that
    # the 4 (placed before it) had to leave it: 4 -> room 4, 3 -> room 3.
    assert pack_documents([7, 6, 3, 4], 10) == [
        [Piece(0, 0, 7), Piece(2, 0, 3)],
        [Piece(1, 0, 6), Piece(3, 0, 4)],
    ]


def test_a_remainder_of_one_token_is_left_out() -> None:
    assert pack_documents([9, 8], 8) == [[Piece(0, 0, 8)], [Piece(1, 0, 8)]]


def test_nothing_to_pack() -> None:
    assert pack_documents([], 8) == []
    assert pack_documents([0, 1], 8) == []
    with pytest.raises(ValueError, match="sequence_length=1"):
        pack_documents([4], 1)


def slow_best_fit(sizes: list[int], capacity: int) -> Counter[int]:
    """How often each fill occurs."""
    fills: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [i for i, fill in enumerate(fills) if fill + size <= capacity]
        if fitting:
            fills[max(fitting, key=lambda i: fills[i])] += size
        else:
            fills.append(size)
    return Counter(fills)


@pytest.mark.parametrize("length", [64, 100])
def test_fills_equal_those_of_a_slow_best_fit(length: int) -> None:
    rng = random.Random(length)
    lengths = [rng.choice((rng.randint(2, 40), rng.randint(2, 400))) for _ in range(300)]
    packed = pack_documents(lengths, length)
    pieces = [p for sequence in packed for p in sequence]
    fills = Counter(sum(p.length for p in sequence) for sequence in packed)
    assert fills == slow_best_fit([p.length for p in pieces], length)
    assert max(fills) <= length
    # Every document is there once, cut only at multiples of the length.
    for document, size in enumerate(lengths):
        of_it = sorted(p for p in pieces if p.document == document)
        whole = [Piece(document, s, min(s + length, size)) for s in range(0, size, length)]
        assert of_it == [p for p in whole if p.length > 1]


def test_sequences_are_not_sorted_by_length() -> None:
    # Documents of rising length, none of which share a sequence: the order is the documents'.
    lengths = [60, 70, 80, 90, 100]
    assert [s[0].document for s in pack_documents(lengths, 100)] == [0, 1, 2, 3, 4]
