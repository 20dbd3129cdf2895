"""Training on rows beside two others in the same run: a bare PyTorch loop and TRL.

All three take the same rows in the same steps and count the same tokens, those of whole sequences,
chosen and rejected each with their prompt. Speeds are of whole steps, without loading and without
the first step of each turn.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from selfreward.config import TrainingConfig
from selfreward.records import Preference, TrainingExample
from selfreward.schemas import to_table
from selfreward.training.batching import plan_batches
from selfreward.training.benchmark_bare import (
    Loss,
    bradley_terry_loss,
    dpo_loss,
    load_language_model,
    load_scorer,
    sft_loss,
    train_bare,
)
from selfreward.training.benchmark_trl import train_trl
from selfreward.training.benchmark_turns import Turn, largest_difference, this_device, tokens_per_s
from selfreward.training.encoding import EncodedRow, encode_examples, encode_preferences
from selfreward.training.loop import run_training
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.setup import quiet_libraries, set_threads
from selfreward.training.task import LoopResult, TrainingTask

RowObjective = Literal["sft", "dpo", "reward_model"]
LEARNING_RATE = 1e-6


def shared_config(
    objective: RowObjective, precision: str, *, learning_rate: float = LEARNING_RATE, **sizes: Any
) -> TrainingConfig:
    """Settings that all trainers take: constant rate, no decay, no clipping, TRL's AdamW betas."""
    return TrainingConfig(
        objective=objective,
        precision="bf16" if precision == "bf16" else "fp32",
        learning_rate=learning_rate,
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


def train_ours(
    model_path: str, rows: Sequence[Preference], config: TrainingConfig, seed: int
) -> LoopResult:
    """Our training of the rows, or of their chosen completions for SFT, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/rows.parquet"
        if config.objective == "sft":
            pq.write_table(to_table(_as_examples(rows), TrainingExample), data)
        else:
            pq.write_table(to_table(rows, Preference), data)
        task = TrainingTask(
            source=ModelSource(path=model_path),
            data=(data,),
            record="TrainingExample" if config.objective == "sft" else "Preference",
            config=config,
            seed=seed,
        )
        return run_training(
            task,
            device=this_device(),
            scratch=Path(folder),
            report=lambda metrics, checkpoint: None,
        )


def train_bare_on(
    model_path: str, steps: Sequence[Sequence[EncodedRow]], config: TrainingConfig, seed: int
) -> Turn:
    """The bare loop on encoded rows, with the model and loss of the objective."""
    tokenizer = load_tokenizer(ModelSource(path=model_path))
    counts = [float(len(step)) for step in steps]
    frozen: Any = None
    loss: Loss = sft_loss
    if config.objective == "reward_model":
        model, loss = load_scorer(model_path, seed), bradley_terry_loss
    else:
        model = load_language_model(model_path)
    if config.objective == "dpo":
        frozen, loss = load_language_model(model_path).eval(), dpo_loss(config.dpo_beta)
    elif config.objective == "sft":
        counts = [float(sum(row.num_targets for row in step)) for step in steps]
    return train_bare(
        model, steps, loss, counts, config, pad_id=tokenizer.pad_token_id, frozen=frozen
    )


def _fitting(
    model_path: str, rows: Sequence[Preference], config: TrainingConfig
) -> tuple[list[Preference], list[EncodedRow]]:
    """The rows no trainer would drop or cut, for full steps only, and as they are encoded."""
    tokenizer = load_tokenizer(ModelSource(path=model_path))
    kept = {row.id for row in encode_preferences(tokenizer, rows, config.max_length)[0]}
    rows = [row for row in rows if row.id in kept]
    rows = rows[: len(rows) // config.batch_size * config.batch_size]
    if config.objective == "sft":
        return rows, encode_examples(tokenizer, _as_examples(rows), config.max_length)[0]
    return rows, encode_preferences(tokenizer, rows, config.max_length)[0]


def _turn(result: LoopResult, num_tokens: Sequence[int]) -> Turn:
    """The pass of the reference model comes before the steps; each step is charged its share."""
    of_reference = result.reference_s / sum(num_tokens)
    return Turn(
        seconds=[
            count * (1.0 / step["train/tokens_per_s"] + of_reference)
            for step, count in zip(result.history, num_tokens, strict=True)
        ],
        losses=[step["train/loss"] for step in result.history],
    )


def compare_trainers(
    model_path: str,
    rows: Sequence[Preference],
    *,
    objectives: Sequence[RowObjective] = ("sft", "dpo", "reward_model"),
    batch_size: int = 8,
    num_steps: int = 5,
    num_exact_steps: int = 2,
    max_length: int = 1024,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Trains the model at `model_path` on the same rows with our trainer, a bare PyTorch loop and
    TRL's trainer.

    SFT trains on the chosen completions. Speed is measured in bf16 over `num_steps` steps, with
    TRL's own defaults; the reference's passes are in DPO's. Losses are compared in fp32 over
    `num_exact_steps` steps.

    Returns, by objective: `num_tokens` of the steps; `tokens_per_s`, `bare_tokens_per_s` and
    `trl_tokens_per_s`; `share_of_bare` and `speedup_over_trl`; and `max_loss_difference`, the
    largest distance of a step's loss from ours, in fp32.
    """
    set_threads(1)
    quiet_libraries()
    figures: dict[str, dict[str, float]] = {}
    for objective in objectives:
        config = shared_config(
            objective,
            "bf16",
            batch_size=batch_size,
            max_steps=num_steps,
            max_length=max_length,
            max_grad_norm=1e9,
            learning_rate=learning_rate,
        )
        kept, encoded = _fitting(model_path, rows, config)
        config = config.model_copy(update={"epochs": num_steps * batch_size // len(kept) + 1})
        plan = plan_batches(
            [row.pair_id for row in encoded],
            batch_size=batch_size,
            epochs=config.epochs,
            seed=seed,
            max_steps=num_steps,
        )
        steps = [[encoded[i] for i in step] for step in plan]
        num_tokens = [sum(row.num_sequence_tokens for row in step) for step in steps]
        ours = _turn(train_ours(model_path, kept, config, seed), num_tokens)
        bare = train_bare_on(model_path, steps, config, seed)
        theirs = train_trl(model_path, kept, config, seed)
        speeds = [tokens_per_s([turn], num_tokens) for turn in (ours, bare, theirs)]
        exact = config.model_copy(update={"precision": "fp32", "max_steps": num_exact_steps})
        others = [
            train_bare_on(model_path, steps[:num_exact_steps], exact, seed).losses,
            train_trl(model_path, kept, exact, seed).losses,
        ]
        our_losses = [h["train/loss"] for h in train_ours(model_path, kept, exact, seed).history]
        figures[objective] = {
            "num_tokens": float(sum(num_tokens)),
            "tokens_per_s": speeds[0],
            "bare_tokens_per_s": speeds[1],
            "trl_tokens_per_s": speeds[2],
            "share_of_bare": speeds[0] / speeds[1],
            "speedup_over_trl": speeds[0] / speeds[2],
            "max_loss_difference": largest_difference(others, our_losses),
        }
    return figures
