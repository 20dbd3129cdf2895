"""One self-rewarding round M_t-1 -> M_t: candidates, scores, preferences, DPO
(arXiv 2401.10020, sections 2.2 and 2.3)."""

from dataclasses import dataclass
from typing import Any

from selfreward.config_loading import identity
from selfreward.errors import NothingToLearnError
from selfreward.judging.consistency import label_confidence
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.rubric_files import rubric_recipe
from selfreward.layout import join
from selfreward.loops.create import Instructions
from selfreward.loops.nothing_left import why_nothing_is_left
from selfreward.loops.pools import PlacedModel
from selfreward.loops.round_figures import check_round
from selfreward.loops.seeds import seed_examples
from selfreward.loops.session import run_model
from selfreward.loops.sources import Source, fill, on_cluster
from selfreward.loops.steps import Output, Run, shards_of
from selfreward.loops.training import Training, train_model
from selfreward.loops.turns import turn_end
from selfreward.records import Preference, TrainingExample
from selfreward.stages.likelihood import Likelihood
from selfreward.stages.meta import MetaJudge, MetaPairs, MetaPrefer, weights_of
from selfreward.stages.prefer import Prefer, shard_consistencies
from selfreward.stages.rate import Rate
from selfreward.stages.sample import Sample
from selfreward.storage.manifest import read_manifest
from selfreward.storage.shards import LOST_DRAWS, sealed_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The weights a round may ask.

    Example: `Models(first=PlacedModel(…), before=PlacedModel(…), now=PlacedModel(…))`
    """

    first: PlacedModel
    """M_0."""
    before: PlacedModel
    """M_t-2."""
    now: PlacedModel
    """M_t-1, which answers and scores itself."""


class Round:
    """The steps of one round, each with its own folder and manifest."""

    def __init__(self, run: Run, iteration: int, models: Models, rubric: PointwiseRubric) -> None:
        self.run, self.iteration, self.models, self.rubric = run, iteration, models, rubric
        self.config = run.config

    def learn(self, instructions: Instructions) -> PlacedModel:
        """Makes preferences of the instructions and trains M_t on them.

        Raises:
            NothingToLearnError: none was left, or the round's figures tell a collapse.
        """
        responses = self.sample(instructions, self.models.now, "responses")
        ratings = self.rate(responses, "ratings")
        rows = [self._prefer(instructions, responses, ratings)]
        meta = self.config.meta_judge
        last = meta.last_iteration
        does_meta = meta.enabled and (last is None or self.iteration <= last)
        # Without a row what is told is why there is none.
        if rows[0].num_records or does_meta:
            check_round(self.run, self.iteration, self.rubric.scale)
        if does_meta:
            rows += self._meta(responses, ratings)
        return self._train([source for source in rows if source.num_records])

    def sample(self, instructions: Instructions, model: PlacedModel, stage: str) -> Source:
        """N responses of `model` to each instruction."""
        section = self.config.candidates
        logic = Sample(
            num_responses=section.num_candidates,
            sampling=section.sampling,
            keep_truncated=section.keep_truncated,
            stored=instructions.stored,
            seed=self.config.loop.seed + self.iteration,
        )
        recipe = {
            "candidates": identity(section),
            "model": model.ref.fingerprint,
            "engine": identity(self.config.engine),
            "input": instructions.fingerprint,
            "seed": self.config.loop.seed,
        }
        inputs = [(url,) for url in instructions.shards]
        title = f"{section.num_candidates} responses by M{model.ref.iteration}"
        made = self._step(title, logic, stage, inputs, recipe, instructions.num_rows, model)
        manifest = read_manifest(made.folder)
        lost = {} if manifest is None else manifest.ledger.get(LOST_DRAWS, {})
        if lost:
            told = ", ".join(f"{reason} {n}" for reason, n in sorted(lost.items()))
            self.run.display.line(f"iteration {self.iteration}: {title}, draws lost: {told}")
        return made

    def rate(self, responses: Source, stage: str) -> Source:
        """K readings of each response by the current model."""
        section = self.config.rating
        seed = self.config.loop.seed + self.iteration
        logic = Rate.by(section, self.rubric, seed=seed, stored="sampled")
        recipe = {
            "rating": identity(section),
            "rubric": rubric_recipe(self.rubric),
            "model": self.models.now.ref.fingerprint,
            "engine": identity(self.config.engine),
            "input": responses.fingerprint,
            "seed": self.config.loop.seed,
        }
        num_rows = responses.num_records * self.config.candidates.num_candidates
        return self._step(
            f"score with M{self.models.now.ref.iteration}",
            logic,
            stage,
            shards_of(responses.folder),
            recipe,
            num_rows,
            self.models.now,
        )

    def _prefer(self, instructions: Instructions, responses: Source, ratings: Source) -> Source:
        section = self.config.preferences
        sources = [responses, ratings]
        if section.rejected_from == "first":
            anchors = self.sample(instructions, self.models.first, "first_responses")
            sources += [anchors, self.rate(anchors, "first_ratings")]
        # Without a response there is nothing to rank, and what is told is why there is none.
        weighted = section.consistency and responses.num_records > 0
        confidence = self._confidence(responses) if weighted else 1.0
        positive = section.kind == "positive_only"
        out_type: type[Any] = TrainingExample if positive else Preference
        logic = Prefer(config=section, label_confidence=confidence, out_type=out_type)
        recipe = {
            "preferences": identity(section),
            "inputs": [source.fingerprint for source in sources],
            "label_confidence": confidence,
        }
        made = self._step(
            "choose pairs" if not positive else "choose positives",
            logic,
            "examples" if positive else "preferences",
            shards_of(*(source.folder for source in sources)),
            recipe,
            responses.num_records,
        )
        self.run.display.line(
            f"iteration {self.iteration}: {made.num_records} training rows of"
            f" {responses.num_records} instructions"
        )
        return made

    def _confidence(self, responses: Source) -> float:
        """How much the rankings of this model and the one before agree, over all instructions."""
        models = self.models
        if models.before.ref.fingerprint == models.first.ref.fingerprint:
            # The reference itself: its implicit rewards are all 0 and rank nothing yet.
            return 1.0
        folders = [responses.folder]
        # DPO's implicit rewards count the end of the turn too.
        end = on_cluster(self.run, turn_end, models.first, self.config.model.trust_remote_code)
        for name, model in (
            ("now", models.now),
            ("before", models.before),
            ("first", models.first),
        ):
            made = self.likelihood(responses, model, join("likelihoods", name), end)
            folders.append(made.folder)
        beta = self.config.training.dpo_beta
        found = [
            value
            for shard in shards_of(*folders)
            for value in on_cluster(self.run, shard_consistencies, shard, beta)
        ]
        if not found:
            raise NothingToLearnError(
                "no instruction has candidates that this model and the one before both rank; set"
                " preferences.consistency=false, or raise candidates.num_candidates"
            )
        confidence = label_confidence(found)
        self.run.display.line(
            f"iteration {self.iteration}: consistency {confidence:.3f} of this model's rankings"
            f" with the one's before, over {len(found)} instructions"
        )
        return confidence

    def likelihood(self, responses: Source, model: PlacedModel, stage: str, end: str) -> Source:
        """How likely `model` finds the responses, and their ends where they ended."""
        recipe = {
            "end": end,
            "model": model.ref.fingerprint,
            "engine": identity(self.config.engine),
            "input": responses.fingerprint,
        }
        return self._step(
            f"likelihood by M{model.ref.iteration}",
            Likelihood(stored="sampled", end=end),
            stage,
            shards_of(responses.folder),
            recipe,
            responses.num_records,
            model,
        )

    def _meta(self, responses: Source, ratings: Source) -> list[Source]:
        """Preferences for the better of the model's own judgments."""
        section, seed = self.config.meta_judge, self.config.loop.seed + self.iteration
        pairs = self._step(
            "pair judgments",
            MetaPairs(scale=self.rubric.scale, max_pairs=section.max_pairs_per_response, seed=seed),
            "meta_pairs",
            shards_of(responses.folder, ratings.folder),
            {
                "max_pairs": section.max_pairs_per_response,
                "inputs": [responses.fingerprint, ratings.fingerprint],
                "seed": self.config.loop.seed,
            },
            responses.num_records,
        )
        now = self.models.now
        judgments = self._step(
            f"compare judgments with M{now.ref.iteration}",
            MetaJudge(config=section, rubric=self.rubric, seed=seed),
            "meta_judgments",
            shards_of(pairs.folder),
            {
                "meta_judge": identity(section),
                "rubric": rubric_recipe(self.rubric),
                "model": now.ref.fingerprint,
                "engine": identity(self.config.engine),
                "input": pairs.fingerprint,
                "seed": self.config.loop.seed,
            },
            pairs.num_records,
            now,
        )
        weights = on_cluster(self.run, weights_of, sealed_shards(judgments.folder))
        made = self._step(
            "choose judgments",
            MetaPrefer(
                rubric=self.rubric, max_chosen_chars=section.max_chosen_chars, weights=weights
            ),
            "meta_preferences",
            shards_of(pairs.folder, judgments.folder),
            {"input": judgments.fingerprint, "max_chosen_chars": section.max_chosen_chars},
            pairs.num_records,
        )
        self.run.display.line(
            f"iteration {self.iteration}: {made.num_records} preferences between judgments of"
            f" {pairs.num_records} compared pairs"
        )
        return [made]

    def _step(
        self,
        title: str,
        logic: Any,
        stage: str,
        inputs: Any,
        recipe: dict[str, Any],
        num_rows: int,
        model: PlacedModel | None = None,
    ) -> Source:
        folder = self.run.layout.stage(self.iteration, stage)
        output = Output(folder=folder, inputs=inputs, recipe=recipe, num_rows=num_rows)
        engine = None if model is None else (lambda: self.run.pools.judge(model))
        return fill(self.run, title, logic, output, engine)

    def _train(self, rows: list[Source]) -> PlacedModel:
        run, iteration = self.run, self.iteration
        if not rows:
            raise NothingToLearnError(why_nothing_is_left(run, iteration))
        training, start = self.config.training, self.models.now
        if self.config.preferences.positives_with_seeds:
            # What M1 learnt and the positives, once more from M0.
            rows, start = [*seed_examples(run), *rows], self.models.first
        wanted = Training(
            model=f"M{iteration}",
            name=f"iteration-{iteration:02d}",
            config=training,
            rows=tuple(rows),
            folder=run.layout.training(iteration),
            output=run.layout.checkpoint(iteration),
            seed=self.config.loop.seed + iteration,
            reference=self.models.first if training.needs_first_model else None,
        )
        train_model(run, start, wanted)
        return run_model(run.layout, self.config.model, iteration)
