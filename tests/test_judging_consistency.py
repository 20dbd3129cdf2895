import math

import pytest
from scipy.stats import kendalltau

from selfreward.judging.consistency import (
    implicit_rewards,
    label_confidence,
    ranking_consistency,
)
from selfreward.records import ModelRef
from selfreward.records_self_rewarding import ResponseLikelihood

MODEL = ModelRef(name="model", iteration=1, fingerprint="f1")


def likelihoods(**logps: float) -> list[ResponseLikelihood]:
    return [
        ResponseLikelihood.new(response_id=ident, model=MODEL, logp=logp, num_tokens=5)
        for ident, logp in logps.items()
    ]


def ranking(*rewards: float) -> dict[str, float]:
    return {f"res-{n}": reward for n, reward in enumerate(rewards)}


def test_implicit_rewards_by_hand() -> None:
    # 0.1 x (-10 + 12) = 0.2 and 0.1 x (-30 + 25) = -0.5, in whatever order the two come.
    rewards = implicit_rewards(likelihoods(a=-10, b=-30), likelihoods(b=-25, a=-12), beta=0.1)
    assert rewards == pytest.approx({"a": 0.2, "b": -0.5})


def test_rewards_need_both_likelihoods_once() -> None:
    one = likelihoods(a=-1)
    with pytest.raises(ValueError, match="1 responses have one of two likelihoods only, as b"):
        implicit_rewards(likelihoods(a=-1, b=-2), one, beta=0.1)
    with pytest.raises(ValueError, match="a has two likelihoods"):
        implicit_rewards([*one, *one], one, beta=0.1)
    with pytest.raises(ValueError, match="of a is -inf"):
        implicit_rewards(likelihoods(a=-math.inf), one, beta=0.1)
    with pytest.raises(ValueError, match="beta"):
        implicit_rewards(one, one, beta=0.0)


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        ((3, 2, 1), (30, 20, 10), 1.0),
        ((3, 2, 1), (1, 2, 3), 0.0),
        # Of 6 pairs one is turned round: tau = (5 - 1) / 6 = 2/3, C = 5/6.
        ((4, 3, 2, 1), (4, 3, 1, 2), 5 / 6),
        # Of 10 pairs 4 are turned round: tau = 0.2, C = 0.6.
        ((5, 4, 3, 2, 1), (1, 5, 4, 3, 2), 0.6),
        # The two tied in both do not count: of the other 5 pairs all agree.
        ((4, 2, 2, 1), (9, 5, 5, 3), 1.0),
        # One pair tied in one: tau-b = 2 / sqrt(3 x 2).
        ((3, 2, 1), (2, 1, 1), (2 / math.sqrt(6) + 1) / 2),
    ],
)
def test_consistency_by_hand_and_against_scipy(
    now: tuple[float, ...], before: tuple[float, ...], expected: float
) -> None:
    found = ranking_consistency(ranking(*now), ranking(*before))
    assert found == pytest.approx(expected)
    assert found == pytest.approx((kendalltau(now, before).statistic + 1) / 2)
    assert ranking_consistency(ranking(*before), ranking(*now)) == pytest.approx(expected)


def test_responses_are_matched_by_id() -> None:
    now, before = {"a": 1.0, "b": 2.0, "c": 3.0}, {"c": 3.0, "a": 1.0, "b": 2.0}
    assert ranking_consistency(now, before) == 1.0
    with pytest.raises(ValueError, match="same responses"):
        ranking_consistency(now, {"a": 1.0, "b": 2.0})
    with pytest.raises(ValueError, match="finite"):
        ranking_consistency({"a": 1.0, "b": math.nan}, {"a": 1.0, "b": 2.0})


def test_without_a_ranking_there_is_no_consistency() -> None:
    assert ranking_consistency(ranking(1), ranking(1)) is None
    assert ranking_consistency({}, {}) is None
    # The model before is the reference itself: all its rewards are 0.
    assert ranking_consistency(ranking(1, 2, 3), ranking(0, 0, 0)) is None
    # Noise of single precision orders nothing.
    assert ranking_consistency(ranking(1, 2), ranking(0.2, 0.2 + 1e-8)) is None


def test_one_confidence_for_the_data_set() -> None:
    # (1 + 0.5 + 0) / 3; the instruction without two rankings is left out.
    assert label_confidence([1.0, None, 0.5, 0.0]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no instruction"):
        label_confidence([None])
