"""The stages of one's own LLM, from raw text to rewards, as a list of steps.

    text -> clean corpora -> tokenizer -> random model                         once
    1 pretrain    general text                      2 continue   domain text, general replayed
    3 finetune    exercises of tasks                4 instruct   constraints, many prompt forms
    5 prefer      people's rankings: a reward model, and DPO
    6 reinforce   its own answers, by policy gradient on a reward
    after each stage: measure the model, and move `current.json` to it

Every step writes a folder with a manifest and is skipped when it is complete, so this function
run again after any interruption goes on where the last attempt stopped.
"""

from typing import Any

from selfreward.config import ModelConfig, RunConfig
from selfreward.config_custom_llm import STAGE_NUMBERS, Stage, TasksConfig
from selfreward.evaluation.stage_figures import Purpose
from selfreward.layout import Layout, absolute_path
from selfreward.loops.llm_checks import check_start
from selfreward.loops.llm_data import read_rankings, read_tasks
from selfreward.loops.llm_measure import Measuring, Yardsticks
from selfreward.loops.llm_stages import REWARD_PART, StageTraining, trained_model
from selfreward.loops.llm_text import build_corpora, initial_model, prepare_tokenizer
from selfreward.loops.pools import PlacedModel
from selfreward.loops.record import check_record, check_seed, recorded
from selfreward.loops.reward_judge import check_reward_tokens
from selfreward.loops.session import open_cluster, place
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.preflight import phases
from selfreward.reports.progress import Display
from selfreward.storage.checkpoints import CurrentJudge, read_current, write_current

_TEXT: tuple[Stage, ...] = ("pretrain", "continue")
_PURPOSES: dict[Stage, Purpose] = {
    "pretrain": "general",
    "continue": "domain",
    "finetune": "tasks",
    "instruct": "instructions",
    "prefer": "rewards",
    "reinforce": "rewards",
}


def run_custom_llm(
    config: RunConfig, force: str | None = None, display: Display | None = None
) -> Layout:
    """Runs the stages of `custom_llm.stages` and returns where they lie; see the module's
    docstring.

    Raises:
        UserError: something the user can mend, in one line.
        SelfRewardError: the engines or the training failed for good.
    """
    layout = Layout(absolute_path(config.run_dir))
    check_record(layout, config, force)
    starts_new = "pretrain" in config.custom_llm.stages
    start = None if starts_new else place(config.model)
    if start is not None:
        check_start(config, start)
    path = config.custom_llm.reward_model.path
    reward_model = None if path is None else place(ModelConfig(name=path))
    facts: dict[str, Any] = {
        "stages": list(_in_order(config)),
        "iterations": max(STAGE_NUMBERS[stage] for stage in config.custom_llm.stages),
        "seed_model": "random weights",
        "seed_fingerprint": None,
    }
    if start is not None:
        check_seed(layout, start.ref, force)
        facts |= {"seed_model": start.ref.name, "seed_fingerprint": start.ref.fingerprint}
    with (
        open_cluster(config, layout, display or Display(), lambda: phases(config)) as run,
        recorded(run, facts, force),
    ):
        _Stages(run, start, reward_model).run_all()
    return layout


def _in_order(config: RunConfig) -> tuple[Stage, ...]:
    return tuple(stage for stage in STAGE_NUMBERS if stage in config.custom_llm.stages)


class _Stages:
    """The stages while they run: the model so far, and what it is measured on."""

    def __init__(
        self, run: Run, start: PlacedModel | None, reward_model: PlacedModel | None
    ) -> None:
        self.run, self.stages = run, _in_order(run.config)
        if "reinforce" in self.stages:
            check_reward_tokens(run)
        self.sticks = self._yardsticks(start)
        self.sticks.reward_model = reward_model
        self.measuring = Measuring(run, self.sticks)
        tokenizer: Source | None = None
        if self.sticks.corpora:
            tokenizer = prepare_tokenizer(run, self.sticks.corpora, start)
        self.training = StageTraining(run, self.sticks, tokenizer)
        if start is None:
            assert tokenizer is not None
            start = initial_model(run, tokenizer)
            self.is_random = True
        else:
            self.is_random = False
        self.model, self.number = start, 0

    def _yardsticks(self, start: PlacedModel | None) -> Yardsticks:
        """Reads what the stages learn from and are measured on, and nothing else."""
        run, section = self.run, self.run.config.custom_llm
        sticks = Yardsticks()
        if start is None or any(stage in _TEXT for stage in self.stages):
            sticks.corpora = build_corpora(run)
        asks = "reinforce" in self.stages and not section.online.prompts
        exercises: dict[str, TasksConfig] = {}
        if "finetune" in self.stages:
            exercises["finetuning"] = section.finetuning
        if "instruct" in self.stages or (asks and section.online.reward == "checks"):
            exercises["instruction_tuning"] = section.instruction_tuning
        splits = read_tasks(run, exercises)
        sticks.tasks = splits.get("finetuning")
        sticks.instructions = splits.get("instruction_tuning")
        if "prefer" in self.stages or (asks and section.online.reward in ("judge", "reward_model")):
            sticks.rankings = read_rankings(run)
        return sticks

    def run_all(self) -> None:
        self.measuring.text(0, "start", self.model)
        if not self.is_random:
            self.measuring.answers(0, self.model)
            self.measuring.rewards(0, self.model)
        self.measuring.conclude(0, None, None)
        for stage in self.stages:
            self._run(stage)

    def _run(self, stage: Stage) -> None:
        number, measuring, sticks = STAGE_NUMBERS[stage], self.measuring, self.sticks
        before, start = self.number, self.model
        self.training.train(stage, start)
        self.model, self.number = trained_model(self.run.layout, number), number
        if stage == "prefer":
            if self.run.config.custom_llm.reward_model.path is None:
                sticks.reward_model = trained_model(self.run.layout, number, REWARD_PART)
            sticks.reference = start
            # The model before could not be rewarded when it was measured.
            measuring.rewards(before, start)
        measuring.text(number, f"{number} {stage}", self.model)
        measuring.answers(number, self.model)
        measuring.rewards(number, self.model)
        if stage == "reinforce":
            sticks.reference = sticks.reference or start
            measuring.online(number)
        measuring.distance(number, self.model, start)
        if stage == "prefer":
            measuring.reward_model(number)
            measuring.conclude(before)
        measuring.conclude(number, before, self._purpose(stage))
        self._point(stage)

    def _purpose(self, stage: Stage) -> Purpose:
        by_model = self.run.config.custom_llm.online.reward == "reward_model"
        if stage == "reinforce" and (not by_model or self.sticks.rankings is None):
            return "online"
        return _PURPOSES[stage]

    def _point(self, stage: Stage) -> None:
        """The last stage's model is the run's: what `serve`, `predict` and `chat` take."""
        layout, model = self.run.layout, self.model
        pointed = read_current(layout)
        if pointed is not None and pointed.iteration > model.ref.iteration:
            return
        write_current(
            layout,
            CurrentJudge(
                iteration=model.ref.iteration,
                checkpoint=model.location,
                fingerprint=model.ref.fingerprint,
                accuracy=None,
                reason=f"stage {stage}",
            ),
        )
