"""The training loop one worker runs: plan, accumulate, step, evaluate, checkpoint, resume.

It knows nothing of Ray: reports go to a function it is handed, and a resumed run is handed the
folder of its last checkpoint. Everything random in a step follows from (seed, step, worker), so a
resumed run repeats the unbroken one.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from selfreward.config import OPERATIONAL, TrainingConfig
from selfreward.errors import DataError, RecipeChangedError, TrainingError
from selfreward.records import Preference, TrainingExample, content_id, derived_seed
from selfreward.training.batching import plan_batches, plan_step
from selfreward.training.checkpoint import mark_complete, write_model
from selfreward.training.collate import Batch, collate
from selfreward.training.data import read_records
from selfreward.training.encoding import EncodedRow, digest, encode_examples, encode_preferences
from selfreward.training.losses import dpo_terms, nll_sum, sequence_logps
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.optimizer import learning_rate
from selfreward.training.parallel import all_reduce_sum, rank, together, world_size
from selfreward.training.reference import reference_key, reference_logps
from selfreward.training.scoring import evaluate
from selfreward.training.setup import Trainee, build

Metrics = dict[str, float]
Report = Callable[[Metrics, Path | None], None]
"""Called by every worker alike with metrics and, at checkpoints, the folder to keep."""

STATE_FILE = "trainer_state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What every worker is told."""

    source: ModelSource
    data: tuple[str, ...]
    """Parquet URLs of `record` rows."""
    record: Literal["TrainingExample", "Preference"]
    config: TrainingConfig
    validation: tuple[str, ...] = ()
    """Parquet URLs of TrainingExample rows."""
    seed: int = 0
    reference_cache: str | None = None
    """Folder URL for reference log-probabilities; None computes them again on resume."""
    model_fingerprint: str = ""
    deadline: float | None = None
    """Unix time after which training stops with an error."""

    def recipe(self, data_digest: str) -> str:
        """A digest of what determines the result; where and how fast it runs is not part of it."""
        settings = {
            name: getattr(self.config, name)
            for name, info in TrainingConfig.model_fields.items()
            if info.json_schema_extra != OPERATIONAL
        }
        model = self.model_fingerprint or self.source.path
        return content_id("recipe", str(settings), data_digest, model, self.seed)


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run is; saved with each checkpoint."""

    step: int = 0
    num_tokens: int = 0
    """Tokens of the sequences trained on, prompts included, over all workers."""
    seconds: float = 0.0
    """Seconds spent in optimizer steps."""
    history: list[Metrics] = field(default_factory=list)
    recipe: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """What worker 0 returns."""

    steps: int
    num_examples: int
    num_tokens: int
    seconds: float
    dropped: dict[str, int]
    history: list[Metrics]

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds if self.seconds > 0 else 0.0


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
        rows, too_long = encode_examples(
            tokenizer, read_records(task.data, TrainingExample), limit
        )
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


class _Objective:
    """A loss and the sums its metrics are made of, for one micro-batch at a time."""

    def __init__(self, config: TrainingConfig, rows: Sequence[EncodedRow], reference: Tensor | None):
        self._config = config
        self._rows = rows
        self._reference = reference

    def names(self) -> tuple[str, ...]:
        if self._reference is None:
            return ("train/loss",)
        return (
            "train/loss",
            "train/preference_loss",
            "train/nll",
            "train/reward_chosen",
            "train/reward_rejected",
            "train/accuracy",
            "train/logps_chosen",
            "train/logps_rejected",
        )

    def count(self, indices: Sequence[int]) -> int:
        """What the loss of a whole step is divided by: target tokens (SFT) or pairs (DPO)."""
        if self._reference is None:
            return sum(self._rows[i].num_targets for i in indices)
        return len(indices)

    def __call__(self, logps_N: Tensor, batch: Batch, piece: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns the loss, summed, and the sums behind `names`."""
        if not piece:  # the empty micro-batch still runs backward, with gradients of zero
            return logps_N.sum() * 0.0, logps_N.new_zeros(len(self.names()))
        if self._reference is None:
            loss = nll_sum(logps_N)
            return loss, loss.detach()[None]
        logps_S = sequence_logps(logps_N, batch.sequence_N, batch.num_sequences)
        reference_PC = self._reference[list(piece)].to(logps_S.device)
        terms = dpo_terms(
            chosen_logps_P=logps_S[0::2],
            rejected_logps_P=logps_S[1::2],
            reference_chosen_logps_P=reference_PC[:, 0],
            reference_rejected_logps_P=reference_PC[:, 1],
            chosen_lengths_P=batch.lengths_S[0::2],
            beta=self._config.dpo_beta,
            nll_weight=self._config.nll_weight,
        )
        parts = (
            terms.loss_P.detach(),
            terms.preference_loss_P,
            terms.nll_P,
            terms.chosen_reward_P,
            terms.rejected_reward_P,
            (terms.chosen_reward_P > terms.rejected_reward_P).float(),
            logps_S[0::2].detach(),
            logps_S[1::2].detach(),
        )
        return terms.loss_P.sum(), torch.stack([p.sum() for p in parts])


def selection_score(metrics: Metrics, step: int) -> float:
    """The number whose largest value marks the best checkpoint: accuracy, then loss, then step.

    Without an evaluation it is far below that of any evaluated step, and grows with the step.
    """
    later = step * 1e-12
    if "eval/loss" not in metrics:
        return later - 1e6
    return metrics.get("eval/accuracy", 0.0) - 1e-6 * min(metrics["eval/loss"], 100.0) + later


class _Run:
    """One worker's state while it trains."""

    def __init__(self, task: TrainingTask, device: torch.device, scratch: Path, report: Report):
        self.task, self.config, self.device = task, task.config, device
        self.scratch, self.report = scratch, report
        self.tokenizer = together(lambda: load_tokenizer(task.source))
        pad_id = self.tokenizer.pad_token_id
        self.pad_id: int = self.tokenizer.eos_token_id if pad_id is None else pad_id
        self.data = together(lambda: _load_data(task, self.tokenizer))
        self.trainee: Trainee = build(task.source, task.config, seed=task.seed, device=device)
        self.parallel = self.trainee.parallel
        self.shares = self.parallel.policy.shares_prompt
        self.lengths = [r.padded_length(self.shares) for r in self.data.rows]
        self.plan = plan_batches(
            [r.pair_id for r in self.data.rows],
            batch_size=self.config.batch_size,
            epochs=self.config.epochs,
            seed=task.seed,
            max_steps=self.config.max_steps,
        )
        self.progress = Progress(recipe=task.recipe(digest(self.data.rows)))

    def prepare_objective(self) -> _Objective:
        reference = None
        if self.task.record == "Preference":
            key = reference_key(
                self.data.rows,
                model_fingerprint=self.task.model_fingerprint or self.task.source.path,
                max_length=self.config.max_length,
                precision=self.config.precision,
            )
            reference = reference_logps(
                self.parallel,
                self.data.rows,
                cache=self.task.reference_cache,
                key=key,
                pad_id=self.pad_id,
                max_padded_tokens=self.config.tokens_per_micro_batch,
                device=self.device,
            )
        return _Objective(self.config, self.data.rows, reference)

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

    def train_step(self, objective: _Objective, step: int) -> Metrics:
        started = time.perf_counter()
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
        if not all(map(torch.isfinite, torch.tensor([metrics["train/loss"], norm]))):
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
        RecipeChangedError: `resume_from` was written by another recipe.
        TrainingError: the loss is no longer finite, or the deadline has passed.
    """
    run = _Run(task, device, scratch, report)
    objective = run.prepare_objective()  # the reference is the model before any update
    if resume_from is not None:
        run.resume(resume_from)
    config, num_steps = task.config, len(run.plan)
    checkpoint_every = config.checkpoint_every_steps or config.eval_every_steps
    for step in range(run.progress.step, num_steps):
        metrics = run.train_step(objective, step)
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
    )
