import json
import math

import numpy as np
import pytest
from scipy.stats import bootstrap, entropy, norm

from selfreward.metrics.likelihoods import kl_report, perplexity_report


def test_perplexity_by_hand() -> None:
    # 4 tokens of probability 1/2 and 2 of 1/16: 4 x 1 + 2 x 4 = 12 bits in 6 tokens, 2 bits each.
    report = perplexity_report([4 * math.log(1 / 2), 2 * math.log(1 / 16)], [4, 2])
    assert report.nats_per_token == pytest.approx(2 * math.log(2))
    assert report.perplexity == pytest.approx(4.0)
    assert (report.n, report.num_tokens) == (2, 6)
    # Drawing one text twice gives 2 or 16, each one time in four.
    assert report.perplexity_ci == pytest.approx((2.0, 16.0))
    assert json.loads(json.dumps(report.to_dict()))["perplexity_ci"] == pytest.approx([2.0, 16.0])


def test_a_certain_model_has_perplexity_1() -> None:
    report = perplexity_report([0.0], [5])
    assert report.perplexity == 1.0
    assert report.perplexity_ci == (1.0, 1.0)


def test_the_interval_of_perplexity_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(5, 80, 60)
    logps = -tokens * rng.uniform(1.5, 3.5, 60)
    report = perplexity_report(logps, tokens, num_samples=8000, seed=1)
    expected = bootstrap(
        (logps, tokens),
        lambda sums, counts, axis: np.exp(-sums.sum(axis=axis) / counts.sum(axis=axis)),
        paired=True,
        n_resamples=8000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert report.perplexity_ci == pytest.approx((expected.low, expected.high), rel=0.02)
    assert report.perplexity == pytest.approx(np.exp(-logps.sum() / tokens.sum()))


def test_kl_by_hand() -> None:
    # d is 1 and 3 nats, on 2 and 6 tokens.
    report = kl_report([-10.0, -20.0], [-11.0, -23.0], [2, 6])
    assert (report.n, report.num_tokens) == (2, 8)
    assert report.kl == pytest.approx(2.0)
    assert report.kl_ci == pytest.approx((1.0, 3.0))
    assert report.kl_per_token == pytest.approx(4 / 8)
    # Each of the two alone has half a nat a token.
    assert report.kl_per_token_ci == pytest.approx((0.5, 0.5))
    # exp(-1) - 1 + 1 = 0.3679 and exp(-3) - 1 + 3 = 2.0498.
    assert report.kl_k3 == pytest.approx((0.3679 + 2.0498) / 2, abs=1e-4)
    assert report.kl_k3_ci == pytest.approx((0.3679, 2.0498), abs=1e-4)
    assert json.loads(json.dumps(report.to_dict()))["kl_ci"] == pytest.approx([1.0, 3.0])


def test_a_model_that_has_not_moved_has_no_kl() -> None:
    report = kl_report([-3.0, -7.5], [-3.0, -7.5], [2, 4])
    assert (report.kl, report.kl_per_token, report.kl_k3) == (0.0, 0.0, 0.0)
    assert report.kl_ci == report.kl_k3_ci == (0.0, 0.0)


def test_both_estimators_find_the_divergence_of_known_distributions() -> None:
    now, before = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    drawn = np.random.default_rng(0).choice(3, 20_000, p=now)
    report = kl_report(np.log(now[drawn]), np.log(before[drawn]), np.ones(20_000), num_samples=200)
    true = float(entropy(now, before))
    assert report.kl_ci is not None and report.kl_k3_ci is not None
    assert report.kl == pytest.approx(true, abs=0.02)
    assert report.kl_k3 == pytest.approx(true, abs=0.01)
    # The models are close, and there k3 is the steadier.
    width, k3_width = (high - low for low, high in (report.kl_ci, report.kl_k3_ci))
    assert k3_width < width


def test_far_from_the_first_model_k3_misleads_and_the_plain_estimator_does_not() -> None:
    # Responses are numbers, N(8, 1) against N(0, 1): the divergence is 64 / 2.
    x = np.random.default_rng(0).normal(8, 1, 400)
    now, before = norm.logpdf(x, 8), norm.logpdf(x, 0)
    report = kl_report(now, before, np.ones(400))
    assert report.kl_ci is not None
    assert report.kl_ci[0] < 32 < report.kl_ci[1]
    # No response is one that the first model finds likelier: the mean ratio of 1 is not seen.
    assert report.kl_k3 == pytest.approx(report.kl - 1, abs=0.05)
    # One such response, and it is all that k3 sees.
    with_one = kl_report([*now, -30.0], [*before, -16.0], np.ones(401))
    assert with_one.kl == pytest.approx(32, abs=1)
    assert with_one.kl_k3 == pytest.approx(math.exp(14) / 401, rel=0.05)


def test_the_plain_estimator_may_be_below_0_and_k3_never_is() -> None:
    report = kl_report([-2.0, -2.0], [-1.9, -1.8], [1, 1])
    assert report.kl == pytest.approx(-0.15)
    assert report.kl_k3 > 0


def test_a_broken_model_shows_in_the_figures() -> None:
    nan = kl_report([math.nan, -3.0], [-2.0, -4.0], [2, 2])
    assert math.isnan(nan.kl) and math.isnan(nan.kl_per_token) and math.isnan(nan.kl_k3)
    assert (nan.kl_ci, nan.kl_per_token_ci, nan.kl_k3_ci) == (None, None, None)
    # The first model holds the response for impossible.
    assert kl_report([-2.0], [-math.inf], [2]).kl == math.inf
    assert math.isnan(perplexity_report([math.nan, -1.0], [2, 2]).perplexity)
    impossible = perplexity_report([-math.inf, -1.0], [2, 2])
    assert (impossible.perplexity, impossible.perplexity_ci) == (math.inf, None)
    # Finite rows, a perplexity beyond the largest float.
    ruined = perplexity_report([-5000.0], [5])
    assert (ruined.nats_per_token, ruined.perplexity) == (1000.0, math.inf)
    # Finite rows, a ratio beyond it: the plain figure stands.
    far = kl_report([-1000.0, -1.0], [-1.0, -2.0], [1, 1])
    assert (far.kl, far.kl_k3, far.kl_k3_ci) == (-499.0, math.inf, None)
    assert far.kl_ci == (-999.0, 1.0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        perplexity_report([], [])
    with pytest.raises(ValueError, match="of the same texts"):
        perplexity_report([-1.0, -2.0], [3])
    with pytest.raises(ValueError, match="at least one token"):
        perplexity_report([-1.0, 0.0], [3, 0])
    with pytest.raises(ValueError, match="of the same texts"):
        kl_report([-1.0], [-1.0, -2.0], [3])
