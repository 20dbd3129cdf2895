"""Losses against numbers worked by hand and against TRL."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from selfreward.training import losses
from selfreward.training.losses import dpo_terms, nll_sum, sequence_logps, target_logps


def make_terms(chosen: float, rejected: float, **changes: Any) -> losses.DpoTerms:
    settings: dict[str, Any] = {
        "chosen_logps_P": torch.tensor([chosen]),
        "rejected_logps_P": torch.tensor([rejected]),
        "reference_chosen_logps_P": torch.tensor([-10.0]),
        "reference_rejected_logps_P": torch.tensor([-12.0]),
        "chosen_lengths_P": torch.tensor([4.0]),
        "beta": 0.1,
        "nll_weight": 0.0,
    }
    return dpo_terms(**(settings | changes))


def test_equal_policy_and_reference_give_log_two() -> None:
    assert make_terms(-10.0, -12.0).loss_P.item() == pytest.approx(math.log(2), abs=1e-7)


def test_dpo_with_nll_by_hand() -> None:
    # Rewards: 0.1 * (-8 + 10) = 0.2 and 0.1 * (-15 + 12) = -0.3, margin 0.5.
    # -log sigmoid(0.5) = log(1 + e^-0.5) = 0.474077; NLL 8 / 4 = 2, weight 1.5: 3.
    terms = make_terms(-8.0, -15.0, nll_weight=1.5)
    assert terms.chosen_reward_P.item() == pytest.approx(0.2, abs=1e-6)
    assert terms.rejected_reward_P.item() == pytest.approx(-0.3, abs=1e-6)
    assert terms.preference_loss_P.item() == pytest.approx(0.474077, abs=1e-6)
    assert terms.loss_P.item() == pytest.approx(3.474077, abs=1e-6)


def test_dpo_raises_the_chosen_and_lowers_the_rejected() -> None:
    chosen = torch.tensor([-8.0], requires_grad=True)
    rejected = torch.tensor([-15.0], requires_grad=True)
    make_terms(0, 0, chosen_logps_P=chosen, rejected_logps_P=rejected).loss_P.sum().backward()
    # d loss / d chosen = -beta * sigmoid(-margin) = -0.1 * 0.377541
    assert chosen.grad is not None and rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.0377541, abs=1e-6)
    assert rejected.grad.item() == pytest.approx(0.0377541, abs=1e-6)


def test_nll_and_sequence_sums_by_hand() -> None:
    logps = torch.tensor([-1.0, -2.0, -0.5])
    assert nll_sum(logps).item() == pytest.approx(3.5)
    assert sequence_logps(logps, torch.tensor([0, 1, 1]), 2).tolist() == [-1.0, -2.5]


def plain_logps(hidden: Tensor, head: Tensor, target: Tensor) -> Tensor:
    return torch.log_softmax(hidden @ head.T, -1).gather(1, target[:, None]).squeeze(1)


@pytest.mark.parametrize("keep", [0, 1 << 28], ids=["recomputed", "kept"])
def test_target_logps_and_gradients_equal_plain_autograd(
    monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 3 * 17)  # chunks of 3 of the 10 targets
    monkeypatch.setattr(losses, "KEEP_ELEMENTS", keep)
    torch.manual_seed(0)
    hidden = torch.randn(10, 8, dtype=torch.float64, requires_grad=True)
    head = torch.randn(17, 8, dtype=torch.float64, requires_grad=True)
    target, weight = torch.randint(17, (10,)), torch.randn(10)
    ours = torch.autograd.grad((target_logps(hidden, head, target) * weight).sum(), (hidden, head))
    wanted = torch.autograd.grad((plain_logps(hidden, head, target) * weight).sum(), (hidden, head))
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_logits_exist_only_at_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest block of logits is one chunk, however many targets there are."""
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 4 * 50)
    monkeypatch.setattr(losses, "KEEP_ELEMENTS", 0)
    sizes = []
    logsumexp = torch.logsumexp

    def recording(values: Tensor, dim: int) -> Tensor:
        sizes.append(tuple(values.shape))
        return logsumexp(values, dim=dim)

    monkeypatch.setattr(torch, "logsumexp", recording)
    target_logps(torch.randn(10, 8), torch.randn(50, 8), torch.zeros(10, dtype=torch.long))
    assert sizes == [(4, 50), (4, 50), (2, 50)]
