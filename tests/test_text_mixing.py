"""The order of domain and general sequences."""

from itertools import pairwise
from math import floor

import pytest

from selfreward.text.mixing import mixed_order, shuffled


def test_general_text_is_evenly_spread_by_hand() -> None:
    # share 0.3: general among the first n is floor(0.3 n + 0.5):
    # n = 1..10: 0 1 1 1 2 2 2 2 3 3, so places 1, 4 and 8 are general.
    order = mixed_order(7, 100, 0.3, seed=1)
    assert len(order) == 10
    assert [place for place, (source, _) in enumerate(order) if source == "general"] == [1, 4, 8]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.9])
def test_every_beginning_has_its_share(share: float) -> None:
    order = mixed_order(40, 6, share, seed=3)
    count = 0
    for place in range(len(order)):
        count += order[place][0] == "general"
        assert count == floor(share * (place + 1) + 0.5 + 1e-9)
    assert len(order) - count == 40, "once through the domain text"


def test_once_through_the_domain_text_takes_each_sequence_once() -> None:
    order = mixed_order(25, 4, 0.3, seed=5)
    domain = [index for source, index in order if source == "domain"]
    assert sorted(domain) == list(range(25))
    assert domain != sorted(domain), "it is shuffled"
    general = [index for source, index in order if source == "general"]
    # 25 domain sequences take 11 general ones: all 4, all 4 again, and 3 of them.
    assert len(general) == 11
    assert sorted(general[:4]) == sorted(general[4:8]) == [0, 1, 2, 3]
    assert len(set(general[8:])) == 3


def test_a_longer_order_goes_through_again_in_another_order() -> None:
    order = mixed_order(30, 0, 0.0, seed=2, length=75)
    indices = [index for _, index in order]
    first, second = indices[:30], indices[30:60]
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    assert len(set(indices[60:])) == 15
    # A longer order begins like a shorter one.
    assert list(mixed_order(30, 0, 0.0, seed=2)) == order[:30]


def test_the_seed_decides() -> None:
    one, same, other = (list(mixed_order(50, 20, 0.4, seed=s)) for s in (1, 1, 2))
    assert one == same
    assert one != other
    assert [source for source, _ in one] == [source for source, _ in other]


def test_places_are_read_like_those_of_a_list() -> None:
    order = mixed_order(1_000_000_000, 10, 0.5, seed=0)
    # Half of 1, rounded up, is 1: every pair is general, then domain.
    assert len(order) == 2_000_000_000
    assert [source for source, _ in order[:4]] == ["general", "domain"] * 2
    assert order[-1] == order[1_999_999_999]
    assert order[7:9] == [order[7], order[8]]
    with pytest.raises(IndexError):
        order[2_000_000_000]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 100, 257])
def test_shuffled_is_a_shuffle(size: int) -> None:
    for seed in range(3):
        assert sorted(shuffled(i, size, seed) for i in range(size)) == list(range(size))


def test_shuffled_leaves_no_trace_of_the_order() -> None:
    # Of 1000 random places, mean |new - old| is 1000 / 3 with a standard deviation of about 7.5,
    # and each neighbour stays one with a chance of 1 in 1000.
    places = [shuffled(i, 1000, seed=9) for i in range(1000)]
    moved = sum(abs(p - i) for i, p in enumerate(places)) / 1000
    assert 300 < moved < 366
    assert sum(b - a == 1 for a, b in pairwise(places)) < 10


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(ValueError, match="5 domain and 0 general"):
        mixed_order(5, 0, 0.3, seed=0)
    with pytest.raises(ValueError, match="0 domain"):
        mixed_order(0, 5, 0.3, seed=0)
    with pytest.raises(ValueError, match="give a length"):
        mixed_order(5, 5, 1.0, seed=0)
    with pytest.raises(ValueError, match="not from 0 to 1"):
        mixed_order(5, 5, 1.5, seed=0)
    assert {source for source, _ in mixed_order(0, 5, 1.0, seed=0, length=8)} == {"general"}
