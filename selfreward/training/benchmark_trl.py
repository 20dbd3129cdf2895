"""TRL's trainers on the rows and steps of ours, for side-by-side figures and for tests.

TRL is imported only here, and only when a comparison is asked for.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

from selfreward.config import TrainingConfig
from selfreward.records import Preference
from selfreward.training.batching import plan_batches
from selfreward.training.benchmark_bare import load_scorer
from selfreward.training.benchmark_turns import Turn, clock_steps, this_device
from selfreward.training.encoding import end_of_turn
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.reward_model import pooled_at_end_of_turn


def trl_rows(
    tokenizer: Any, rows: Sequence[Preference], config: TrainingConfig, seed: int
) -> list[dict[str, str]]:
    """The rows in the order of our steps, as text: both trainers then see the same tokens.

    (From messages TRL renders each completion with the template's white space after it.)
    """
    steps = plan_batches(
        [r.pair_id for r in rows],
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=seed,
        max_steps=config.max_steps,
    )
    end = end_of_turn(tokenizer)
    out = []
    for index in (i for step in steps for i in step):
        row = rows[index]
        messages = [{"role": m.role, "content": m.content} for m in row.messages]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if config.objective == "sft":
            out.append({"prompt": prompt, "completion": row.chosen})
        elif config.objective == "dpo":
            out.append({"prompt": prompt, "chosen": row.chosen, "rejected": row.rejected})
        else:  # whole texts with their ends: TRL ends them with a token that need not end a turn
            out.append(
                {"chosen": prompt + row.chosen + end, "rejected": prompt + row.rejected + end}
            )
    return out


def train_trl(
    model_path: str, rows: Sequence[Preference], config: TrainingConfig, seed: int
) -> Turn:
    """TRL with what its defaults give; in fp32 without their recomputation, for equal losses."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    tokenizer = load_tokenizer(ModelSource(path=model_path))
    exact = config.precision == "fp32"
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        common: dict[str, Any] = {
            "output_dir": folder,
            "per_device_train_batch_size": config.batch_size,
            "max_steps": config.max_steps,
            "learning_rate": config.learning_rate,
            "lr_scheduler_type": "constant",
            "train_sampling_strategy": "sequential",
            "max_length": config.max_length,
            "max_grad_norm": config.max_grad_norm,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": this_device().type == "cpu",
            "seed": seed,
            "bf16": not exact,
        }
        if exact:
            common["gradient_checkpointing"] = False
        dtype = {"model_init_kwargs": {"dtype": "float32"}} if exact else {}
        shared: dict[str, Any] = {
            "train_dataset": Dataset.from_list(trl_rows(tokenizer, rows, config, seed)),
            "processing_class": tokenizer,
        }
        if config.objective == "sft":
            trainer: Any = SFTTrainer(model_path, args=SFTConfig(**common, **dtype), **shared)
        elif config.objective == "dpo":
            arguments = DPOConfig(beta=config.dpo_beta, **common, **dtype)
            trainer = DPOTrainer(model_path, args=arguments, **shared)
        else:  # with the head that our training begins with
            model = load_scorer(model_path, seed)
            shared["processing_class"] = pooled_at_end_of_turn(model.config, tokenizer)
            arguments = RewardConfig(eos_token=end_of_turn(tokenizer), **common)
            trainer = RewardTrainer(model, args=arguments, **shared)
        clock_steps(trainer, seconds)
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return Turn(seconds=seconds, losses=losses)
