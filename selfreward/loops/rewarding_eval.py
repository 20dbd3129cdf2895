"""Measuring a model of the self-rewarding loop: answers against other models', scores against
people's, and the watch against collapse.

What compares answers is never the model under test: the frozen seed, another model, or an endpoint.
"""

from dataclasses import dataclass
from typing import Any, Literal

from selfreward.config import SamplingConfig
from selfreward.config_loading import identity
from selfreward.evaluation import rewarding
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.rubric_files import rubric_recipe
from selfreward.layout import join
from selfreward.loops.create import created_folder, creation_counts
from selfreward.loops.outsider import Outsider
from selfreward.loops.pairs import Source, on_cluster
from selfreward.loops.pools import PlacedModel
from selfreward.loops.steps import Output, Run, run_step, shards_of
from selfreward.metrics.collapse import CollapseFigures, collapse_reasons, length_ratio
from selfreward.records import DropReason
from selfreward.stages.judge import Judge
from selfreward.stages.likelihood import Likelihood
from selfreward.stages.rate import Rate
from selfreward.stages.sample import Sample
from selfreward.stages.versus import Versus
from selfreward.storage import files
from selfreward.storage.manifest import read_manifest
from selfreward.storage.shards import sealed_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What every model of a run is measured on.

    Example: `Measured(instructions=Source(…), answered=Source(…), scored={"ranks": Source(…)})`
    """

    instructions: Source
    """Held-out instructions, to be answered."""
    answered: Source
    """Held-out instructions with people's answers, for perplexity."""
    scored: dict[str, Source]
    """Responses with people's scores, by the file's short name."""


class Examination:
    """Measures the models of a run one after the other; each step has its folder and manifest."""

    def __init__(
        self, run: Run, seed: PlacedModel, measured: Measured, rubric: PointwiseRubric
    ) -> None:
        self.run, self.seed, self.measured, self.rubric = run, seed, measured, rubric
        self.config = run.config
        self.outsider = Outsider(run, seed)

    def answer(self, model: PlacedModel) -> Source:
        """The model's answer to each held-out instruction."""
        section, instructions = self.config.respond, self.measured.instructions
        logic = Sample(
            num_responses=1,
            sampling=section.sampling,
            keep_truncated=section.keep_truncated,
            stored="instruction",
            seed=self.config.loop.seed,
            name="answer",
        )
        recipe = {"respond": identity(section), "seed": self.config.loop.seed}
        return self._step(
            "answer held-out instructions", logic, model, "responses", instructions, recipe
        )

    def _kl_answers(self, model: PlacedModel) -> Source:
        """Answers that estimate the KL: drawn from the model's whole distribution, as the estimate
        wants them (`metrics.likelihoods.kl_report`); those cut at the limit are as good."""
        source, wanted = self.measured.instructions, self.config.evaluation.kl_prompts
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
            max_rows=-(-wanted // len(sealed_shards(source.folder))),
            name="kl",
        )
        recipe = {
            "sampling": identity(sampling),
            "kl_prompts": wanted,
            "seed": self.config.loop.seed,
        }
        return self._step("answers for the KL", logic, model, "kl_responses", source, recipe)

    def examine(self, model: PlacedModel, rivals: dict[str, int]) -> dict[str, Any]:
        """Returns the figures of one model, and writes them as `figures.json`.

        `rivals` are the iterations its answers are compared with, by what they are called.
        """
        iteration = model.ref.iteration
        config, seed = self.config.evaluation, self.config.loop.seed
        answers = self.answer(model)
        own = self._rate(model, answers, "own_ratings")
        figures: dict[str, Any] = {
            "own_scores": self._cluster(
                rewarding.candidate_figures, answers.folder, own.folder, self.rubric.scale, None
            ),
            "perplexity": None,
            "scored": self._scored(model),
        }
        if self.measured.answered.num_records:
            likely = self._likelihood(model, self.measured.answered, "perplexity", "answered")
            figures["perplexity"] = self._cluster(
                rewarding.perplexity_figures, likely.folder, config, seed
            )
        kl_answers = self._kl_answers(model) if iteration and config.kl_prompts else None
        if kl_answers is not None:
            own_likely = self._likelihood(model, kl_answers, "own_likelihood", "sampled")
        # The seed comes last: the weights are swapped once.
        if iteration > 0:
            figures["kl"] = None
            if kl_answers is not None:
                by_seed = self._likelihood(
                    model, kl_answers, "seed_likelihood", "sampled", self.seed
                )
                figures["kl"] = self._cluster(
                    rewarding.kl_figures, own_likely.folder, by_seed.folder, config, seed
                )
            rated = self._rate(model, answers, "seed_ratings", judge=self.seed)
            figures["seed_agreement"] = self._cluster(
                rewarding.agreement_figures, answers.folder, own.folder, rated.folder, config, seed
            )
            figures["head_to_head"] = {
                name: self._versus(model, answers, rival) for name, rival in rivals.items()
            }
            figures["head_to_head_judge"] = self.outsider.name
        if iteration > 1:
            figures |= self._round(iteration)
        figures["collapse"] = self._watch(iteration, answers, figures)
        files.write_json(figures_url(self.run, iteration), figures)
        return figures

    def _scored(self, model: PlacedModel) -> dict[str, Any]:
        found = {}
        for name, source in self.measured.scored.items():
            ratings = self._rate(model, source, join("scored", name), stored="scored")
            found[name] = self._cluster(
                rewarding.scored_figures,
                source.folder,
                ratings.folder,
                self.rubric.scale,
                self.config.evaluation,
                self.config.loop.seed,
            )
        return found

    def _round(self, iteration: int) -> dict[str, Any]:
        """What the round that made this model drew, scored and kept."""
        layout = self.run.layout
        preferences = layout.preferences(iteration)
        figures: dict[str, Any] = {
            "candidates": self._cluster(
                rewarding.candidate_figures,
                layout.responses(iteration),
                layout.stage(iteration, "ratings"),
                self.rubric.scale,
                preferences if self.config.preferences.kind == "pairs" else None,
            )
        }
        if self.config.self_instruct.enabled:
            rounds = range(self.config.self_instruct.rounds)
            kept = [created_folder(self.run, iteration, "kept", n) for n in rounds]
            figures["creation"] = creation_counts(self.run, iteration) | {
                "diversity": self._cluster(rewarding.creation_figures, kept)
            }
        return figures

    def _watch(self, iteration: int, answers: Source, figures: dict[str, Any]) -> dict[str, Any]:
        """The figures that tell a collapse, and a line for each that crossed its threshold."""
        candidates, creation = figures.get("candidates", {}), figures.get("creation")
        scores = figures["own_scores"]
        first = join(self.run.layout.evaluation(0), "responses")
        lengths = self._cluster(rewarding.mean_lengths, answers.folder, first)
        similar = None
        if creation is not None and creation["created"]:
            reasons = (
                DropReason.SIMILAR_INSTRUCTION,
                DropReason.NEAR_DUPLICATE,
                DropReason.EXACT_DUPLICATE,
            )
            similar = sum(creation.get(r.value, 0) for r in reasons) / creation["created"]
        watched = CollapseFigures(
            # Expected scores hardly ever are the top score itself.
            saturation=scores["top_level_share" if self.config.rating.expected else "saturation"],
            tie_rate=candidates.get("tie_rate"),
            mean_length=scores["mean_length"],
            length_ratio=length_ratio(*lengths) if lengths[0] else None,
            distinct_2=None if creation is None else _distinct_2(creation["diversity"]),
            near_duplicate_rate=similar,
            seed_agreement=(figures.get("seed_agreement") or {}).get("kendall_tau"),
            kl_per_token=(figures.get("kl") or {}).get("kl_per_token"),
        )
        # The seed is what is compared with: it cannot have collapsed.
        reasons_found = collapse_reasons(watched, self.config.collapse) if iteration else []
        return {"figures": watched.to_dict(), "reasons": reasons_found}

    def _versus(self, model: PlacedModel, answers: Source, rival: int) -> dict[str, Any] | None:
        iteration = model.ref.iteration
        old = join(self.run.layout.evaluation(rival), "responses")
        manifest = read_manifest(old)
        base = join(self.run.layout.evaluation(iteration), f"versus_{rival:02d}")
        recipe = {"input": answers.fingerprint, "old": manifest.fingerprint if manifest else ""}
        pairs_folder, judged_folder = join(base, "pairs"), join(base, "judgments")
        (done,) = run_step(
            self.run,
            f"answers of M{iteration} beside M{rival}'s",
            Versus(),
            [
                Output(
                    folder=pairs_folder,
                    inputs=shards_of(answers.folder, old),
                    recipe=recipe,
                    num_rows=answers.num_records,
                )
            ],
        )
        section = self.config.judge
        logic = Judge(
            rubric_id=section.rubric,
            sampling=self.config.evaluation.sampling,
            guided=section.guided,
            num_draws=1,
            seed=self.config.loop.seed,
            objective="sft",
            adaptive=False,
            name="head_to_head",
        )
        asked = {
            "judge": self.outsider.fingerprint,
            "rubric": section.rubric,
            "guided": section.guided,
            "sampling": identity(self.config.evaluation.sampling),
            "input": done.fingerprint,
        }
        output = Output(
            folder=judged_folder,
            inputs=shards_of(pairs_folder),
            recipe=asked,
            num_rows=done.num_records,
        )
        title = f"M{iteration} against M{rival}, by {self.outsider.name}"
        run_step(self.run, title, logic, [output], self.outsider.client)
        found: dict[str, Any] | None = self._cluster(
            rewarding.head_to_head_figures,
            answers.folder,
            old,
            pairs_folder,
            judged_folder,
            self.config.evaluation,
            self.config.loop.seed,
        )
        return found

    def _rate(
        self,
        model: PlacedModel,
        source: Source,
        stage: str,
        stored: Literal["sampled", "scored"] = "sampled",
        judge: PlacedModel | None = None,
    ) -> Source:
        """The judge's scores (the model's own by default), kept with the model's evaluation."""
        section = self.config.rating
        logic = Rate(
            rubric=self.rubric,
            sampling=section.sampling,
            guided=section.guided,
            expected=section.expected,
            num_draws=section.num_draws,
            seed=self.config.loop.seed,
            stored=stored,
            name="evaluate",
        )
        recipe = {
            "rating": identity(section),
            "rubric": rubric_recipe(self.rubric),
            "seed": self.config.loop.seed,
        }
        what = f"score {stage.rpartition('/')[2].replace('_', ' ')}"
        return self._step(what, logic, model, stage, source, recipe, judge)

    def _likelihood(
        self,
        model: PlacedModel,
        source: Source,
        stage: str,
        stored: Any,
        judge: PlacedModel | None = None,
    ) -> Source:
        what = stage.replace("_", " ")
        return self._step(
            what, Likelihood(stored=stored, name="evaluate"), model, stage, source, {}, judge
        )

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
        folder = join(self.run.layout.evaluation(model.ref.iteration), stage)
        full = recipe | {
            "model": asked.ref.fingerprint,
            "engine": identity(self.config.engine),
            "input": source.fingerprint,
        }
        output = Output(
            folder=folder,
            inputs=shards_of(source.folder),
            recipe=full,
            num_rows=source.num_records,
        )
        title = f"{what}, M{model.ref.iteration}" + (f" by M{by.ref.iteration}" if by else "")
        (done,) = run_step(self.run, title, logic, [output], lambda: self.run.pools.judge(asked))
        return Source.of(folder, done)

    def _cluster(self, function: Any, *args: Any) -> Any:
        return on_cluster(self.run, function, *args)


def _distinct_2(diversity: dict[str, Any]) -> float | None:
    """By a sample of fixed size where there are so many, since the plain share falls with size."""
    at_sample: float | None = diversity["distinct_2_at_sample"]
    plain: float | None = diversity["distinct_2"]
    return plain if at_sample is None else at_sample


def figures_url(run: Run, iteration: int) -> str:
    return join(run.layout.evaluation(iteration), "figures.json")
