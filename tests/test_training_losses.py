"""Losses against numbers worked by hand and against TRL."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from selfreward.training import losses
from selfreward.training.losses import (
    dpo_terms,
    nll_sum,
    sequence_logps,
    soft_preference_loss,
    target_logps,
)


def make_terms(chosen: float, rejected: float, **changes: Any) -> losses.DpoTerms:
    settings: dict[str, Any] = {
        "chosen_logps_P": torch.tensor([chosen]),
        "rejected_logps_P": torch.tensor([rejected]),
        "reference_chosen_logps_P": torch.tensor([-10.0]),
        "reference_rejected_logps_P": torch.tensor([-12.0]),
        "chosen_lengths_P": torch.tensor([4.0]),
        "label_confidence_P": torch.tensor([1.0]),
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


def test_soft_labels_by_hand() -> None:
    # -log sigmoid(0.5) = log(1 + e^-0.5) = 0.474077; of -0.5 it is log(1 + e^0.5) = 0.974077.
    # C = 0.8: 0.8 * 0.474077 + 0.2 * 0.974077 = 0.574077; C = 0: the opposite label, 0.974077.
    margin = torch.tensor([0.5, 0.5, 0.5])
    loss = soft_preference_loss(margin, torch.tensor([1.0, 0.8, 0.0]))
    assert loss.tolist() == pytest.approx([0.474077, 0.574077, 0.974077], abs=1e-6)


def test_half_a_label_asks_for_no_margin() -> None:
    # The slope over the margin is sigmoid(margin) - C: at C = 0.5 it is 0 at margin 0, and pulls a
    # margin of 2 down by sigmoid(2) - 0.5 = 0.380797. At C = 0.8 it is 0 at log(0.8 / 0.2), where
    # the loss is the entropy of the label: -0.8 log 0.8 - 0.2 log 0.2 = 0.500402.
    margin = torch.tensor([0.0, 2.0, math.log(4.0)], requires_grad=True)
    loss = soft_preference_loss(margin, torch.tensor([0.5, 0.5, 0.8]))
    loss.sum().backward()
    assert margin.grad is not None
    assert margin.grad.tolist() == pytest.approx([0.0, 0.380797, 0.0], abs=1e-6)
    assert loss[0].item() == pytest.approx(math.log(2), abs=1e-6)
    assert loss[2].item() == pytest.approx(0.500402, abs=1e-6)


def test_a_reversed_label_is_the_reversed_pair() -> None:
    margin = torch.tensor([-3.0, 0.4, 30.0])
    confidence = torch.tensor([0.9, 0.25, 0.6])
    torch.testing.assert_close(
        soft_preference_loss(margin, confidence), soft_preference_loss(-margin, 1.0 - confidence)
    )


def test_each_pair_has_its_own_confidence_and_the_nll_ignores_it() -> None:
    # Both pairs have the margin 0.5 of test_dpo_with_nll_by_hand and an NLL of 1.5 * 2 = 3.
    # d loss / d chosen of the preference alone: beta * (sigmoid(0.5) - C) = 0.1 * (0.622459 - C).
    chosen = torch.tensor([-8.0, -8.0], requires_grad=True)
    settings: dict[str, Any] = {
        "chosen_logps_P": chosen,
        "rejected_logps_P": torch.tensor([-15.0, -15.0]),
        "label_confidence_P": torch.tensor([0.8, 0.3]),
    }
    # 0.3 * 0.474077 + 0.7 * 0.974077 = 0.824077
    terms = make_terms(0, 0, nll_weight=1.5, **settings)
    assert terms.loss_P.tolist() == pytest.approx([3.574077, 3.824077], abs=1e-6)
    assert terms.preference_loss_P.tolist() == pytest.approx([0.574077, 0.824077], abs=1e-6)
    make_terms(0, 0, **settings).loss_P.sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.tolist() == pytest.approx([-0.0177541, 0.0322459], abs=1e-6)


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
    log_softmax = torch.log_softmax

    def recording(values: Tensor, **options: Any) -> Tensor:
        sizes.append(tuple(values.shape))
        return log_softmax(values, **options)

    monkeypatch.setattr(torch, "log_softmax", recording)
    target_logps(torch.randn(10, 8), torch.randn(50, 8), torch.zeros(10, dtype=torch.long))
    assert sizes == [(4, 50), (4, 50), (2, 50)]
