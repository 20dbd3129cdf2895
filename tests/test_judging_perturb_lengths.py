import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.judging.perturbations.base import Given
from selfreward.judging.perturbations.lengths import balance_lengths, fitted, match_length

OTHER = "Boil the eggs for six minutes. Then put them into cold water and peel them."
TEXT = "First comes a sentence. Then there is a second sentence. It ends on a third one."


def test_padding_reaches_the_target_and_leaves_the_end() -> None:
    made = match_length(TEXT, 400, random.Random(3), [OTHER])
    # At most one sentence beyond the target; none is longer than 120 characters.
    assert 400 <= len(made) <= 520
    assert made.startswith("First comes a sentence. ")
    assert made.endswith("It ends on a third one.")
    assert "Then there is a second sentence." in made
    assert "Boil the eggs for six minutes." in made


def test_padding_of_a_single_sentence_goes_before_it() -> None:
    made = match_length("The answer is 24", 60, random.Random(3))
    assert made.endswith(". The answer is 24")
    assert len(made) >= 60


def test_padding_never_touches_a_code_block() -> None:
    code = "```python\nx = 1\ny = 2\n```"
    for seed in range(20):
        made = match_length(f"{code}\n\nThat is all there is to it.", 300, random.Random(seed))
        assert code in made
        # The closing fence stands alone on its line.
        assert "\n```\n" in made


def test_trimming_takes_sentences_from_the_end_then_words() -> None:
    # "First comes a sentence." has 23 characters, with the second sentence it is 56.
    rng = random.Random(1)
    assert match_length(TEXT, 55, rng) == "First comes a sentence."
    assert match_length(TEXT, 56, rng) == "First comes a sentence. Then there is a second sentence."
    assert match_length(TEXT, 17, rng) == "First comes a"
    assert match_length(TEXT, len(TEXT), rng) == TEXT
    assert match_length("天空很蓝", 2, rng) == "天空"


def test_a_target_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="target_chars must be at least 1, not 0"):
        match_length(TEXT, 0, random.Random(1))


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=120), target=st.integers(1, 300), seed=st.integers(0, 99))
def test_lengths_match_on_any_text(text: str, target: int, seed: int) -> None:
    made = match_length(text, target, random.Random(seed), [OTHER, ""])
    assert made == match_length(text, target, random.Random(seed), [OTHER, ""])
    if len(text.strip()) > target:
        assert len(made) <= target
    elif made:
        assert target <= len(made) <= target + 130


def test_fitted_obeys_the_wanted_side_and_leaves_what_fits() -> None:
    def given_(longer: bool | None) -> Given:
        return Given(rng=random.Random(5), longer=longer)

    assert fitted("Short.", TEXT, given_(None)) == "Short."
    assert fitted("Short.", TEXT, given_(False)) == "Short."
    assert len(fitted("Short.", TEXT, given_(True))) > len(TEXT)
    assert len(fitted(TEXT + " " + TEXT, TEXT, given_(False))) < len(TEXT)
    # Half as long becomes twice as long, and the other way round (to a sentence's end).
    half = TEXT[: len(TEXT) // 2]
    assert 2 * len(TEXT) <= len(fitted(half, TEXT, given_(True))) <= 2 * len(TEXT) + 130
    assert fitted(TEXT + " " + TEXT[:-1], TEXT, given_(False)) == "First comes a sentence."
    # A response of two characters: a stump of one would teach nothing.
    assert fitted("Something else.", "42", given_(False)) == "Something else."


def pair(kind: str, chosen: int, rejected: int, tag: str = "") -> tuple[str, str, str]:
    return kind, (tag + "c" * chosen)[:chosen], (tag + "r" * rejected)[:rejected]


def test_balance_worked_by_hand() -> None:
    pairs = [
        pair("a", 9, 5),  # chosen longer
        pair("a", 8, 5),  # chosen longer
        pair("a", 7, 5),  # chosen longer
        pair("a", 5, 6),  # rejected longer
        pair("a", 5, 5),  # equal: stays
        pair("b", 4, 9),  # rejected longer, and no pair against it
        pair("b", 5, 9),
        pair("c", 9, 4),
        pair("c", 4, 9),
    ]
    keep = balance_lengths(pairs)
    # a: one of the first three stays for the fourth; b: none; c: both.
    assert sum(keep[:3]) == 1
    assert keep[3:] == [True, True, False, False, True, True]


def test_balance_of_nothing_and_of_one() -> None:
    assert balance_lengths([]) == []
    assert balance_lengths([pair("a", 3, 3)]) == [True]
    assert balance_lengths([pair("a", 3, 4)]) == [False]


def test_ratio_edges_balance_each_stratum() -> None:
    pairs = [
        pair("a", 300, 100),  # 3.0, chosen longer
        pair("a", 110, 100),  # 1.1, chosen longer
        pair("a", 100, 105),  # 1.05, rejected longer
        pair("a", 100, 115),  # 1.15, rejected longer
    ]
    assert balance_lengths(pairs) == [True] * 4
    # At most 1.5: one against two, so one of the two goes; beyond: one without a counterpart.
    keep = balance_lengths(pairs, ratio_edges=(1.5,))
    assert keep[:2] == [False, True]
    assert sum(keep[2:]) == 1
    # An edge belongs to the stratum above it: 3.0 is "from 3 on".
    both = [pair("a", 300, 100), pair("a", 100, 310)]
    assert balance_lengths(both, ratio_edges=(3.0,)) == [True, True]
    assert balance_lengths(both, ratio_edges=(3.05,)) == [False, False]


@pytest.mark.parametrize("edges", [(1.0,), (2.0, 1.5), (1.5, 1.5), (0.5,)])
def test_ratio_edges_must_rise_above_one(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ratio_edges must rise"):
        balance_lengths([pair("a", 1, 2)], ratio_edges=edges)


PAIRS = st.lists(
    st.tuples(st.sampled_from("abc"), st.text("xy\ud800é", max_size=4), st.text("xy", max_size=4)),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_balance_keeps_the_most_and_does_not_depend_on_order(
    pairs: list[tuple[str, str, str]], seed: int
) -> None:
    keep = balance_lengths(pairs)
    for kind in "abc":
        sides = [
            ((len(c) > len(r)) - (len(c) < len(r)), k)
            for (name, c, r), k in zip(pairs, keep, strict=True)
            if name == kind
        ]
        counts = Counter(side for side, _ in sides)
        kept = Counter(side for side, k in sides if k)
        quota = min(counts[1], counts[-1])
        assert (kept[1], kept[-1], kept[0]) == (quota, quota, counts[0])
    order = random.Random(seed).sample(range(len(pairs)), len(pairs))
    again = balance_lengths([pairs[i] for i in order])
    # As a multiset of pairs: twins are interchangeable.
    first = Counter(p for p, k in zip(pairs, keep, strict=True) if k)
    assert first == Counter(pairs[i] for i, k in zip(order, again, strict=True) if k)


def test_balance_of_many_pairs_is_exact() -> None:
    rng = random.Random(4)
    pairs = [
        pair(f"kind{i % 20}", rng.randint(20, 60), rng.randint(20, 50), str(i))
        for i in range(100_000)
    ]
    keep = balance_lengths(pairs)
    longer: Counter[str] = Counter()
    shorter: Counter[str] = Counter()
    for (kind, chosen, rejected), kept in zip(pairs, keep, strict=True):
        if kept:
            longer[kind] += len(chosen) > len(rejected)
            shorter[kind] += len(chosen) < len(rejected)
    assert longer == shorter
    assert min(longer.values()) > 1000
