"""TRL on the same tiny model and rows: the same losses, step after step, and the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from selfreward.training import benchmark
from selfreward.training.losses import dpo_terms, sequence_logps
from selfreward.training.model import ModelSource, load_causal_lm, load_tokenizer
from selfreward.training.policy import Policy
from tests.tiny_model import make_tiny_model
from tests.training_data import curve, make_preferences

trl = pytest.importorskip("trl")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_losses_of_steps_equal_trl(objective: benchmark.Objective, tiny: Path) -> None:
    rows = make_preferences(12)
    config = benchmark._config(objective, "fp32", batch_size=4, max_steps=3, max_length=1024)
    config = config.model_copy(update={"learning_rate": 1e-3})
    ours = curve(benchmark._train_ours(str(tiny), rows, config, seed=0))
    theirs = benchmark._train_trl(str(tiny), rows, config, seed=0).losses
    assert ours[2] != pytest.approx(ours[0], abs=1e-2)  # it learns: later steps differ
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_gradients_of_dpo_with_nll_equal_trl(tiny: Path, tmp_path: Path) -> None:
    """One pair, for which TRL's token-mean "sft" term is our length-normalised NLL."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from selfreward.training.collate import collate
    from selfreward.training.encoding import encode_preferences

    tokenizer: Any = load_tokenizer(ModelSource(path=str(tiny)))
    (preference,) = make_preferences(1)
    (row,), _ = encode_preferences(tokenizer, [preference], 1024)
    model = load_causal_lm(ModelSource(path=str(tiny)), dtype=torch.float32, attention="sdpa")
    reference = load_causal_lm(ModelSource(path=str(tiny)), dtype=torch.float32, attention="sdpa")
    with torch.no_grad():  # a policy away from its reference, so that rewards are not zero
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    policy = Policy(model)
    batch = collate([row], tokenizer.pad_token_id, True)
    with torch.no_grad():
        fixed = sequence_logps(Policy(reference)(batch), batch.sequence_N, 2)
    logps = sequence_logps(policy(batch), batch.sequence_N, 2)
    terms = dpo_terms(
        chosen_logps_P=logps[0::2],
        rejected_logps_P=logps[1::2],
        reference_chosen_logps_P=fixed[0::2],
        reference_rejected_logps_P=fixed[1::2],
        chosen_lengths_P=batch.lengths_S[0::2],
        beta=0.1,
        nll_weight=1.5,
    )
    terms.loss_P.sum().backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()

    trainer = DPOTrainer(
        model,
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(tmp_path),
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, 1.5],
            beta=0.1,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to="none",
            per_device_train_batch_size=1,
        ),
        train_dataset=Dataset.from_list(
            [
                {
                    "prompt": tokenizer.decode(row.prompt.tolist()),
                    "chosen": preference.chosen,
                    "rejected": preference.rejected,
                }
            ]
        ),
        processing_class=tokenizer,
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    assert terms.loss_P.item() == pytest.approx(loss.item(), abs=1e-4)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)
