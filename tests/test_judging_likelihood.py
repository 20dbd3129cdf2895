import math

import pytest

from selfreward.judging.likelihood import LIKELIHOODS, RELATIVE_LIKELIHOODS, ResponseLogps


def scores(logps: ResponseLogps) -> dict[str, float]:
    return {name: likelihood(logps) for name, likelihood in LIKELIHOODS.items()}


def test_the_four_scores_by_hand() -> None:
    # -12; -12 / 4 = -3; -12 + 20 = 8; 8 / 4 = 2
    assert scores(ResponseLogps(given_prompt=-12.0, num_tokens=4, alone=-20.0)) == {
        "sum": -12.0,
        "mean": -3.0,
        "relative_sum": 8.0,
        "relative_mean": 2.0,
    }


def test_what_each_score_favours() -> None:
    """One good short answer, one long and fluent, one common phrase that fits any prompt."""
    short = ResponseLogps(given_prompt=-6.0, num_tokens=3, alone=-18.0)
    long = ResponseLogps(given_prompt=-40.0, num_tokens=50, alone=-75.0)
    common = ResponseLogps(given_prompt=-3.0, num_tokens=5, alone=-3.0)
    best = {
        name: max(("short", short), ("long", long), ("common", common), key=lambda c: f(c[1]))[0]
        for name, f in LIKELIHOODS.items()
    }
    # sum -6, -40, -3; mean -2, -.8, -.6; relative sum 12, 35, 0; relative mean 4, .7, 0
    assert best == {
        "sum": "common",
        "mean": "common",
        "relative_sum": "long",
        "relative_mean": "short",
    }


def test_only_the_relative_ones_need_the_response_alone() -> None:
    logps = ResponseLogps(given_prompt=-12.0, num_tokens=4)
    assert (LIKELIHOODS["sum"](logps), LIKELIHOODS["mean"](logps)) == (-12.0, -3.0)
    assert {"relative_sum", "relative_mean"} == RELATIVE_LIKELIHOODS
    for name in RELATIVE_LIKELIHOODS:
        with pytest.raises(ValueError, match="alone"):
            LIKELIHOODS[name](logps)


def test_what_has_no_likelihood_is_refused() -> None:
    with pytest.raises(ValueError, match="0 tokens"):
        ResponseLogps(given_prompt=0.0, num_tokens=0)
    for given_prompt, alone in ((math.nan, None), (-math.inf, None), (-1.0, math.nan)):
        with pytest.raises(ValueError, match="finite"):
            ResponseLogps(given_prompt=given_prompt, num_tokens=1, alone=alone)
