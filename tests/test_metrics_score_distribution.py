import json
import math

import numpy as np
import pytest
from scipy.stats import entropy, kendalltau

from selfreward.metrics.bias import bias_card
from selfreward.metrics.judge_agreement import judge_agreement
from selfreward.metrics.score_distribution import (
    ScoredCandidates,
    pair_lengths,
    score_distribution,
)
from selfreward.records import Message, ModelRef, Outcome, Preference, Verdict
from selfreward.records_scores import Rating
from tests.outcome_tools import REFUSED, TRUNCATED, UNPARSED, chose, pair

SCALE = (0.0, 5.0)
JUDGE = ModelRef(name="m", iteration=1, fingerprint="f1")


def _rating(verdict: Verdict, draw: int = 0) -> Rating:
    return Rating.new(
        response_id="res-1",
        judge=JUDGE,
        rubric_id="pointwise_additive",
        draw=draw,
        text="",
        finish_reason="stop",
        num_tokens=4,
        num_prompt_tokens=90,
        verdict=verdict,
    )


def _scored(score: float) -> Verdict:
    return Verdict(outcome=Outcome.SCORE, score=score)


def _preference(chosen: str, rejected: str) -> Preference:
    return Preference(
        id="pre-1",
        messages=(Message(role="user", content="Go on."),),
        chosen=chosen,
        rejected=rejected,
        pair_id="ins-1",
        chosen_id="res-1",
        rejected_id="res-2",
    )


CANDIDATES = [
    ScoredCandidates(instruction_id="a", scores=(5.0, 5.0, None), lengths=(10, 20, 0)),
    ScoredCandidates(instruction_id="b", scores=(14 / 3, 3.5), lengths=(30, 40)),
    # One score alone is no tie.
    ScoredCandidates(instruction_id="c", scores=(2.0, None), lengths=(50, 60)),
    ScoredCandidates(instruction_id="d", scores=(0.0, 1.0, 0.4), lengths=(70, 80, 90)),
]


def test_the_distribution_by_hand() -> None:
    ratings = [_rating(v) for v in (_scored(5), _scored(5), _scored(3), UNPARSED, UNPARSED)]
    ratings += [_rating(v) for v in (TRUNCATED, REFUSED, _scored(0))]
    found = score_distribution(CANDIDATES, iter(ratings), SCALE)
    assert (found.n, found.num_candidates, found.num_unscored) == (4, 10, 2)
    # 5, 5 and 4.67 are nearest to 5; 3.5 goes up to 4; 0 and 0.4 are nearest to 0.
    assert found.histogram == {0: 2, 1: 1, 2: 1, 3: 0, 4: 1, 5: 3}
    assert found.mean_score == pytest.approx((5 + 5 + 14 / 3 + 3.5 + 2 + 0 + 1 + 0.4) / 8)
    assert found.saturation == 2 / 8
    assert found.top_level_share == 3 / 8
    # The three nearest to 5 are the fullest place.
    assert found.modal_share == 3 / 8
    assert found.entropy_nats == pytest.approx(entropy([2, 1, 1, 1, 3]))
    assert found.normalised_entropy == pytest.approx(entropy([2, 1, 1, 1, 3], base=6))
    # a, b and d have two scores or more; only those of a are all the same.
    assert (found.num_compared, found.tie_rate) == (3, pytest.approx(1 / 3))
    # 0, 10, 20, ..., 90.
    assert found.mean_length == 45.0
    assert found.length_quartiles == pytest.approx((22.5, 45.0, 67.5))
    assert found.num_ratings == 8
    assert found.rating_histogram == {0: 1, 1: 0, 2: 0, 3: 1, 4: 0, 5: 2}
    rates = (found.unparsed_rate, found.truncated_rate, found.refused_rate)
    assert rates == (2 / 8, 1 / 8, 1 / 8)
    assert json.loads(json.dumps(found.to_dict()))["histogram"]["5"] == 3


def test_saturation_is_that_of_the_bias_card() -> None:
    scores = [5.0, 5.0, 14 / 3, 3.5, 2.0, 0.0]
    rows = [ScoredCandidates(instruction_id="a", scores=tuple(scores), lengths=(1,) * 6)]
    card = bias_card([pair("p", chose("first"), None)], scores=scores, scale=SCALE)
    assert score_distribution(rows, [], SCALE).saturation == card.score_saturation == 1 / 3


def test_one_score_for_everything() -> None:
    # In floats 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1, and neither is 0.6.
    same = ((0.1 + 0.2 + 0.3) / 3 + 4, (0.3 + 0.2 + 0.1) / 3 + 4, 4.2)
    rows = [ScoredCandidates(instruction_id=i, scores=same, lengths=(1, 1, 1)) for i in "ab"]
    found = score_distribution(rows, [], SCALE)
    assert (found.tie_rate, found.entropy_nats, found.normalised_entropy) == (1.0, 0.0, 0.0)
    assert (found.saturation, found.top_level_share) == (0.0, 0.0)
    assert math.copysign(1, found.entropy_nats or 0.0) == 1


def test_one_score_that_is_not_the_top_one_is_the_mode() -> None:
    # "4 for everything" (arXiv 2401.10020, appendix A.3), but for one answer of five.
    rows = [
        ScoredCandidates(instruction_id=str(n), scores=(score,), lengths=(1,))
        for n, score in enumerate((4.0, 4.0, 13 / 3, 4.0, 2.0))
    ]
    found = score_distribution(rows, [], SCALE)
    assert (found.saturation, found.modal_share) == (0.0, 0.8)


def test_expected_scores_tie_where_they_lie_within_the_spread() -> None:
    rows = [
        # 0.02 apart, on the edge; 0.021 apart; one of them alone far away.
        ScoredCandidates(instruction_id="a", scores=(2.31, 2.30, 2.29), lengths=(1, 1, 1)),
        ScoredCandidates(instruction_id="b", scores=(2.5, 2.521), lengths=(1, 1)),
        ScoredCandidates(instruction_id="c", scores=(2.3, 2.3, 2.7), lengths=(1, 1, 1)),
    ]
    exact = score_distribution(rows, [], SCALE)
    assert (exact.tie_rate, exact.modal_share) == (0.0, 5 / 8)
    found = score_distribution(rows, [], SCALE, tie_spread=0.02)
    # 2.29, 2.30 (three times) and 2.31 lie within 0.02 of each other: five of eight.
    assert (found.num_compared, found.tie_rate) == (3, pytest.approx(1 / 3))
    assert found.modal_share == 5 / 8
    # 2.30 to 2.31 and 2.29 to 2.30: four of eight within 0.01.
    assert score_distribution(rows, [], SCALE, tie_spread=0.01).modal_share == 4 / 8
    with pytest.raises(ValueError, match="tie_spread must be 0 or more, not -1"):
        score_distribution(rows, [], SCALE, tie_spread=-1)


def test_every_score_equally_often_is_full_entropy() -> None:
    rows = [
        ScoredCandidates(instruction_id="a", scores=(1.0, 2.0, 3.0, 4.0, 5.0), lengths=(1,) * 5)
    ]
    found = score_distribution(rows, [], (1.0, 5.0))
    assert found.entropy_nats == pytest.approx(math.log(5))
    assert found.normalised_entropy == pytest.approx(1.0)


def test_expected_scores_near_the_top_fill_the_top_level() -> None:
    rows = [ScoredCandidates(instruction_id="a", scores=(4.98, 4.99, 4.2), lengths=(1, 1, 1))]
    found = score_distribution(rows, [], SCALE)
    assert found.saturation == 0.0
    assert found.top_level_share == pytest.approx(2 / 3)


def test_nothing_to_measure_is_none() -> None:
    found = score_distribution([], [], SCALE)
    assert (found.n, found.num_candidates, found.num_ratings) == (0, 0, 0)
    assert sum(found.histogram.values()) == 0
    assert (found.saturation, found.top_level_share, found.tie_rate) == (None, None, None)
    assert (found.entropy_nats, found.normalised_entropy, found.mean_score) == (None, None, None)
    assert found.modal_share is None
    assert score_distribution([], [], SCALE, tie_spread=0.1).modal_share is None
    assert (found.mean_length, found.length_quartiles, found.unparsed_rate) == (None, None, None)
    failed = [ScoredCandidates(instruction_id="a", scores=(None, None), lengths=(4, 6))]
    found = score_distribution(failed, [_rating(UNPARSED)], SCALE)
    assert (found.tie_rate, found.saturation, found.num_unscored) == (None, None, 2)
    assert (found.mean_length, found.unparsed_rate) == (5.0, 1.0)


def test_bad_scores_are_refused() -> None:
    for score in (5.1, -0.1, math.nan):
        rows = [ScoredCandidates(instruction_id="a", scores=(score,), lengths=(1,))]
        with pytest.raises(ValueError, match="outside the scale from 0 to 5"):
            score_distribution(rows, [], SCALE)
    with pytest.raises(ValueError, match="outside the scale"):
        score_distribution([], [_rating(_scored(6))], SCALE)
    with pytest.raises(ValueError, match="a has 2 scores and 1 lengths"):
        score_distribution(
            [ScoredCandidates(instruction_id="a", scores=(1.0, 2.0), lengths=(1,))], [], SCALE
        )
    with pytest.raises(ValueError, match="is a choice between two"):
        score_distribution([], [_rating(chose("first"))], SCALE)
    with pytest.raises(ValueError, match=r"no whole score from 0\.2 to 0\.8"):
        score_distribution([], [], (0.2, 0.8))


def test_lengths_of_pairs_by_hand() -> None:
    found = pair_lengths(
        _preference("x" * chosen, "x" * rejected)
        for chosen, rejected in ((9, 3), (8, 5), (2, 4), (5, 5))
    )
    assert (found.n, found.num_equal) == (4, 1)
    assert found.longer_chosen_rate == pytest.approx(2 / 3)
    assert (found.mean_chosen, found.mean_rejected) == (24 / 4, 17 / 4)
    assert json.loads(json.dumps(found.to_dict()))["n"] == 4


def test_no_pairs_have_no_lengths() -> None:
    found = pair_lengths([])
    assert (found.n, found.longer_chosen_rate, found.mean_chosen) == (0, None, None)
    assert pair_lengths([_preference("a", "b")]).longer_chosen_rate is None


def test_agreement_by_hand() -> None:
    found = judge_agreement(
        [
            # Of six pairs one is turned round: (5 - 1) / 6.
            ((1.0, 2.0, 3.0, 4.0), (0.0, 1.0, 5.0, 3.0)),
            # Opposite; the third response has one score only.
            ((1.0, 2.0, None), (4.0, 3.0, 5.0)),
            # One judge sees no difference.
            ((3.0, 3.0), (1.0, 2.0)),
            # Two responses, but not by both judges.
            ((3.0, None), (1.0, 2.0)),
        ]
    )
    assert (found.n, found.num_skipped, found.num_undefined) == (4, 1, 1)
    assert found.kendall_tau == pytest.approx((4 / 6 - 1) / 2)
    assert found.kendall_tau_ci == pytest.approx((-1.0, 4 / 6))
    assert json.loads(json.dumps(found.to_dict()))["kendall_tau_ci"][0] == -1.0


def test_agreement_is_the_mean_of_scipys_tau_b() -> None:
    rng = np.random.default_rng(0)
    rows = [(rng.integers(0, 4, 5).tolist(), rng.integers(0, 4, 5).tolist()) for _ in range(80)]
    taus = [kendalltau(a, b).statistic for a, b in rows if len(set(a)) > 1 and len(set(b)) > 1]
    found = judge_agreement(rows)
    assert found.kendall_tau == pytest.approx(np.mean(taus))
    assert found.num_undefined == 80 - len(taus)


def test_no_agreement_to_measure_is_none() -> None:
    found = judge_agreement([((5.0, 5.0), (5.0, 5.0))])
    assert (found.kendall_tau, found.kendall_tau_ci, found.num_undefined) == (None, None, 1)
    assert judge_agreement([]).kendall_tau is None
    # One instruction has a tau but nothing to resample.
    one = judge_agreement([((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))])
    assert (one.kendall_tau, one.kendall_tau_ci) == (pytest.approx(1.0), None)


def test_agreement_refuses_bad_rows() -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        judge_agreement([((math.nan, 1.0), (1.0, 2.0))])
    with pytest.raises(ValueError, match=r"shorter than"):
        judge_agreement([((1.0, 2.0), (1.0,))])
