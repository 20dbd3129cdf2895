import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from selfreward.metrics.reward_modelling import RankedResponses, reward_modelling_report


def ranked(
    ident: str, ranks: tuple[float, ...], scores: tuple[float | None, ...]
) -> RankedResponses:
    return RankedResponses(prompt_id=ident, human_ranks=ranks, scores=scores)


PROMPTS = [
    ranked("as humans do", (0, 1, 2), (5.0, 3.0, 1.0)),
    ranked("second best on top", (0, 1, 2), (4.0, 5.0, 4.0)),
    ranked("all the same score", (0, 1), (4.0, 4.0)),
    ranked("one failed", (0, 1, 2), (5.0, None, 2.0)),
    ranked("one score left", (0, 1), (None, 5.0)),
]


def test_the_report_by_hand() -> None:
    report = reward_modelling_report(PROMPTS)
    assert (report.n, report.num_responses, report.num_failed) == (5, 13, 2)
    assert report.num_skipped == 1
    # Pairs 3 + 3 + 1 + 1. In the second prompt 4 < 5 is wrong, 4 = 4 tied, 5 > 4 right; the third
    # is tied.
    assert (report.num_pairs, report.num_score_ties) == (8, 2)
    assert report.pairwise_accuracy == pytest.approx(5 / 8)
    assert report.pairwise_accuracy_ties_half == pytest.approx(6 / 8)
    # Fives: the best, the second of three, the best, and the second where the best has no score.
    assert (report.num_full_scores, report.five_best) == (4, 0.5)
    # The first and the fourth of four.
    assert report.exact_match == 0.5
    # Human goodness 3, 2, 1 against score ranks 1.5, 3, 1.5: no correlation. So 1, 0 and 1.
    assert report.num_undefined == 1
    assert report.spearman == pytest.approx(2 / 3)
    assert report.kendall_tau == pytest.approx(2 / 3)


def test_the_interval_is_over_prompts() -> None:
    # Two prompts, one all right with 3 pairs, one all wrong with 1: resamples have 4 of 4 and 2 of
    # 2 prompts alike, so shares 1, 3/4 and 0 with probabilities 1/4, 1/2, 1/4.
    prompts = [ranked("p", (0, 1, 2), (3.0, 2.0, 1.0)), ranked("q", (0, 1), (1.0, 2.0))]
    assert reward_modelling_report(prompts).pairwise_accuracy_ci == (0.0, 1.0)
    assert reward_modelling_report(prompts, confidence=0.4).pairwise_accuracy_ci == (0.75, 0.75)
    ci = reward_modelling_report(PROMPTS * 20).pairwise_accuracy_ci
    assert ci is not None and 0.5 < ci[0] < 5 / 8 < ci[1] < 0.75


def test_pairs_that_humans_rank_equal_have_no_label() -> None:
    report = reward_modelling_report([ranked("p", (0, 0, 1), (2.0, 5.0, 1.0))])
    assert (report.num_pairs, report.pairwise_accuracy, report.exact_match) == (2, 1.0, 1.0)
    assert report.five_best == 1.0
    # Nothing is ranked here, so that the full score is on a best response says nothing.
    report = reward_modelling_report([ranked("p", (0, 0), (5.0, 5.0)), ranked("q", (0,), (5.0,))])
    assert (report.num_skipped, report.num_full_scores, report.five_best) == (2, 0, None)


def test_averages_that_differ_in_the_last_digit_are_ties() -> None:
    # In floats 0.1 + 0.2 is above 0.3; averages of the same draws in another order are so too.
    report = reward_modelling_report([ranked("p", (0, 1), (0.1 + 0.2, 0.3))])
    assert (report.num_score_ties, report.pairwise_accuracy) == (1, 0.0)


def test_what_cannot_be_measured_is_none() -> None:
    report = reward_modelling_report([ranked("p", (0, 1), (None, None))])
    assert (report.num_failed, report.num_skipped, report.num_pairs) == (2, 1, 0)
    assert report.pairwise_accuracy is None and report.pairwise_accuracy_ci is None
    assert report.pairwise_accuracy_ties_half is None and report.exact_match is None
    assert report.five_best is None
    assert report.spearman is None and report.kendall_tau is None
    assert json.loads(json.dumps(report.to_dict()))["pairwise_accuracy_ci"] is None


def test_the_report_is_json() -> None:
    report = reward_modelling_report(PROMPTS)
    data = json.loads(json.dumps(report.to_dict()))
    assert report.pairwise_accuracy_ci is not None
    assert data["pairwise_accuracy_ci"] == list(report.pairwise_accuracy_ci)
    assert data["exact_match"] == 0.5


def test_bad_rankings_are_refused() -> None:
    with pytest.raises(ValueError, match="no prompts"):
        reward_modelling_report([])
    with pytest.raises(ValueError, match="p has 2 human ranks and 1 scores"):
        reward_modelling_report([ranked("p", (0, 1), (1.0,))])
    with pytest.raises(ValueError, match="not a finite number"):
        reward_modelling_report([ranked("p", (0, 1), (1.0, float("nan")))])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=2, max_size=6))
def test_correlations_of_one_prompt_agree_with_scipy(rows: list[tuple[int, int]]) -> None:
    ranks, scores = tuple(r for r, _ in rows), tuple(float(s) for _, s in rows)
    report = reward_modelling_report([ranked("p", ranks, scores)], num_samples=1)
    if len(set(ranks)) == 1 or len(set(scores)) == 1:
        assert report.spearman is None
        return
    assert report.spearman == pytest.approx(-spearmanr(ranks, scores).statistic)
    assert report.kendall_tau == pytest.approx(-kendalltau(ranks, scores).statistic)
    # A pair that is neither right nor tied is wrong: tau's numerator is right minus wrong.
    assert report.pairwise_accuracy_ties_half is not None and report.kendall_tau is not None
    assert (2 * report.pairwise_accuracy_ties_half - 1 > 0) == (report.kendall_tau > 1e-12)
