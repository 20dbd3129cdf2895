"""Steps that measure a judge on pairs kept out of training, and promote it if it is better."""

from typing import Any

from selfreward.config_loading import identity
from selfreward.evaluation.outcomes import measure, pair_outcomes, read_outcomes
from selfreward.layout import join
from selfreward.loops.pairs import ASIDE, Source
from selfreward.loops.people import refused_by_people
from selfreward.loops.pools import PlacedModel
from selfreward.loops.steps import Output, Run, run_step, shards_of
from selfreward.metrics.bias import worse_figures
from selfreward.metrics.promotion import decide_promotion
from selfreward.stages.judge import Judge
from selfreward.storage import files
from selfreward.storage.checkpoints import CurrentJudge, read_current, write_current

HELDOUT, VALIDATION = ASIDE


def evaluation_sets(pairs: dict[str, Source], labelled: dict[str, Source]) -> dict[str, Source]:
    """What every judge is measured on, by name; validation only serves to choose checkpoints."""
    return {HELDOUT: pairs[HELDOUT], VALIDATION: pairs[VALIDATION], **labelled}


def evaluate_model(run: Run, model: PlacedModel, sets: dict[str, Source]) -> dict[str, Any]:
    """Judges every set once in both orders and writes `evaluation.json` of the iteration."""
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
        Output(
            folder=folders[name],
            inputs=shards_of(source.folder),
            recipe=recipe | {"input": source.fingerprint},
            num_rows=source.num_records,
        )
        for name, source in sets.items()
        if source.num_records > 0
    ]
    run_step(run, f"evaluate M{iteration}", logic, outputs, lambda: run.pools.judge(model))
    url = evaluation_url(run, iteration)
    if files.exists(url):
        report: dict[str, Any] = files.read_json(url)
        return report
    reports = {
        name: measure(
            name,
            read_outcomes(source.folder, folders[name]),
            config.evaluation,
            config.loop.seed,
        )
        for name, source in sets.items()
        if source.num_records > 0
    }
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


def promote_seed(run: Run, seed: PlacedModel) -> None:
    """The seed model is the judge until something better was measured."""
    if read_current(run.layout) is not None:
        return
    reports = files.read_json(evaluation_url(run, 0))
    write_current(
        run.layout,
        CurrentJudge(
            iteration=0,
            checkpoint=seed.ref.name,
            fingerprint=seed.ref.fingerprint,
            accuracy=reports[HELDOUT]["accuracy"],
            reason="the seed model",
        ),
    )


def promote(run: Run, model: PlacedModel, sets: dict[str, Source], incumbent: int) -> int:
    """Moves `current.json` to the model if it beats the incumbent iteration.

    Labelled pairs decide where the user has some, else the held-out constructed ones: a loop that
    is only asked about pairs of its own making climbs its own hill. Returns the iteration that is
    current after this decision. The decision is written before the pointer moves, so that an
    attempt which ended in between finishes it and does not decide again. Where only people's
    answers were missing or against it, the same command decides anew.
    """
    iteration = model.ref.iteration
    url = join(run.layout.iteration(iteration), "promotion.json")
    if not files.exists(url) or files.read_json(url).get("waits_for_people"):
        labelled = {n: s for n, s in sets.items() if n not in ASIDE and s.num_records > 0}
        _decide(run, iteration, labelled or {HELDOUT: sets[HELDOUT]}, incumbent, url)
    decision = files.read_json(url)
    if not decision["promoted"]:
        return incumbent
    current = read_current(run.layout)
    if current is None or current.iteration < iteration:
        write_current(
            run.layout,
            CurrentJudge(
                iteration=iteration,
                checkpoint=run.layout.checkpoint(iteration),
                fingerprint=model.ref.fingerprint,
                accuracy=decision["accuracy"],
                reason=decision["reason"],
            ),
        )
    return iteration


def _decide(run: Run, iteration: int, sets: dict[str, Source], incumbent: int, url: str) -> None:
    config = run.config
    before, after = (
        {
            name: read_outcomes(source.folder, join(run.layout.evaluation(i), name))
            for name, source in sets.items()
        }
        for i in (incumbent, iteration)
    )
    paired = pair_outcomes(before, after)
    card_before, card_after = paired.cards
    decision = decide_promotion(
        *paired.accuracies,
        max_p_value=config.promotion.max_p_value,
        worse=worse_figures(card_before, card_after, config.promotion.max_worse),
        seed=config.loop.seed,
    )
    promoted, reason = decision.promote, decision.reason
    refusal = refused_by_people(run, iteration) if promoted else None
    if refusal is not None:
        promoted, reason = False, f"not promoted: {refusal} ({reason})"
    if promoted and not config.promotion.enabled:
        promoted, reason = False, f"not moved, since promotion.enabled is false ({reason})"
    files.write_json(
        url,
        {
            "promoted": promoted,
            "waits_for_people": refusal is not None,
            "compared_with": incumbent,
            "on": sorted(sets),
            "accuracy": decision.accuracy,
            "reason": reason,
            "difference": decision.difference,
            "p_value": decision.p_value,
            "card": card_after.to_dict(),
            "card_of_compared": card_before.to_dict(),
        },
    )
    run.display.line(f"M{iteration} {reason}")
