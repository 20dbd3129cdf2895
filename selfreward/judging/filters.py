"""Finding instructions that were seen before: exactly, or nearly."""

import re
import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

from selfreward.records import Message, content_id

SHINGLE_WORDS = 5
MIN_RECALL = 0.95
"""Chance that a pair exactly at the threshold becomes a candidate."""

# Scripts written without spaces: each of their letters counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_EDGE_PUNCTUATION = ".,;:!?\"'()[]{}\u201c\u201d\u2018\u2019\xab\xbb\u3001\u3002"


def normalised_text(text: str) -> str:
    """Returns `text` with Unicode forms, letter case and white space made uniform.

    Punctuation stays: `2+2` and `2-2` are different tasks.
    Example: `normalised_text("  Why  is\\nthe Sky blue?")` is `why is the sky blue?`.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def exact_key(messages: Sequence[Message]) -> str:
    """Returns a key that two conversations share exactly if they are equal once normalised."""
    return content_id("key", [[m.role, normalised_text(m.content)] for m in messages])


def words_of(text: str) -> list[str]:
    """Returns the normalised words of `text` without punctuation at their edges."""
    words = [w.strip(_EDGE_PUNCTUATION) for w in _WORDS.findall(normalised_text(text))]
    return [w for w in words if w]


def shingle_hashes(text: str) -> npt.NDArray[np.uint32]:
    """Returns a 32-bit hash of each distinct run of five words.

    A text of fewer words is one shingle as a whole: it is a near-duplicate only of a text with
    the same words. Hashes are the same in every process.
    """
    words = words_of(text) or [normalised_text(text)]
    width = min(SHINGLE_WORDS, len(words))
    num_shingles = len(words) - width + 1
    crcs = np.array([zlib.crc32(w.encode("utf-8", "surrogatepass")) for w in words], np.uint64)
    # A polynomial hash modulo 2^64 in an odd base; its high bits depend on every word.
    base = np.uint64(0x9E3779B97F4A7C15)
    mixed = np.full(num_shingles, width, dtype=np.uint64)
    for column in range(width):
        mixed = (mixed ^ crcs[column : column + num_shingles]) * base
        mixed ^= mixed >> np.uint64(29)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


def _bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """Returns (bands, rows): the most selective split that still finds 95% at the threshold.

    A pair of Jaccard similarity s shares one of b bands of r rows with probability
    1 - (1 - s^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4.2).
    Candidates are verified, so recall matters and precision only costs time.
    """
    for rows in range(num_perm // 2, 1, -1):
        bands = num_perm // rows
        if 1 - (1 - threshold**rows) ** bands >= MIN_RECALL:
            return bands, rows
    return num_perm, 1


class NearDuplicateIndex:
    """Texts seen so far, searchable by estimated Jaccard similarity of their 5-word shingles.

    Example: `index.is_duplicate_then_add("ins-2", "why is the sky blue today")` is `"ins-1"` where
    that one was added with nearly the same text, and None where the text is new.
    """

    def __init__(self, threshold: float, num_perm: int = 128, seed: int = 1) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
        self._threshold = threshold
        # `int` as hash function: shingles arrive hashed already.
        self._empty = MinHash(num_perm=num_perm, seed=seed, hashfunc=int)
        self._lsh = MinHashLSH(num_perm=num_perm, params=_bands(threshold, num_perm))
        self._keys: list[str] = []
        self._signatures: list[npt.NDArray[np.unsignedinteger]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def is_duplicate_then_add(self, key: str, text: str) -> str | None:
        """Returns the key of the earliest near-duplicate, or None after adding the text.

        Candidates of the index count only if the share of equal MinHash values, an unbiased
        estimate of the Jaccard similarity (Broder 1997), reaches the threshold. A duplicate is not
        added, so a chain of small changes is compared with the text that was kept.
        """
        signature = self._empty.copy()
        signature.update_batch(shingle_hashes(text).tolist())
        values: npt.NDArray[np.unsignedinteger] = signature.hashvalues
        places: list[int] = sorted(self._lsh.query(signature))
        for place in places:
            if float(np.mean(self._signatures[place] == values)) >= self._threshold:
                return self._keys[place]
        self._lsh.insert(len(self._keys), signature)
        self._keys.append(key)
        self._signatures.append(values)
        return None
