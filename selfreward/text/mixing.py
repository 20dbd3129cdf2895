"""The order in which sequences of domain text and replayed general text are trained on.

Nothing is stored: what stands at a place follows from the place alone, so a stream of any length
is taken up again anywhere, by any number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, overload

from selfreward.records import derived_seed

Source = Literal["domain", "general"]

ROUNDS = 4
_WORD = (1 << 64) - 1


def _scrambled(value: int) -> int:
    """A 64-bit number that looks unlike its neighbours' (SplitMix64, doi 10.1145/2660193.2660195,
    figure 17)."""
    value = (value + 0x9E3779B97F4A7C15) & _WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _WORD
    return value ^ (value >> 31)


def shuffled(place: int, size: int, seed: int) -> int:
    """Where place `place` of `size` stands after a shuffle; each of 0..size-1 exactly once.

    A Feistel cipher over the next power of four is a shuffle of that many places, and walking on
    from those beyond `size` makes it one of `size` (Black and Rogaway, "Ciphers with Arbitrary
    Finite Domains", 2002), in constant memory.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for number in range(ROUNDS):
            key = _scrambled(_scrambled(seed * ROUNDS + number) ^ right)
            left, right = right, left ^ (key & mask)
        place = left << half | right
        if place < size:
            return place


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedOrder(Sequence[tuple[Source, int]]):
    """A sequence of (source, index in that source), computed where it is asked for.

    Among its first n items are exactly `replay_share` * n general ones, rounded half up, for every
    n. Each source is gone through in a shuffled order, and in another one each time anew.

    Example: `MixedOrder(num_domain=7, num_general=100, replay_share=Fraction(3, 10), seed=1,
    length=10)`
    """

    num_domain: int
    num_general: int
    replay_share: Fraction
    seed: int
    length: int

    def __len__(self) -> int:
        return self.length

    def num_general_in(self, num_items: int) -> int:
        """How many of the first `num_items` items are general text."""
        share = self.replay_share
        return (2 * num_items * share.numerator + share.denominator) // (2 * share.denominator)

    @overload
    def __getitem__(self, place: int) -> tuple[Source, int]: ...

    @overload
    def __getitem__(self, place: slice) -> list[tuple[Source, int]]: ...

    def __getitem__(self, place: int | slice) -> tuple[Source, int] | list[tuple[Source, int]]:
        if isinstance(place, slice):
            return [self._item(i) for i in range(*place.indices(self.length))]
        if not -self.length <= place < self.length:
            raise IndexError(f"place {place} of {self.length}")
        return self._item(place % self.length)

    def _item(self, place: int) -> tuple[Source, int]:
        num_general = self.num_general_in(place)
        if self.num_general_in(place + 1) > num_general:
            return "general", self._index("general", num_general, self.num_general)
        return "domain", self._index("domain", place - num_general, self.num_domain)

    def _index(self, source: Source, number: int, size: int) -> int:
        times_through, place = divmod(number, size)
        return shuffled(place, size, derived_seed(self.seed, source, times_through))


def mixed_order(
    num_domain: int,
    num_general: int,
    replay_share: float,
    seed: int,
    length: int | None = None,
) -> MixedOrder:
    """Returns the order of `length` sequences; None goes once through the domain text.

    Whichever source is used up begins anew, so `length` may be any. Without general text
    (`replay_share=0`) it is a plain shuffled order of the domain sequences.

    Raises:
        ValueError: a source that is drawn from has no sequences, or the share is not from 0 to 1,
            or it is 1 and no `length` is given.
    """
    if not 0 <= replay_share <= 1:
        raise ValueError(f"replay_share={replay_share} is not from 0 to 1")
    # The number that was written down: 0.3 is three tenths.
    share = Fraction(replay_share).limit_denominator(1_000_000)
    if (share < 1 and num_domain < 1) or (share > 0 and num_general < 1):
        raise ValueError(f"nothing to mix: {num_domain} domain and {num_general} general sequences")
    if length is None:
        if share == 1:
            raise ValueError("replay_share=1 has no domain text to go through; give a length")
        # The smallest n with n - floor(n * share + 1/2) = num_domain.
        length = int((num_domain - Fraction(1, 2)) / (1 - share)) + 1
    return MixedOrder(
        num_domain=num_domain,
        num_general=num_general,
        replay_share=share,
        seed=seed,
        length=length,
    )
