"""An export trains in TRL as it is: no renaming, no template applied by hand."""

import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from selfreward.loops.export import export_rows
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


@pytest.mark.parametrize("what", ["preferences", "sft"])
def test_one_step_of_trl(what: str, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    run = self_rewarding_run(str(tmp_path / "run"))
    iteration = "2" if what == "preferences" else "1"
    done = export_rows(run.layout.root, what, iteration, str(tmp_path / "out"), "dataset")
    rows = datasets.load_from_disk(done.out)
    assert len(rows) == done.num_rows > 0
    source = ModelSource(path=str(model))
    settings: dict[str, Any] = {
        "output_dir": str(tmp_path / "trl"),
        "max_steps": 1,
        "per_device_train_batch_size": len(rows),
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
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
