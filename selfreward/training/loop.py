"""The training loop one worker runs: plan, accumulate, step, evaluate, checkpoint, resume.

It knows nothing of Ray: reports go to a function it is handed, and a resumed run is handed the
folder of its last checkpoint. Everything random in a step follows from (seed, step, worker), so a
resumed run repeats the unbroken one.
"""

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from selfreward.errors import DataError, RecipeChangedError, TrainingError
from selfreward.records import Preference, TrainingExample, derived_seed
from selfreward.training.batching import plan_batches, plan_step
from selfreward.training.checkpoint import mark_complete, write_model
from selfreward.training.collate import collate
from selfreward.training.data import read_records
from selfreward.training.encoding import (
    EncodedRow,
    encode_examples,
    encode_preferences,
    labelled_digest,
)
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.objective import Objective
from selfreward.training.optimizer import learning_rate
from selfreward.training.parallel import Parallel, all_reduce_sum, rank, together, world_size
from selfreward.training.reference import reference_key, reference_logps
from selfreward.training.scoring import evaluate
from selfreward.training.setup import Trainee, build
from selfreward.training.task import LoopResult, Metrics, Progress, TrainingTask, selection_score

Report = Callable[[Metrics, Path | None], None]
"""Called by every worker alike with metrics and, at checkpoints, the folder to keep."""

STATE_FILE = "trainer_state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    rows: list[EncodedRow]
    validation: list[EncodedRow]
    dropped: dict[str, int]


def _load_data(task: TrainingTask, tokenizer: Any) -> _Data:
    limit = task.config.max_length
    if task.record == "Preference":
        rows, too_long = encode_preferences(tokenizer, read_records(task.data, Preference), limit)
    else:
        rows, too_long = encode_examples(tokenizer, read_records(task.data, TrainingExample), limit)
    if not rows:
        raise DataError(
            f"nothing to train on: {len(task.data)} file(s) of {task.record} rows hold"
            f" {too_long} row(s), all longer than training.max_length={limit} tokens"
            if too_long
            else f"nothing to train on: {len(task.data)} file(s) of {task.record} rows are empty"
        )
    held_out, held_out_too_long = encode_examples(
        tokenizer, read_records(task.validation, TrainingExample), limit, with_counter_target=True
    )
    dropped = {"too_long": too_long, "validation_too_long": held_out_too_long}
    return _Data(rows=rows, validation=held_out, dropped=dropped)


class _Run:
    """One worker's state while it trains."""

    def __init__(self, task: TrainingTask, device: torch.device, scratch: Path, report: Report):
        self.task, self.config, self.device = task, task.config, device
        self.scratch, self.report = scratch, report
        self.tokenizer = together(lambda: load_tokenizer(task.source))
        pad_id = self.tokenizer.pad_token_id
        self.pad_id: int = self.tokenizer.eos_token_id if pad_id is None else pad_id
        self.data = together(lambda: _load_data(task, self.tokenizer))
        self.plan = plan_batches(
            [r.pair_id for r in self.data.rows],
            batch_size=self.config.batch_size,
            epochs=self.config.epochs,
            seed=task.seed,
            max_steps=self.config.max_steps,
        )
        self.progress = Progress(recipe=task.recipe(labelled_digest(self.data.rows)))
        self.reference_s = 0.0
        reference: torch.Tensor | None = None
        other = task.other_reference
        if other is not None:  # it has come and gone before the trained model takes its memory
            reference = self._reference(lambda: self._build(other).parallel)
        self.trainee = self._build(task.source)
        self.parallel = self.trainee.parallel
        self.shares = self.parallel.policy.shares_prompt
        self.lengths = [r.padded_length(self.shares) for r in self.data.rows]
        if task.record == "Preference" and other is None:  # the trained model before any update
            reference = self._reference(lambda: self.parallel)
        self.objective = Objective(self.config, self.data.rows, reference)

    def _build(self, source: ModelSource) -> Trainee:
        """Loads a model as the trained one is: LoRA's fresh adapters change no output, and weights
        they leave frozen take no more memory in the reference than in training."""
        return build(source, self.config, seed=self.task.seed, device=self.device)

    def _reference(self, load: Callable[[], Parallel]) -> torch.Tensor:
        """Reference log-probabilities (rows, 2); 0 for rows that no step uses."""
        started = time.perf_counter()
        used = sorted({i for step in self.plan for i in step})
        rows = [self.data.rows[i] for i in used]
        key = reference_key(
            rows,
            model_fingerprint=self.task.reference_identity,
            max_length=self.config.max_length,
            precision=self.config.precision,
        )
        reference = torch.zeros(len(self.data.rows), 2)
        reference[used] = reference_logps(
            load,
            rows,
            cache=self.task.reference_cache,
            key=key,
            pad_id=self.pad_id,
            max_padded_tokens=self.config.tokens_per_micro_batch,
            device=self.device,
        )
        self.reference_s = time.perf_counter() - started
        return reference

    def resume(self, folder: Path) -> None:
        saved = Progress(**json.loads((folder / STATE_FILE).read_text()))
        if saved.recipe != self.progress.recipe:
            raise RecipeChangedError(
                "the training state to go on from was made by another recipe (model, data, seed or"
                " training settings); remove it to start anew"
            )
        self.progress = saved
        if self.progress.step < len(self.plan):  # the last checkpoint holds nothing to go on with
            self.parallel.load(folder)

    def train_step(self, step: int) -> Metrics:
        started = time.perf_counter()
        objective = self.objective
        indices = self.plan[step]
        torch.manual_seed(derived_seed("step", self.task.seed, step, rank()))
        self.parallel.policy.train()
        count = objective.count(indices)
        names = objective.names()
        sums = torch.zeros(len(names), device=self.device)
        pieces = plan_step(
            indices,
            self.lengths,
            num_workers=world_size(),
            rank=rank(),
            max_padded_tokens=self.config.tokens_per_micro_batch,
            overhead_tokens=self.parallel.overhead_tokens,
            equal_counts=self.parallel.equal_counts,
        )
        for piece in pieces:
            rows = [self.data.rows[i] for i in piece]
            batch = collate(rows, self.pad_id, self.shares).to(self.device)
            loss, parts = objective(self.parallel.policy(batch), batch, piece)
            (loss / count).backward()
            sums += parts
        rate = learning_rate(self.config, step, len(self.plan))
        norm = self.parallel.finish_gradients(self.config.max_grad_norm)
        self.parallel.step(rate)
        late = float(self.task.deadline is not None and time.time() > self.task.deadline)
        *totals, num_late = all_reduce_sum(torch.cat([sums, sums.new_tensor([late])])).tolist()
        if num_late > 0:  # clocks differ, so workers agree on it before they stop
            raise TrainingError(
                f"training ran out of time at step {step + 1} of {len(self.plan)}; raise"
                " training.timeout_s and run again to go on from the last checkpoint"
            )
        seconds = time.perf_counter() - started
        num_tokens = sum(self.data.rows[i].num_sequence_tokens for i in indices)
        self.progress.step = step + 1
        self.progress.num_tokens += num_tokens
        self.progress.seconds += seconds
        metrics = {name: total / count for name, total in zip(names, totals, strict=True)}
        metrics.setdefault("train/nll", metrics["train/loss"])
        if "train/reward_chosen" in metrics:
            metrics["train/reward_margin"] = (
                metrics["train/reward_chosen"] - metrics["train/reward_rejected"]
            )
        if not (math.isfinite(metrics["train/loss"]) and math.isfinite(norm)):
            raise TrainingError(
                f"loss {metrics['train/loss']} and gradient norm {norm} at step {step + 1} are not"
                " finite; lower training.learning_rate or set training.precision=fp32"
            )
        return metrics | {
            "step": step + 1,
            "train/lr": rate,
            "train/grad_norm": norm,
            "train/tokens_per_s": num_tokens / seconds,
        }

    def evaluate(self) -> Metrics:
        if not self.data.validation:
            return {}
        return evaluate(
            self.parallel,
            self.data.validation,
            pad_id=self.pad_id,
            max_padded_tokens=self.config.tokens_per_micro_batch,
            device=self.device,
        )

    def checkpoint(self, metrics: Metrics) -> None:
        folder = self.scratch / f"step-{self.progress.step}-worker-{rank()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        state = self.parallel.full_state()
        if self.progress.step < len(self.plan):
            self.parallel.save(folder)
        if rank() == 0:
            lora = self.config.lora
            lm: Any = self.parallel.policy.lm
            write_model(
                folder,
                state,
                source=self.task.source,
                tokenizer=self.tokenizer,
                dtype=self.trainee.dtype,
                lora=lora,
                peft_config=lm.peft_config["default"] if lora is not None else None,
            )
            (folder / STATE_FILE).write_text(json.dumps(asdict(self.progress)))
            mark_complete(folder, {"step": self.progress.step, **metrics})
        self.report(metrics, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _is_due(step: int, every: int | None, num_steps: int) -> bool:
    return step == num_steps or (every is not None and step % every == 0)


def run_training(
    task: TrainingTask,
    *,
    device: torch.device,
    scratch: Path,
    report: Report,
    resume_from: Path | None = None,
) -> LoopResult:
    """Trains on one worker of the current process group (or alone, without one).

    Args:
        task: what to train on what; the same on every worker.
        device: where this worker computes.
        scratch: a local folder for checkpoints until they are reported.
        report: called by every worker alike; its folder is deleted when it returns.
        resume_from: the folder of the last checkpoint, to go on from there.

    Raises:
        DataError: no rows to train on.
        ConfigError: the config wants a reference model that `task` does not name.
        RecipeChangedError: `resume_from` was written by another recipe.
        TrainingError: the loss is no longer finite, or the deadline has passed.
    """
    run = _Run(task, device, scratch, report)
    if resume_from is not None:
        run.resume(resume_from)
    config, num_steps = task.config, len(run.plan)
    checkpoint_every = config.checkpoint_every_steps or config.eval_every_steps
    for step in range(run.progress.step, num_steps):
        metrics = run.train_step(step)
        if _is_due(step + 1, config.eval_every_steps, num_steps):
            metrics |= run.evaluate()
        metrics["selection_score"] = selection_score(metrics, step + 1)
        run.progress.history.append(metrics)
        if _is_due(step + 1, checkpoint_every, num_steps):
            run.checkpoint(metrics)
    return LoopResult(
        steps=run.progress.step,
        num_examples=len(run.data.rows),
        num_tokens=run.progress.num_tokens,
        seconds=run.progress.seconds,
        dropped=run.data.dropped,
        history=run.progress.history,
        reference_s=run.reference_s,
    )
