"""The step that measures a judge on pairs kept out of training."""

from collections import Counter
from typing import Any

from selfreward.config_loading import identity
from selfreward.errors import DataError
from selfreward.evaluation.outcomes import measure, nothing_judged, read_outcomes
from selfreward.layout import join
from selfreward.loops.pairs import ASIDE
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source, output_of
from selfreward.loops.steps import Run, run_step
from selfreward.stages.judge import Judge
from selfreward.storage import files
from selfreward.storage.manifest import read_manifest

HELDOUT, VALIDATION = ASIDE
_HELDOUT_STAGES = ("categorised", "instructions", "responses", "corrupted", "perturbed", "pairs")


def evaluation_sets(pairs: dict[str, Source], labelled: dict[str, Source]) -> dict[str, Source]:
    """What every judge is measured on, by name; validation only serves to choose checkpoints."""
    return {HELDOUT: pairs[HELDOUT], VALIDATION: pairs[VALIDATION], **labelled}


def check_heldout(run: Run, sets: dict[str, Source]) -> None:
    """Raises DataError where no held-out pair is left to measure a judge on."""
    if sets[HELDOUT].num_records > 0:
        return
    drops: Counter[str] = Counter()
    for stage in _HELDOUT_STAGES:
        manifest = read_manifest(run.layout.split(HELDOUT, stage))
        drops.update(manifest.drops if manifest is not None else {})
    told = ", ".join(f"{reason} {n}" for reason, n in drops.most_common())
    raise DataError(
        f"none of {run.config.evaluation.heldout_pairs} held-out instructions became a pair"
        f" (dropped: {told or 'none'}); loosen what drops them (respond.keep_truncated=true, a"
        " larger sampling.max_tokens, select_instructions) or raise evaluation.heldout_pairs"
    )


def evaluate_model(run: Run, model: PlacedModel, sets: dict[str, Source]) -> dict[str, Any]:
    """Judges every set once in both orders and writes `evaluation.json` of the iteration.

    The report is made anew each time: it costs no engine, and what it is of may have changed.
    """
    config = run.config
    iteration = model.ref.iteration
    logic = Judge(
        rubric_id=config.judge.rubric,
        sampling=config.evaluation.sampling,
        guided=config.judge.guided,
        num_draws=1,
        seed=config.loop.seed,
        objective="sft",
        adaptive=False,
        name="evaluate",
    )
    recipe = {
        "model": model.ref.fingerprint,
        "sampling": identity(config.evaluation.sampling),
        "rubric": config.judge.rubric,
        "guided": config.judge.guided,
        "engine": identity(config.engine),
    }
    folders = {name: join(run.layout.evaluation(iteration), name) for name in sets}
    outputs = [
        output_of(folders[name], source, recipe)
        for name, source in sets.items()
        if source.num_records > 0
    ]
    run_step(run, f"evaluate M{iteration}", logic, outputs, lambda: run.pools.judge(model))
    reports: dict[str, Any] = {}
    for name, source in sets.items():
        if source.num_records > 0:
            outcomes = read_outcomes(source.folder, folders[name])
            if not outcomes:
                raise nothing_judged(name, folders[name])
            reports[name] = measure(name, outcomes, config.evaluation, config.loop.seed)
    url = evaluation_url(run, iteration)
    if files.exists(url) and files.read_json(url) == reports:
        return reports
    files.write_json(url, reports)
    if HELDOUT in reports:
        heldout = reports[HELDOUT]
        low, high = heldout["accuracy_ci"]
        run.display.line(
            f"M{iteration}: accuracy {heldout['accuracy']:.3f} [{low:.3f}, {high:.3f}] on"
            f" {heldout['n']} held-out pairs, right in both orders"
            f" {heldout['position_consistent_accuracy']:.3f}"
        )
    return reports


def evaluation_url(run: Run, iteration: int) -> str:
    return join(run.layout.evaluation(iteration), "evaluation.json")
