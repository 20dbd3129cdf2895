"""The steps that measuring a model of the self-rewarding loop is made of, each with its own folder
and manifest in the model's evaluation: answers, scores, likelihoods, and answers beside others'.

What compares answers is never the model under test: the frozen seed, another model, or an endpoint.
"""

from typing import Any, Literal

from selfreward.config import SamplingConfig
from selfreward.config_loading import identity
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.rubric_files import rubric_recipe
from selfreward.layout import join
from selfreward.loops.outsider import Outsider
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source, fill, output_of
from selfreward.loops.steps import Output, Run, shards_of
from selfreward.stages.judge import Judge
from selfreward.stages.likelihood import Likelihood
from selfreward.stages.rate import Rate
from selfreward.stages.sample import Sample
from selfreward.stages.versus import Versus
from selfreward.storage.manifest import read_manifest
from selfreward.storage.shards import sealed_shards


class MeasuringSteps:
    """Asks the models of a run, and the outsider that compares their answers."""

    def __init__(self, run: Run, seed: PlacedModel, rubric: PointwiseRubric) -> None:
        self.run, self.rubric = run, rubric
        self.config = run.config
        self.outsider = Outsider(run, seed)

    def answer(self, model: PlacedModel, instructions: Source) -> Source:
        """The model's answer to each held-out instruction."""
        section = self.config.respond
        logic = Sample(
            num_responses=1,
            sampling=section.sampling,
            # Left out, answers that ran into the limit would make a model look better.
            keep_truncated=True,
            stored="instruction",
            seed=self.config.loop.seed,
            name="answer",
        )
        recipe = {"sampling": identity(section.sampling), "seed": self.config.loop.seed}
        return self._step(
            "answer held-out instructions", logic, model, "responses", instructions, recipe
        )

    def kl_answers(self, model: PlacedModel, instructions: Source) -> Source:
        """Answers that estimate the KL: drawn from the model's whole distribution, as the estimate
        wants them (`metrics.likelihoods.kl_report`); those cut at the limit are as good."""
        wanted = self.config.evaluation.kl_prompts
        sampling = SamplingConfig(
            temperature=1.0, top_p=1.0, max_tokens=self.config.respond.sampling.max_tokens
        )
        logic = Sample(
            num_responses=1,
            sampling=sampling,
            keep_truncated=True,
            stored="instruction",
            seed=self.config.loop.seed,
            # As many of each shard, at least `kl_prompts` together.
            max_rows=-(-wanted // len(sealed_shards(instructions.folder))),
            name="kl",
        )
        recipe = {
            "sampling": identity(sampling),
            "kl_prompts": wanted,
            "seed": self.config.loop.seed,
        }
        return self._step("answers for the KL", logic, model, "kl_responses", instructions, recipe)

    def rate(
        self,
        model: PlacedModel,
        source: Source,
        stage: str,
        stored: Literal["sampled", "scored"] = "sampled",
        judge: PlacedModel | None = None,
    ) -> Source:
        """The judge's scores (the model's own by default), kept with the model's evaluation."""
        section = self.config.rating
        logic = Rate.by(
            section, self.rubric, seed=self.config.loop.seed, stored=stored, name="evaluate"
        )
        recipe = {
            "rating": identity(section),
            "rubric": rubric_recipe(self.rubric),
            "seed": self.config.loop.seed,
        }
        what = f"score {stage.rpartition('/')[2].replace('_', ' ')}"
        return self._step(what, logic, model, stage, source, recipe, judge)

    def likelihood(
        self,
        model: PlacedModel,
        source: Source,
        stage: str,
        stored: Any,
        judge: PlacedModel | None = None,
        end: str = "",
    ) -> Source:
        """How likely the judge (the model itself by default) finds what the source holds, and with
        `end` that a response which ended by itself ends there."""
        logic = Likelihood(stored=stored, end=end, name="evaluate")
        recipe = {"end": end} if end else {}
        return self._step(stage.replace("_", " "), logic, model, stage, source, recipe, judge)

    def versus(self, model: PlacedModel, answers: Source, rival: int) -> tuple[str, str, str]:
        """Compares the model's answers with those of iteration `rival`; returns the folders of the
        rival's answers, of the pairs and of the judgments."""
        iteration = model.ref.iteration
        old = join(self.run.layout.evaluation(rival), "responses")
        manifest = read_manifest(old)
        base = join(self.run.layout.evaluation(iteration), f"versus_{rival:02d}")
        pairs = fill(
            self.run,
            f"answers of M{iteration} beside M{rival}'s",
            Versus(),
            Output(
                folder=join(base, "pairs"),
                inputs=shards_of(answers.folder, old),
                recipe={
                    "input": answers.fingerprint,
                    "old": manifest.fingerprint if manifest else "",
                },
                num_rows=answers.num_records,
            ),
        )
        section, sampling = self.config.judge, self.config.evaluation.sampling
        logic = Judge(
            rubric_id=section.rubric,
            sampling=sampling,
            guided=section.guided,
            num_draws=1,
            seed=self.config.loop.seed,
            objective="sft",
            adaptive=False,
            name="head_to_head",
        )
        recipe = {
            "judge": self.outsider.fingerprint,
            "rubric": section.rubric,
            "guided": section.guided,
            "sampling": identity(sampling),
        }
        output = output_of(join(base, "judgments"), pairs, recipe)
        title = f"M{iteration} against M{rival}, by {self.outsider.name}"
        judgments = fill(self.run, title, logic, output, self.outsider.client)
        return old, pairs.folder, judgments.folder

    def _step(
        self,
        what: str,
        logic: Any,
        model: PlacedModel,
        stage: str,
        source: Source,
        recipe: dict[str, Any],
        by: PlacedModel | None = None,
    ) -> Source:
        asked = by or model
        full = recipe | {
            "model": asked.ref.fingerprint,
            "engine": identity(self.config.engine),
        }
        folder = join(self.run.layout.evaluation(model.ref.iteration), stage)
        title = f"{what}, M{model.ref.iteration}" + (f" by M{by.ref.iteration}" if by else "")
        output = output_of(folder, source, full)
        return fill(self.run, title, logic, output, lambda: self.run.pools.judge(asked))
