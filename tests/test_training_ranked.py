"""Training a reward model in the loop: what it measures, and that it goes on where it stopped."""

from pathlib import Path

import pytest
import torch

from selfreward.errors import ConfigError
from selfreward.training.checkpoint import is_complete
from selfreward.training.trainer import TrainingJob, train
from tests.tiny_model import make_tiny_model
from tests.training_data import (
    curve,
    make_config,
    make_preferences,
    make_task,
    run_here,
    write_data,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranked")
    make_tiny_model(folder / "model")
    write_data(folder / "data")
    return folder


def test_scores_are_learnt_and_measured(root: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    config = make_config("reward_model", epochs=4, checkpoint_every_steps=5)
    task = make_task(root / "model", root / "data", config)
    result = run_here(task, tmp_path / "s", tmp_path / "kept")
    assert result.steps == 12
    assert curve(result)[0] == pytest.approx(0.6931, abs=0.1)  # new scores are near 0
    assert curve(result)[-1] < 0.5
    last = result.history[-1]
    assert 0.0 <= last["eval/accuracy"] <= 1.0
    # The published model gives the same figures through transformers alone.
    folder = tmp_path / "kept" / "step-12"
    assert is_complete(str(folder))
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    margins = []
    for row in make_preferences(12):
        scores = []
        for answer in (row.chosen, row.rejected):
            turns = [{"role": m.role, "content": m.content} for m in row.messages]
            turns.append({"role": "assistant", "content": answer})
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                scores.append(float(model(input_ids=ids).logits))
        margins.append(scores[0] - scores[1])
    losses = -torch.nn.functional.logsigmoid(torch.tensor(margins))
    assert last["eval/loss"] == pytest.approx(float(losses.mean()), abs=1e-4)
    assert last["eval/accuracy"] == sum(m > 0 for m in margins) / 12
    # From its checkpoint on it repeats itself.
    again = run_here(task, tmp_path / "s", resume_from=tmp_path / "kept" / "step-5")
    assert curve(again) == pytest.approx(curve(result), abs=1e-6)


def test_objectives_have_their_records(root: Path, tmp_path: Path) -> None:
    for objective, record, wanted in (
        ("reward_model", "TrainingExample", "Preference"),
        ("text", "Preference", "PackedText"),
        ("sft", "PackedText", "TrainingExample"),
    ):
        job = TrainingJob(
            name="wrong",
            model=str(root / "model"),
            data=("unread",),
            record=record,  # type: ignore[arg-type]
            config=make_config(objective),
            output=str(tmp_path / "checkpoint"),
            storage_path=str(tmp_path / "state"),
        )
        with pytest.raises(
            ConfigError,
            match=f"^training.objective={objective} reads {wanted} rows, not {record}$",
        ):
            train(job)
