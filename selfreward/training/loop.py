"""The training loop one worker runs: plan, accumulate, step, evaluate, checkpoint, resume.

It knows nothing of Ray: reports go to a function it is handed, and a resumed run is handed the
folder of its last checkpoint. Everything random in a step follows from (seed, step, worker), so a
resumed run repeats the unbroken one.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from selfreward.errors import RecipeChangedError, TrainingError
from selfreward.records import derived_seed
from selfreward.training.checkpoint import mark_complete, write_model
from selfreward.training.examples import Examples
from selfreward.training.loaded import read_tokenizer
from selfreward.training.material import Material, Setting, Share
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.optimizer import learning_rate
from selfreward.training.packed_text import PackedText
from selfreward.training.parallel import all_reduce_sum, rank, together
from selfreward.training.preferences import Preferences
from selfreward.training.ranked import RankedPairs
from selfreward.training.setup import Trainee, build
from selfreward.training.task import LoopResult, Metrics, Progress, TrainingTask, selection_score
from selfreward.training.telling import Say, Telling
from selfreward.training.text_stream import Reader, read_plainly

Report = Callable[[Metrics, Path | None], None]
"""Called by every worker alike with metrics and, at checkpoints, the folder to keep."""

STATE_FILE = "trainer_state.json"

MATERIALS: dict[str, Callable[[Setting], Material]] = {
    "sft": Examples,
    "dpo": Preferences,
    "reward_model": RankedPairs,
    "text": PackedText,
}
"""What is trained on, by `training.objective`."""


def _load_tokenizer(task: TrainingTask) -> Any:
    """Text has no turns, so a base model's tokenizer needs no chat template."""
    load = read_tokenizer if task.config.objective == "text" else load_tokenizer
    return load(task.source)


class _Run:
    """One worker's state while it trains."""

    def __init__(
        self,
        task: TrainingTask,
        device: torch.device,
        scratch: Path,
        report: Report,
        read: Reader,
    ):
        self.task, self.config, self.device = task, task.config, device
        self.scratch, self.report = scratch, report
        self.tokenizer = together(lambda: _load_tokenizer(task))
        setting = Setting(task=task, tokenizer=self.tokenizer, device=device, read=read)
        make = MATERIALS[self.config.objective]
        self.material: Material = together(lambda: make(setting))
        self.num_steps = self.material.num_steps
        self.progress = Progress(recipe=task.recipe(self.material.digest))
        self.material.prepare(lambda source: self._build(source).parallel)
        self.trainee = self._build(task.source)
        self.parallel = self.trainee.parallel
        self.material.attach(self.parallel)

    def _build(self, source: ModelSource) -> Trainee:
        """Loads a model as the trained one is: LoRA's fresh adapters change no output, and weights
        they leave frozen take no more memory in the reference than in training."""
        return build(
            source,
            self.config,
            seed=self.task.seed,
            device=self.device,
            kind=self.material.kind,
        )

    def resume(self, folder: Path) -> None:
        saved = Progress(**json.loads((folder / STATE_FILE).read_text()))
        if saved.recipe != self.progress.recipe:
            raise RecipeChangedError(
                "the training state to go on from was made by another recipe (model, data, seed or"
                " training settings); remove it to start anew"
            )
        self.progress = saved
        if self.progress.step < self.num_steps:  # the last checkpoint holds nothing to go on with
            self.parallel.load(folder)

    def train_step(self, step: int, shares: Iterator[Share]) -> Metrics:
        started = time.perf_counter()
        share = next(shares)
        torch.manual_seed(derived_seed("step", self.task.seed, step, rank()))
        self.parallel.policy.train()
        names = self.material.names()
        sums = torch.zeros(len(names), device=self.device)
        for batch, piece in share.pieces:
            batch = batch.to(self.device)
            loss, parts = self.material.loss(self.parallel.policy(batch), batch, piece)
            (loss / share.count).backward()
            sums += parts
        rate = learning_rate(self.config, step, self.num_steps)
        norm = self.parallel.finish_gradients(self.config.max_grad_norm)
        self.parallel.step(rate)
        late = float(self.task.deadline is not None and time.time() > self.task.deadline)
        *totals, num_late = all_reduce_sum(torch.cat([sums, sums.new_tensor([late])])).tolist()
        if num_late > 0:  # clocks differ, so workers agree on it before they stop
            raise TrainingError(
                f"training ran out of time at step {step + 1} of {self.num_steps}; raise"
                " training.timeout_s and run again to go on from the last checkpoint"
            )
        seconds = time.perf_counter() - started
        self.progress.step = step + 1
        self.progress.num_tokens += share.num_tokens
        self.progress.seconds += seconds
        means = {name: total / share.count for name, total in zip(names, totals, strict=True)}
        if not (math.isfinite(means["train/loss"]) and math.isfinite(norm)):
            raise TrainingError(
                f"loss {means['train/loss']} and gradient norm {norm} at step {step + 1} are not"
                " finite; lower training.learning_rate or set training.precision=fp32"
            )
        return self.material.metrics(means) | {
            "step": step + 1,
            "train/lr": rate,
            "train/grad_norm": norm,
            "train/tokens_per_s": share.num_tokens / seconds,
        }

    def checkpoint(self, metrics: Metrics) -> None:
        folder = self.scratch / f"step-{self.progress.step}-worker-{rank()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        state = self.parallel.full_state()
        together(lambda: self._write(folder, state, metrics))
        together(lambda: self.report(metrics, folder))
        shutil.rmtree(folder, ignore_errors=True)

    def _write(self, folder: Path, state: dict[str, torch.Tensor], metrics: Metrics) -> None:
        if self.progress.step < self.num_steps:
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
                kind=self.material.kind,
            )
            (folder / STATE_FILE).write_text(json.dumps(asdict(self.progress)))
            mark_complete(folder, {"step": self.progress.step, **metrics})


def is_due(step: int, every: int | None, num_steps: int) -> bool:
    """Whether something is done after `step` steps: every so many of them, and at the end."""
    return step == num_steps or (every is not None and step % every == 0)


def run_training(
    task: TrainingTask,
    *,
    device: torch.device,
    scratch: Path,
    report: Report,
    resume_from: Path | None = None,
    read: Reader = read_plainly,
    say: Say | None = None,
) -> LoopResult:
    """Trains on one worker of the current process group (or alone, without one).

    Args:
        task: what to train on what; the same on every worker.
        device: where this worker computes.
        scratch: a local folder for checkpoints until they are reported.
        report: called by every worker alike; its folder is deleted when it returns.
        resume_from: the folder of the last checkpoint, to go on from there.
        read: how packed text is read ahead of the steps.
        say: is told every few seconds, on worker 0, how far training is.

    Raises:
        DataError: nothing to train on.
        ConfigError: the config wants a reference model, or the task text to replay, that `task`
            does not name.
        RecipeChangedError: `resume_from` was written by another recipe.
        TrainingError: the loss is no longer finite, or the deadline has passed.
    """
    run = _Run(task, device, scratch, report, read)
    if resume_from is not None:
        run.resume(resume_from)
    config, num_steps, start = task.config, run.num_steps, run.progress.step
    checkpoint_every = config.checkpoint_every_steps or config.eval_every_steps
    telling = Telling(say, num_steps, start)
    with closing(run.material.steps(start)) as shares:
        for step in range(start, num_steps):
            metrics = run.train_step(step, shares)
            if is_due(step + 1, config.eval_every_steps, num_steps):
                metrics |= run.material.evaluate()
            metrics["selection_score"] = selection_score(metrics, step + 1, task.choose)
            run.progress.history.append(metrics)
            telling.step(step + 1, metrics)
            if is_due(step + 1, checkpoint_every, num_steps):
                run.checkpoint(metrics)
    return LoopResult(
        steps=run.progress.step,
        num_examples=run.material.num_rows,
        num_tokens=run.progress.num_tokens,
        seconds=run.progress.seconds,
        dropped=run.material.dropped,
        history=run.progress.history,
        reference_s=run.material.reference_s,
    )
