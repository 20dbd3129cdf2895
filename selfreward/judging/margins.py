"""How sure a judge was of the right verdict on a pair: what a curriculum orders rows by.

A judge that likes one position says so in both orders with opposite signs, so over both orders a
constant liking cancels and what is left is about the responses.
"""

import math
from collections.abc import Sequence
from statistics import fmean

from selfreward.records import Judgment, Outcome, Position

_LEAST = 2.0**-53
"""A probability this near 0 or 1 is the last that a float tells from it; log-odds are finite."""


def verdict_margin(judgments: Sequence[Judgment]) -> float | None:
    """Returns the margin of a pair from all its judgments by one judge; None without any.

    It is the mean over the pair's orders of log P(right) - log P(wrong) of the verdict, in nats,
    itself the mean over the draws that carry it; an order with no such draw is left out. Where no
    draw of the pair carries log-probabilities it is the mean over the orders of the share of draws
    that are right minus the share that name the other response, -1 to 1.

    Example: P(right) of 0.8 in one order and 0.4 in the other give
    (log(0.8 / 0.2) + log(0.4 / 0.6)) / 2 = 0.49.
    """
    orders = [[j for j in judgments if j.position is position] for position in Position]
    odds = [[x for j in order if (x := _log_odds(j)) is not None] for order in orders]
    means = [fmean(order) for order in odds if order]
    if not means:
        means = [fmean(map(_vote, order)) for order in orders if order]
    return fmean(means) if means else None


def _log_odds(judgment: Judgment) -> float | None:
    first = judgment.verdict.probability_first
    if first is None:
        return None
    first = min(max(first, _LEAST), 1.0 - _LEAST)
    odds = math.log(first) - math.log1p(-first)
    return odds if judgment.gold == "first" else -odds


def _vote(judgment: Judgment) -> float:
    """1 for a right verdict, -1 for the other one, 0 for a tie or a failure."""
    if judgment.verdict.outcome is not Outcome.CHOICE:
        return 0.0
    return 1.0 if judgment.is_right else -1.0
