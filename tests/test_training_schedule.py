"""Learning rates of steps against hand numbers and transformers' schedules."""

from typing import Any

import pytest
import torch
from transformers import (
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_wsd_schedule,
)

from selfreward.config import TrainingConfig
from selfreward.training.optimizer import learning_rate


def rates(num_steps: int, **settings: Any) -> list[float]:
    config = TrainingConfig(learning_rate=1.0, **settings)
    return [learning_rate(config, step, num_steps) for step in range(num_steps)]


def theirs(make: Any, num_steps: int, **settings: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = make(optimizer, **settings)
    found = []
    for _ in range(num_steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_rates_of_ten_steps_by_hand() -> None:
    # Two steps of warm-up: 1/2, 2/2.
    common: dict[str, Any] = {"warmup_ratio": 0.2, "final_lr_ratio": 0.2}
    assert rates(10, lr_schedule="constant", **common) == pytest.approx([0.5] + 9 * [1.0])
    # Eight steps from 1 down to 0.2, which an eleventh would have: 0.1 less in each.
    assert rates(10, lr_schedule="linear", **common) == pytest.approx(
        [0.5, 1.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    )
    # The last four steps fall: 0.8 / 4 less in each.
    assert rates(10, lr_schedule="wsd", decay_ratio=0.4, **common) == pytest.approx(
        [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4]
    )
    # Half way down the cosine is half way between 1 and 0.2.
    assert rates(10, lr_schedule="cosine", **common)[6] == pytest.approx(0.6)


def test_a_decay_as_long_as_the_run_begins_after_the_warm_up() -> None:
    # Four steps, one of warm-up, three that fall by a third of the way to 0 each.
    assert rates(4, lr_schedule="wsd", warmup_ratio=0.25, decay_ratio=1.0, final_lr_ratio=0.0) == (
        pytest.approx([1.0, 1.0, 2 / 3, 1 / 3])
    )
    assert rates(3, lr_schedule="wsd", decay_ratio=0.0, warmup_ratio=0.0) == [1.0, 1.0, 1.0]


def test_rates_equal_transformers() -> None:
    """After the warm-up at the same step. In the warm-up transformers is a step behind: its first
    step has a rate of 0 and changes nothing."""
    num_steps, warmup = 40, 4
    cosine = theirs(
        get_cosine_with_min_lr_schedule_with_warmup,
        num_steps,
        num_warmup_steps=warmup,
        num_training_steps=num_steps,
        min_lr_rate=0.1,
    )
    linear = theirs(
        get_linear_schedule_with_warmup,
        num_steps,
        num_warmup_steps=warmup,
        num_training_steps=num_steps,
    )
    wsd = theirs(
        get_wsd_schedule,
        num_steps,
        num_warmup_steps=warmup,
        num_decay_steps=10,
        num_training_steps=num_steps,
        decay_type="linear",
        min_lr_ratio=0.1,
    )
    for wanted, settings in (
        (cosine, {"lr_schedule": "cosine", "final_lr_ratio": 0.1}),
        (linear, {"lr_schedule": "linear", "final_lr_ratio": 0.0}),
        (wsd, {"lr_schedule": "wsd", "final_lr_ratio": 0.1, "decay_ratio": 0.25}),
    ):
        ours = rates(num_steps, warmup_ratio=0.1, **settings)
        assert ours[warmup:] == pytest.approx(wanted[warmup:])
        if settings["lr_schedule"] != "wsd":  # theirs warms up from its final rate there
            assert ours[: warmup - 1] == pytest.approx(wanted[1:warmup])
