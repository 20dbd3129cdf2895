"""From answers that people ranked to preferences, two answers at a time."""

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Literal

from selfreward.records import Preference, content_id, derived_seed
from selfreward.records_custom_llm import Ranking

Pairs = Literal["all", "neighbours", "extremes"]
"""Every two answers with different ranks; those whose ranks are next to each other; or those of
the best rank against those of the worst."""


def preferences_of(ranking: Ranking, pairs: Pairs, max_pairs: int, seed: int) -> list[Preference]:
    """Returns the preferences that a ranking implies, those of better chosen answers first.

    Answers of equal rank, and equal texts, give none. Where there are more than `max_pairs`, a part
    drawn by `seed` and the ranking stays. All carry the ranking as their `pair_id`, so that the
    comparisons of one ranking meet in one batch, where each answer is seen once and not overfitted
    (arXiv 2203.02155, section 3.5).
    """
    turns = [[m.role, m.content] for m in ranking.messages]
    ids = [content_id("res", turns, text) for text in ranking.responses]
    found = [
        Preference(
            id=content_id("pre", "ranking", ranking.id, ids[better], ids[worse]),
            messages=ranking.messages,
            chosen=ranking.responses[better],
            rejected=ranking.responses[worse],
            pair_id=ranking.id,
            chosen_id=ids[better],
            rejected_id=ids[worse],
        )
        for better, worse in _compared(ranking.ranks, pairs)
        if ids[better] != ids[worse]
    ]
    if len(found) <= max_pairs:
        return found
    drawn = sorted(found, key=lambda p: derived_seed(seed, "ranking pairs", p.id))[:max_pairs]
    kept = {p.id for p in drawn}
    return [p for p in found if p.id in kept]


def _compared(ranks: tuple[int, ...], pairs: Pairs) -> Iterator[tuple[int, int]]:
    """Places of (better, worse) answers."""
    levels = [[i for i, r in enumerate(ranks) if r == rank] for rank in sorted(set(ranks))]
    if pairs == "neighbours":
        compared = list(pairwise(levels))
    elif pairs == "extremes":
        compared = [(levels[0], levels[-1])] if len(levels) > 1 else []
    else:
        compared = list(combinations(levels, 2))
    for high, low in compared:
        yield from ((better, worse) for better in high for worse in low)
