import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from selfreward.metrics import intervals
from selfreward.metrics.comparison import compare_judges, macro_comparison, macro_interval
from selfreward.metrics.intervals import bootstrap_interval, sign_flip_test
from selfreward.metrics.pairwise import PairOutcome
from selfreward.records import Verdict
from tests.outcome_tools import TIE, UNPARSED, chose, pair

FIRST, SECOND = chose("first"), chose("second")
RIGHT, WRONG, HALF = (FIRST, SECOND), (SECOND, FIRST), (FIRST, FIRST)


def test_the_comparison_by_hand() -> None:
    before = [
        pair("p1", *HALF),
        pair("p2", *WRONG),
        pair("p3", *RIGHT),
        pair("p4", UNPARSED, SECOND),
        pair("p5", *HALF),
    ]
    after = [
        pair("p1", *RIGHT),
        pair("p2", *RIGHT),
        pair("p3", *HALF),
        pair("p4", FIRST, SECOND),
        pair("p5", FIRST, TIE),
    ]
    found = compare_judges(before, after)
    assert (found.n, found.num_both_orders) == (5, 5)
    # (.5 + 0 + 1 + .5 + .5) / 5 and (1 + 1 + .5 + 1 + .5) / 5
    assert found.accuracy_before == pytest.approx(0.5)
    assert found.accuracy_after == pytest.approx(0.8)
    assert found.accuracy.difference == pytest.approx(0.3)
    # Differences .5, 1, -.5, .5: sums of 1.5 or more are reached by 1.5 (three patterns: one of
    # the halves negative) and 2.5 (all positive): 4 of 16.
    assert found.accuracy.p_value == pytest.approx(4 / 16, abs=0.015)
    # Readings won: p1's second, both of p2, p4's first; lost: p3's second.
    assert (found.readings.gained, found.readings.lost) == (4, 1)
    assert found.readings.p_value == pytest.approx(binomtest(4, 5).pvalue)
    # Right in both orders won: p1, p2, p4; lost: p3.
    assert found.both_orders is not None
    assert (found.both_orders.gained, found.both_orders.lost) == (3, 1)
    assert found.both_orders.p_value == pytest.approx(0.625)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["accuracy"]["ci"] == list(found.accuracy.ci)
    assert data["both_orders"]["gained"] == 3


def test_a_pair_read_once_counts_as_read() -> None:
    before = [pair("p1", FIRST, None), pair("p2", None, FIRST), pair("p3", *RIGHT)]
    after = [pair("p1", FIRST, None), pair("p2", None, SECOND), pair("p3", *HALF)]
    found = compare_judges(before, after)
    # (1 + 0 + 1) / 3 and (1 + 1 + .5) / 3
    assert found.accuracy.difference == pytest.approx(0.5 / 3)
    assert (found.readings.gained, found.readings.lost) == (1, 1)
    # Right in both orders is asked of p3 alone, and lost there.
    assert found.num_both_orders == 1 and found.both_orders is not None
    assert (found.both_orders.gained, found.both_orders.lost) == (0, 1)
    assert compare_judges(before[:2], after[:2]).both_orders is None
    with pytest.raises(ValueError, match="read the same orders"):
        compare_judges([pair("p1", FIRST, None)], [pair("p1", None, SECOND)])


def test_only_the_same_pairs_can_be_compared() -> None:
    with pytest.raises(ValueError, match="same pairs in the same order"):
        compare_judges([pair("p1", *RIGHT)], [pair("p2", *RIGHT)])
    with pytest.raises(ValueError, match="no pairs"):
        compare_judges([], [])


def test_the_macro_average_weighs_data_sets_alike() -> None:
    # Means 1 and 0: 0.5, though 9 of 10 rows are right.
    found = macro_interval({"large": np.ones(9), "small": np.zeros(1)})
    assert (found.mean, found.ci) == (0.5, (0.5, 0.5))
    assert found.data_sets == {"large": 1.0, "small": 0.0}
    assert json.loads(json.dumps(found.to_dict()))["ci"] == [0.5, 0.5]


def test_the_macro_interval_by_hand() -> None:
    # Two data sets of (0, 1): each mean is 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4, so the
    # average is 0 or 1 with 1/16 each, 1/4 or 3/4 with 1/4 each, 1/2 with 3/8.
    values = {"a": np.array([0.0, 1.0]), "b": np.array([0.0, 1.0])}
    assert macro_interval(values, 0.95).ci == (0.0, 1.0)
    assert macro_interval(values, 0.6).ci == (0.25, 0.75)
    assert macro_interval(values, 0.2).ci == (0.5, 0.5)


def test_rows_are_resampled_inside_their_data_set() -> None:
    # Between the data sets there is all the spread, inside them none.
    assert macro_interval({"a": np.zeros(30), "b": np.ones(30)}).ci == (0.5, 0.5)
    rng = np.random.default_rng(1)
    values = {"a": rng.random(200), "b": rng.random(50)}
    low, high = macro_interval(values, num_samples=5000).ci
    # Variance of the average: a quarter of the sum of the variances of the means.
    error = np.sqrt(values["a"].var() / 200 + values["b"].var() / 50) / 2
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_one_data_set_is_the_plain_case() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.integers(0, 2, 60) / 1.0, rng.integers(0, 2, 60) / 1.0
    low, high = bootstrap_interval(before, num_samples=20_000)
    found = macro_interval({"a": before}, num_samples=20_000)
    # Means lie on a grid of 1 / 60 = 0.0167.
    assert found.ci == pytest.approx((low, high), abs=0.017)
    compared = macro_comparison({"a": before}, {"a": after}, num_samples=20_000)
    plain = sign_flip_test(before, after, num_samples=20_000)
    assert compared.difference == pytest.approx(plain.difference)
    assert compared.p_value == pytest.approx(plain.p_value, abs=0.015)


def test_the_macro_p_by_hand() -> None:
    # Differences (1, 0) and (1,): means 1/2 and 1, average 3/4. Flips: ±1/4 ± 1/2 reaches 3/4 in
    # one of four.
    before = {"a": [0.0, 1.0], "b": [0.0]}
    after = {"a": [1.0, 1.0], "b": [1.0]}
    found = macro_comparison(before, after, num_samples=20_000)
    assert found.difference == pytest.approx(0.75)
    assert found.data_sets == {"a": 0.5, "b": 1.0}
    assert found.p_value == pytest.approx(1 / 4, abs=0.01)
    # Resampled: b gives 1 always, a gives 0, 1/2 or 1.
    assert found.ci == (0.5, 1.0)
    assert json.loads(json.dumps(found.to_dict()))["ci"] == [0.5, 1.0]


def test_the_macro_p_agrees_with_all_patterns() -> None:
    rng = np.random.default_rng(3)
    sizes = {"a": 3, "b": 7, "c": 2}
    before = {name: rng.random(size) for name, size in sizes.items()}
    after = {name: values + rng.normal(0.1, 0.2, len(values)) for name, values in before.items()}
    # In the average a row weighs one over three times the size of its data set.
    weighted = np.concatenate([(after[n] - before[n]) / (3 * sizes[n]) for n in sizes])
    signs = np.array(list(product([-1, 1], repeat=len(weighted))))
    exact = np.mean(signs @ weighted >= weighted.sum() - 1e-12)
    found = macro_comparison(before, after, num_samples=40_000)
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert macro_comparison(after, before, num_samples=40_000).p_value == pytest.approx(
        1 - exact, abs=0.01
    )


def test_a_steady_gain_is_evidence_and_none_is_not() -> None:
    zeros = {"a": np.zeros(20), "b": np.zeros(30)}
    ones = {"a": np.ones(20), "b": np.ones(30)}
    # No flip of 50 signs reaches it: p = 1 / 1000.
    assert macro_comparison(zeros, ones, num_samples=999).p_value == 0.001
    same = macro_comparison(ones, ones)
    assert (same.difference, same.ci, same.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_neither_slices_nor_the_order_of_names_change_the_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    before = {name: rng.random(20) for name in "ab"}
    after = {name: rng.random(20) for name in "ab"}
    reordered = {name: after[name] for name in "ba"}
    expected = macro_comparison(before, after)
    assert macro_comparison(before, reordered) == expected
    monkeypatch.setattr(intervals, "_VALUES_AT_ONCE", 110)
    sliced = macro_comparison(before, after, num_samples=1001)
    assert sliced.difference == expected.difference
    assert sliced.p_value == pytest.approx(expected.p_value, abs=0.06)
    assert sliced.ci == pytest.approx(expected.ci, abs=0.03)


def test_bad_data_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one data set"):
        macro_interval({})
    with pytest.raises(ValueError, match="empty must be a 1-d array"):
        macro_interval({"empty": []})
    # A failed row that slipped in as nan must not become a tiny p.
    with pytest.raises(ValueError, match="finite"):
        macro_comparison({"a": [0.0]}, {"a": [float("nan")]})
    with pytest.raises(ValueError, match=r"only one side has the data sets \['b'\]"):
        macro_comparison({"a": [0.0]}, {"a": [0.0], "b": [0.0]})
    with pytest.raises(ValueError, match="same rows on both sides, not 1 and 2"):
        macro_comparison({"a": [0.0]}, {"a": [0.0, 1.0]})


def test_pairs_of_one_prompt_are_one_piece_of_evidence() -> None:
    def asked(readings: tuple[Verdict, Verdict]) -> list[PairOutcome]:
        return [replace(pair(f"p{i}", *readings), group=f"ins-{i % 3}") for i in range(12)]

    found = compare_judges(asked(WRONG), asked(RIGHT))
    assert (found.n, found.num_prompts) == (12, 3)
    # All of 12 pairs gained, but three coins say so: one of eight patterns.
    assert found.accuracy.p_value == pytest.approx(1 / 8, abs=0.01)
    assert found.position_consistent_accuracy is not None
    assert found.position_consistent_accuracy.p_value == pytest.approx(1 / 8, abs=0.01)
    # McNemar's test takes the pairs as independent: 2 · (1/2)^12.
    assert found.both_orders is not None
    assert found.both_orders.p_value == pytest.approx(2 / 4096)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["position_consistent_accuracy"]["ci"] == [1.0, 1.0]
    once = compare_judges([pair("p", FIRST, None)], [pair("p", FIRST, None)])
    assert once.to_dict()["position_consistent_accuracy"] is None


def test_the_macro_p_of_prompts_by_hand() -> None:
    # Both pairs of a are of one prompt: ±1/2 ± 1/2 reaches 1 in one of four patterns; of pairs
    # ±1/4 ± 1/4 ± 1/2 does in one of eight.
    before, after = {"a": [0.0, 0.0], "b": [0.0]}, {"a": [1.0, 1.0], "b": [1.0]}
    prompts = {"a": ["x", "x"], "b": ["x"]}
    found = macro_comparison(before, after, num_samples=20_000, groups=prompts)
    assert found.p_value == pytest.approx(1 / 4, abs=0.01)
    plain = macro_comparison(before, after, num_samples=20_000)
    assert plain.p_value == pytest.approx(1 / 8, abs=0.01)


def test_the_macro_interval_of_prompts_is_that_of_one_pair_each() -> None:
    values = {"a": np.array([0.0, 1.0]), "b": np.array([0.0, 1.0])}
    copied = {name: np.repeat(found, 10) for name, found in values.items()}
    prompts = {name: np.repeat(["p", "q"], 10).tolist() for name in values}
    for confidence in (0.95, 0.6, 0.2):
        assert macro_interval(copied, confidence, groups=prompts) == macro_interval(
            values, confidence
        )
    low, high = macro_interval(copied).ci
    assert 0.3 < low < high < 0.7
