"""Measuring a model of the self-rewarding loop: answers against other models', scores against
people's, and the watch against collapse."""

from dataclasses import dataclass
from typing import Any

from selfreward.evaluation import rewarding
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.layout import join
from selfreward.loops.pools import PlacedModel
from selfreward.loops.rewarding_steps import MeasuringSteps
from selfreward.loops.round_figures import round_figures, tie_spread, watch, watched_of_round
from selfreward.loops.sources import Source, on_cluster
from selfreward.loops.steps import Run
from selfreward.loops.turns import turn_end
from selfreward.metrics.collapse import CollapseFigures, collapse_reasons, length_ratio
from selfreward.storage import files

_LEAST_FOR_MODE = 8
"""Scored answers below which the share of the commonest score says nothing: few agree by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What every model of a run is measured on.

    Example: `Measured(instructions=Source(…), answered=Source(…), scored={"ranks": Source(…)},
    labelled={})`
    """

    instructions: Source
    """Held-out instructions, to be answered."""
    answered: Source
    """Held-out instructions with people's answers, for perplexity."""
    scored: dict[str, Source]
    """Responses with people's scores, by the file's short name."""
    labelled: dict[str, Source]
    """People's labelled pairs, by the file's short name: judged before a model is examined."""


class Examination:
    """Measures the models of a run one after the other."""

    def __init__(
        self, run: Run, seed: PlacedModel, measured: Measured, rubric: PointwiseRubric
    ) -> None:
        self.run, self.seed, self.measured, self.rubric = run, seed, measured, rubric
        self.config = run.config
        self.steps = MeasuringSteps(run, seed, rubric)

    def examine(self, model: PlacedModel, rivals: dict[str, int]) -> dict[str, Any]:
        """Returns the figures of one model, and writes them as `figures.json`.

        `rivals` are the iterations its answers are compared with, by what they are called.
        """
        iteration = model.ref.iteration
        config, seed = self.config.evaluation, self.config.loop.seed
        answers = self.steps.answer(model, self.measured.instructions)
        own = self.steps.rate(model, answers, "own_ratings")
        figures: dict[str, Any] = {
            "own_scores": self._cluster(
                rewarding.candidate_figures,
                answers.folder,
                own.folder,
                self.rubric.scale,
                None,
                tie_spread(self.config),
            ),
            "perplexity": None,
            "scored": self._scored(model),
            "card": self._card(iteration, own),
        }
        if self.measured.answered.num_records:
            likely = self.steps.likelihood(model, self.measured.answered, "perplexity", "answered")
            figures["perplexity"] = self._cluster(
                rewarding.perplexity_figures, likely.folder, config, seed
            )
        kl_answers = None
        if iteration > 0 and config.kl_prompts:
            kl_answers = self.steps.kl_answers(model, self.measured.instructions)
            # The model drew the end of its turn too.
            end = self._cluster(turn_end, self.seed, self.config.model.trust_remote_code)
            own_likely = self.steps.likelihood(
                model, kl_answers, "own_likelihood", "sampled", end=end
            )
        # The seed comes last: the weights are swapped once.
        if iteration > 0:
            figures["kl"] = None
            if kl_answers is not None:
                by_seed = self.steps.likelihood(
                    model, kl_answers, "seed_likelihood", "sampled", self.seed, end
                )
                figures["kl"] = self._cluster(
                    rewarding.kl_figures, own_likely.folder, by_seed.folder, config, seed
                )
            rated = self.steps.rate(model, answers, "seed_ratings", judge=self.seed)
            figures["seed_agreement"] = self._cluster(
                rewarding.agreement_figures, answers.folder, own.folder, rated.folder, config, seed
            )
            figures["head_to_head"] = {
                name: self._versus(model, answers, rival) for name, rival in rivals.items()
            }
            figures["head_to_head_judge"] = self.steps.outsider.name
        if iteration > 1:
            figures |= round_figures(self.run, iteration, self.rubric.scale)
        figures["collapse"] = self._watch(iteration, answers, figures)
        files.write_json(figures_url(self.run, iteration), figures)
        return figures

    def _card(self, iteration: int, own: Source) -> dict[str, Any]:
        evaluation = self.run.layout.evaluation(iteration)
        labelled = {s.folder: join(evaluation, n) for n, s in self.measured.labelled.items()}
        card: dict[str, Any] = self._cluster(
            rewarding.card_figures,
            labelled,
            own.folder,
            self.rubric.scale,
            self.run.config.model.name,
        )
        return card

    def _scored(self, model: PlacedModel) -> dict[str, Any]:
        found = {}
        for name, source in self.measured.scored.items():
            ratings = self.steps.rate(model, source, join("scored", name), stored="scored")
            found[name] = self._cluster(
                rewarding.scored_figures,
                source.folder,
                ratings.folder,
                self.rubric.scale,
                self.config.evaluation,
                self.config.loop.seed,
            )
        return found

    def _watch(self, iteration: int, answers: Source, figures: dict[str, Any]) -> dict[str, Any]:
        """The figures that tell a collapse, and a line for each that crossed its threshold."""
        scores = figures["own_scores"]
        first = join(self.run.layout.evaluation(0), "responses")
        lengths = self._cluster(rewarding.mean_lengths, answers.folder, first)
        num_answers = scores["num_candidates"]
        num_scored = num_answers - scores["num_unscored"]
        watched = CollapseFigures(
            unscored=scores["num_unscored"] / num_answers if num_answers else None,
            # Expected scores hardly ever are the top score itself.
            saturation=scores["top_level_share" if self.config.rating.expected else "saturation"],
            modal_share=scores["modal_share"] if num_scored >= _LEAST_FOR_MODE else None,
            mean_length=scores["mean_length"],
            length_ratio=length_ratio(*lengths) if lengths[0] else None,
            seed_agreement=(figures.get("seed_agreement") or {}).get("kendall_tau"),
            kl_per_token=(figures.get("kl") or {}).get("kl_per_token"),
            **watched_of_round(figures),
        )
        # The seed is what is compared with: it cannot have collapsed.
        reasons_found = collapse_reasons(watched, self.config.collapse) if iteration else []
        return watch(watched, reasons_found, self.config)

    def _versus(self, model: PlacedModel, answers: Source, rival: int) -> dict[str, Any] | None:
        old, pairs, judgments = self.steps.versus(model, answers, rival)
        found: dict[str, Any] | None = self._cluster(
            rewarding.head_to_head_figures,
            answers.folder,
            old,
            pairs,
            judgments,
            self.config.evaluation,
            self.config.loop.seed,
        )
        return found

    def _cluster(self, function: Any, *args: Any) -> Any:
        return on_cluster(self.run, function, *args)


def figures_url(run: Run, iteration: int) -> str:
    return join(run.layout.evaluation(iteration), "figures.json")
