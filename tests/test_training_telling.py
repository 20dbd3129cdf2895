"""What a training says of itself while it goes on."""

import pytest

from selfreward.training import telling


def test_it_says_where_it_is_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 103.0, 110.0, 130.0])
    monkeypatch.setattr(telling.time, "monotonic", lambda: next(times))
    said: list[str] = []
    told = telling.Telling(said.append, num_steps=50, first_step=20)
    told.step(21, {"train/loss": 3.0})  # 3 s after the beginning: too early to say anything
    told.step(25, {"train/loss": 2.5, "train/tokens_per_s": 812.4})
    told.step(30, {"rollout/reward": 0.25, "train/tokens_per_s": 90.0})
    # 5 steps in 10 s: 25 more take 50 s; then 10 steps in 30 s: 20 more take 60 s.
    assert said == [
        "step 25/50, loss 2.500, 812 tok/s, 50 s left",
        "step 30/50, reward 0.250, 90 tok/s, 60 s left",
    ]


def test_nobody_has_to_listen() -> None:
    telling.Telling(None, num_steps=2, first_step=0).step(1, {})
