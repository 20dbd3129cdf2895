import json
from math import log

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from selfreward.metrics.calibration import (
    brier_score,
    calibration_report,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_table,
)
from selfreward.metrics.pairwise import pairwise_report
from tests.outcome_tools import UNPARSED, chose, pair


def test_scores_by_hand() -> None:
    # Errors .2, .4, .7: (.04 + .16 + .49) / 3 = .23
    assert brier_score([0.8, 0.4, 0.3], [1, 0, 1]) == pytest.approx(0.23)
    assert negative_log_likelihood([0.5, 0.25], [True, False]) == pytest.approx(
        (log(2) + log(4 / 3)) / 2
    )
    assert negative_log_likelihood([1.0, 0.0], [1, 0]) == 0.0
    # A certain mistake counts as a chance of 1e-12, not as infinity.
    assert negative_log_likelihood([0.0], [1]) == pytest.approx(12 * log(10))


def test_scores_and_table_agree_with_sklearn() -> None:
    rng = np.random.default_rng(8)
    chances = rng.random(500)
    happened = rng.random(500) < chances**2
    assert brier_score(chances, happened) == pytest.approx(brier_score_loss(happened, chances))
    assert negative_log_likelihood(chances, happened) == pytest.approx(log_loss(happened, chances))
    table = reliability_table(chances, happened, num_bins=7)
    observed, mean = calibration_curve(happened, chances, n_bins=7)
    assert [b.observed_rate for b in table] == pytest.approx(observed.tolist())
    assert [b.mean_probability for b in table] == pytest.approx(mean.tolist())
    assert sum(b.n for b in table) == 500


def test_the_table_by_hand() -> None:
    # A bin holds its high edge: 0.5 and 0 are in the first half.
    low, high = reliability_table([0.0, 0.5, 0.6, 1.0], [0, 1, 0, 1], num_bins=2)
    assert (low.low, low.high, low.n) == (0.0, 0.5, 2)
    assert (low.mean_probability, low.observed_rate) == (0.25, 0.5)
    assert (high.n, high.mean_probability, high.observed_rate) == (2, 0.8, 0.5)
    # (2 * 0.25 + 2 * 0.3) / 4
    assert expected_calibration_error([low, high]) == pytest.approx(0.275)


def test_empty_bins_weigh_nothing() -> None:
    table = reliability_table([0.9, 0.95], [1, 1], num_bins=10)
    assert [b.n for b in table] == [0] * 8 + [1, 1]
    assert table[0].mean_probability is None and table[0].observed_rate is None
    # (0.1 + 0.05) / 2
    assert expected_calibration_error(table) == pytest.approx(0.075)
    assert expected_calibration_error([]) is None


def test_the_judge_by_hand() -> None:
    outcomes = [
        # P(better) is 0.9 and 1 - 0.3 = 0.7.
        pair("p1", chose("first", 0.9), chose("second", 0.3)),
        # P(better) is 0.2: 0.8 sure, and wrong. The other reading failed.
        pair("p2", chose("second", 0.2), UNPARSED),
        # A coin.
        pair("p3", chose("first", 0.5), chose("second")),
    ]
    report = calibration_report(outcomes, num_bins=2)
    assert (report.n, report.num_without) == (4, 2)
    # (.01 + .09 + .64 + .25) / 4
    assert report.brier == pytest.approx(0.2475)
    assert report.brier == pytest.approx(pairwise_report(outcomes, num_samples=1).brier)
    expected = -(log(0.9) + log(0.7) + log(0.2) + log(0.5)) / 4
    assert report.negative_log_likelihood == pytest.approx(expected)
    # Confidence .5 to .75: 0.7 right, 0.5 by half; .75 to 1: 0.9 right, 0.8 wrong.
    low, high = report.bins
    assert (low.low, low.high, high.high) == (0.5, 0.75, 1.0)
    assert (low.n, low.mean_probability, low.observed_rate) == (2, pytest.approx(0.6), 0.75)
    assert (high.n, high.mean_probability, high.observed_rate) == (2, pytest.approx(0.85), 0.5)
    # (0.15 + 0.35) / 2
    assert report.expected_calibration_error == pytest.approx(0.25)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["bins"][1]["observed_rate"] == 0.5


def test_a_judge_that_says_half_is_calibrated_and_useless() -> None:
    report = calibration_report([pair("p", chose("first", 0.5), chose("first", 0.5))])
    assert report.expected_calibration_error == 0.0
    assert report.brier == 0.25
    assert report.negative_log_likelihood == pytest.approx(log(2))


def test_without_probabilities_there_is_nothing_to_measure() -> None:
    report = calibration_report([pair("p", chose("first"), UNPARSED), pair("q", None, UNPARSED)])
    assert (report.n, report.num_without, report.bins) == (0, 3, ())
    assert report.brier is None and report.negative_log_likelihood is None
    assert report.expected_calibration_error is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="equal length"):
        brier_score([0.5], [1, 0])
    with pytest.raises(ValueError, match="not empty"):
        negative_log_likelihood([], [])
    with pytest.raises(ValueError, match="between 0 and 1"):
        brier_score([float("nan")], [1])
    with pytest.raises(ValueError, match="at least one bin"):
        reliability_table([0.5], [1], num_bins=0)
    with pytest.raises(ValueError, match=r"outside 0.5 to 1"):
        reliability_table([0.4], [1], span=(0.5, 1.0))
