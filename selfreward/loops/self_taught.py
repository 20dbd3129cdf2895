"""Self-Taught Evaluators (arXiv 2408.02666) as a list of steps.

    pool -> select instructions -> respond -> corrupt          by the generator, once
    perturb -> gather                                          by rules, where wanted
    score                                                      by the generator, where wanted
    evaluate M_0
    for t = 1..T:   judge with M_t-1 -> select -> balance -> train -> evaluate M_t -> promote

Every step writes a folder with a manifest and is skipped when it is complete, so this function
run again after any interruption goes on where the last attempt stopped.
"""

from selfreward.config import RunConfig
from selfreward.errors import ConfigError
from selfreward.judging.categories import CATEGORIES, EXPECTED_LENGTHS
from selfreward.judging.perturbations.perturb import PERTURBATIONS
from selfreward.layout import Layout
from selfreward.loops.construct import build_pairs, check_slices, score_pairs
from selfreward.loops.iteration import judge_pairs, select_rows, train_judge, validation_rows
from selfreward.loops.labelled import held_out_of
from selfreward.loops.pairs import build_instructions, build_labelled_pairs
from selfreward.loops.pools import PlacedModel
from selfreward.loops.promotion import promote, promote_seed
from selfreward.loops.rubric_checks import check_pairwise_room
from selfreward.loops.scoring import check_heldout, evaluate_model, evaluation_sets
from selfreward.loops.session import open_run
from selfreward.reports.progress import Display


def run_self_taught(
    config: RunConfig, force: str | None = None, display: Display | None = None
) -> Layout:
    """Runs the whole loop and returns where it lies; see the module's docstring.

    Raises:
        UserError: something the user can mend, in one line.
        SelfRewardError: the engines or the training failed for good.
    """
    with open_run(config, display, force) as (run, models):
        seed = models.seed
        labelled = build_labelled_pairs(run)
        instructions = build_instructions(run, models.generator, held_out_of(labelled, {}))
        check_slices(run, instructions["train"])
        pairs = build_pairs(run, instructions, models.generator, iteration=1)
        scores = score_pairs(run, pairs["train"], models.generator, iteration=1)
        sets = evaluation_sets(pairs, labelled)
        check_heldout(run, sets)
        evaluate_model(run, seed, sets)
        promote_seed(run, seed)
        trained: dict[int, PlacedModel] = {0: seed}
        judge, current = seed, 0
        for iteration in range(1, config.loop.iterations + 1):
            if iteration > 1 and config.loop.new_pairs_each_iteration:
                pairs = build_pairs(run, instructions, models.generator, iteration)
                scores = score_pairs(run, pairs["train"], models.generator, iteration)
            judgments = judge_pairs(run, iteration, judge, pairs["train"])
            rows = select_rows(run, iteration, pairs["train"], judgments, scores)
            validation = validation_rows(run, iteration, judge, sets["validation"])
            start = seed if config.loop.start_from == "seed" else trained[iteration - 1]
            trained[iteration] = train_judge(run, iteration, (start, seed), rows, validation)
            evaluate_model(run, trained[iteration], sets)
            current = promote(run, trained, iteration, sets, current)
            judge = trained[iteration if config.loop.judge_with == "latest" else current]
    return run.layout


def check_names(config: RunConfig) -> None:
    """Looks up what a config names, before anything is started: it would only show hours later.

    Raises:
        ConfigError: an unknown rubric, kind of damage, category or length, or a rubric whose reason
            finds no room.
    """
    check_pairwise_room(config, ("judge", "evaluation"))
    if config.engine.kind == "classifier":
        raise ConfigError("engine.kind=classifier scores and writes nothing: a loop needs vllm")
    for kind in (*config.perturb.kinds, *config.perturb.without):
        if kind not in PERTURBATIONS:
            raise ConfigError(f"perturb: no kind {kind!r}; there are {', '.join(PERTURBATIONS)}")
    wanted = config.select_instructions
    for key, names, known in (
        ("categories", wanted.categories, CATEGORIES),
        ("expected_lengths", wanted.expected_lengths, EXPECTED_LENGTHS),
    ):
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"select_instructions.{key}: no {name!r}; there are {', '.join(known)}"
                )
