"""Our trainer beside TRL's on the same rows: tokens a second, and the losses of the first steps.

TRL is imported only here, and only when a comparison is asked for.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import torch

from selfreward.config import TrainingConfig
from selfreward.records import Preference, TrainingExample
from selfreward.schemas import to_table
from selfreward.training.batching import plan_batches
from selfreward.training.encoding import encode_preferences
from selfreward.training.loop import run_training
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.setup import quiet_libraries, set_threads
from selfreward.training.task import LoopResult, TrainingTask

Objective = Literal["sft", "dpo"]
LEARNING_RATE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One trainer's run: seconds of all its steps (and reference pass) and each step's loss."""

    seconds: float
    losses: list[float]


def _config(objective: Objective, precision: str, **sizes: Any) -> TrainingConfig:
    """Settings that both trainers take: constant rate, no decay, TRL's AdamW betas."""
    return TrainingConfig(
        objective=objective,
        precision="bf16" if precision == "bf16" else "fp32",
        learning_rate=LEARNING_RATE,
        final_lr_ratio=1.0,
        warmup_ratio=0.0,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        nll_weight=0.0,
        **sizes,
    )


def _as_examples(rows: Sequence[Preference]) -> list[TrainingExample]:
    return [
        TrainingExample(
            id=row.id,
            messages=row.messages,
            target=row.chosen,
            pair_id=row.pair_id,
            judgment_id=None,
            gold=row.gold,
        )
        for row in rows
    ]


def _train_ours(
    model_path: str, rows: Sequence[Preference], config: TrainingConfig, seed: int
) -> LoopResult:
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/rows.parquet"
        if config.objective == "dpo":
            pq.write_table(to_table(rows, Preference), data)
        else:
            pq.write_table(to_table(_as_examples(rows), TrainingExample), data)
        task = TrainingTask(
            source=ModelSource(path=model_path),
            data=(data,),
            record="Preference" if config.objective == "dpo" else "TrainingExample",
            config=config,
            seed=seed,
        )
        return run_training(
            task,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            scratch=Path(folder),
            report=lambda metrics, checkpoint: None,
        )


def _trl_rows(
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
    out = []
    for index in (i for step in steps for i in step):
        row = rows[index]
        messages = [{"role": m.role, "content": m.content} for m in row.messages]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if config.objective == "dpo":
            out.append({"prompt": prompt, "chosen": row.chosen, "rejected": row.rejected})
        else:
            out.append({"prompt": prompt, "completion": row.chosen})
    return out


def _train_trl(
    model_path: str, rows: Sequence[Preference], config: TrainingConfig, seed: int
) -> _Side:
    """TRL with what its defaults give; in fp32 without their recomputation, for equal losses."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    tokenizer = load_tokenizer(ModelSource(path=model_path))
    exact = config.precision == "fp32"
    with tempfile.TemporaryDirectory() as folder:
        common: dict[str, Any] = {
            "output_dir": folder,
            "per_device_train_batch_size": config.batch_size,
            "max_steps": config.max_steps,
            "learning_rate": config.learning_rate,
            "lr_scheduler_type": "constant",
            "train_sampling_strategy": "sequential",
            "max_length": config.max_length,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": not torch.cuda.is_available(),
            "seed": seed,
            "bf16": not exact,
        }
        if exact:
            common["gradient_checkpointing"] = False
            common["model_init_kwargs"] = {"dtype": "float32"}
        dataset = Dataset.from_list(_trl_rows(tokenizer, rows, config, seed))
        if config.objective == "dpo":
            arguments = DPOConfig(beta=config.dpo_beta, **common)
            trainer: Any = DPOTrainer(
                model_path, args=arguments, train_dataset=dataset, processing_class=tokenizer
            )
        else:
            trainer = SFTTrainer(
                model_path,
                args=SFTConfig(**common),
                train_dataset=dataset,
                processing_class=tokenizer,
            )
        outcome = trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        return _Side(seconds=outcome.metrics["train_runtime"], losses=losses)


def _fitting(model_path: str, rows: Sequence[Preference], max_length: int) -> list[Preference]:
    """The rows neither trainer would drop or cut."""
    tokenizer = load_tokenizer(ModelSource(path=model_path))
    encoded, _ = encode_preferences(tokenizer, rows, max_length)
    kept = {row.id for row in encoded}
    return [row for row in rows if row.id in kept]


def compare_with_trl(
    model_path: str,
    rows: Sequence[Preference],
    *,
    objectives: Sequence[Objective] = ("sft", "dpo"),
    batch_size: int = 8,
    num_steps: int = 4,
    num_exact_steps: int = 2,
    max_length: int = 1024,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Trains the model at `model_path` on the same rows with our trainer and with TRL's.

    SFT trains on the chosen completions. Speed is measured in bf16 over `num_steps` steps, with
    TRL's own defaults, our reference pass included; losses are compared in fp32 over
    `num_exact_steps` steps.

    Returns, by objective: `tokens_per_s` and `trl_tokens_per_s` (tokens of whole sequences, chosen
    and rejected each with their prompt), `speedup`, and `max_loss_difference`.
    """
    set_threads(1)
    quiet_libraries()
    rows = _fitting(model_path, rows, max_length)
    rows = rows[: len(rows) // batch_size * batch_size]  # only full steps, for both alike
    figures: dict[str, dict[str, float]] = {}
    for objective in objectives:
        config = _config(
            objective,
            "bf16",
            batch_size=batch_size,
            max_steps=num_steps,
            epochs=num_steps * batch_size // len(rows) + 1,
            max_length=max_length,
        )
        ours = _train_ours(model_path, rows, config, seed)
        theirs = _train_trl(model_path, rows, config, seed)
        exact = config.model_copy(update={"precision": "fp32", "max_steps": num_exact_steps})
        our_losses = [h["train/loss"] for h in _train_ours(model_path, rows, exact, seed).history]
        their_losses = _train_trl(model_path, rows, exact, seed).losses
        differences = [abs(a - b) for a, b in zip(our_losses, their_losses, strict=True)]
        seconds = ours.seconds + ours.reference_s
        figures[objective] = {
            "num_tokens": float(ours.num_tokens),
            "tokens_per_s": ours.num_tokens / seconds,
            "trl_tokens_per_s": ours.num_tokens / theirs.seconds,
            "speedup": theirs.seconds / seconds,
            "max_loss_difference": max(differences),
        }
    return figures
