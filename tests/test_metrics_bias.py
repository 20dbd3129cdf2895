import json
from dataclasses import replace

import pytest
from scipy.stats import entropy

from selfreward.metrics.bias import BiasCard, bias_card, worse_figures
from selfreward.metrics.pairwise import pairwise_report
from tests.outcome_tools import REFUSED, TIE, TRUNCATED, UNPARSED, chose, pair

FIRST, SECOND = chose("first"), chose("second")

OUTCOMES = [
    # Right twice; the better response is the shorter.
    pair("p1", FIRST, SECOND, (10, 20)),
    # Always first: right, then wrong; the better is the longer.
    pair("p2", FIRST, FIRST, (30, 20)),
    # Wrong twice, equal lengths.
    pair("p3", SECOND, FIRST, (5, 5)),
    # One reading failed, the other is right; the better is the longer.
    pair("p4", UNPARSED, SECOND, (9, 4)),
    pair("p5", FIRST, TIE),
    pair("p6", TRUNCATED, REFUSED, (1, 2)),
]


def test_the_card_by_hand() -> None:
    card = bias_card(OUTCOMES)
    assert card.n == 6
    # Of p1, p2 and p3 only p2 names another response when the order changes.
    assert card.swap_flip_rate == pytest.approx(1 / 3)
    assert card.first_position_rate == pytest.approx(5 / 8)
    # Choices on p1, p1, p2, p2, p4: the longer is named by p2's first and by p4.
    assert card.longer_chosen_rate == pytest.approx(2 / 5)
    # The better one is the longer in p2, p2 and p4.
    assert card.share_chosen_longer == pytest.approx(3 / 5)
    # p1 1, p2 0.5, p3 0, p4 0.5, p6 0.
    assert card.accuracy_with_lengths == pytest.approx(2 / 5)
    # A ruler: wrong on p1 and p6, right on p2 and p4, p3 by half.
    assert card.length_only_accuracy == pytest.approx(2.5 / 5)
    rates = (card.unparsed_rate, card.truncated_rate, card.tie_rate, card.refused_rate)
    assert rates == pytest.approx((1 / 12,) * 4)
    assert card.score_entropy_bits is None and card.score_saturation is None
    assert card.self_preference is None
    assert json.loads(json.dumps(card.to_dict()))["n"] == 6


def test_the_card_has_the_figures_of_the_pairwise_report() -> None:
    card, report = bias_card(OUTCOMES), pairwise_report(OUTCOMES)
    assert card.longer_chosen_rate == report.longer_chosen_rate
    assert card.first_position_rate == report.first_position_rate
    assert card.swap_flip_rate == report.swap_flip_rate


def test_pairs_read_once_have_no_flips() -> None:
    card = bias_card([pair("p1", FIRST, None, (2, 1)), pair("p2", None, FIRST, (3, 4))])
    assert card.swap_flip_rate is None
    assert card.first_position_rate == 1.0
    # p1 names the longer, which is the better; p2 the longer, which is the worse.
    assert (card.longer_chosen_rate, card.share_chosen_longer) == (1.0, 0.5)
    assert (card.accuracy_with_lengths, card.length_only_accuracy) == (0.5, 0.5)


def test_a_judge_that_is_right_has_no_length_bias() -> None:
    outcomes = [pair(f"p{i}", FIRST, SECOND, (i, 3)) for i in range(8)]
    card = bias_card(outcomes)
    # Unequal are 0, 1, 2 and 4 to 7: the better is the longer in 4 of 7.
    assert card.longer_chosen_rate == card.share_chosen_longer == pytest.approx(4 / 7)
    assert card.accuracy_with_lengths == 1.0


def test_scores_by_hand() -> None:
    # Shares 1/2, 1/4, 1/4: 1.5 bits; 2 of 4 at the top.
    card = bias_card(OUTCOMES, scores=[5, 5, 4, 1], scale=(0, 5))
    assert card.score_entropy_bits == pytest.approx(1.5)
    assert card.score_saturation == 0.5
    card = bias_card(OUTCOMES, scores=[1, 1, 2, 3, 3, 3, 4], scale=(0, 5))
    assert card.score_entropy_bits == pytest.approx(entropy([2, 1, 3, 1], base=2))
    assert card.score_saturation == 0.0


def test_scores_between_the_levels_count_as_the_nearest() -> None:
    # Expected scores: no two are equal, yet they say 2, 2, 3, 3.
    card = bias_card(OUTCOMES, scores=[2.1, 2.4, 2.6, 3.2], scale=(0, 5))
    assert card.score_entropy_bits == pytest.approx(1.0)
    # A scale without levels between its ends is left as it is.
    card = bias_card(OUTCOMES, scores=[0.1, 0.2, 0.3, 0.4], scale=(0, 1))
    assert card.score_entropy_bits == pytest.approx(2.0)


def test_one_score_for_everything_has_no_entropy() -> None:
    card = bias_card(OUTCOMES, scores=[4.0, 4.0])
    assert (card.score_entropy_bits, card.score_saturation) == (0.0, None)
    assert bias_card(OUTCOMES, scores=[], scale=(0, 5)).score_entropy_bits is None


def test_self_preference_by_hand() -> None:
    # Own is the better in p1 (named twice) and the worse in p2 (named once of two) and p3 (twice):
    # 5 of 6 choices name it, in 2 of 6 it is the better.
    own = {
        "p1": "chosen",
        "p2": "rejected",
        "p3": "rejected",
        "p6": "chosen",
        "elsewhere": "chosen",
    }
    card = bias_card(OUTCOMES, own=own)
    assert card.self_preference == pytest.approx(5 / 6 - 2 / 6)
    # A judge that is right has none, however often its own answer is the better one.
    right = [pair("a", FIRST, SECOND), pair("b", FIRST, SECOND), pair("c", FIRST, SECOND)]
    sides = {"a": "chosen", "b": "chosen", "c": "rejected"}
    assert bias_card(right, own=sides).self_preference == 0.0
    assert bias_card(OUTCOMES, own={"p6": "chosen"}).self_preference is None


def test_scores_of_its_own_against_others() -> None:
    # 0.3 and 0.1 of the scale too high, against 0 and 0.1 too low.
    card = bias_card(OUTCOMES, own_excess=[0.3, 0.1], other_excess=[0.0, -0.1])
    assert (card.own_score_excess, card.other_score_excess) == pytest.approx((0.2, -0.05))
    assert card.score_self_preference == pytest.approx(0.25)
    alone = bias_card(OUTCOMES, own_excess=[0.3])
    assert (alone.own_score_excess, alone.score_self_preference) == (0.3, None)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        bias_card([])
    with pytest.raises(ValueError, match="outside the scale from 0 to 5"):
        bias_card(OUTCOMES, scores=[6.0], scale=(0, 5))
    with pytest.raises(ValueError, match="not a finite number"):
        bias_card(OUTCOMES, scores=[float("nan")])
    with pytest.raises(ValueError, match="not 'both'"):
        bias_card(OUTCOMES, own={"p1": "both"})
    with pytest.raises(ValueError, match="tolerance"):
        worse_figures(bias_card(OUTCOMES), bias_card(OUTCOMES), tolerance=-0.1)


CARD = BiasCard(
    n=100,
    swap_flip_rate=0.2,
    first_position_rate=0.4,
    longer_chosen_rate=0.6,
    share_chosen_longer=0.5,
    accuracy_with_lengths=0.7,
    length_only_accuracy=0.5,
    unparsed_rate=0.1,
    truncated_rate=0.0,
    tie_rate=0.0,
    refused_rate=0.0,
    score_entropy_bits=None,
    score_saturation=None,
    self_preference=None,
)


def test_the_same_worse_figures() -> None:
    assert worse_figures(CARD, CARD, tolerance=0.0) == []


def test_every_figure_that_got_worse_has_its_line() -> None:
    worse = replace(
        CARD,
        swap_flip_rate=0.3,
        first_position_rate=0.75,
        unparsed_rate=0.2,
        truncated_rate=0.06,
        tie_rate=0.2,
        refused_rate=0.08,
        longer_chosen_rate=0.3,
    )
    assert worse_figures(CARD, worse, tolerance=0.05) == [
        "position bias |first position rate - 0.5| rose from 0.100 to 0.250, by more than 0.05",
        "swap flip rate rose from 0.200 to 0.300, by more than 0.05",
        "unparsed rate rose from 0.100 to 0.200, by more than 0.05",
        "truncated rate rose from 0.000 to 0.060, by more than 0.05",
        "tie rate rose from 0.000 to 0.200, by more than 0.05",
        "refused rate rose from 0.000 to 0.080, by more than 0.05",
        "length bias |longer chosen rate - share chosen longer| rose from 0.100 to 0.200,"
        " by more than 0.05",
    ]
    assert worse_figures(worse, CARD, tolerance=0.0) == []


def test_a_bias_may_change_sides_and_reach_the_tolerance() -> None:
    # 0.4 and 0.6 are equally far from 0.5, and so are 0.6 and 0.4 from the share of 0.5.
    other_side = replace(CARD, first_position_rate=0.6, longer_chosen_rate=0.4)
    assert worse_figures(CARD, other_side, tolerance=0.0) == []
    # 0.3 - 0.2 is a little below 0.1 in floats, 0.2 - 0.1 exact, 0.1 - 0.0 too: none is above it.
    edge = replace(CARD, swap_flip_rate=0.3, unparsed_rate=0.2, truncated_rate=0.1)
    assert worse_figures(CARD, edge, tolerance=0.1) == []
    assert len(worse_figures(CARD, edge, tolerance=0.099)) == 3


def test_a_judge_without_choices_does_not_pass_as_one_without_bias() -> None:
    silent = replace(CARD, swap_flip_rate=None, first_position_rate=None, longer_chosen_rate=None)
    lines = worse_figures(CARD, silent, tolerance=1.0)
    assert lines == [
        "position bias |first position rate - 0.5| was 0.100 and can no longer be measured",
        "swap flip rate was 0.200 and can no longer be measured",
        "length bias |longer chosen rate - share chosen longer| was 0.100 and can no longer be"
        " measured",
    ]
    assert worse_figures(silent, CARD, tolerance=0.0) == []


def test_a_judge_that_begins_to_favour_its_own_answers_is_named() -> None:
    before = replace(CARD, self_preference=-0.05, own_choices=20)
    after = replace(CARD, self_preference=0.2, own_choices=20)
    assert worse_figures(before, after, tolerance=0.1) == [
        "self-preference |own named rate - share own better| rose from 0.050 to 0.200,"
        " by more than 0.1"
    ]
    # A handful of choices stops nobody; that 20 have become 19 is named.
    few = replace(before, own_choices=19), replace(after, own_choices=19)
    assert worse_figures(*few, tolerance=0.1) == []
    assert worse_figures(before, few[1], tolerance=0.1) == [
        "self-preference |own named rate - share own better| was 0.050 and can no longer be"
        " measured"
    ]
