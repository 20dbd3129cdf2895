import json
from math import exp, log

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import sem
from sklearn.linear_model import LogisticRegression

from selfreward.metrics.alpaca_eval import alpaca_eval_report
from selfreward.metrics.intervals import Resampling
from selfreward.metrics.length_glm import (
    BASELINE_GLM,
    LengthGlm,
    fit_length_glm,
    length_controlled_win_rate,
    length_terms,
)

# Two rows of the published table of coefficients of AlpacaEval 2, phi with our sign.
LLAMA_3_8B = LengthGlm(model=-1.61853, length=1.52604, difficulty=1.06015)
LLAMA_3_70B = LengthGlm(model=-0.74430, length=1.28428, difficulty=0.90321)


def test_the_closed_form_by_hand() -> None:
    # Logits ln 3 and ln 3 - 2 ln 3 = -ln 3: probabilities 3/4 and 1/4; phi plays no part.
    glm = LengthGlm(model=log(3), length=7.0, difficulty=2.0)
    assert length_controlled_win_rate(glm, [0.0, -log(3)]) == pytest.approx(0.5)
    # Logit ln 3 + 2: odds 3 e^2.
    odds = 3 * exp(2)
    expected = (0.75 + odds / (1 + odds)) / 2
    assert length_controlled_win_rate(glm, [0.0, 1.0]) == pytest.approx(expected)
    assert length_controlled_win_rate(LengthGlm(model=log(3))) == pytest.approx(0.75)


def test_a_model_against_itself_is_even_and_two_directions_add_up() -> None:
    difficulties = np.random.default_rng(0).normal(size=805)
    assert length_controlled_win_rate(BASELINE_GLM, difficulties) == 0.5
    assert length_controlled_win_rate(LLAMA_3_8B, difficulties, baseline=LLAMA_3_8B) == 0.5
    forth = length_controlled_win_rate(LLAMA_3_8B, difficulties, baseline=LLAMA_3_70B)
    back = length_controlled_win_rate(LLAMA_3_70B, difficulties, baseline=LLAMA_3_8B)
    assert forth < 0.5 < back
    assert forth + back == pytest.approx(1.0)


def test_difficulties_must_be_given_where_they_count() -> None:
    with pytest.raises(ValueError, match="difficulty"):
        length_controlled_win_rate(LLAMA_3_8B)
    with pytest.raises(ValueError, match="1-d"):
        length_controlled_win_rate(LLAMA_3_8B, [])


def test_length_terms_by_hand() -> None:
    # Differences -1, 0, 1 have standard deviation 1 with n - 1 below (0.816 with n).
    terms = length_terms([9, 10, 11], [10, 10, 10])
    assert terms == pytest.approx([-np.tanh(1), 0, np.tanh(1)])
    assert length_terms([5, 6], [5, 6]).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="all lengths differ by 2"):
        length_terms([7, 8], [5, 6])
    with pytest.raises(ValueError, match="3 and 2"):
        length_terms([7, 8, 9], [5, 6])


def simulated(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        length_terms(rng.integers(100, 3000, n), rng.integers(100, 3000, n)),
        rng.normal(size=n),
        rng.random(n),
    )


def test_the_refit_recovers_the_coefficients_of_simulated_preferences() -> None:
    terms, difficulties, uniform = simulated(1, 20_000)
    chances = expit(-0.5 + 1.2 * terms + 0.8 * difficulties)
    # Preferences that are the probabilities themselves leave no noise.
    exact = fit_length_glm(chances, terms, difficulties, l2=1e-6)
    assert exact.model == pytest.approx(-0.5, abs=1e-4)
    assert exact.length == pytest.approx(1.2, abs=1e-4)
    assert exact.difficulty == pytest.approx(0.8, abs=1e-4)
    # With labels drawn from them the standard errors are about 0.02 to 0.03.
    drawn = fit_length_glm(uniform < chances, terms, difficulties)
    assert drawn.model == pytest.approx(-0.5, abs=0.1)
    assert drawn.length == pytest.approx(1.2, abs=0.1)
    assert drawn.difficulty == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("l2", [0.01, 1.0, 50.0])
def test_the_refit_agrees_with_sklearn(l2: float) -> None:
    terms, difficulties, uniform = simulated(2, 300)
    found = fit_length_glm(uniform, terms, difficulties, l2=l2)
    # Soft targets there: every row once as a win and once as a loss, weighted by the preference.
    design = np.stack([np.ones(300), terms, difficulties], axis=1)
    oracle = LogisticRegression(C=1 / l2, fit_intercept=False, tol=1e-10, max_iter=10_000)
    oracle.fit(
        np.concatenate([design, design]),
        [1] * 300 + [0] * 300,
        sample_weight=np.concatenate([uniform, 1 - uniform]),
    )
    assert [found.model, found.length, found.difficulty] == pytest.approx(
        oracle.coef_[0].tolist(), abs=1e-5
    )


def test_a_model_that_always_wins_has_a_finite_fit() -> None:
    terms, difficulties, _ = simulated(3, 100)
    glm = fit_length_glm(np.ones(100), terms, difficulties)
    assert 2 < glm.model < 20
    assert 0.99 < length_controlled_win_rate(glm, difficulties) < 1


def test_length_alone_wins_nothing_at_equal_length() -> None:
    # The model is as good as the baseline and about 600 characters longer; the judge likes length.
    rng = np.random.default_rng(4)
    baseline = rng.integers(500, 1500, 400)
    model = baseline + rng.normal(600, 300, 400).astype(int)
    preferences = expit(1.5 * length_terms(model, baseline))
    report = alpaca_eval_report(preferences.tolist(), model, baseline, l2=1e-6)
    assert report.win_rate > 0.75
    assert report.length_controlled_win_rate == pytest.approx(0.5, abs=1e-3)
    assert report.glm is not None and report.glm.length == pytest.approx(1.5, abs=1e-3)
    assert report.mean_model_length > report.mean_baseline_length + 500
    # Seen from the baseline, everything is mirrored.
    mirrored = alpaca_eval_report((1 - preferences).tolist(), baseline, model, l2=1e-6)
    assert mirrored.win_rate == pytest.approx(1 - report.win_rate)
    assert mirrored.glm is not None
    assert mirrored.glm.length == pytest.approx(report.glm.length, abs=1e-6)


def test_swapping_the_models_mirrors_the_length_controlled_rate() -> None:
    rng = np.random.default_rng(5)
    model, baseline = rng.integers(100, 900, 200), rng.integers(100, 900, 200)
    preferences, difficulties = rng.beta(2, 3, 200), rng.normal(size=200)
    forth = alpaca_eval_report(preferences.tolist(), model, baseline, difficulties)
    # An instruction that is hard for one side is easy for the other.
    back = alpaca_eval_report((1 - preferences).tolist(), baseline, model, -difficulties)
    assert forth.length_controlled_win_rate is not None
    assert back.length_controlled_win_rate == pytest.approx(1 - forth.length_controlled_win_rate)


def test_the_baseline_against_itself_is_even() -> None:
    report = alpaca_eval_report([0.5] * 6, [40] * 6, [40] * 6, [0.3, -1, 2, 0, 0, 1])
    assert (report.win_rate, report.standard_error, report.discrete_win_rate) == (0.5, 0.0, 0.5)
    assert report.length_controlled_win_rate == pytest.approx(0.5, abs=1e-9)


def test_the_report_by_hand() -> None:
    report = alpaca_eval_report([0.9, 0.5, None, 0.1, 0.7], [1, 2, 30, 4, 5], [2, 2, 2, 2, 2])
    assert (report.n, report.num_failed) == (4, 1)
    assert report.win_rate == pytest.approx(0.55)
    assert report.standard_error == pytest.approx(sem([0.9, 0.5, 0.1, 0.7]))
    # Two wins, a half and a loss.
    assert report.discrete_win_rate == pytest.approx(2.5 / 4)
    assert report.mean_model_length == pytest.approx(42 / 5)
    assert report.length_controlled_win_rate is not None
    data = json.loads(json.dumps(report.to_dict()))
    assert data["glm"].keys() == {"model", "length", "difficulty"}


def test_the_prediction_covers_instructions_whose_judgment_failed() -> None:
    lengths, baseline = [3, 1, 4, 1, 5], [2, 7, 1, 8, 2]
    preferences = [0.9, 0.2, 0.8, 0.4, None]
    easy = alpaca_eval_report(preferences, lengths, baseline, [1, -1, 0.5, -0.5, 9])
    hard = alpaca_eval_report(preferences, lengths, baseline, [1, -1, 0.5, -0.5, -9])
    assert easy.glm == hard.glm
    assert easy.length_controlled_win_rate is not None
    assert hard.length_controlled_win_rate is not None
    assert easy.length_controlled_win_rate > hard.length_controlled_win_rate + 0.1


def test_what_cannot_be_fitted_is_none() -> None:
    one = alpaca_eval_report([0.8], [3], [1])
    assert (one.win_rate, one.standard_error) == (0.8, None)
    assert one.length_controlled_win_rate is None and one.glm is None
    same = alpaca_eval_report([0.8, 0.9], [3, 4], [1, 2])
    assert same.length_controlled_win_rate is None and same.standard_error is not None


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one preference"):
        alpaca_eval_report([None], [1], [1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        alpaca_eval_report([1.5, 1.0], [1, 2], [1, 3])
    with pytest.raises(ValueError, match="same instructions"):
        alpaca_eval_report([0.5, 0.5], [1], [1])
    with pytest.raises(ValueError, match="l2 must be above 0"):
        fit_length_glm([0.5], [0.0], l2=0.0)
    with pytest.raises(ValueError, match="equal length"):
        fit_length_glm([0.5, 0.1], [0.0])
    with pytest.raises(ValueError, match="finite"):
        fit_length_glm([float("nan")], [0.0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_length_glm([2.0], [0.0])


def test_the_length_controlled_rate_has_an_interval_over_instructions() -> None:
    rng = np.random.default_rng(8)
    model, baseline = rng.integers(100, 900, 150), rng.integers(100, 900, 150)
    preferences = rng.beta(2, 3, 150).tolist()
    asked = Resampling(num_samples=200)
    report = alpaca_eval_report(preferences, model, baseline, resampling=asked)
    rate, interval = report.length_controlled_win_rate, report.overall_ci
    assert rate is not None and interval is not None
    assert interval[0] < rate < interval[1]
    # Lengths play no part here: about the normal interval of the mean.
    half_width = 1.96 * report.win_rate * (sem(preferences) / np.mean(preferences))
    assert interval[1] - interval[0] == pytest.approx(2 * half_width, rel=0.25)
    # Each instruction four times over, as rows and as prompts.
    rows, lengths = preferences * 4, (np.tile(model, 4), np.tile(baseline, 4))
    apart = alpaca_eval_report(rows, *lengths, resampling=asked).overall_ci
    prompts = [f"p{i}" for i in range(150)] * 4
    together = alpaca_eval_report(rows, *lengths, prompts=prompts, resampling=asked).overall_ci
    assert apart is not None and together is not None
    assert together[1] - together[0] > 1.6 * (apart[1] - apart[0])
    assert alpaca_eval_report(preferences, model, baseline).overall_ci is None
    # Nobody says how sure published coefficients are.
    known = alpaca_eval_report(
        preferences, model, baseline, glm=LengthGlm(model=-1.0), resampling=asked
    )
    assert known.length_controlled_win_rate is not None and known.overall_ci is None


def test_a_draw_throughout_has_an_interval_of_no_width() -> None:
    report = alpaca_eval_report([0.5] * 6, [40] * 6, [40] * 6, resampling=Resampling())
    assert report.overall_ci == pytest.approx((0.5, 0.5), abs=1e-9)
