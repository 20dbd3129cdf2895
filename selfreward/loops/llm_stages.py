"""The stages of one's own LLM: what each learns from, and how its model is trained."""

from dataclasses import dataclass

from selfreward.config_custom_llm import (
    STAGE_NUMBERS,
    Stage,
    TasksConfig,
    TextTrainingConfig,
)
from selfreward.config_training import TrainingConfig
from selfreward.engines.models import fetch_folder, model_fingerprint
from selfreward.layout import Layout
from selfreward.loops.llm_data import Splits, ranking_preferences, task_examples
from selfreward.loops.llm_measure import Yardsticks
from selfreward.loops.llm_online import train_by_reward
from selfreward.loops.llm_text import DOMAIN, GENERAL, pack
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.loops.training import Training, train_model
from selfreward.records import ModelRef
from selfreward.storage.manifest import read_manifest
from selfreward.storage.shards import sealed_shards

REWARD_PART = "reward_model_"
"""Prefix of the folders of the reward model, which is trained beside the policy."""


def trained_model(layout: Layout, number: int, part: str = "") -> PlacedModel:
    """The model a stage trained; `part` is the prefix of another one it trained beside it."""
    location = layout.stage(number, f"{part}checkpoint")
    local = location
    if "://" in location:
        manifest = read_manifest(layout.stage(number, f"{part}training"))
        # The time is part of the key: a training that is redone must not find the old copy.
        key = f"{manifest.fingerprint} {manifest.finished_at}" if manifest else ""
        local = fetch_folder(location, key=key)
    stage = next(stage for stage, of in STAGE_NUMBERS.items() if of == number)
    # Where the run lies is no part of the name: the same run elsewhere makes the same records.
    name = f"{part.removesuffix('_').replace('_', ' ') or 'model'} of stage {stage}"
    ref = ModelRef(name=name, iteration=number, fingerprint=model_fingerprint(local))
    return PlacedModel(ref=ref, location=location)


@dataclass(frozen=True, slots=True)
class StageTraining:
    """Trains the model of each stage from that of the stage before."""

    run: Run
    sticks: Yardsticks
    tokenizer: Source | None
    """Of the run's text; None where no stage reads text."""

    def train(self, stage: Stage, start: PlacedModel) -> None:
        """Trains a stage from `start`; what is complete is not repeated.

        Raises:
            TrainingError: it failed after its retries, or ran out of time.
        """
        section = self.run.config.custom_llm
        if stage == "pretrain":
            self._on_text(stage, start, GENERAL, section.pretraining)
        elif stage == "continue":
            self._on_text(
                stage,
                start,
                DOMAIN,
                section.continued_pretraining,
                replay_share=section.continued_pretraining.replay_share,
            )
        elif stage == "finetune":
            self._on_tasks(stage, start, self.sticks.tasks, section.finetuning)
        elif stage == "instruct":
            self._on_tasks(stage, start, self.sticks.instructions, section.instruction_tuning)
        elif stage == "prefer":
            self._on_rankings(start)
        else:
            train_by_reward(
                self.run,
                STAGE_NUMBERS[stage],
                start,
                rankings=self.sticks.rankings,
                instructions=self.sticks.instructions,
                reward_model=self.sticks.reward_model,
            )

    def _on_text(
        self,
        stage: Stage,
        start: PlacedModel,
        corpus: str,
        section: TextTrainingConfig,
        replay_share: float = 0.0,
    ) -> None:
        rows = self._pack(stage, corpus, "train", "tokens", section.sequence_length)
        validation = self._pack(stage, corpus, "validation", "held_tokens", section.sequence_length)
        replay = None
        if replay_share > 0:
            replay = self._pack(stage, GENERAL, "train", "replay_tokens", section.sequence_length)
        self._train(
            stage,
            start,
            section.training,
            rows,
            validation,
            replay=replay,
            replay_share=replay_share,
            token_budget=section.token_budget,
        )

    def _pack(self, stage: Stage, corpus: str, split: str, what: str, length: int) -> Source:
        assert self.tokenizer is not None
        text = self.sticks.corpora[corpus]
        source = text.train if split == "train" else text.validation
        folder = self.run.layout.stage(STAGE_NUMBERS[stage], what)
        return pack(self.run, f"{corpus} text, {split}", source, folder, self.tokenizer, length)

    def _on_tasks(
        self, stage: Stage, start: PlacedModel, tasks: Splits | None, section: TasksConfig
    ) -> None:
        assert tasks is not None
        examples = task_examples(self.run, STAGE_NUMBERS[stage], tasks.train)
        self._train(stage, start, section.training, examples)

    def _on_rankings(self, start: PlacedModel) -> None:
        """The reward model first, unless there is one: the answers of both models are then measured
        by it."""
        run, rankings = self.run, self.sticks.rankings
        assert rankings is not None
        number = STAGE_NUMBERS["prefer"]
        rows = ranking_preferences(run, run.layout.preferences(number), rankings.train)
        if run.config.custom_llm.reward_model.path is None:
            heldout = ranking_preferences(
                run, run.layout.stage(number, "heldout_preferences"), rankings.heldout
            )
            self._train(
                "prefer",
                start,
                run.config.custom_llm.reward_model.training,
                rows,
                heldout,
                part=REWARD_PART,
            )
        self._train("prefer", start, run.config.custom_llm.rankings.training, rows)

    def _train(
        self,
        stage: Stage,
        start: PlacedModel,
        config: TrainingConfig,
        rows: Source,
        validation: Source | None = None,
        *,
        part: str = "",
        replay: Source | None = None,
        replay_share: float = 0.0,
        token_budget: int | None = None,
    ) -> None:
        number, layout = STAGE_NUMBERS[stage], self.run.layout
        wanted = Training(
            model="the reward model" if part else f"stage {number} {stage}",
            name=f"{part.replace('_', '-')}iteration-{number:02d}",
            config=config,
            rows=(rows,),
            folder=layout.stage(number, f"{part}training"),
            output=layout.stage(number, f"{part}checkpoint"),
            seed=self.run.config.loop.seed + number,
            validation=() if validation is None else tuple(sealed_shards(validation.folder)),
            # They are the held-out documents and rankings of the table.
            choose="last",
            replay=replay,
            replay_share=replay_share,
            token_budget=token_budget,
        )
        train_model(self.run, start, wanted)
