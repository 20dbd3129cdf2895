"""The loop one worker of online training runs: sample, reward, update, hand over the weights.

        prompts of the step ──▶ rollouts ──▶ rewards ──▶ advantages ──▶ updates_per_step updates
              ▲                                                              │
              └──── the engines hold the new weights ◀── worker 0 writes ◀───┘

Every worker samples and rewards its own prompts, whose groups are whole, and all make the updates
together. Nothing here knows Ray or an engine: rollouts come from a `Rollouts`, rewards from a
`Scorer`, reports go to a function. Everything random follows from (seed, step, prompt), so with
rollouts that repeat a resumed run repeats the unbroken one.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from selfreward.errors import RecipeChangedError, TrainingError
from selfreward.records import derived_seed
from selfreward.training.loop import STATE_FILE, Report, is_due
from selfreward.training.model import load_tokenizer
from selfreward.training.online.lesson import make_lesson
from selfreward.training.online.plan import plan_steps, share_of
from selfreward.training.online.reference import Reference
from selfreward.training.online.rollouts import Rollout, RolloutPrompt, Rollouts, Weights
from selfreward.training.online.scorers import Scorer, rewarded
from selfreward.training.online.step_metrics import rollout_metrics
from selfreward.training.online.task import Evaluation, OnlineProgress, OnlineTask
from selfreward.training.online.update import Learner, Sample
from selfreward.training.online.weights import bring_back, keep_last_two, write_weights
from selfreward.training.parallel import all_reduce_sum, rank, together, world_size
from selfreward.training.setup import build
from selfreward.training.task import Metrics
from selfreward.training.telling import Say, Telling

T = TypeVar("T")


def _on_worker_0(work: Callable[[], T]) -> T:
    """Runs `work` on worker 0 and returns its result, or raises its error, on every worker."""
    result = [together(lambda: work() if rank() == 0 else None)]
    if world_size() > 1:
        dist.broadcast_object_list(result, src=0)
    return result[0]  # type: ignore[return-value]


class _Clock:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        last, self._last = self._last, time.perf_counter()
        return self._last - last


class _Run:
    """One worker's state while it trains."""

    def __init__(
        self,
        task: OnlineTask,
        rollouts: Rollouts,
        scorer: Scorer,
        device: torch.device,
        scratch: Path,
        report: Report,
    ) -> None:
        self.task, self.config, self.training = task, task.config, task.config.training
        self.rollouts, self.scorer, self.device = rollouts, scorer, device
        self.scratch, self.report = scratch, report
        self.plan = plan_steps(
            task.prompts,
            num_steps=self.config.steps,
            prompts_per_step=self.config.prompts_per_step,
            seed=derived_seed("online plan", task.seed),
        )
        scorer.check(task.prompts)
        scorer.check(task.eval_prompts)
        self.tokenizer = together(lambda: load_tokenizer(task.source))
        pad_id = self.tokenizer.pad_token_id
        self.trainee = build(task.source, self.training, seed=task.seed, device=device)
        self.parallel = self.trainee.parallel
        self.learner = Learner(
            self.parallel,
            Reference(task.source, self.training, self.parallel, seed=task.seed, device=device),
            self.config,
            pad_id=self.tokenizer.eos_token_id if pad_id is None else pad_id,
            device=device,
        )
        self.progress = OnlineProgress(recipe=task.recipe(), fingerprint=task.start.fingerprint)

    def begin(self, resume_from: Path | None) -> None:
        """Makes the engines hold the weights that training stands at, whatever they held before."""
        weights = self.task.start
        if resume_from is not None:
            saved = OnlineProgress.read(json.loads((resume_from / STATE_FILE).read_text()))
            if saved.recipe != self.progress.recipe:
                raise RecipeChangedError(
                    "the training state to go on from was made by another recipe (model, prompts,"
                    " seed or settings of online training); remove it to start anew"
                )
            self.progress = saved
            if saved.step == len(self.plan):  # the last checkpoint holds nothing to go on with
                return
            self.parallel.load(resume_from)
            root, step, fingerprint = self.task.weights_root, saved.step, saved.fingerprint
            weights = _on_worker_0(lambda: bring_back(resume_from, root, step, fingerprint))
        self._announce(weights)
        if not self.progress.evaluations:
            self.evaluate(0)

    def _announce(self, weights: Weights) -> None:
        _on_worker_0(lambda: self.rollouts.publish(weights))
        if rank() != 0:
            self.rollouts.expect(weights)
        if rank() == 0 and weights.step > 0:
            keep_last_two(self.task.weights_root, weights.step)

    def _mine(
        self, prompts: Sequence[RolloutPrompt], indices: Sequence[int]
    ) -> list[RolloutPrompt]:
        share = share_of(prompts, indices, rank=rank(), num_workers=world_size())
        return [prompts[i] for i in share]

    def _rewarded(
        self, prompts: Sequence[RolloutPrompt], rollouts: Sequence[Rollout]
    ) -> list[Rollout]:
        limit_s = self.config.rollout_timeout_s
        return together(lambda: rewarded(self.scorer, prompts, rollouts, limit_s))

    def evaluate(self, step: int) -> Metrics:
        """Rewards the greedy answers to the evaluation prompts, on every worker its share."""
        everything = self.task.eval_prompts
        if not everything:
            return {}
        mine = self._mine(everything, range(len(everything)))
        answers = self._rewarded(mine, together(lambda: self.rollouts.greedy(mine)))
        found = [(a.prompt_id, a.reward, a.num_tokens) for a in answers]
        parts = [found] * world_size()
        if world_size() > 1:
            dist.all_gather_object(parts, found)
        rewards = {name: reward for part in parts for name, reward, _ in part}
        evaluation = Evaluation(
            step=step,
            rewards={prompt.id: rewards[prompt.id] for prompt in everything},
            num_tokens=sum(num_tokens for part in parts for _, _, num_tokens in part),
        )
        self.progress.evaluations.append(evaluation)
        return evaluation.metrics()

    def train_step(self, step: int) -> Metrics:
        clock = _Clock()
        mine = self._mine(self.task.prompts, self.plan[step])
        rollouts = together(lambda: self.rollouts.sample(mine, step + 1))
        times = {"time/rollouts_s": clock.lap()}
        rollouts = self._rewarded(mine, rollouts)
        times["time/rewards_s"] = clock.lap()
        lesson = make_lesson(self.tokenizer, mine, rollouts, self.config)
        samples = lesson.samples
        metrics = rollout_metrics(lesson.rollouts, lesson.advantages, self.device)
        num_learnt, num_tokens = self._totals(samples)
        if step == 0 and not num_learnt:
            raise TrainingError(
                "no rollout of the first step can be learnt from:"
                f" {metrics['rollout/truncated']:.0%} are truncated and"
                f" {metrics['rollout/failed']:.0%} failed; raise online.sampling.max_tokens or set"
                " online.truncated=keep, and see that prompts fit the engines' context"
            )
        torch.manual_seed(derived_seed("step", self.task.seed, step, rank()))
        updates = self.config.updates_per_step
        metrics |= self.learner.update(samples, step * updates, len(self.plan) * updates)
        times["time/update_s"] = clock.lap()
        self._hand_over(step + 1)
        times["time/swap_s"] = clock.lap()
        self._check_deadline(step)
        progress = self.progress
        progress.num_rollouts += int(metrics["rollout/count"])
        progress.num_tokens += num_tokens
        progress.seconds += sum(times.values())
        num_written = metrics["rollout/count"] * metrics["rollout/length"]
        return (
            metrics
            | times
            | {
                "step": step + 1,
                "train/rollouts": num_learnt,
                "train/tokens_per_s": num_tokens / times["time/update_s"],
                "rollout/tokens_per_s": num_written / times["time/rollouts_s"],
            }
        )

    def _totals(self, samples: Sequence[Sample]) -> tuple[int, int]:
        """Rollouts to learn from and their tokens, prompts included, over all workers."""
        local = [len(samples), sum(s.row.num_sequence_tokens for s in samples)]
        sums = all_reduce_sum(torch.tensor(local, dtype=torch.float64, device=self.device))
        return int(sums[0]), int(sums[1])

    @property
    def folder(self) -> Path:
        """This worker's own, for the weights as they are now."""
        return self.scratch / f"step-{self.progress.step}-worker-{rank()}"

    def _hand_over(self, step: int) -> None:
        """Gives the engines the weights as they are now."""
        self.progress.step = step
        folder, state = self.folder, self.parallel.full_state()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        weights = _on_worker_0(
            lambda: write_weights(
                folder,
                state,
                self.trainee,
                source=self.task.source,
                tokenizer=self.tokenizer,
                lora=self.training.lora,
                root=self.task.weights_root,
                step=step,
            )
        )
        self.progress.fingerprint = weights.fingerprint
        self._announce(weights)

    def _check_deadline(self, step: int) -> None:
        late = float((deadline := self.task.deadline) is not None and time.time() > deadline)
        # Clocks differ, so workers agree on it before they stop.
        if float(all_reduce_sum(torch.tensor([late], device=self.device))) > 0:
            raise TrainingError(
                f"online training ran out of time at step {step + 1} of {len(self.plan)}; raise"
                " online.training.timeout_s and run again to go on from the last checkpoint"
            )

    def checkpoint(self, metrics: Metrics) -> None:
        """Adds to the folder of the weights what a resumed run needs, and reports it."""
        folder = self.folder
        together(lambda: self._save(folder))
        together(lambda: self.report(metrics, folder))
        shutil.rmtree(folder, ignore_errors=True)

    def _save(self, folder: Path) -> None:
        if self.progress.step < len(self.plan):
            self.parallel.save(folder)
        if rank() == 0:
            (folder / STATE_FILE).write_text(json.dumps(asdict(self.progress)))


def run_online(
    task: OnlineTask,
    *,
    rollouts: Rollouts,
    scorer: Scorer,
    device: torch.device,
    scratch: Path,
    report: Report,
    resume_from: Path | None = None,
    say: Say | None = None,
) -> OnlineProgress:
    """Trains on one worker of the current process group (or alone, without one).

    Args:
        task: the same on every worker.
        rollouts: this worker's source of rollouts.
        scorer: what rewards them.
        device: where this worker computes.
        scratch: a local folder for weights and checkpoints until they are handed on.
        report: called by every worker alike; its folder is deleted when it returns.
        resume_from: the folder of the last checkpoint, to go on from there.
        say: is told every few seconds, on worker 0, how far training is.

    Raises:
        DataError: no prompts, or prompts without what the reward needs.
        EngineError: an engine did not answer, or not in time.
        RecipeChangedError: `resume_from` was written by another recipe.
        TrainingError: the loss is no longer finite, the deadline has passed, or nothing of the
            first step can be learnt from.
    """
    run = _Run(task, rollouts, scorer, device, scratch, report)
    run.begin(resume_from)
    config, num_steps = task.config, len(run.plan)
    checkpoint_every = config.training.checkpoint_every_steps or config.eval_every
    telling = Telling(say, num_steps, run.progress.step)
    for step in range(run.progress.step, num_steps):
        metrics = run.train_step(step)
        if is_due(step + 1, config.eval_every, num_steps):
            metrics |= run.evaluate(step + 1)
        run.progress.history.append(metrics)
        telling.step(step + 1, metrics)
        if is_due(step + 1, checkpoint_every, num_steps):
            run.checkpoint(metrics)
        else:
            shutil.rmtree(run.folder, ignore_errors=True)
    return run.progress
