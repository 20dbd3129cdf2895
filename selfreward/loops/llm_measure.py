"""Steps that measure the model of a stage: on text, on exercises, by rewards, and in a table."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from selfreward.config import SamplingConfig
from selfreward.config_custom_llm import CustomLlmConfig, TasksConfig, TextTrainingConfig
from selfreward.config_loading import identity
from selfreward.engines.client import EngineClient
from selfreward.errors import EngineTimeoutError, own_error_in
from selfreward.evaluation.stage_figures import Measured, Purpose, stage_figures
from selfreward.layout import join
from selfreward.loops.llm_data import Splits
from selfreward.loops.llm_model_tasks import measure_text
from selfreward.loops.llm_text import Corpus
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import TASK_TIMEOUT_S, Source, fill, on_cluster, output_of
from selfreward.loops.steps import Run
from selfreward.loops.turns import turn_end
from selfreward.reports.stages import StageFigures, change_line
from selfreward.stages.likelihood import Likelihood
from selfreward.stages.rewards import AnswerRankings, RewardAnswers, ScoreRankings
from selfreward.stages.runner import StageLogic
from selfreward.stages.tasks import AnswerTasks
from selfreward.storage import files
from selfreward.storage.shards import sealed_shards


@dataclass(slots=True, kw_only=True)
class Yardsticks:
    """What every model is measured on; parts that the run has no use for are None."""

    corpora: dict[str, Corpus] = field(default_factory=dict)
    tasks: Splits | None = None
    instructions: Splits | None = None
    rankings: Splits | None = None
    reward_model: PlacedModel | None = None
    reference: PlacedModel | None = None
    """The model that KL is measured to: the one preferences were first learnt from, or where none
    were, the one online training started from."""


def _text_section(config: CustomLlmConfig) -> TextTrainingConfig:
    """How text is read of all stages: as the first of them that trains on text does it."""
    if "continue" in config.stages and "pretrain" not in config.stages:
        return config.continued_pretraining
    return config.pretraining


class Measuring:
    """Measures models one after the other and keeps what was measured of each."""

    def __init__(self, run: Run, sticks: Yardsticks) -> None:
        self.run, self.sticks = run, sticks
        self._measured: dict[int, Measured] = {}
        self._compared: dict[int, tuple[int | None, Purpose | None]] = {}

    def text(self, number: int, name: str, model: PlacedModel) -> None:
        """Log-likelihoods of the validation documents, and the next tokens of the probe."""
        run, folder = self.run, self.run.layout.evaluation(number)
        url = join(folder, "text.json")
        self._measured[number] = Measured(stage=name)
        if not self.sticks.corpora:
            return
        self._measured[number] = Measured(stage=name, text=url)
        section = _text_section(run.config.custom_llm)
        training, length = section.training, section.sequence_length
        wanted = {
            "model": model.ref.fingerprint,
            "corpora": {n: c.validation.fingerprint for n, c in self.sticks.corpora.items()},
            "probe": run.config.custom_llm.probe,
            "length": length,
            "precision": training.precision,
        }
        if files.exists(url) and files.read_json(url)["of"] == wanted:
            return
        documents = {n: sealed_shards(c.validation.folder) for n, c in self.sticks.corpora.items()}
        task = ray.remote(num_cpus=run.config.ray.stage_task_cpus)(measure_text)
        if training.use_gpu:
            task = task.options(num_gpus=1)
        with run.display.waiting(f"measuring {name} on text"):
            found = task.remote(
                model, documents, length, run.config.custom_llm.probe, training.precision
            )
            try:
                told = ray.get(found, timeout=TASK_TIMEOUT_S)
            except ray.exceptions.GetTimeoutError:
                raise EngineTimeoutError("measuring text took longer than a day") from None
            except ray.exceptions.RayTaskError as error:
                raise own_error_in(error) or error from None
        files.write_json(url, {"of": wanted, **told})

    def answers(self, number: int, model: PlacedModel) -> None:
        """Answers to the held-out exercises and to the prompts of the held-out rankings."""
        config = self.run.config.custom_llm
        tasks = self._tasks(number, "tasks", self.sticks.tasks, config.finetuning, model)
        instructions = self._tasks(
            number, "instructions", self.sticks.instructions, config.instruction_tuning, model
        )
        self._measured[number] = replace(
            self._measured[number], tasks=tasks, instructions=instructions
        )

    def _tasks(
        self, number: int, what: str, splits: Splits | None, config: TasksConfig, model: PlacedModel
    ) -> str | None:
        if splits is None:
            return None
        logic = AnswerTasks(sampling=config.sampling, seed=self.run.config.loop.seed)
        recipe = {"sampling": identity(config.sampling)}
        return self._answered(number, what, logic, splits.heldout, model, recipe).folder

    def rewards(self, number: int, model: PlacedModel) -> None:
        """Rewards of its own answers; only where there is a reward model."""
        sticks, run = self.sticks, self.run
        scorer = sticks.reward_model
        if sticks.rankings is None or scorer is None:
            return
        sampling = run.config.custom_llm.instruction_tuning.sampling
        answers = self._answered(
            number,
            "own_answers",
            AnswerRankings(sampling=sampling, seed=run.config.loop.seed),
            sticks.rankings.heldout,
            model,
            {"sampling": identity(sampling)},
        )
        rewards = self._scored(number, "rewards", RewardAnswers(), answers, scorer)
        self._measured[number] = replace(self._measured[number], rewards=rewards.folder)

    def distance(self, number: int, model: PlacedModel, start: PlacedModel) -> None:
        """How likely answers drawn for it are to the model, to the reference and to the stage's own
        `start`: what KL is estimated from (`metrics.likelihoods.kl_report`).

        They are drawn from the whole distribution, at most about `evaluation.kl_prompts` of them;
        those cut at the limit are as good.
        """
        run, reference = self.run, self.sticks.reference
        wanted = run.config.evaluation.kl_prompts
        asked = self.sticks.rankings or self.sticks.instructions or self.sticks.tasks
        if reference is None or asked is None or not wanted:
            return
        sampling = SamplingConfig(
            temperature=1.0,
            top_p=1.0,
            max_tokens=run.config.custom_llm.instruction_tuning.sampling.max_tokens,
        )
        kind = AnswerTasks if self.sticks.rankings is None else AnswerRankings
        logic = kind(
            sampling=sampling,
            seed=run.config.loop.seed,
            # As many of each shard, at least `kl_prompts` together.
            max_rows=-(-wanted // len(sealed_shards(asked.heldout.folder))),
        )
        recipe = {"sampling": identity(sampling), "kl_prompts": wanted}
        answers = self._answered(number, "kl_answers", logic, asked.heldout, model, recipe)
        end = on_cluster(run, turn_end, model, run.config.model.trust_remote_code)
        scored = {
            what: self._answered(
                number, what, Likelihood(stored="tasks", end=end), answers, of, {"end": end}
            ).folder
            for what, of in (
                ("kl_own_likelihood", model),
                ("kl_reference_likelihood", reference),
                ("kl_start_likelihood", start),
            )
            if what != "kl_start_likelihood" or start.ref.fingerprint != reference.ref.fingerprint
        }
        own = scored["kl_own_likelihood"]
        to_start = scored.get("kl_start_likelihood")
        self._measured[number] = replace(
            self._measured[number],
            likelihoods=(own, scored["kl_reference_likelihood"]),
            start_likelihoods=None if to_start is None else (own, to_start),
        )

    def online(self, number: int) -> None:
        """Rewards of the evaluation prompts, as they were measured in training."""
        folder = self.run.layout.training(number)
        self._measured[number] = replace(self._measured[number], online=folder)

    def reward_model(self, number: int) -> None:
        """The reward model's scores of answers that people ranked and it was not trained on."""
        sticks = self.sticks
        if sticks.rankings is None or sticks.reward_model is None:
            return
        logic = ScoreRankings()
        scored = self._scored(number, "ranked", logic, sticks.rankings.heldout, sticks.reward_model)
        self._measured[number] = replace(self._measured[number], reward_model=scored.folder)

    def conclude(
        self, number: int, before: int | None = None, purpose: Purpose | None = None
    ) -> None:
        """Writes `stage.json` of a stage and says what it changed in what it is for.

        Again without a purpose, what was measured since is added.
        """
        run = self.run
        is_new = number not in self._compared
        if is_new:
            self._compared[number] = (before, purpose)
        before, purpose = self._compared[number]
        report: dict[str, Any] = on_cluster(
            run,
            stage_figures,
            self._measured[number],
            None if before is None else self._measured[before],
            purpose,
            run.config.evaluation,
            run.config.loop.seed,
        )
        files.write_json(join(run.layout.evaluation(number), "stage.json"), report)
        said = change_line(StageFigures.from_dict(report["figures"]))
        if is_new:
            for line in (*report["notes"], *([] if said is None else [said])):
                run.display.line(line)

    def _answered(
        self,
        number: int,
        what: str,
        logic: StageLogic[Any, Any],
        rows: Source,
        model: PlacedModel,
        recipe: dict[str, Any],
    ) -> Source:
        title = f"{what.replace('_', ' ')} of {self._measured[number].stage}"
        ask = lambda: self.run.pools.judge(model)  # noqa: E731
        return self._step(number, what, title, logic, rows, model, recipe, ask)

    def _scored(
        self,
        number: int,
        what: str,
        logic: StageLogic[Any, Any],
        rows: Source,
        scorer: PlacedModel,
    ) -> Source:
        title = f"reward model on {what} of {self._measured[number].stage}"
        ask = lambda: self.run.pools.scorer(scorer)  # noqa: E731
        return self._step(number, what, title, logic, rows, scorer, {}, ask)

    def _step(
        self,
        number: int,
        what: str,
        title: str,
        logic: StageLogic[Any, Any],
        rows: Source,
        model: PlacedModel,
        recipe: dict[str, Any],
        ask: Callable[[], EngineClient],
    ) -> Source:
        full = recipe | {
            "model": model.ref.fingerprint,
            "engine": identity(self.run.config.engine),
            "seed": self.run.config.loop.seed,
        }
        folder = join(self.run.layout.evaluation(number), what)
        return fill(self.run, title, logic, output_of(folder, rows, full), ask)
