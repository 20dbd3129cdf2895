"""Finding kept texts that are too similar in ROUGE-L, exactly and fast among many.

ROUGE-L F1 of texts with m and n words whose longest common subsequence has L words is
2L / (m + n) (Lin 2004, section 3, with beta 1; the filter of Self-Instruct, arXiv 2212.10560).
Nothing here estimates: every kept text that reaches the threshold is found.

Why no match is missed. Let `need` be the least whole L with 2L / (m + n) >= t.
1. L words in common order are L words in common, counted with repetition. Numbering repeated words
   (the second "the" is a word of its own) turns that into the overlap of two sets, so a match
   overlaps in at least `need` of the probe's m numbered words.
2. L is at most m and at most n. So need <= min(m, n), which bounds the lengths to compare: n is at
   least t m / (2 - t), and since `need` grows with n, no match needs less than the shortest one.
3. Of `need` shared words at most k can lie in any k of the probe's words; so at least need - k lie
   in the others. Leaving out the k = least need - 1 most common words, a match still shows up in
   the posting lists of the rest, at least need - k times (the prefix filter of Chaudhuri, Ganti and
   Kaushik 2006, and the long lists left aside of Li, Lu and Lu 2008).
Step 3 holds for any choice of the k words. As every word of a kept text is indexed, and not its
rarest alone, no order of words needs to be agreed on, and what is common may change as texts come.
Kept texts stand in bands of like length, each an index of its own: the longer the texts of a band,
the larger their least need, and the fewer and rarer the words that must be looked up there.
"""

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import LCSseq

from selfreward.judging.filters import normalised_text, words_of

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_UNKNOWN = 0  # a word of the probe that no kept text has: equal to none of theirs
_NOWHERE = array("I")
_FEW = 8
"""So few candidates are compared sooner than thinned out further."""

Ids = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """The kept text most similar to another one.

    Example: `Similar(id="ins-4b…", rouge_l=0.75)`
    """

    id: str
    rouge_l: float
    """ROUGE-L F1, 0 to 1."""


def rouge_words(text: str) -> list[str]:
    """Returns the words that ROUGE-L compares.

    For ASCII they are those of the `rouge-score` package without stemming: lower-cased runs of
    letters and digits. Letters and marks of other scripts are kept, which that package leaves out,
    and scripts written without spaces count by letter. `rouge_words("Don't!")` is `["don", "t"]`.
    """
    text = normalised_text(text)
    if text.isascii():
        return _ASCII_WORD.findall(text)
    kept: list[str] = []
    for char in text:
        # Marks belong to the letter before (vowels of Hindi or Thai), never to an emoji.
        is_mark = unicodedata.category(char).startswith("M") and kept[-1:] not in ([], [" "])
        kept.append(char if char.isalnum() or is_mark else " ")
    return words_of("".join(kept))


def _numbered(word_ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Pairs each word with how often it came before."""
    seen: dict[int, int] = {}
    for word in word_ids:
        number = seen.get(word, 0)
        seen[word] = number + 1
        yield word, number


class _Band:
    """An index of kept texts of `low` to `high` words; `places` tells which they are."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self._places = array("I")
        self._lengths = array("I")
        self._postings: dict[tuple[int, int], array[int]] = {}
        # Scratch of one count a kept text, all zero between calls.
        self._counts = np.zeros(256, dtype=np.int32)

    def add(self, place: int, sequence: Sequence[int]) -> None:
        row = len(self._places)
        for key in _numbered(sequence):
            self._postings.setdefault(key, array("I")).append(row)
        self._places.append(place)
        self._lengths.append(len(sequence))
        if len(self._places) > len(self._counts):
            self._counts = np.zeros(2 * len(self._counts), dtype=np.int32)

    def candidates(
        self, keys: Sequence[tuple[int, int]], left_out: int, needs_of: Counts
    ) -> list[tuple[int, int]]:
        """Returns (place, least LCS) of a superset of the band's matches.

        `keys` are the probe's numbered words, `left_out` is k of the proof above, and `needs_of`
        holds the least LCS by the number of words of both texts together.
        """
        postings = sorted((self._postings.get(key, _NOWHERE) for key in keys), key=len)
        rare = [_view(p) for p in postings[: len(keys) - left_out] if p]
        if not rare:
            return []
        rows, overlaps = self._overlaps(rare)
        lengths = _view(self._lengths)[rows].astype(np.int64)
        needs = needs_of[len(keys) + lengths]
        hits = (overlaps + left_out >= needs) & (needs <= np.minimum(lengths, len(keys)))
        rows, overlaps, needs = rows[hits], overlaps[hits], needs[hits]
        # The common words thin out what is left: each is looked up for the candidates alone.
        for posting in postings[len(keys) - left_out :]:
            if len(rows) <= _FEW:
                break
            left_out -= 1
            overlaps = overlaps + _contains(_view(posting), rows)
            hits = overlaps + left_out >= needs
            rows, overlaps, needs = rows[hits], overlaps[hits], needs[hits]
        return list(zip(_view(self._places)[rows].tolist(), needs.tolist(), strict=True))

    def _overlaps(self, postings: Sequence[Ids]) -> tuple[Ids, Counts]:
        """Returns the rows in `postings` and in how many of these each stands."""
        counts = self._counts
        found = []
        for posting in postings:
            # A numbered word stands in a text at most once, so no row repeats within a list.
            before = counts[posting]
            found.append(posting[before == 0])
            counts[posting] = before + 1
        rows = np.concatenate(found)
        overlaps = counts[rows].astype(np.int64)
        counts[rows] = 0
        return rows, overlaps


def _view(posting: "array[int]") -> Ids:
    # Shares memory: an array cannot grow while a view of it lives, so none outlives its call.
    return np.frombuffer(posting, dtype=np.uint32)


def _contains(posting: Ids, rows: Ids) -> npt.NDArray[np.bool_]:
    """Tells for each of `rows` whether it stands in the ascending `posting`."""
    at = np.minimum(np.searchsorted(posting, rows), len(posting) - 1)
    found: npt.NDArray[np.bool_] = posting[at] == rows
    return found


class RougeFilter:
    """Kept texts, searchable for those whose ROUGE-L F1 with a text is at least `max_rouge_l`.

    The threshold is the decimal number as written: 0.7 is reached by 7 of 10 words, whatever the
    binary fraction next to it. A text without words is similar to nothing.
    Example: after `add("ins-1", "Name three rivers of Asia")`, `nearest("Name three big rivers of
    Asia")` is `Similar(id="ins-1", rouge_l=0.909…)`.
    """

    def __init__(self, max_rouge_l: float) -> None:
        """Raises ValueError unless `max_rouge_l` is above 0 and at most 1."""
        if not 0 < max_rouge_l <= 1:
            raise ValueError(f"max_rouge_l must be above 0 and at most 1, not {max_rouge_l}")
        self._threshold = Fraction(str(max_rouge_l))
        self._ids: list[str] = []
        self._sequences: list[array[int]] = []
        self._word_ids: dict[str, int] = {}
        self._bands: list[_Band] = []
        self._needs: Counts = np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id: str, text: str) -> None:
        """Keeps `text`, without testing it."""
        known = self._word_ids
        sequence = array("I", [known.setdefault(w, len(known) + 1) for w in rouge_words(text)])
        if sequence:
            self._band_of(len(sequence)).add(len(self._ids), sequence)
        self._ids.append(id)
        self._sequences.append(sequence)

    def nearest(self, text: str) -> Similar | None:
        """Returns the kept text of the highest ROUGE-L with `text` (of several the one added
        first), or None where none reaches the threshold."""
        sequence = array("I", [self._word_ids.get(w, _UNKNOWN) for w in rouge_words(text)])
        best: tuple[int, int, int] | None = None
        for place, need in sorted(self._candidates(sequence)):
            kept = self._sequences[place]
            lcs = LCSseq.similarity(sequence, kept, score_cutoff=need)
            total = len(sequence) + len(kept)
            if lcs >= need and (best is None or lcs * best[1] > best[0] * total):
                best = lcs, total, place
        if best is None:
            return None
        lcs, total, place = best
        return Similar(id=self._ids[place], rouge_l=2 * lcs / total)

    def _band_of(self, num_words: int) -> _Band:
        """Returns the band for texts of so many words, making those up to it where missing."""
        while not self._bands or self._bands[-1].high < num_words:
            low = self._bands[-1].high + 1 if self._bands else 1
            self._bands.append(_Band(low, low + low // 3))
        return self._bands[bisect_left(self._bands, num_words, key=lambda band: band.high)]

    def _needs_up_to(self, total: int) -> Counts:
        """Returns the least LCS that reaches the threshold, for each number of words together."""
        if total >= len(self._needs):
            over, under = self._threshold.numerator, 2 * self._threshold.denominator
            count = max(total + 1, 2 * len(self._needs))
            self._needs = np.array([-(-over * n // under) for n in range(count)], dtype=np.int64)
        return self._needs

    def _candidates(self, sequence: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yields (place, least LCS) of a superset of all matches."""
        num_words = len(sequence)
        if not num_words or not self._bands:
            return
        keys = list(_numbered(sequence))
        over, under = self._threshold.numerator, self._threshold.denominator
        shortest = -(-over * num_words // (2 * under - over))
        needs_of = self._needs_up_to(num_words + self._bands[-1].high)
        for band in self._bands:
            if band.high < shortest:
                continue
            least = int(needs_of[num_words + max(band.low, shortest)])
            if least > num_words:  # for all longer texts too
                return
            yield from band.candidates(keys, least - 1, needs_of)
