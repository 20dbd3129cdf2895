"""TRL on the same tiny model and rows: the same losses, step after step, and the same weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from selfreward.records import Preference
from selfreward.training.benchmark_online import compare_updates
from selfreward.training.benchmark_rows import (
    RowObjective,
    compare_trainers,
    shared_config,
    train_ours,
)
from selfreward.training.benchmark_text import compare_text
from selfreward.training.benchmark_trl import train_trl, trl_rows
from selfreward.training.collate import collate
from selfreward.training.encoding import encode_preferences
from selfreward.training.losses import sequence_logps
from selfreward.training.model import ModelSource, load_causal_lm, load_tokenizer
from selfreward.training.objective import Objective
from selfreward.training.policy import Policy
from tests.tiny_model import make_tiny_model
from tests.training_data import (
    curve,
    make_config,
    make_preferences,
    make_task,
    run_here,
    write_data,
    write_text,
)

trl = pytest.importorskip("trl")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def load_model(folder: Path) -> Any:
    return load_causal_lm(ModelSource(path=str(folder)), dtype=torch.float32, attention="sdpa")


def make_trl_trainer(
    model: Any, reference: Any, tokenizer: Any, rows: list[dict[str, str]], **settings: Any
) -> Any:
    """TRL's trainer over single pairs in their order.

    Its "aot" loss of one pair is DPO with the soft labels of `label_smoothing`, which its "sigmoid"
    loss does not read.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    common: dict[str, Any] = {
        "beta": 0.1,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "per_device_train_batch_size": 1,
        "train_sampling_strategy": "sequential",
    }
    return DPOTrainer(
        model,
        ref_model=reference,
        args=DPOConfig(**(common | settings)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def as_text(tokenizer: Any, preference: Preference) -> dict[str, str]:
    messages = [{"role": m.role, "content": m.content} for m in preference.messages]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return {"prompt": prompt, "chosen": preference.chosen, "rejected": preference.rejected}


@pytest.mark.parametrize("objective", ["sft", "dpo", "reward_model"])
def test_losses_of_steps_equal_trl(objective: RowObjective, tiny: Path) -> None:
    rows = make_preferences(12)
    config = shared_config(objective, "fp32", batch_size=4, max_steps=3, max_length=1024)
    config = config.model_copy(update={"learning_rate": 1e-3})
    ours = curve(train_ours(str(tiny), rows, config, seed=0))
    theirs = train_trl(str(tiny), rows, config, seed=0).losses
    assert ours[2] != pytest.approx(ours[0], abs=1e-2)  # it learns: later steps differ
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    ("loss_type", "confidences"),
    [("sigmoid", (1.0, 1.0)), ("aot", (0.8, 0.3)), ("aot", (0.5, 1.0))],
)
def test_gradients_of_dpo_with_nll_equal_trl(
    loss_type: str, confidences: Sequence[float], tiny: Path, tmp_path: Path
) -> None:
    """Two pairs, each with its confidence; TRL takes them one by one, since it has one label
    smoothing for all, and since its token-mean "sft" term of one pair is our length-normalised NLL.
    """
    tokenizer: Any = load_tokenizer(ModelSource(path=str(tiny)))
    preferences = make_preferences(2, confidences)
    rows, _ = encode_preferences(tokenizer, preferences, 1024)
    model, reference = load_model(tiny), load_model(tiny)
    torch.manual_seed(0)
    with torch.no_grad():  # a policy away from its reference, so that rewards are not zero
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    with torch.no_grad():
        straight = collate(rows, tokenizer.pad_token_id, True)
        fixed = sequence_logps(Policy(reference)(straight), straight.sequence_N, 4).view(2, 2)
    objective = Objective(make_config("dpo", nll_weight=1.5), rows, fixed)
    piece = [1, 0]  # a micro-batch has its rows in an order of its own
    batch = collate([rows[i] for i in piece], tokenizer.pad_token_id, True)
    ours, _ = objective(Policy(model)(batch), batch, piece)
    ours.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()

    trainer = make_trl_trainer(
        model,
        reference,
        tokenizer,
        [as_text(tokenizer, p) for p in preferences],
        output_dir=str(tmp_path),
        loss_type=[loss_type, "sft"],
        loss_weights=[1.0, 1.5],
    )
    theirs = 0.0
    for inputs, confidence in zip(trainer.get_train_dataloader(), confidences, strict=True):
        trainer.label_smoothing = 1.0 - confidence
        loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        theirs += loss.item()
    assert ours.item() == pytest.approx(theirs, abs=2e-4)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=2e-4, msg=name)


def test_losses_with_unsure_labels_and_another_reference_equal_trl(
    tiny: Path, tmp_path: Path
) -> None:
    """Whole training runs: the reference is a model from which neither starts."""
    first = make_tiny_model(tmp_path / "first", seed=1)
    write_data(tmp_path / "data", confidences=(0.8,))
    config = shared_config("dpo", "fp32", batch_size=4, max_steps=3, max_length=1024)
    config = config.model_copy(update={"learning_rate": 1e-3, "dpo_reference": "first"})
    task = make_task(
        tiny,
        tmp_path / "data",
        config,
        reference_source=ModelSource(path=str(first)),
        validation=(),
    )
    ours = run_here(task, tmp_path / "scratch")
    tokenizer = load_tokenizer(ModelSource(path=str(tiny)))
    trainer = make_trl_trainer(
        load_model(tiny),
        load_model(first),
        tokenizer,
        trl_rows(tokenizer, make_preferences(12), config, task.seed),
        output_dir=str(tmp_path / "trl"),
        loss_type="aot",
        label_smoothing=0.2,
        gradient_accumulation_steps=4,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        max_steps=3,
        max_length=1024,
        logging_steps=1,
        save_strategy="no",
    )
    trainer.train()
    theirs = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    # The first step is not log 2: the policy is not its reference.
    assert abs(curve(ours, "train/reward_margin")[0]) > 1e-2
    assert curve(ours) == pytest.approx(theirs, abs=1e-4)
    assert curve(ours)[2] != pytest.approx(curve(ours)[0], abs=1e-2)


def test_losses_on_packed_text_equal_a_bare_loop_and_transformers(
    tiny: Path, tmp_path: Path
) -> None:
    write_text(tmp_path)
    data = sorted(str(path) for path in tmp_path.glob("text-*.parquet"))
    figures = compare_text(
        str(tiny),
        data,
        batch_size=4,
        num_steps=4,
        num_rounds=1,
        tokens_per_micro_batch=72,
        learning_rate=1e-3,
    )
    assert figures["max_loss_difference"] < 1e-3
    assert figures["num_tokens"] > 200
    assert figures["share_of_bare"] > 0 and figures["speedup_over_trainer"] > 0


@pytest.mark.parametrize("objective", ["sft", "dpo", "reward_model"])
def test_losses_on_rows_equal_a_bare_loop(objective: RowObjective, tiny: Path) -> None:
    figures = compare_trainers(
        str(tiny),
        make_preferences(12),
        objectives=[objective],
        batch_size=4,
        num_steps=3,
        num_exact_steps=3,
        learning_rate=1e-3,  # later losses are those of other weights
    )[objective]
    assert figures["max_loss_difference"] < 1e-4
    assert figures["num_tokens"] > 200
    assert figures["share_of_bare"] > 0 and figures["speedup_over_trl"] > 0
    assert figures["tokens_per_s"] == pytest.approx(
        figures["share_of_bare"] * figures["bare_tokens_per_s"]
    )


def test_losses_of_policy_gradient_updates_equal_a_bare_loop(tiny: Path) -> None:
    figures = compare_updates(
        str(tiny),
        make_preferences(6),
        rollouts_per_step=4,
        num_steps=3,
        num_exact_steps=3,
        learning_rate=1e-3,
    )
    assert figures["max_loss_difference"] < 1e-4
    assert figures["num_tokens"] > 100 and figures["share_of_bare"] > 0
