"""One iteration M_t -> M_t+1: judge, select, balance, train."""

from typing import Any

import numpy as np

from selfreward.config_loading import identity
from selfreward.errors import DataError
from selfreward.judging.balance import balance_ranks
from selfreward.layout import join
from selfreward.loops.pools import PlacedModel
from selfreward.loops.session import run_model
from selfreward.loops.sources import Source, fill, on_cluster, output_of
from selfreward.loops.steps import Output, Run, run_step, shards_of
from selfreward.loops.training import Training, train_model
from selfreward.records import Preference, TrainingExample
from selfreward.stages.judge import Judge
from selfreward.stages.select import Balance, Select, ValidationExamples, label_ranks
from selfreward.storage.manifest import Manifest, open_stage
from selfreward.storage.shards import sealed_shards


def judge_pairs(run: Run, iteration: int, judge: PlacedModel, pairs: Source) -> Source:
    """N judgments of every training pair, in the orders of `judge.orders`, by the current judge."""
    config = run.config
    logic = Judge(
        rubric_id=config.judge.rubric,
        sampling=config.judge.sampling,
        guided=config.judge.guided,
        num_draws=config.judge.num_draws,
        # Another seed each iteration: the same pair is read anew.
        seed=config.loop.seed + iteration,
        objective="sft" if config.training.objective == "sft" else "dpo",
        adaptive=config.judge.adaptive,
        draws_per_round=config.judge.draws_per_round,
        max_draws_per_round=config.judge.max_draws_per_round,
        orders=config.judge.orders,
    )
    recipe = {
        "judge": identity(config.judge),
        "objective": config.training.objective,
        "model": judge.ref.fingerprint,
        "engine": identity(config.engine),
        "seed": config.loop.seed,
    }
    output = output_of(run.layout.judgments(iteration), pairs, recipe)
    title = f"judge with M{judge.ref.iteration}"
    return fill(run, title, logic, output, lambda: run.pools.judge(judge))


def select_rows(
    run: Run, iteration: int, pairs: Source, judgments: Source, scores: Source | None = None
) -> Source:
    """Training rows from judgments, with as many A as B verdicts.

    `scores` are how likely the responses of the pairs are, where `select.min_likelihood_margin` is
    to know.

    Raises:
        DataError: nothing is left to train on.
    """
    config = run.config
    sft = config.training.objective == "sft"
    out_type: type[Any] = TrainingExample if sft else Preference
    select = Select(
        rubric_id=config.judge.rubric,
        objective="sft" if sft else "dpo",
        drop_all_right=config.select.drop_all_right,
        preferences_per_example=config.select.preferences_per_example,
        seed=config.loop.seed + iteration,
        out_type=out_type,
        min_likelihood_margin=config.select.min_likelihood_margin,
    )
    recipe = {
        "select": identity(config.select),
        "objective": config.training.objective,
        "rubric": config.judge.rubric,
        "input": judgments.fingerprint,
        "seed": config.loop.seed,
    }
    sources = [pairs, judgments]
    if scores is not None:
        sources.append(scores)
        recipe["scores"] = scores.fingerprint
    selected = run.layout.selected(iteration)
    (chosen,) = run_step(
        run,
        "select",
        select,
        [
            Output(
                folder=selected,
                inputs=shards_of(*(source.folder for source in sources)),
                recipe=recipe,
                num_rows=pairs.num_records,
            )
        ],
    )
    folder = run.layout.examples(iteration) if sft else run.layout.preferences(iteration)
    recipe = {"input": chosen.fingerprint, "balance": config.select.balance}
    if not config.select.balance:
        # Every row is kept: the selected rows are the training rows.
        return _some(iteration, chosen, Source.of(selected, chosen))
    cutoffs: dict[str, int] = {}
    if not open_stage(folder, "balance", recipe).is_complete:
        cutoffs = _label_cutoffs(run, selected, out_type)
    (balanced,) = run_step(
        run,
        "balance",
        Balance(cutoffs=cutoffs, out_type=out_type),
        [
            Output(
                folder=folder,
                inputs=shards_of(selected),
                recipe=recipe,
                num_rows=chosen.num_records,
            )
        ],
    )
    run.display.line(
        f"iteration {iteration}: {balanced.num_records} balanced training rows of"
        f" {chosen.num_records} selected from {pairs.num_records} pairs"
    )
    return _some(iteration, chosen, Source.of(folder, balanced))


def _some(iteration: int, selected: Manifest, rows: Source) -> Source:
    """Passes rows on, if there are any to train on."""
    if rows.num_records == 0:
        raise DataError(
            f"iteration {iteration}: nothing to train on; {selected.num_records} rows were selected"
            f" (dropped: {selected.drops or 'none'}) and none is left with as many A as B verdicts;"
            " raise judge.num_draws or judge.sampling.temperature, or set select.balance=false"
        )
    return rows


def _label_cutoffs(run: Run, selected: str, out_type: type[Any]) -> dict[str, int]:
    ranks: dict[str, list[np.ndarray]] = {"first": [], "second": []}
    for url in sealed_shards(selected):
        for gold, values in on_cluster(run, label_ranks, url, out_type).items():
            ranks[gold].append(values)
    empty = np.array([], dtype=np.int64)
    first, second = (np.concatenate([empty, *ranks[gold]]) for gold in ("first", "second"))
    return {str(gold): cutoff for gold, cutoff in balance_ranks(first, second).items()}


def validation_rows(run: Run, iteration: int, judge: PlacedModel, validation: Source) -> list[str]:
    """Shards of right verdicts on the validation pairs, for evaluation while training."""
    if validation.num_records == 0:
        return []
    readings = join(run.layout.evaluation(judge.ref.iteration), "validation")
    folder = run.layout.stage(iteration, "validation_examples")
    recipe = {
        "rubric": run.config.judge.rubric,
        "model": judge.ref.fingerprint,
        "input": validation.fingerprint,
    }
    output = Output(
        folder=folder,
        inputs=shards_of(validation.folder, readings),
        recipe=recipe,
        num_rows=validation.num_records,
    )
    run_step(
        run, "validation rows", ValidationExamples(rubric_id=run.config.judge.rubric), [output]
    )
    return sealed_shards(folder)


def train_judge(
    run: Run,
    iteration: int,
    models: tuple[PlacedModel, PlacedModel],
    rows: Source,
    validation: list[str],
) -> PlacedModel:
    """Trains M_t on the selected rows; a finished training is not repeated.

    `models` are the one to start from and the run's first one, the reference where
    `training.dpo_reference` says so.
    """
    start, first = models
    training = run.config.training
    wanted = Training(
        model=f"M{iteration}",
        name=f"iteration-{iteration:02d}",
        config=training,
        rows=(rows,),
        folder=run.layout.training(iteration),
        output=run.layout.checkpoint(iteration),
        seed=run.config.loop.seed + iteration,
        validation=tuple(validation),
        reference=first if training.needs_first_model else None,
    )
    train_model(run, start, wanted)
    return run_model(run.layout, run.config.model, iteration)
