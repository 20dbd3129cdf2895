"""Judgments worth imitating: those whose scores order responses as people did.

The EFT data of Self-Rewarding Language Models (arXiv 2401.10020, section 3.1.1): judgments that
agree with people's ranking are kept, and the most common score is thinned out, since a judge that
learns from scores piled up on one value gives that value to everything.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfreward.judging.balance import NOTHING, balance_rank
from selfreward.records import Outcome
from selfreward.records_scores import Rating, ScoredResponse

FloatArray = npt.NDArray[np.float64]

# Scores read from probabilities and shares of counts are not exact.
_ROUNDING = 1e-9
_SCORE_DECIMALS = 9


def order_agreement(human: Sequence[float], judge: Sequence[float]) -> float | None:
    """Returns Kendall's tau-b over the pairs of responses that people order, or None without any.

    (right - wrong) / sqrt(pairs * (right + wrong)), where `pairs` counts judge's ties too: 1 is
    every pair in people's order and none tied. Pairs that people tie on say nothing about the
    judge and do not count; without such pairs it is the usual tau-b. None also where the judge
    ties on all pairs. Raises ValueError for unequal lengths and scores that are not finite.
    """
    scores = np.array([human, judge], dtype=np.float64).round(_SCORE_DECIMALS)
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number")
    left, right = np.triu_indices(scores.shape[1], k=1)
    of_people, of_judge = np.sign(scores[:, left] - scores[:, right])
    products = (of_people * of_judge)[of_people != 0]
    num_decided = np.count_nonzero(products)
    if num_decided == 0:
        return None
    return float(products.sum() / math.sqrt(len(products) * num_decided))


def agreeing_draws(
    responses: Sequence[ScoredResponse], ratings: Sequence[Rating], min_agreement: float
) -> list[Rating]:
    """Returns the ratings of the draws that order one group's responses as people did.

    Draw k is one reading of every response of the group. It is kept if all of them, two at least,
    have a score in it and the `order_agreement` with people's scores reaches `min_agreement`; at
    1.0 a tie between responses that people order is a disagreement. Groups in which people order
    nothing keep nothing. The result is sorted by draw and then as `responses`.

    Raises ValueError for responses of several groups, a rating of another response, and two
    ratings of one response in one draw.
    """
    human = [r.score for r in responses]
    kept: list[Rating] = []
    for readings in complete_draws(responses, ratings):
        judge = [r.verdict.score for r in readings if r.verdict.score is not None]
        agreement = order_agreement(human, judge)
        if agreement is not None and agreement >= min_agreement - _ROUNDING:
            kept += readings
    return kept


def complete_draws(
    responses: Sequence[ScoredResponse], ratings: Sequence[Rating]
) -> list[list[Rating]]:
    """Returns the draws in which every response of one group has a score, by their number, each as
    its ratings in the order of `responses`; errors as in `agreeing_draws`."""
    if len({r.group for r in responses}) > 1:
        raise ValueError("responses of several groups cannot be ordered")
    idents = [r.id for r in responses]
    draws: dict[int, dict[str, Rating]] = {}
    for rating in ratings:
        if rating.response_id not in idents:
            raise ValueError(f"{rating.id} rates {rating.response_id}, which is not of the group")
        readings = draws.setdefault(rating.draw, {})
        if rating.response_id in readings:
            raise ValueError(f"{rating.response_id} has two ratings in draw {rating.draw}")
        readings[rating.response_id] = rating
    return [
        [readings[ident] for ident in idents]
        for _, readings in sorted(draws.items())
        if all(ident in readings and _has_score(readings[ident]) for ident in idents)
    ]


def _has_score(rating: Rating) -> bool:
    return rating.verdict.outcome is Outcome.SCORE and rating.verdict.score is not None


def modal_score(counts: Mapping[float, int]) -> float | None:
    """Returns the most common score, of equally common ones the highest; None without any."""
    present = [(count, score) for score, count in counts.items() if count > 0]
    return max(present)[1] if present else None


def modal_limit(counts: Mapping[float, int], max_share: float) -> int | None:
    """Returns how many of the most common score may stay, or None where all may.

    The largest m with m / (m + others) <= `max_share`, so 0 where there is no other score. Another
    score may then be the most common one: with two scores one always has half of all. Raises
    ValueError for a share outside 0 to 1.
    """
    if not 0 <= max_share <= 1:
        raise ValueError(f"max_share must be from 0 to 1, not {max_share}")
    total, most = sum(counts.values()), max(counts.values(), default=0)
    if most <= max_share * total + _ROUNDING:
        return None
    # 0.4 * 3 / 0.6 must be 2, not the 1 of 1.9999….
    return math.floor(max_share * (total - most) / (1 - max_share) + _ROUNDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalCutoff:
    """Which rows of the most common score stay: those up to a rank that follows from the id.

    Example: `ModalCutoff(score=4.0, largest_rank=3689348814741910323)`
    """

    score: float
    largest_rank: int

    def keeps(self, score: float, rating_id: str) -> bool:
        """Whether a rating stays. It depends on nothing else, so shards can be cut one by one."""
        is_modal = abs(score - self.score) <= _ROUNDING
        return not is_modal or balance_rank(rating_id) <= self.largest_rank


def modal_cutoff(
    scores: Sequence[float], ranks: Sequence[int], max_share: float
) -> ModalCutoff | None:
    """Returns the cut-off that leaves `modal_limit` rows of the most common score; None: keep all.

    `ranks` are the `balance.balance_rank` of the ratings' ids, one for each score. Raises
    ValueError for unequal lengths, and where two rows of the most common score share a rank.
    """
    rounded = [round(score, _SCORE_DECIMALS) for score in scores]
    counts = Counter(rounded)
    modal, limit = modal_score(counts), modal_limit(counts, max_share)
    of_modal = sorted(rank for score, rank in zip(rounded, ranks, strict=True) if score == modal)
    if modal is None or limit is None:
        return None
    if len(set(of_modal)) < len(of_modal):
        raise ValueError("two ratings have the same rank: their ids must be unique")
    return ModalCutoff(score=modal, largest_rank=of_modal[limit - 1] if limit else NOTHING)
