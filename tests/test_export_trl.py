"""An export trains in TRL as it is: no renaming, no template applied by hand."""

import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from selfreward.loops.export import export_rows
from selfreward.training.losses import soft_preference_loss
from selfreward.training.model import ModelSource, load_causal_lm, load_tokenizer
from tests.run_folders import self_rewarding_run
from tests.tiny_model import make_tiny_model

trl = pytest.importorskip("trl")


def one_step(trainer: Any) -> tuple[float, bool]:
    """Trains one step; returns its loss and whether any weight moved."""
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    moved = any(
        not torch.equal(weight, before[name]) for name, weight in trainer.model.named_parameters()
    )
    (first,) = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return first, moved


SETTINGS: dict[str, Any] = {
    "max_steps": 1,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
    "gradient_checkpointing": False,
}


@pytest.mark.parametrize("what", ["preferences", "sft"])
def test_one_step_of_trl(what: str, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    run = self_rewarding_run(str(tmp_path / "run"))
    iteration = "2" if what == "preferences" else "1"
    done = export_rows(run.layout.root, what, iteration, str(tmp_path / "out"), "dataset")
    rows = datasets.load_from_disk(done.out)
    assert len(rows) == done.num_rows > 0
    source = ModelSource(path=str(model))
    settings = {
        **SETTINGS,
        "output_dir": str(tmp_path / "trl"),
        "per_device_train_batch_size": len(rows),
    }
    of = (
        (trl.DPOTrainer, trl.DPOConfig)
        if what == "preferences"
        else (trl.SFTTrainer, trl.SFTConfig)
    )
    trainer = of[0](
        model=load_causal_lm(source, dtype=torch.float32, attention="sdpa"),
        args=of[1](**settings),
        train_dataset=rows,
        processing_class=load_tokenizer(source),
    )
    loss, moved = one_step(trainer)
    assert moved
    if what == "preferences":
        # Policy and reference are one model: every margin is 0, and so -log sigmoid(0) = log 2.
        assert loss == pytest.approx(math.log(2), abs=1e-4)
    else:
        # A random model over 320 tokens: about log 320 = 5.8 a token.
        assert 4 < loss < 8


@pytest.mark.parametrize("confidence", [None, 0.2])
def test_a_cream_export_trains_in_trl_with_its_soft_labels(
    confidence: float | None, tmp_path: Path
) -> None:
    """The docs' recipe: `aot`, one pair at a time, a smoothing of 1 - C."""
    run = self_rewarding_run(str(tmp_path / "run"))
    done = export_rows(run.layout.root, "preferences", "2", str(tmp_path / "out"), "dataset")
    rows = datasets.load_from_disk(done.out).filter(lambda row: row["kind"] == "answer")
    assert list(rows["label_confidence"]) == [0.75]
    confidence = confidence or rows["label_confidence"][0]
    source, other = (
        ModelSource(path=str(make_tiny_model(tmp_path / f"tiny_{seed}", seed=seed)))
        for seed in (0, 1)
    )
    trainer = trl.DPOTrainer(
        model=load_causal_lm(source, dtype=torch.float32, attention="sdpa"),
        # Another model, so that the margin is not 0.
        ref_model=load_causal_lm(other, dtype=torch.float32, attention="sdpa"),
        args=trl.DPOConfig(
            **SETTINGS,
            output_dir=str(tmp_path / "trl"),
            beta=0.1,
            loss_type="aot",
            label_smoothing=1 - confidence,
            per_device_train_batch_size=1,
        ),
        train_dataset=rows,
        processing_class=load_tokenizer(source),
    )
    loss, moved = one_step(trainer)
    (margin,) = [
        row["rewards/margins"] for row in trainer.state.log_history if "rewards/margins" in row
    ]
    assert moved
    assert abs(margin) > 0.01
    ours = soft_preference_loss(torch.tensor([margin]), torch.tensor([confidence])).item()
    # C * log(1 + e^-m) + (1 - C) * log(1 + e^m)
    by_hand = confidence * math.log1p(math.exp(-margin)) + (1 - confidence) * math.log1p(
        math.exp(margin)
    )
    assert loss == pytest.approx(ours, abs=1e-4)
    assert ours == pytest.approx(by_hand, abs=1e-6)
    # A label taken for sure would be told apart.
    assert abs(loss - math.log1p(math.exp(-margin))) > 1e-3
