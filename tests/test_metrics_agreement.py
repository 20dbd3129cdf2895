import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.metrics.agreement import (
    cohen_kappa,
    krippendorff_alpha,
    observed_agreement,
    ranking_comparisons,
    score_comparisons,
)


def test_cohens_kappa_of_a_table_worked_by_hand() -> None:
    # 20 both yes, 5 yes/no, 10 no/yes, 15 both no. p_o = 35 / 50 = .7; the first rater says yes in
    # 25 of 50, the other in 30, so p_e = .5 · .6 + .5 · .4 = .5 and kappa = .2 / .5 = .4.
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert observed_agreement(one, other) == pytest.approx(0.7)
    assert cohen_kappa(one, other) == pytest.approx(0.4)


def test_kappa_of_full_agreement_of_chance_and_of_contradiction() -> None:
    assert cohen_kappa(["first", "tie"], ["first", "tie"]) == pytest.approx(1)
    # p_o = .75 = p_e: a rater who always says the same agrees by chance only.
    assert cohen_kappa(["tie", "tie", "tie", "first"], ["tie"] * 4) == pytest.approx(0)
    # p_o = 0, p_e = .5: (0 - .5) / .5.
    assert cohen_kappa(["first", "second"], ["second", "first"]) == pytest.approx(-1)


def test_kappa_is_none_where_it_is_not_defined() -> None:
    assert cohen_kappa([], []) is None
    assert observed_agreement([], []) is None
    assert cohen_kappa(["first", "first"], ["first", "first"]) is None
    assert observed_agreement(["first", "first"], ["first", "first"]) == 1
    with pytest.raises(ValueError, match="2 and 1"):
        cohen_kappa(["first", "tie"], ["first"])


# Four observers and twelve units with missing data: section C of Krippendorff (2011), who gives
# .743 for nominal data.
PUBLISHED = {
    "A": "1 2 3 3 2 1 4 1 2 . . .",
    "B": "1 2 3 3 2 2 4 1 2 5 . 3",
    "C": ". 3 3 3 2 3 4 2 2 5 1 .",
    "D": "1 2 3 3 2 4 4 1 2 5 1 .",
}


def test_krippendorffs_alpha_of_the_published_example() -> None:
    ratings = {
        rater: {unit: label for unit, label in enumerate(row.split()) if label != "."}
        for rater, row in PUBLISHED.items()
    }
    assert krippendorff_alpha(ratings) == pytest.approx(0.743, abs=5e-4)
    # Unit 12 has one label only and says nothing of agreement.
    del ratings["B"][11]
    assert krippendorff_alpha(ratings) == pytest.approx(0.743, abs=5e-4)


def test_krippendorffs_alpha_worked_by_hand() -> None:
    # Two raters, units a (first/second) and b (tie/tie): n = 4 labels, tie 2, first 1, second 1.
    # D_o = 2 / 4, D_e = (4² - (2² + 1 + 1)) / (4 · 3) = 10 / 12, alpha = 1 - .5 / (10 / 12) = .4.
    ratings = {"Ada": {"a": "first", "b": "tie"}, "Ben": {"a": "second", "b": "tie"}}
    assert krippendorff_alpha(ratings) == pytest.approx(0.4)
    # A third rater of other units changes nothing.
    assert krippendorff_alpha(ratings | {"Cem": {"c": "second"}}) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "ratings",
    [
        {},
        {"Ada": {"a": "first", "b": "second"}},
        {"Ada": {"a": "first"}, "Ben": {"b": "second"}},
        # The only labels in common are equal; the other label stands alone.
        {"Ada": {"a": "first", "b": "second"}, "Ben": {"a": "first"}},
    ],
)
def test_alpha_is_none_where_it_is_not_defined(ratings: dict[str, dict[str, str]]) -> None:
    assert krippendorff_alpha(ratings) is None


def test_the_comparisons_of_a_ranking_with_a_tie() -> None:
    # Of four responses 4 · 3 / 2 = 6.
    assert ranking_comparisons([[2], [0, 3], [1]]) == {
        (0, 1): "first",
        (0, 2): "second",
        (0, 3): "tie",
        (1, 2): "second",
        (1, 3): "second",
        (2, 3): "first",
    }
    assert ranking_comparisons([[1], [0]]) == {(0, 1): "second"}
    assert ranking_comparisons([[0, 1]]) == {(0, 1): "tie"}
    with pytest.raises(ValueError, match="twice"):
        ranking_comparisons([[0], [1, 0]])


def test_scores_compare_where_both_are_known() -> None:
    assert score_comparisons((4.0, None, 5.0, 4.0)) == {
        (0, 2): "second",
        (0, 3): "tie",
        (2, 3): "first",
    }
    # 0.1 + 0.2 is not 0.3 in binary.
    assert score_comparisons((0.1 + 0.2, 0.3)) == {(0, 1): "tie"}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_a_ranking_by_scores_compares_as_the_scores_do(scores: list[int]) -> None:
    groups = [
        [place for place, score in enumerate(scores) if score == level]
        for level in sorted(set(scores), reverse=True)
    ]
    compared = ranking_comparisons(groups)
    assert compared == score_comparisons(scores)
    assert len(compared) == len(scores) * (len(scores) - 1) // 2
