"""Training on packed text beside two others in the same run: a bare PyTorch loop over the same
model and batches, and transformers' Trainer.

All three take the same sequences in the same steps and count the same tokens; speeds are of whole
steps, without loading and without the first step of each turn.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional

from selfreward.config import TrainingConfig
from selfreward.storage.token_shards import PackedRow
from selfreward.training.benchmark_bare import load_language_model, plain_adamw
from selfreward.training.benchmark_turns import (
    IGNORED,
    Turn,
    clock_steps,
    largest_difference,
    this_device,
    timed,
    tokens_per_s,
)
from selfreward.training.loop import run_training
from selfreward.training.model import ModelSource
from selfreward.training.setup import quiet_libraries, set_threads
from selfreward.training.task import TrainingTask
from selfreward.training.text_plan import make_text_plan, measure_shards
from selfreward.training.text_stream import read_chunk


def _example(row: PackedRow, pad_id: int) -> dict[str, list[int]]:
    """A packed row as transformers takes it: positions that begin anew tell it the pieces."""
    positions: list[int] = []
    labels = row.tokens.tolist()
    for length in row.lengths.tolist():
        labels[len(positions)] = IGNORED  # nothing in its piece predicts it
        positions += range(length)
    padding = len(labels) - len(positions)
    labels[len(positions) :] = padding * [IGNORED]
    tokens = row.tokens.tolist()
    tokens[len(positions) :] = padding * [pad_id]
    positions += range(padding)
    return {"input_ids": tokens, "position_ids": positions, "labels": labels}


def _train_ours(task: TrainingTask) -> Turn:
    with tempfile.TemporaryDirectory() as folder:
        result = run_training(
            task,
            device=this_device(),
            scratch=Path(folder),
            report=lambda metrics, checkpoint: None,
        )
    return Turn(
        seconds=[1.0 / h["train/tokens_per_s"] for h in result.history],  # of one token
        losses=[h["train/loss"] for h in result.history],
    )


def _train_bare(task: TrainingTask, steps: Sequence[list[dict[str, list[int]]]]) -> Turn:
    """What one writes by hand: forward, cross-entropy, backward, AdamW; bf16 by autocast."""
    device, config = this_device(), task.config
    model = load_language_model(task.source.path)
    optimizer = plain_adamw(model, config)
    batches = [
        {name: torch.tensor([row[name] for row in step], device=device) for name in step[0]}
        for step in steps
    ]
    at_once = max(1, config.tokens_per_micro_batch // batches[0]["input_ids"].shape[1])
    seconds: list[float] = []
    losses: list[float] = []
    for batch in batches:
        with timed(seconds):
            count = (batch["labels"] != IGNORED).sum()
            total = torch.zeros((), device=device)
            for start in range(0, len(batch["input_ids"]), at_once):
                part = {name: value[start : start + at_once] for name, value in batch.items()}
                labels_BT = part.pop("labels")
                with torch.autocast(
                    device.type, torch.bfloat16, enabled=config.precision == "bf16"
                ):
                    logits_BTV = model(**part).logits
                loss = functional.cross_entropy(
                    logits_BTV[:, :-1].flatten(0, 1).float(),
                    labels_BT[:, 1:].flatten(),
                    ignore_index=IGNORED,
                    reduction="sum",
                )
                (loss / count).backward()
                total += loss.detach()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(total / count))
    return Turn(seconds=seconds, losses=losses)


def _train_transformers(task: TrainingTask, steps: Sequence[list[dict[str, list[int]]]]) -> Turn:
    """transformers' Trainer with its defaults but for the settings that all three share."""
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments, default_data_collator

    seconds: list[float] = []
    config = task.config
    length = len(steps[0][0]["input_ids"])
    at_once = min(config.batch_size, max(1, config.tokens_per_micro_batch // length))
    while config.batch_size % at_once:
        at_once -= 1
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=load_language_model(task.source.path),
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=at_once,
                gradient_accumulation_steps=config.batch_size // at_once,
                max_steps=len(steps),
                learning_rate=config.learning_rate,
                weight_decay=config.weight_decay,
                adam_beta1=config.betas[0],
                adam_beta2=config.betas[1],
                max_grad_norm=config.max_grad_norm,
                lr_scheduler_type="constant",
                train_sampling_strategy="sequential",
                bf16=config.precision == "bf16",
                use_cpu=not torch.cuda.is_available(),
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([row for step in steps for row in step]),
            data_collator=default_data_collator,
        )
        clock_steps(trainer, seconds)
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return Turn(seconds=seconds, losses=losses)


def compare_text(
    model_path: str,
    data: Sequence[str],
    *,
    batch_size: int = 16,
    num_steps: int = 6,
    num_rounds: int = 2,
    tokens_per_micro_batch: int = 4096,
    precision: str = "fp32",
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> dict[str, float]:
    """Trains the model at `model_path` on the token shards `data` three ways, in turns.

    Each of `num_rounds` rounds trains `num_steps` steps with our trainer, with a bare PyTorch loop
    and with transformers' Trainer, each from the start.

    Returns `tokens_per_s`, `bare_tokens_per_s`, `trainer_tokens_per_s` (tokens without padding),
    `share_of_bare`, `speedup_over_trainer`, and `max_loss_difference`, the largest distance of a
    step's loss from the bare loop's.
    """
    set_threads(1)
    quiet_libraries()
    config = TrainingConfig(
        objective="text",
        precision="bf16" if precision == "bf16" else "fp32",
        learning_rate=learning_rate,
        lr_schedule="constant",
        warmup_ratio=0.0,
        weight_decay=0.0,
        max_grad_norm=1e9,
        batch_size=batch_size,
        max_steps=num_steps,
        tokens_per_micro_batch=tokens_per_micro_batch,
    )
    shards = measure_shards(data)
    num_sequences = sum(s.num_sequences for s in shards)
    task = TrainingTask(
        source=ModelSource(path=model_path),
        data=tuple(data),
        record="PackedText",
        config=config.model_copy(
            update={"epochs": -(-num_steps * batch_size // max(1, num_sequences))}
        ),
        seed=seed,
    )
    rows = read_chunk(list(make_text_plan(task, shards, ())))
    num_tokens = [sum(int(row.lengths.sum()) for row in step) for step in rows]
    steps = [[_example(row, 0) for row in step] for step in rows]
    ours, bare, theirs = [], [], []
    for _ in range(num_rounds):
        per_token = _train_ours(task)
        seconds = [s * n for s, n in zip(per_token.seconds, num_tokens, strict=True)]
        ours.append(Turn(seconds=seconds, losses=per_token.losses))
        bare.append(_train_bare(task, steps))
        theirs.append(_train_transformers(task, steps))
    speeds = [tokens_per_s(turns, num_tokens) for turns in (ours, bare, theirs)]
    return {
        "num_tokens": float(sum(num_tokens)),
        "tokens_per_s": speeds[0],
        "bare_tokens_per_s": speeds[1],
        "trainer_tokens_per_s": speeds[2],
        "share_of_bare": speeds[0] / speeds[1],
        "speedup_over_trainer": speeds[0] / speeds[2],
        "max_loss_difference": largest_difference(
            [turn.losses for turn in (*ours, *theirs)], bare[0].losses
        ),
    }
