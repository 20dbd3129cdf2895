import json
import pickle
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from selfreward.metrics.diversity import DiversityCounts, NgramCounts, SelfSimilarity

TEXTS = [
    ["name", "three", "rivers", "of", "asia"],
    ["name", "three", "lakes", "of", "asia"],
    ["name", "three", "rivers", "of", "asia"],
    ["why"],
    [],
]
Texts = Sequence[Sequence[str]]


def _counted(texts: Texts, n: int) -> NgramCounts:
    counts = NgramCounts(n)
    for words in texts:
        counts.add(words)
    return counts


def _similarity(texts: Texts, n: int = 1) -> SelfSimilarity:
    similarity = SelfSimilarity(n)
    for words in texts:
        similarity.add(words)
    return similarity


def test_distinct_n_by_hand() -> None:
    words, pairs = _counted(TEXTS, 1), _counted(TEXTS, 2)
    # name, three, rivers, of, asia, lakes, why among 5 + 5 + 5 + 1 words.
    assert (words.num_distinct, words.num_total) == (7, 16)
    assert words.distinct() == 7 / 16
    # name-three, three-rivers, rivers-of, of-asia, three-lakes, lakes-of among 3 x 4 pairs; none
    # reaches from one text into the next.
    assert pairs.distinct() == 6 / 12
    # Only name-three-rivers-of-asia and name-three-lakes-of-asia, of 3.
    assert _counted(TEXTS, 5).distinct() == pytest.approx(2 / 3)


def test_nothing_to_count_is_none() -> None:
    assert _counted([["one"], []], 2).distinct() is None
    assert NgramCounts(1).distinct_at(1) is None
    assert _similarity([["one"], []]).mean() is None


def test_shards_counted_apart_are_the_set_counted_at_once() -> None:
    whole, first, second = DiversityCounts(), DiversityCounts(), DiversityCounts()
    for i, words in enumerate(TEXTS):
        whole.add(words)
        (first if i % 2 else second).add(words)
    # As they come back from another process.
    first.merge(pickle.loads(pickle.dumps(second)))
    expected, merged = whole.report(sample_size=4).to_dict(), first.report(sample_size=4).to_dict()
    assert merged == pytest.approx(expected)
    assert (merged["num_texts"], merged["num_words"], merged["distinct_2"]) == (5, 16, 0.5)
    # The merged one is left as it was.
    assert second.report().num_texts == 3


def test_a_sample_of_known_size_by_hand() -> None:
    # Of a, a, b two are drawn: a-a one way, a-b two ways: (1 + 2 + 2) / 3 distinct of 2.
    counts = _counted([["a", "a", "b"]], 1)
    assert counts.distinct_at(2) == pytest.approx(5 / 3 / 2)
    assert counts.distinct_at(1) == pytest.approx(1.0)
    assert counts.distinct_at(3) == pytest.approx(2 / 3) == counts.distinct()
    assert counts.distinct_at(4) is None


@settings(max_examples=40)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8), st.integers(1, 8))
def test_a_sample_is_the_mean_over_all_samples(words: list[str], size: int) -> None:
    found = _counted([words], 1).distinct_at(size)
    if size > len(words):
        assert found is None
        return
    shares = [len(set(drawn)) / size for drawn in combinations(words, size)]
    assert found == pytest.approx(np.mean(shares))


def test_samples_compare_sets_of_other_sizes_where_distinct_n_does_not() -> None:
    # The same writer, ten times as much text.
    words = [str(w) for w in np.random.default_rng(0).zipf(1.5, 40_000)]
    small, large = _counted([words[:4_000]], 2), _counted([words], 2)
    plain_small, plain_large = small.distinct(), large.distinct()
    assert plain_small is not None and plain_large is not None
    assert plain_small - plain_large > 0.1
    assert small.distinct_at(2_000) == pytest.approx(large.distinct_at(2_000), abs=0.02)


def test_self_similarity_by_hand() -> None:
    # Two alike, one without a shared word: one pair of three has cosine 1.
    assert _similarity([["a", "b"], ["b", "a"], ["c"]]).mean() == pytest.approx(1 / 3)
    # (a, a, b) is (2, 1) / sqrt 5 and (a) is (1, 0): cosine 2 / sqrt 5.
    assert _similarity([["a", "a", "b"], ["a"]]).mean() == pytest.approx(2 / 5**0.5)
    assert _similarity([["a"], ["b"], ["c"]]).mean() == pytest.approx(0.0, abs=1e-12)
    # In word pairs the order matters: a-b is not b-a.
    assert _similarity([["a", "b"], ["b", "a"]], n=2).mean() == pytest.approx(0.0, abs=1e-12)
    assert _similarity([["a", "b"]] * 7).mean() == pytest.approx(1.0)


def test_self_similarity_agrees_with_all_pairs_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    texts = [[f"w{w}" for w in rng.integers(0, 30, rng.integers(1, 15))] for _ in range(60)]
    vectors = CountVectorizer(analyzer=lambda words: words).fit_transform(texts)
    cosines = cosine_similarity(vectors)[np.triu_indices(len(texts), k=1)]
    assert _similarity(texts).mean() == pytest.approx(cosines.mean())


def test_the_report_of_one_repeated_text() -> None:
    counts = DiversityCounts()
    for _ in range(50):
        counts.add(["say", "it", "again"])
    report = counts.report(sample_size=100)
    # 3 of 150 words, 2 of 100 pairs.
    assert (report.distinct_1, report.distinct_2) == (0.02, 0.02)
    assert report.distinct_2_at_sample == pytest.approx(0.02)
    assert report.self_similarity == pytest.approx(1.0)
    assert counts.report().distinct_2_at_sample is None
    assert json.loads(json.dumps(report.to_dict()))["num_words"] == 150


def test_an_empty_set_has_no_figures() -> None:
    report = DiversityCounts().report()
    assert (report.num_texts, report.num_words) == (0, 0)
    figures = (report.distinct_1, report.distinct_2, report.distinct_2_at_sample)
    assert figures == (None, None, None) and report.self_similarity is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one word, not 0"):
        NgramCounts(0)
    with pytest.raises(ValueError, match="at least one word"):
        SelfSimilarity(0)
    with pytest.raises(ValueError, match="at least one n-gram, not 0"):
        NgramCounts(1).distinct_at(0)
    with pytest.raises(ValueError, match="1-grams and of 2-grams"):
        NgramCounts(1).merge(NgramCounts(2))
    with pytest.raises(ValueError, match="cannot be merged"):
        SelfSimilarity(2).merge(SelfSimilarity(1))
