"""Length, kept from becoming the rule: fitting a rejected response, and balancing pairs.

A judge that sees only rejected responses that are longer, or only shorter, learns to measure. So
each kind of pair must hold the better response on the longer side half of the time. Where an idea
changes the length one way only, the *rejected* response is padded or trimmed; a chosen response is
never touched, since any edit could cost it its label. `balance_lengths` then drops the surplus.
"""

import hashlib
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from selfreward.judging.perturbations.base import Given, is_content, joined, pieces, with_inserted
from selfreward.judging.perturbations.phrases import filler_sentence

NUM_SOURCES = 4
"""Other responses of which one padding takes sentences."""
MAX_BORROWED_CHARS = 250
MAX_FACTOR = 3.0
MIN_TRIMMED_CHARS = 40
"""Nothing is trimmed to stand below a response shorter than this: a stump would be left."""


def match_length(
    rejected: str, target_chars: int, rng: random.Random, others: Sequence[str] = ()
) -> str:
    """Returns a rejected response of about `target_chars` characters, only by adding or cutting.

    A shorter one is padded to the target or up to one sentence beyond it, half with sentences of
    `others` and half with empty phrases, and never at its end: how a cut response stops stays
    visible. A longer one loses sentences at its end, or words where it is a single sentence, and
    has at most `target_chars` characters. Raises ValueError for a target below 1.
    """
    if target_chars < 1:
        raise ValueError(f"target_chars must be at least 1, not {target_chars}")
    text = rejected.strip()
    if len(text) > target_chars:
        return _trimmed(text, target_chars)
    return _padded(text, target_chars, rng, others) if len(text) < target_chars else text


def _trimmed(text: str, target: int) -> str:
    end, kept = 0, 0
    for part in pieces(text):
        if end + len(part.body) > target:
            break
        kept = end + len(part.body)
        end = kept + len(part.gap)
    if kept:
        return text[:kept]
    head = text[:target]
    space = max(head.rfind(" "), head.rfind("\n"))
    return (head[:space] if space > 0 else head).strip() or text[:1]


def _padded(text: str, target: int, rng: random.Random, others: Sequence[str]) -> str:
    parts = pieces(text)
    borrowed = borrowed_sentences(rng, others)
    # Tables and headings are no place for a sentence.
    places = [i for i, p in enumerate(parts[:-1]) if is_content(p) or p.is_code] or [-1]
    additions: dict[int, list[str]] = {}
    # The first sentence of an empty text has no space before it.
    missing = target - len(text) + (not text)
    while missing > 0:
        own = not borrowed or rng.random() < 0.5
        sentence = filler_sentence(rng) if own else borrowed.pop()
        additions.setdefault(rng.choice(places), []).append(sentence)
        missing -= len(sentence) + 1
    return joined(with_inserted(parts, additions))


def borrowed_sentences(rng: random.Random, others: Sequence[str]) -> list[str]:
    """Returns sentences of a few other responses in random order, none of them long."""
    sources = rng.sample(others, min(NUM_SOURCES, len(others)))
    sentences = [
        part.body
        for source in sources
        for part in pieces(source)
        if is_content(part) and len(part.body) <= MAX_BORROWED_CHARS
    ]
    rng.shuffle(sentences)
    return sentences


def fitted(made: str, text: str, given: Given) -> str:
    """Returns what was made of `text`, padded or trimmed to be longer or shorter as asked for.

    The ratio of the lengths is mirrored: what came out half as long is padded to twice the length,
    so that the extent gives away no more than the side. Beyond a factor of 3 it is drawn at random.
    Against a text of fewer than 40 characters nothing is trimmed.
    """
    if given.longer is True and len(made) <= len(text):
        factor = _mirrored(len(text) / max(1, len(made)), given.rng)
        return match_length(made, round(len(text) * factor) + 1, given.rng, given.others)
    if given.longer is False and len(made) > len(text) >= MIN_TRIMMED_CHARS:
        factor = _mirrored(len(made) / len(text), given.rng)
        return match_length(made, round(len(text) / factor), given.rng)
    return made


def _mirrored(factor: float, rng: random.Random) -> float:
    return max(1.02, factor) if factor <= MAX_FACTOR else rng.uniform(1.02, MAX_FACTOR)


def _ranks(pairs: Sequence[tuple[str, str, str]]) -> npt.NDArray[np.uint64]:
    """A random place for each pair that depends on its texts alone."""
    digests = bytearray()
    for pair in pairs:
        digest = hashlib.blake2b(digest_size=8)
        for part in pair:
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        digests += digest.digest()
    return np.frombuffer(bytes(digests), dtype=np.uint64)


def balance_lengths(
    pairs: Sequence[tuple[str, str, str]], ratio_edges: Sequence[float] = ()
) -> list[bool]:
    """Returns for each (kind, chosen, rejected) whether it is kept.

    Within each kind as many pairs stay in which chosen is the longer one as pairs in which rejected
    is: the smaller count of the two, which is the most that can stay. Pairs of equal length always
    stay. A kind whose rejected responses are all on one side keeps only pairs of equal length:
    it would teach the rule. Which pairs go depends on their texts alone, not on their order.

    `ratio_edges` divides each kind by how unequal its pairs are, longer over shorter: with
    (1.2, 2.0) the pairs below 1.2, between, and from 2.0 on are balanced separately, so that
    "much shorter is worse" cannot be learnt either. Raises ValueError unless they rise above 1.
    """
    edges = list(ratio_edges)
    if edges != sorted(set(edges)) or any(edge <= 1 for edge in edges):
        raise ValueError(f"ratio_edges must rise and be above 1, not {edges}")
    if not pairs:
        return []
    chosen = np.array([len(pair[1]) for pair in pairs], dtype=np.int64)
    rejected = np.array([len(pair[2]) for pair in pairs], dtype=np.int64)
    _, kinds = np.unique(np.array([pair[0] for pair in pairs], dtype=object), return_inverse=True)
    ratios = np.maximum(chosen, rejected) / np.maximum(1, np.minimum(chosen, rejected))
    groups = kinds.reshape(-1) * (len(edges) + 1) + np.searchsorted(edges, ratios, side="right")
    is_longer = (chosen > rejected).astype(np.int64)
    unequal = np.flatnonzero(chosen != rejected)
    # Each group has two cells, rejected longer and chosen longer; both keep the smaller count.
    cells = groups[unequal] * 2 + is_longer[unequal]
    counts = np.bincount(cells, minlength=2 * (int(groups.max()) + 1)).reshape(-1, 2)
    quotas = np.repeat(counts.min(axis=1), 2)
    order = np.lexsort((_ranks(pairs)[unequal], cells))
    starts = np.concatenate(([0], np.cumsum(counts.reshape(-1))[:-1]))
    place_in_cell = np.arange(len(unequal)) - starts[cells[order]]
    keep = chosen == rejected
    keep[unequal[order[place_in_cell < quotas[cells[order]]]]] = True
    result: list[bool] = keep.tolist()
    return result
