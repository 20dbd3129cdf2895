"""Small training data and runs shared by the tests of training."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist

from selfreward.config import TrainingConfig
from selfreward.records import Message, Preference, TrainingExample
from selfreward.schemas import to_table
from selfreward.storage.shards import ShardSummary
from selfreward.storage.token_shards import PackedRow, write_token_shard
from selfreward.training.data import RECORD_OF
from selfreward.training.loop import run_training
from selfreward.training.model import ModelSource
from selfreward.training.task import LoopResult, TrainingTask


def make_examples(count: int) -> list[TrainingExample]:
    """Examples of differing lengths; 2k and 2k + 1 are the two orders of one pair."""
    rows = []
    for i in range(count):
        right, wrong = ("A", "B") if i % 2 else ("B", "A")
        rows.append(
            TrainingExample(
                id=f"exa-{i}",
                messages=(Message(role="user", content=f"question {i}? " * (i % 5 + 1)),),
                target=f"because {i} [[{right}]]",
                counter_target=f"because {i} [[{wrong}]]",
                pair_id=f"pair-{i // 2}",
                judgment_id=None,
                gold="first" if i % 2 else "second",
            )
        )
    return rows


def make_preferences(count: int, confidences: Sequence[float] = (1.0,)) -> list[Preference]:
    """The same as preferences whose completions differ in length; `confidences` in turn."""
    return [
        Preference(
            id=f"pre-{i}",
            messages=example.messages,
            chosen=example.target,
            rejected=f"no, {i * 7} " * (i % 3 + 1),
            pair_id=example.pair_id,
            chosen_id=f"jud-{i}c",
            rejected_id=f"jud-{i}r",
            gold=example.gold,
            label_confidence=confidences[i % len(confidences)],
        )
        for i, example in enumerate(make_examples(count))
    ]


def write_data(folder: Path, count: int = 12, confidences: Sequence[float] = (1.0,)) -> None:
    """Writes `sft.parquet` and `dpo.parquet`."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_table(make_examples(count), TrainingExample), folder / "sft.parquet")
    preferences = make_preferences(count, confidences)
    pq.write_table(to_table(preferences, Preference), folder / "dpo.parquet")


def make_packed(count: int, length: int = 24, seed: int = 0) -> list[PackedRow]:
    """Packed sequences of one to four pieces, some of a single token and some with padding. Each
    piece counts upwards from a random byte, so that there is something to learn."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        edges = np.sort(generator.integers(1, length + 1, size=generator.integers(1, 5)))
        lengths = np.diff(edges, prepend=0)
        lengths = lengths[lengths > 0].astype(np.int32)
        pieces = [generator.integers(0, 200) + np.arange(n) for n in lengths]
        padding = np.zeros(length - lengths.sum())
        tokens = np.concatenate([*pieces, padding]).astype(np.int32)
        rows.append(PackedRow(tokens=tokens, lengths=lengths))
    return rows


def write_packed(url: Path, rows: Sequence[PackedRow]) -> str:
    """Writes a token shard."""
    url.parent.mkdir(parents=True, exist_ok=True)
    summary = ShardSummary(
        index=0, num_inputs=len(rows), num_records=len(rows), drops={}, ledger={}
    )
    write_token_shard(
        str(url),
        np.stack([r.tokens for r in rows]),
        [r.lengths for r in rows],
        [[f"doc-{i}"] * len(r.lengths) for i, r in enumerate(rows)],
        summary,
    )
    return str(url)


def write_text(folder: Path, counts: Sequence[int] = (5, 5, 3)) -> None:
    """Writes token shards `text-0.parquet`, … and `heldout.parquet`."""
    for number, count in enumerate(counts):
        write_packed(folder / f"text-{number}.parquet", make_packed(count, seed=number))
    write_packed(folder / "heldout.parquet", make_packed(5, seed=99))


def make_config(objective: str, **changes: Any) -> TrainingConfig:
    settings: dict[str, Any] = {
        "objective": objective,
        "learning_rate": 1e-3,
        "batch_size": 4,
        "tokens_per_micro_batch": 160,
        "precision": "fp32",
    }
    return TrainingConfig(**(settings | changes))


def make_task(model: Path, data: Path, config: TrainingConfig, **changes: Any) -> TrainingTask:
    files = {"reward_model": "dpo.parquet", "text": "text-*.parquet"}
    pattern = files.get(config.objective, f"{config.objective}.parquet")
    held_out = {"reward_model": "dpo.parquet", "text": "heldout.parquet"}
    settings: dict[str, Any] = {
        "source": ModelSource(path=str(model)),
        "data": tuple(sorted(map(str, data.glob(pattern)))),
        "record": RECORD_OF[config.objective],
        "config": config,
        "validation": (str(data / held_out.get(config.objective, "sft.parquet")),),
        "seed": 1,
    }
    return TrainingTask(**(settings | changes))


def run_here(
    task: TrainingTask, scratch: Path, keep: Path | None = None, resume_from: Path | None = None
) -> LoopResult:
    """Trains in this process; copies each reported checkpoint to `keep/step-N`, where the
    folders of several workers come together."""

    def report(metrics: dict[str, float], folder: Path | None) -> None:
        if keep is not None and folder is not None:
            target = keep / f"step-{int(metrics['step'])}"
            shutil.copytree(folder, target, dirs_exist_ok=True)
            if dist.is_initialized():
                dist.barrier()

    return run_training(
        task,
        device=torch.device("cpu"),
        scratch=scratch,
        report=report,
        resume_from=resume_from,
    )


class _Context:
    def get_local_world_size(self) -> int:
        return 64  # so that this process stays at one thread


def play_ray_train(patch: pytest.MonkeyPatch) -> None:
    """Lets `run_worker` be called here: Ray Train's side of it, with nothing to resume from."""
    import ray.train

    patch.setattr(ray.train, "get_context", _Context)
    patch.setattr(ray.train, "get_checkpoint", lambda: None)
    patch.setattr(ray.train, "report", lambda metrics, checkpoint: None)


def curve(result: LoopResult | dict[str, Any], name: str = "train/loss") -> list[float]:
    history = result["history"] if isinstance(result, dict) else asdict(result)["history"]
    return [row[name] for row in history]
