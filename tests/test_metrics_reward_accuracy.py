"""A reward model's figures: by hand, and against scipy and scikit-learn."""

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest, kendalltau

from selfreward.metrics.reward_accuracy import ranking_agreement, reward_accuracy

# Differences 2, 1, 0 and -1.
CHOSEN, REJECTED = [2.0, 1.0, 3.0, -1.0], [0.0, 0.0, 3.0, 0.0]


def test_accuracy_counts_a_tie_as_wrong() -> None:
    report = reward_accuracy(CHOSEN, REJECTED)
    assert (report.n, report.num_ties, report.accuracy) == (4, 1, 0.5)
    assert report.mean_margin == 0.5  # (2 + 1 + 0 - 1) / 4
    json.dumps(report.to_dict())


def test_the_interval_is_that_of_wilson() -> None:
    report = reward_accuracy([1.0] * 37 + [0.0] * 13, [0.0] * 37 + [1.0] * 13)
    wanted = binomtest(37, 50).proportion_ci(0.95, method="wilson")
    assert report.accuracy == 0.74
    assert report.accuracy_ci == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_pairs_of_one_ranking_count_once_in_the_interval() -> None:
    # 40 pairs of 20 rankings: as wide as 20 pairs.
    chosen, rejected = [1.0] * 30 + [0.0] * 10, [0.0] * 30 + [1.0] * 10
    groups = [i // 2 for i in range(40)]
    wanted = binomtest(15, 20).proportion_ci(0.95, method="wilson")
    report = reward_accuracy(chosen, rejected, groups=groups)
    assert report.accuracy_ci == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_buckets_of_the_scores_own_margins() -> None:
    # Margins 2, 1, 0, 1 by size: an edge belongs to the bucket above it.
    buckets = reward_accuracy(CHOSEN, REJECTED).buckets
    assert [(b.low, b.high, b.n, b.accuracy) for b in buckets] == [
        (0.0, 0.5, 1, 0.0),
        (0.5, 1.0, 0, None),
        (1.0, 2.0, 2, 0.5),
        (2.0, None, 1, 1.0),
    ]
    assert [b.accuracy_ci is None for b in buckets] == [False, True, False, False]


def test_buckets_of_margins_that_people_gave() -> None:
    # Distances of ranks: neighbours (1) are right in one of two, others in one of two too.
    report = reward_accuracy(CHOSEN, REJECTED, margins=[1, 2, 2, 1], edges=[1.5])
    assert [(b.n, b.accuracy) for b in report.buckets] == [(2, 0.5), (2, 0.5)]


def test_probabilities_are_scored_by_hand() -> None:
    report = reward_accuracy(CHOSEN, REJECTED, num_bins=5)
    # sigmoid(2, 1, 0, -1) = 0.880797, 0.731059, 0.5, 0.268941
    # Brier: (0.119203² + 0.268941² + 0.5² + 0.731059²) / 4 = 0.217746
    assert report.brier == pytest.approx(0.217746, abs=1e-6)
    # -ln: 0.126928, 0.313262, 0.693147, 1.313262; mean 0.611650
    assert report.negative_log_likelihood == pytest.approx(0.611650, abs=1e-6)
    # Bins of 0.1 from 0.5. In (0.8, 0.9]: 0.8808, right. In (0.7, 0.8]: 0.7311 twice, half right.
    # In the first: 0.5, half right. (0.119203 + 2 * 0.231059 + 0) / 4 = 0.145330
    assert report.expected_calibration_error == pytest.approx(0.145330, abs=1e-6)
    assert [b.n for b in report.bins] == [1, 0, 2, 1, 0]


def test_the_likelihood_is_the_bradley_terry_loss() -> None:
    rng = np.random.default_rng(0)
    chosen, rejected = rng.normal(1, 2, 200), rng.normal(0, 2, 200)
    wanted = np.mean([math.log1p(math.exp(r - c)) for c, r in zip(chosen, rejected, strict=True)])
    report = reward_accuracy(list(chosen), list(rejected))
    assert report.negative_log_likelihood == pytest.approx(wanted, abs=1e-9)


def test_no_preferences_are_no_figures() -> None:
    report = reward_accuracy([], [])
    assert (report.n, report.accuracy, report.accuracy_ci, report.brier) == (0, None, None, None)
    assert (report.expected_calibration_error, report.bins) == (None, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"rejected": [0.0]},
        {"chosen": [math.nan, 1.0, 1.0, 1.0]},
        {"margins": [1.0]},
        {"margins": [-1.0, 1.0, 1.0, 1.0]},
        {"groups": ["a"]},
        {"edges": [2.0, 1.0]},
    ],
)
def test_what_does_not_fit_is_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=r"."):
        reward_accuracy(**({"chosen": CHOSEN, "rejected": REJECTED} | changes))


# --- rankings ------------------------------------------------------------------------------------


def test_agreement_with_rankings_by_hand() -> None:
    # Same order: tau 1, the best is best. One swap of three: (2 - 1) / 3, the best is not first.
    found = ranking_agreement([(1, 2, 3), (1, 2, 3)], [(9.0, 5.0, 1.0), (5.0, 9.0, 1.0)])
    assert (found.n, found.num_undefined) == (2, 0)
    assert found.kendall_tau == pytest.approx((1 + 1 / 3) / 2)
    assert found.best_of == 0.5
    json.dumps(found.to_dict())


def test_the_best_may_be_shared() -> None:
    # Two best answers: either will do.
    assert ranking_agreement([(1, 1, 2)], [(0.0, 3.0, 1.0)]).best_of == 1.0
    # Two with the highest score, of which one is the best: a coin.
    assert ranking_agreement([(1, 2, 3)], [(3.0, 3.0, 1.0)]).best_of == 0.5


def test_rankings_that_say_nothing() -> None:
    found = ranking_agreement([(1, 1), (1, 2)], [(0.0, 1.0), (2.0, 2.0)])
    # People tie the first. The scores of the second are equal: no correlation, and a coin.
    assert (found.n, found.num_undefined, found.kendall_tau, found.best_of) == (1, 1, None, 0.5)
    empty = ranking_agreement([], [])
    assert (empty.n, empty.kendall_tau, empty.best_of_ci) == (0, None, None)


def test_tau_is_that_of_scipy_with_ties_on_both_sides() -> None:
    rng = np.random.default_rng(1)
    ranks = [rng.integers(1, 4, 6).tolist() for _ in range(20)]
    scores = [rng.integers(0, 5, 6).astype(float).tolist() for _ in range(20)]
    taus = [kendalltau([-r for r in a], b).statistic for a, b in zip(ranks, scores, strict=True)]
    found = ranking_agreement(ranks, scores)
    assert found.kendall_tau == pytest.approx(np.nanmean(taus))
    assert found.kendall_tau_ci is not None
    assert found.kendall_tau is not None
    assert found.kendall_tau_ci[0] < found.kendall_tau < found.kendall_tau_ci[1]
    assert found == ranking_agreement(ranks, scores), "intervals are drawn by the seed"


@pytest.mark.parametrize(
    ("ranks", "scores"),
    [([(1, 2)], []), ([(1, 2)], [(1.0,)]), ([(1, 2)], [(1.0, math.inf)])],
)
def test_rankings_that_do_not_fit_are_refused(ranks: list, scores: list) -> None:
    with pytest.raises(ValueError, match=r"."):
        ranking_agreement(ranks, scores)
