"""Sampling by inverse transform: the right distribution, no masked token, one seed one draw."""

import torch
from scipy import stats

from selfreward.engines.inverse_cdf import sample_inverse_cdf


def test_draws_follow_the_softmax() -> None:
    # Chances 0.1, 0.2, 0.3, 0.4 by their logarithms; 20,000 rows of the same logits.
    logits = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4])).repeat(20_000, 1)
    generators = {row: torch.Generator().manual_seed(row) for row in range(20_000)}
    counts = torch.bincount(sample_inverse_cdf(logits, generators), minlength=4)
    assert stats.chisquare(counts.numpy(), [2000, 4000, 6000, 8000]).pvalue > 1e-3


def test_masked_tokens_are_never_drawn() -> None:
    minus_infinity = float("-inf")
    row = [minus_infinity, 0.0, minus_infinity, 0.0, minus_infinity]
    draws = sample_inverse_cdf(torch.tensor([row]).repeat(5_000, 1), {})
    assert set(draws.tolist()) == {1, 3}


def test_a_row_draws_the_same_whatever_is_beside_it() -> None:
    logits = torch.randn(8, 1_000, generator=torch.Generator().manual_seed(0))

    def draw(rows: list[int]) -> list[int]:
        generators = {i: torch.Generator().manual_seed(row) for i, row in enumerate(rows)}
        return sample_inverse_cdf(logits[rows], generators).tolist()

    together = draw([0, 1, 2, 3, 4, 5, 6, 7])
    assert draw([5]) == [together[5]]
    assert draw([7, 2]) == [together[7], together[2]]


def test_the_end_of_the_range_is_a_token() -> None:
    # All chance on one token: whatever the uniform number, that token is drawn.
    logits = torch.full((1_000, 7), float("-inf"))
    logits[:, 6] = 3.0
    assert set(sample_inverse_cdf(logits, {}).tolist()) == {6}
