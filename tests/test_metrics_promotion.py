import numpy as np
import pytest

from selfreward.metrics.promotion import decide_promotion


def on(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"heldout": values}


def test_the_first_judge_is_promoted() -> None:
    decision = decide_promotion(None, on(np.array([1.0, 0.5])), max_p_value=0.05)
    assert decision.promote
    assert decision.reason == (
        "promoted: accuracy 0.750 on 2 pairs, no current judge to compare with"
    )
    assert (decision.difference, decision.p_value) == (None, None)


def test_a_clear_gain_is_promoted() -> None:
    decision = decide_promotion(on(np.full(20, 0.5)), on(np.ones(20)), 0.05, num_samples=999)
    assert decision.promote
    # No flip of 20 signs reaches the mean of 20 gains: p = 1 / 1000.
    assert decision.reason == (
        "promoted: accuracy 1.000 against 0.500 on 20 pairs, difference +0.500,"
        " one-sided p 0.001 <= 0.05"
    )
    assert decision.difference == 0.5 and decision.p_value == 0.001


def test_a_gain_within_the_noise_is_not() -> None:
    # 2 gains, 1 loss: the other signs do as well or better in 4 of 8 patterns.
    current, candidate = np.array([0, 0, 1, 1, 1.0]), np.array([1, 1, 0, 1, 1.0])
    decision = decide_promotion(on(current), on(candidate), 0.05)
    assert not decision.promote
    assert decision.difference == pytest.approx(0.2)
    assert decision.p_value == pytest.approx(0.5, abs=0.02)
    assert decision.reason.startswith("not promoted: accuracy 0.800 against 0.600 on 5 pairs")
    assert decide_promotion(on(current), on(candidate), 1.0).promote


@pytest.mark.parametrize("candidate", [np.ones(8), np.zeros(8)])
def test_an_equal_or_worse_judge_is_never_promoted(candidate: np.ndarray) -> None:
    decision = decide_promotion(on(np.ones(8)), on(candidate), max_p_value=1.0)
    assert not decision.promote and decision.reason.endswith("not better")


def test_the_pairs_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        decide_promotion(on(np.ones(3)), on(np.ones(2)), 0.05)
    with pytest.raises(ValueError, match="no pairs"):
        decide_promotion(None, on(np.array([])), 0.05)


def test_a_worse_bias_card_keeps_a_better_judge_back() -> None:
    before, after = on(np.full(20, 0.5)), on(np.ones(20))
    decision = decide_promotion(before, after, 0.05, worse=["unparsed_rate rose from 0 to 0.3"])
    assert not decision.promote
    assert decision.reason.endswith("<= 0.05, but unparsed_rate rose from 0 to 0.3")


def test_several_data_sets_weigh_the_same_whatever_their_size() -> None:
    before = {"large": np.full(90, 0.5), "small": np.full(10, 0.5)}
    # 90 pairs better by 0.1 and 10 worse by 0.3: over pairs +0.06, over data sets -0.1.
    after = {"large": np.full(90, 0.6), "small": np.full(10, 0.2)}
    decision = decide_promotion(before, after, max_p_value=1.0)
    assert decision.difference == pytest.approx(-0.1)
    assert not decision.promote
    assert "on 100 pairs of 2 sets" in decision.reason
    assert decision.accuracy == pytest.approx(0.4)


def test_many_pairs_of_few_prompts_do_not_promote() -> None:
    before, after = on(np.full(20, 0.5)), on(np.ones(20))
    prompts = {"heldout": ["one"] * 10 + ["another"] * 10}
    decision = decide_promotion(before, after, 0.05, prompts=prompts)
    # Two prompts, both better: one of four patterns of signs.
    assert decision.p_value == pytest.approx(1 / 4, abs=0.02)
    assert not decision.promote
    assert decision.reason.startswith(
        "not promoted: accuracy 1.000 against 0.500 on 20 pairs of 2 prompts, difference +0.500"
    )
    own = {"heldout": [f"p{i}" for i in range(20)]}
    assert decide_promotion(before, after, 0.05, prompts=own) == decide_promotion(
        before, after, 0.05
    )
