"""Self-Rewarding Language Models (arXiv 2401.10020) as a list of steps.

    seeds -> examples (IFT), judgments that agree with people (EFT)      once
    M_1 = SFT(seeds);  examine M_0, M_1
    for t = 2..T:   create instructions -> N responses by M_t-1 -> K scores by M_t-1
                    -> preferences -> M_t = DPO(M_t-1) -> examine M_t -> promote, or stop

Every step writes a folder with a manifest and is skipped when it is complete, so this function
run again after any interruption goes on where the last attempt stopped.
"""

from typing import Any

from selfreward.config import RunConfig
from selfreward.errors import ConfigError, NothingToLearnError
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.layout import Layout
from selfreward.loops.create import Instructions, create_instructions, pool_slice
from selfreward.loops.labelled import build_scored_sets, held_out_of, instructions_aside
from selfreward.loops.pairs import build_instructions, build_labelled_pairs
from selfreward.loops.pools import PlacedModel
from selfreward.loops.rewarding_eval import Examination, Measured
from selfreward.loops.round import Models, Round
from selfreward.loops.rubric_checks import (
    check_pairwise_room,
    check_rating_room,
    check_score_tokens,
)
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.loops.scoring import evaluate_model
from selfreward.loops.seeds import Seeds, answered_aside, build_seeds, eft_examples, ift_examples
from selfreward.loops.session import Models as RunModels
from selfreward.loops.session import open_run, run_model
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.loops.training import Training, train_model
from selfreward.loops.verdict import Decision, decide, promote_first, stop_untrained
from selfreward.reports.progress import Display


def run_self_rewarding(
    config: RunConfig, force: str | None = None, display: Display | None = None
) -> Layout:
    """Runs the whole loop and returns where it lies; see the module's docstring.

    Raises:
        UserError: something the user can mend, in one line.
        SelfRewardError: the engines or the training failed for good.
    """
    rubric = load_pointwise_rubric(config.rating.rubric)
    with open_run(config, display, force) as (run, models):
        _Loop(run, models, rubric).run_all()
    return run.layout


class _Loop:
    """The loop while it runs: the models so far and what they are measured on."""

    def __init__(self, run: Run, models: RunModels, rubric: PointwiseRubric) -> None:
        self.run, self.rubric = run, rubric
        self.config = run.config
        self.seed, self.writer = models.seed, models.generator
        self.by_generator = run.config.generator is not None
        check_score_tokens(run, models.seed, rubric)
        self.labelled, scored = build_labelled_pairs(run), build_scored_sets(run)
        held_out = held_out_of(self.labelled, scored)
        # M0 and M1 know no selection: what every model answers stays as the pool has it.
        self.pools = build_instructions(run, models.generator, held_out, selected=("train",))
        if not self.config.self_instruct.enabled and self.config.loop.iterations > 1:
            # Asked now: the last iteration would find out after hours.
            pool_slice(run, self.config.loop.iterations, self.pools["train"])
        held_out += instructions_aside(self.pools["heldout"])
        learnt = None if self.config.self_instruct.enabled else self.pools["train"]
        self.seeds: Seeds = build_seeds(run, held_out, learnt)
        self.held_out = held_out + answered_aside(self.seeds.heldout)
        measured = Measured(
            instructions=self.pools["heldout"],
            answered=self.seeds.heldout,
            scored=scored,
            labelled=self.labelled,
        )
        self.examination = Examination(run, models.seed, measured, rubric)
        self.trained: dict[int, PlacedModel] = {0: models.seed}

    def run_all(self) -> None:
        self._examine(0, current=0)
        promote_first(self.run, self.seed)
        self.trained[1] = self._first_model()
        current, stopped = self._conclude(1, current=0)
        for iteration in range(2, self.config.loop.iterations + 1):
            if stopped:
                return
            models = Models(
                first=self.seed,
                before=self.trained[iteration - 2],
                now=self.trained[iteration - 1],
            )
            rewarding = Round(self.run, iteration, models, self.rubric)
            try:
                self.trained[iteration] = rewarding.learn(self._instructions(iteration))
            except NothingToLearnError as nothing:
                stop_untrained(self.run, iteration, str(nothing), current)
                return
            current, stopped = self._conclude(iteration, current)

    def _first_model(self) -> PlacedModel:
        """M_1: SFT on people's answers and on judgments that agree with people."""
        rows: list[Source] = [ift_examples(self.run, self.seeds)]
        if self.seeds.ranked is not None:
            judge = self.seed
            if self.config.seeds.sft_before_judging:
                judge = self._baseline(rows[0])
            eft = eft_examples(self.run, self.seeds.ranked, judge, self.rubric)
            rows += [eft] if eft is not None else []
        layout = self.run.layout
        wanted = Training(
            model="M1",
            name="iteration-01",
            config=self.config.seed_training,
            rows=tuple(rows),
            folder=layout.training(1),
            output=layout.checkpoint(1),
            seed=self.config.loop.seed + 1,
        )
        train_model(self.run, self.seed, wanted)
        return run_model(layout, self.config.model, 1)

    def _baseline(self, ift: Source) -> PlacedModel:
        """The SFT baseline that writes the first judgments (section 3.1.1): IFT alone."""
        layout = self.run.layout
        wanted = Training(
            model="the SFT baseline",
            name="sft-baseline",
            config=self.config.seed_training,
            rows=(ift,),
            folder=layout.stage(1, "baseline_training"),
            output=layout.stage(1, "baseline_checkpoint"),
            seed=self.config.loop.seed + 1,
        )
        train_model(self.run, self.seed, wanted)
        return run_model(layout, self.config.model, 1, part="baseline")

    def _instructions(self, iteration: int) -> Instructions:
        section = self.config.self_instruct
        if not section.enabled:
            return pool_slice(self.run, iteration, self.pools["train"])
        if section.by == "current":
            writer, by_generator = self.trained[iteration - 1], False
        else:
            writer, by_generator = self.writer, self.by_generator
        return create_instructions(
            self.run, iteration, self.seeds, self.held_out, writer, by_generator
        )

    def _examine(self, iteration: int, current: int) -> dict[str, Any]:
        model = self.trained[iteration]
        # Against the one before, the current one, and M_1, from which self-rewarding starts.
        earlier = sorted({iteration - 1, current, 1})
        rivals = {f"M{r}": r for r in earlier if 0 <= r < iteration}
        if self.labelled:
            evaluate_model(self.run, model, self.labelled)
        return self.examination.examine(model, rivals)

    def _conclude(self, iteration: int, current: int) -> tuple[int, bool]:
        """Examines a model and decides; returns the current iteration and whether to stop."""
        figures = self._examine(iteration, current)
        decision: Decision = decide(
            self.run, self.trained, iteration, figures, self.labelled, current
        )
        return decision.current, decision.stop


def _check_options(config: RunConfig) -> None:
    """Options that would be paid for and then not used."""
    section, meta = config.preferences, config.meta_judge
    if config.select_instructions.enabled and config.self_instruct.enabled:
        raise ConfigError(
            "select_instructions.enabled=true sorts the pool's instructions, and with"
            " self_instruct.enabled=true none of them is trained on; set one of the two to false"
        )
    if meta.enabled and config.rating.num_draws < 2:
        raise ConfigError(
            f"meta_judge.enabled compares readings of one response and rating.num_draws="
            f"{config.rating.num_draws}; set rating.num_draws to 3 or more"
        )
    pairs, draws = meta.max_pairs_per_response, config.rating.num_draws
    if meta.enabled and pairs is not None and pairs < draws - 1:
        raise ConfigError(
            f"meta_judge.max_pairs_per_response={pairs} compares {pairs + 1} of"
            f" rating.num_draws={draws} judgments; set it to {draws - 1} or more, or leave it out"
            " for all pairs"
        )
    if section.kind == "pairs":
        if section.positives_with_seeds:
            raise ConfigError(
                "preferences.positives_with_seeds=true has no part in preferences.kind=pairs; set"
                " preferences.kind=positive_only"
            )
        return
    for key, is_set in (
        ("meta_judge.enabled=true", meta.enabled),
        ("preferences.consistency=true", section.consistency),
        ("preferences.rejected_from=first", section.rejected_from == "first"),
        ("preferences.length_rho", section.length_rho > 0),
        ("preferences.min_margin", section.min_margin > 0),
    ):
        if is_set:
            raise ConfigError(f"{key} is about pairs; preferences.kind=positive_only makes none")


def check_recipe(config: RunConfig) -> PointwiseRubric:
    """Looks up what a recipe names and whether its parts fit, before anything is started.

    Raises:
        ConfigError: an unknown rubric, one whose reason finds no room, or objectives that do not
            fit what is made for them.
    """
    rubric = load_pointwise_rubric(config.rating.rubric)
    check_rating_room(config, rubric)
    # Comparisons and labelled pairs are read as an evaluation reads them.
    check_pairwise_room(config, ("evaluation",))
    if config.engine.kind == "classifier":
        raise ConfigError("engine.kind=classifier scores and writes nothing: a loop needs vllm")
    if config.seed_training.objective != "sft":
        raise ConfigError(
            f"seed_training.objective={config.seed_training.objective}: the seeds are single"
            " answers; set sft"
        )
    wanted = "dpo" if config.preferences.kind == "pairs" else "sft"
    if config.loop.iterations > 1 and config.training.objective != wanted:
        raise ConfigError(
            f"training.objective={config.training.objective} cannot learn from"
            f" preferences.kind={config.preferences.kind}; set training.objective={wanted}"
        )
    _check_options(config)
    if config.seeds.ift_from_ranked is not None and not config.seeds.ranked:
        raise ConfigError("seeds.ift_from_ranked takes from seeds.ranked, which names no file")
    for key, draws in (
        ("rating.num_draws", config.rating.num_draws),
        ("seeds.draws_per_response", config.seeds.draws_per_response if config.seeds.ranked else 1),
    ):
        if draws > 1 and config.rating.sampling.temperature == 0:
            raise ConfigError(
                f"{key}={draws} greedy draws are all alike; set {key}=1 or"
                " rating.sampling.temperature above 0"
            )
    if wanted == "sft" and config.rating.expected:
        top = rubric.scale[1]
        if config.preferences.min_positive_score >= top:
            raise ConfigError(
                f"preferences.min_positive_score={config.preferences.min_positive_score:g}:"
                f" expected scores hardly ever reach {top:g}; lower it or set"
                " rating.expected=false"
            )
    return rubric
