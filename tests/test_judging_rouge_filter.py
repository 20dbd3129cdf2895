import random
from collections import Counter
from functools import cache
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from selfreward.benchmarks.self_instruct import KEYWORDS, _Writer, filter_throughput
from selfreward.config_self_rewarding import SelfInstructConfig
from selfreward.judging.filters import NearDuplicateIndex
from selfreward.judging.instruction_filters import filter_reason
from selfreward.judging.rouge_filter import RougeFilter, Similar, rouge_words
from selfreward.records import DropReason


def kept(threshold: float, *texts: str) -> RougeFilter:
    index = RougeFilter(threshold)
    for number, text in enumerate(texts):
        index.add(str(number), text)
    return index


words_of_text = cache(rouge_words)


def lcs(first: list[str], second: list[str]) -> int:
    """The textbook table, row by row."""
    row = [0] * (len(second) + 1)
    for a in first:
        above = row[:]
        for column, b in enumerate(second, 1):
            row[column] = above[column - 1] + 1 if a == b else max(above[column], row[column - 1])
    return row[-1]


def brute_force(texts: list[str], probe: str, over: int, under: int) -> Similar | None:
    """The first of the most similar texts, with the threshold as a fraction over / under."""
    words = words_of_text(probe)
    best: Similar | None = None
    for number, text in enumerate(texts):
        other = words_of_text(text)
        common, total = lcs(words, other), len(words) + len(other)
        if common and 2 * common * under >= over * total:
            score = 2 * common / total
            if best is None or score > best.rouge_l:
                best = Similar(id=str(number), rouge_l=score)
    return best


def test_the_score_by_hand() -> None:
    # 5 of 5 and of 6 words in common order: 2 x 5 / 11.
    found = kept(0.7, "Name three rivers of Asia").nearest("name three BIG rivers of asia!")
    assert found == Similar(id="0", rouge_l=10 / 11)
    # The same words in another order, of which "name three rivers" is the longest run: 2 x 3 / 10.
    turned = "Of Asia name three rivers"
    assert kept(0.6, "Name three rivers of Asia").nearest(turned) == Similar(id="0", rouge_l=0.6)
    assert kept(0.61, "Name three rivers of Asia").nearest(turned) is None
    assert kept(0.7, "a b c d").nearest("d c b a") is None


def test_the_threshold_itself_is_reached() -> None:
    # 7 of 10 words: 0.7 exactly, though the float 0.7 is a little less and 14 / 20 is computed.
    ten, seven = "a b c d e f g h i j", "a b c d e f g x y z"
    assert kept(0.7, ten).nearest(seven) == Similar(id="0", rouge_l=0.7)
    assert kept(0.71, ten).nearest(seven) is None
    # 2 x 3 / 20 = 0.3, where 0.1 + 0.2 as a float is above it.
    three = "a b c q r s t u v w"
    assert kept(0.3, ten).nearest(three) is not None
    assert kept(0.1 + 0.2, ten).nearest(three) is None


def test_the_most_similar_is_named_and_the_first_of_equals() -> None:
    index = kept(0.5, "a b c d", "a b c d e f", "a b c d e x", "p q r")
    assert index.nearest("a b c d e f") == Similar(id="1", rouge_l=1.0)
    # 2 x 5 / 11 with the second and with the third.
    assert index.nearest("a b c d e") == Similar(id="1", rouge_l=10 / 11)
    assert len(index) == 4


def test_what_was_added_is_found_at_once() -> None:
    index = RougeFilter(0.7)
    for number in range(400):
        text = f"How heavy is number {number} of the {number % 7} sheep called {number * 31}?"
        index.add(str(number), text)
        assert index.nearest(text) == Similar(id=str(number), rouge_l=1.0) or number == 0


def test_texts_without_words_are_similar_to_nothing() -> None:
    index = kept(0.5, "", "?!", "one two")
    assert index.nearest("") is None and index.nearest("...") is None
    assert index.nearest("one two") == Similar(id="2", rouge_l=1.0)
    assert RougeFilter(0.7).nearest("anything") is None
    assert kept(0.7, "").nearest("anything") is None


def test_repeated_words_count_as_often_as_they_stand() -> None:
    # One "buffalo" of five is shared: 2 x 1 / 6.
    index = kept(0.33, "buffalo buffalo buffalo buffalo buffalo")
    assert index.nearest("buffalo") == Similar(id="0", rouge_l=1 / 3)
    assert kept(0.34, "buffalo " * 5).nearest("buffalo") is None


def test_words_of_other_scripts() -> None:
    assert rouge_words("Don't use_this, v2.0!") == ["don", "t", "use", "this", "v2", "0"]
    assert rouge_words("Größe ÉTÉ naïve") == ["grösse", "été", "naïve"]
    # Chinese and Japanese by letter; Hindi keeps its vowel signs; an emoji is no word.
    assert rouge_words("天空为什么是蓝色的?") == list("天空为什么是蓝色的")
    assert rouge_words("हिन्दी में लिखो।") == ["हिन्दी", "में", "लिखो"]
    assert rouge_words("love \u2764\ufe0f it") == ["love", "it"]
    assert kept(0.7, "天空为什么是蓝色的").nearest("天空为什么是红色的") is not None
    assert kept(0.7, "Почему небо синее").nearest("почему небо синее?") is not None


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01, float("nan")])
def test_a_threshold_outside_the_scale_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="max_rouge_l"):
        RougeFilter(threshold)


WORDS = st.lists(st.sampled_from([*"abcde", "the", "Of", "x_1", "don't", "A.B"]), max_size=14)


@settings(max_examples=150, deadline=None)
@given(WORDS.map(" ".join), WORDS.map(" ".join))
def test_the_score_is_that_of_the_rouge_score_package(first: str, second: str) -> None:
    expected = RougeScorer(["rougeL"]).score(first, second)["rougeL"].fmeasure
    found = kept(0.0001, first).nearest(second)
    assert (found.rouge_l if found else 0.0) == pytest.approx(expected)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(WORDS.map(" ".join), max_size=25),
    WORDS.map(" ".join),
    st.sampled_from([(1, 10), (1, 3), (1, 2), (7, 10), (9, 10), (1, 1)]),
)
def test_no_match_is_missed_among_a_few_words(
    texts: list[str], probe: str, threshold: tuple[int, int]
) -> None:
    if threshold == (1, 3):  # no short decimal; with 16 digits it lies below a third
        threshold = (3333333333333333, 10**16)
    over, under = threshold
    assert kept(over / under, *texts).nearest(probe) == brute_force(texts, probe, over, under)


def test_no_match_is_missed_among_changed_texts() -> None:
    """Long lists of candidates at the edge of the threshold, of lengths from 1 to 70 words."""
    rng = random.Random(3)
    vocabulary = [f"w{n}" for n in range(300)]
    weights = [1 / (n + 1) for n in range(300)]
    texts = []
    for _ in range(20):
        words = rng.choices(vocabulary, weights, k=rng.choice((1, 2, 5, 9, 14, 25, 60)))
        for _ in range(10):
            changed = [rng.choice(vocabulary) if rng.random() < 0.25 else w for w in words]
            texts.append(" ".join(w for w in changed if rng.random() > 0.1))
    probes = rng.sample(texts, 20)
    num_found = 0
    for over, under in ((7, 10), (55, 100)):
        index = kept(over / under, *texts[:170])
        for text in [*texts[170:], *(f"{p} {rng.choice(vocabulary)}" for p in probes)]:
            found = index.nearest(text)
            assert found == brute_force(texts[:170], text, over, under)
            num_found += found is not None
    assert 20 < num_found < 90


def test_the_benchmark_counts_what_each_filter_dropped() -> None:
    texts = list(islice(_Writer(5).texts(), 260))
    assert len(set(texts)) == 260
    rouge, near = kept(0.7, *texts[:200]), NearDuplicateIndex(0.8, seed=5)
    for text in texts[:200]:
        near.is_duplicate_then_add(text, text)
    config = SelfInstructConfig(keywords=KEYWORDS)
    # Every tenth of the 60 probes is a kept text in capitals.
    dropped = Counter({"exact": 6})
    for number, text in enumerate(texts[200:]):
        if number % 10 == 9:
            continue
        found = filter_reason(text, config)
        if found is not None:
            dropped["keywords" if found[0] is DropReason.KEYWORD else "answerable"] += 1
        elif rouge.nearest(text):
            dropped["rouge_l"] += 1
        elif near.is_duplicate_then_add(text, text):
            dropped["near_duplicate"] += 1
        else:
            rouge.add("probe", text)
    figures = filter_throughput((50, 200), num_probes=60, seed=5)
    small, row = figures["sizes"]
    assert (small["kept"], row["kept"]) == (50, 200)
    names = ["form", "length", "keywords", "answerable"]
    names += ["held_out", "exact", "rouge_l", "near_duplicate"]
    assert list(row["filters"]) == names
    assert {n: f["dropped"] for n, f in row["filters"].items() if f["dropped"]} == dropped
    assert row["share_dropped"] == round(dropped.total() / 60, 4)
    # What a filter drops no later one is asked about.
    left = 60
    for found in row["filters"].values():
        assert found["asked"] == left and found["per_s"] > 0 and found["seconds_to_build"] >= 0
        left -= found["dropped"]
    assert 0 < row["probes_per_s"] < row["filters"]["rouge_l"]["per_s"]
    assert list(figures["growth"]) == ["all", *names]
    assert figures["growth"]["all"] == pytest.approx(
        small["probes_per_s"] / row["probes_per_s"], abs=0.01
    )
