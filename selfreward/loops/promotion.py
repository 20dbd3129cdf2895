"""The self-taught loop's promotion: `current.json` moves to a judge that was measured better."""

from collections.abc import Mapping
from typing import Any

from selfreward.config_loading import identity
from selfreward.layout import join
from selfreward.loops.judged_better import judged_better, own_answers
from selfreward.loops.pairs import ASIDE
from selfreward.loops.people import refused_by_people
from selfreward.loops.pointer import point_to
from selfreward.loops.pools import PlacedModel
from selfreward.loops.scoring import HELDOUT, evaluation_url
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.storage import files
from selfreward.storage.checkpoints import read_current
from selfreward.storage.manifest import read_manifest


def promote_seed(run: Run, seed: PlacedModel) -> None:
    """The seed model is the judge until something better was measured."""
    if read_current(run.layout) is not None:
        return
    reports = files.read_json(evaluation_url(run, 0))
    point_to(run, seed, reports[HELDOUT]["accuracy"], "the seed model")


def promote(
    run: Run,
    models: Mapping[int, PlacedModel],
    iteration: int,
    sets: dict[str, Source],
    incumbent: int,
) -> int:
    """Moves `current.json` to the iteration's model if it beats the incumbent iteration.

    Labelled pairs decide where the user has some, else the held-out constructed ones: a loop that
    is only asked about pairs of its own making climbs its own hill. Returns the iteration that is
    current after this decision. The decision is written before the pointer moves, so that an
    attempt which ended in between finishes it and does not decide again. Where it was decided on
    other readings or by other thresholds, or only people's answers were missing or against it, the
    same command decides anew, and takes a promotion back that no longer holds.
    """
    url = join(run.layout.iteration(iteration), "promotion.json")
    labelled = {n: s for n, s in sets.items() if n not in ASIDE and s.num_records > 0}
    asked = labelled or {HELDOUT: sets[HELDOUT]}
    decided_on = _decided_on(run, iteration, asked, incumbent)
    decision: dict[str, Any] = files.read_json(url) if files.exists(url) else {}
    if decision.get("waits_for_people") or decision.get("decided_on") != decided_on:
        decision = _decide(run, iteration, asked, incumbent) | {"decided_on": decided_on}
        files.write_json(url, decision)
    current = read_current(run.layout)
    if decision["promoted"]:
        if current is None or current.iteration < iteration:
            point_to(run, models[iteration], decision["accuracy"], decision["reason"])
        return iteration
    if current is not None and current.iteration == iteration:
        point_to(run, models[incumbent], None, f"M{iteration} {decision['reason']}")
    return incumbent


def _decided_on(
    run: Run, iteration: int, sets: dict[str, Source], incumbent: int
) -> dict[str, Any]:
    """What a decision follows from: both judges' readings of each set, and the thresholds."""
    readings = {}
    for name in sets:
        found = (
            read_manifest(join(run.layout.evaluation(i), name)) for i in (incumbent, iteration)
        )
        readings[name] = [m.fingerprint if m is not None else None for m in found]
    own = own_answers(run, sets)
    return {
        "compared_with": incumbent,
        "readings": readings,
        "promotion": identity(run.config.promotion),
        "seed": run.config.loop.seed,
        # Without any the card knows of no self-preference, as in decisions of earlier versions.
        **({"own_answers": len(own)} if own else {}),
    }


def _decide(run: Run, iteration: int, sets: dict[str, Source], incumbent: int) -> dict[str, Any]:
    config = run.config
    compared = judged_better(run, sets, incumbent, iteration)
    decision = compared.decision
    promoted, reason = decision.promote, decision.reason
    refusal = refused_by_people(run, iteration) if promoted else None
    if refusal is not None:
        promoted, reason = False, f"not promoted: {refusal} ({reason})"
    if promoted and not config.promotion.enabled:
        promoted, reason = False, f"not moved, since promotion.enabled is false ({reason})"
    run.display.line(f"M{iteration} {reason}")
    return {
        "promoted": promoted,
        "waits_for_people": refusal is not None,
        "compared_with": incumbent,
        "on": sorted(sets),
        "accuracy": decision.accuracy,
        "reason": reason,
        "difference": decision.difference,
        "p_value": decision.p_value,
        "card": compared.after.to_dict(),
        "card_of_compared": compared.before.to_dict(),
    }
