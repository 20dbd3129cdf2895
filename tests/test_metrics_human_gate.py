import math

import pytest

from selfreward.metrics.human_gate import human_agreement_gate


def test_enough_answers_that_agree_let_it_pass() -> None:
    assert human_agreement_gate(0.8, 20, minimum=0.7, min_answers=20) is None


def test_exactly_on_the_limit_passes_in_spite_of_rounding() -> None:
    # As floats 1 - 0.9 is a little less than 0.1.
    assert 1 - 0.9 < 0.1
    assert human_agreement_gate(1 - 0.9, 10, minimum=0.1, min_answers=1) is None


def test_too_few_answers_refuse_whatever_they_say() -> None:
    told = "people have compared 19 of its choices, 20 are wanted"
    assert human_agreement_gate(1.0, 19, minimum=0.7, min_answers=20) == told
    none = "people have compared 0 of its choices, 1 are wanted"
    assert human_agreement_gate(None, 0, minimum=0.7, min_answers=1) == none


def test_what_was_not_measured_is_refused() -> None:
    told = "the agreement with people cannot be measured on 0 comparisons"
    assert human_agreement_gate(None, 0, minimum=0.0, min_answers=0) == told


def test_a_low_agreement_is_refused_with_both_numbers() -> None:
    told = "people agree with 0.550 of 40 choices, below 0.7"
    assert human_agreement_gate(0.55, 40, minimum=0.7, min_answers=20) == told


@pytest.mark.parametrize(
    ("agreement", "num", "minimum", "min_answers"),
    [(1.2, 5, 0.7, 1), (math.nan, 5, 0.7, 1), (0.5, 5, -0.1, 1), (0.5, -1, 0.7, 1)],
)
def test_numbers_that_are_no_shares_or_counts_are_a_fault(
    agreement: float, num: int, minimum: float, min_answers: int
) -> None:
    with pytest.raises(ValueError, match="must be"):
        human_agreement_gate(agreement, num, minimum, min_answers)
