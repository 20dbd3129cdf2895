"""How varied a set of texts is: distinct n-grams and similarity of the texts to each other.

Texts arrive as lists of words; how they are split is the caller's to know, and figures compare
only where it was done alike. Everything is counted in accumulators that merge, so the shards of a
set can be counted apart. A text shorter than n words has no n-grams and adds none.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

SAMPLE_SIZE = 10_000
"""N-grams by which sets of different sizes are compared unless told otherwise."""


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _check_order(n: int) -> None:
    if n < 1:
        raise ValueError(f"an n-gram has at least one word, not {n}")


def _check_same_order(n: int, other: int) -> None:
    if n != other:
        raise ValueError(f"counts of {n}-grams and of {other}-grams cannot be merged")


class NgramCounts:
    """How often each n-gram occurs in the texts added so far.

    Example: after `counts = NgramCounts(2)` and `counts.add(["a", "b", "a", "b"])` there are 3
    word pairs, 2 of them distinct, and `counts.distinct()` is 2/3.
    """

    def __init__(self, n: int) -> None:
        _check_order(n)
        self.n = n
        self._counts: Counter[tuple[str, ...]] = Counter()

    @property
    def num_total(self) -> int:
        return self._counts.total()

    @property
    def num_distinct(self) -> int:
        return len(self._counts)

    def add(self, words: Sequence[str]) -> None:
        self._counts.update(_ngrams(words, self.n))

    def merge(self, other: Self) -> None:
        """Adds the counts of other texts to these; raises ValueError for another n."""
        _check_same_order(self.n, other.n)
        self._counts.update(other._counts)

    def distinct(self) -> float | None:
        """Returns distinct-n, distinct n-grams over all n-grams, or None without any.

        Source: Li et al. (arXiv 1510.03055), who divide by words instead of n-grams. The more
        text, the lower it is, however varied the writer: compare sets of other sizes by
        `distinct_at`.
        """
        return self.num_distinct / self.num_total if self._counts else None

    def distinct_at(self, sample_size: int) -> float | None:
        """Returns distinct-n expected in a sample of `sample_size` n-grams, or None if there are
        fewer.

        The sample is drawn from all n-grams without replacement. An n-gram that occurs c times
        among N is missed by a sample of m with probability C(N - c, m) / C(N, m) (rarefaction:
        Hurlbert 1971, The Nonconcept of Species Diversity), so this is exact and needs no seed.
        The adjustment of Liu et al. (arXiv 2202.13587) would also ask for the size of a
        vocabulary, which words do not have. Raises ValueError for a size below 1.
        """
        if sample_size < 1:
            raise ValueError(f"a sample has at least one n-gram, not {sample_size}")
        total = self.num_total
        if sample_size > total:
            return None
        spectrum = Counter(self._counts.values())
        # The probability of a miss is the product over j < c of (N - m - j) / (N - j). Its running
        # product stays exact where binomials of millions would not; factors below 0 come only
        # after one that is 0.
        j = np.arange(max(spectrum))
        missed = np.cumprod(np.maximum(total - sample_size - j, 0) / (total - j))
        expected = math.fsum(
            times * (1.0 - float(missed[count - 1])) for count, times in spectrum.items()
        )
        return expected / sample_size


class SelfSimilarity:
    """Mean cosine of all pairs of texts, in time that grows with the texts and not their pairs.

    Each text is the unit vector of its n-gram counts. The cosines of all ordered pairs of N unit
    vectors sum to |sum of the vectors|² - N, so the sum of the vectors is all that is kept.

    Example: of the texts ["a", "b"], ["a", "b"] and ["c"] with n 1 one pair of three is alike:
    `mean()` is 1/3.
    """

    def __init__(self, n: int = 1) -> None:
        _check_order(n)
        self.n = n
        self.num_texts = 0
        """Texts with at least one n-gram; others have no direction."""
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, words: Sequence[str]) -> None:
        counts = Counter(_ngrams(words, self.n))
        if not counts:
            return
        length = math.sqrt(sum(c * c for c in counts.values()))
        for ngram, count in counts.items():
            self._sums[ngram] = self._sums.get(ngram, 0.0) + count / length
        self.num_texts += 1

    def merge(self, other: Self) -> None:
        """Adds other texts to these; the order of merges can change the last digits of the mean.

        Raises ValueError for another n.
        """
        _check_same_order(self.n, other.n)
        for ngram, value in other._sums.items():
            self._sums[ngram] = self._sums.get(ngram, 0.0) + value
        self.num_texts += other.num_texts

    def mean(self) -> float | None:
        """Returns the mean cosine of two different texts, 0 to 1, or None for fewer than two."""
        n = self.num_texts
        if n < 2:
            return None
        squared = math.fsum(value * value for value in self._sums.values())
        # Without a shared n-gram the difference is 0 up to rounding, which can be below it.
        return min(1.0, max(0.0, (squared - n) / (n * (n - 1))))


@dataclass(frozen=True, slots=True, kw_only=True)
class DiversityReport:
    """How varied a set of texts is. A figure with nothing to count is None.

    Example: `DiversityReport(num_texts=900, num_words=13500, distinct_1=0.21, distinct_2=0.62,
    sample_size=10000, distinct_1_at_sample=0.24, distinct_2_at_sample=0.66,
    self_similarity=0.14)`
    """

    num_texts: int
    num_words: int
    distinct_1: float | None
    distinct_2: float | None
    """Falls with the size of the set."""
    sample_size: int
    distinct_1_at_sample: float | None
    distinct_2_at_sample: float | None
    """Expected among `sample_size` of the word pairs: compares over sets of other sizes. None
    where there are fewer."""
    self_similarity: float | None
    """Mean cosine of the word counts of two texts."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)


class DiversityCounts:
    """All that a `DiversityReport` is made of, for the texts added so far.

    Example: `for words in texts: counts.add(words)`, then `counts.report().distinct_2`.
    """

    def __init__(self) -> None:
        self._num_texts = 0
        self._words = NgramCounts(1)
        self._pairs = NgramCounts(2)
        self._similarity = SelfSimilarity(1)

    def add(self, words: Sequence[str]) -> None:
        self._num_texts += 1
        self._words.add(words)
        self._pairs.add(words)
        self._similarity.add(words)

    def merge(self, other: Self) -> None:
        """Adds the counts of another shard to these."""
        self._num_texts += other._num_texts
        self._words.merge(other._words)
        self._pairs.merge(other._pairs)
        self._similarity.merge(other._similarity)

    def report(self, sample_size: int = SAMPLE_SIZE) -> DiversityReport:
        """Returns the figures; raises ValueError for a sample size below 1."""
        return DiversityReport(
            num_texts=self._num_texts,
            num_words=self._words.num_total,
            distinct_1=self._words.distinct(),
            distinct_2=self._pairs.distinct(),
            sample_size=sample_size,
            distinct_1_at_sample=self._words.distinct_at(sample_size),
            distinct_2_at_sample=self._pairs.distinct_at(sample_size),
            self_similarity=self._similarity.mean(),
        )
