"""What follows from a model's figures in the self-rewarding loop: promoted, kept back, or stop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from selfreward.layout import join
from selfreward.loops.judged_better import judged_better
from selfreward.loops.pointer import point_to
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.metrics.head_to_head import sign_test
from selfreward.records import DropReason
from selfreward.storage import files
from selfreward.storage.checkpoints import read_current


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which iteration is current, and whether the loop ends here.

    Example: `Decision(current=2, stop=False)`
    """

    current: int
    stop: bool


def promote_first(run: Run, seed: PlacedModel) -> None:
    """The seed is current until something better was measured."""
    if read_current(run.layout) is None:
        point_to(run, seed, None, "the seed model")


def decide(
    run: Run,
    models: Mapping[int, PlacedModel],
    iteration: int,
    figures: dict[str, Any],
    labelled: dict[str, Source],
    current: int,
) -> Decision:
    """Writes `promotion.json` and moves `current.json` where the model earned it.

    A collapsed model is never current, and the loop ends with it. Otherwise labelled pairs decide
    where the user has some, as in the self-taught loop, unless its answers lose the head-to-head
    with the current model by more than chance explains; without them, that head-to-head: it must
    be won by more than chance explains. The decision follows from the
    figures and readings alone, so an attempt that ended in between comes to the same one, and
    thresholds that were tightened since take back what they would not have let through.
    """
    collapsed: list[str] = figures["collapse"]["reasons"]
    accuracy: float | None = None
    if collapsed:
        promoted, reason = False, f"not promoted: {'; '.join(collapsed)}"
    elif labelled:
        promoted, reason, accuracy = _by_labelled_pairs(run, iteration, labelled, current)
        lost = _lost_to(run, figures, current) if promoted else None
        if lost is not None:
            promoted, reason = False, f"not {reason}, but its answers lose: {lost}"
    else:
        promoted, reason = _by_head_to_head(run, figures, current)
    if promoted and not run.config.promotion.enabled:
        promoted, reason = False, f"not moved, since promotion.enabled is false ({reason})"
    stop = bool(collapsed)
    written = {
        "promoted": promoted,
        "compared_with": current,
        "accuracy": accuracy,
        "reason": reason,
        "stopped": stop,
        "card": figures["card"],
    }
    kept = iteration if promoted else current
    _tell(run, iteration, written, kept)
    pointed = read_current(run.layout)
    if promoted and (pointed is None or pointed.iteration < iteration):
        point_to(run, models[iteration], accuracy, reason)
    elif not promoted and pointed is not None and _taken_back(pointed.iteration, iteration, stop):
        point_to(run, models[kept], None, f"M{iteration} {reason}")
    return Decision(current=kept, stop=stop)


def stop_untrained(run: Run, iteration: int, why: str, current: int) -> None:
    """Ends the loop at a round that is not trained on: its figures tell a collapse, or it left
    nothing, which is a collapse too, since a model that scores every answer alike teaches nothing.
    The current model stays; writes `promotion.json`."""
    written: dict[str, Any] = {
        "promoted": False,
        # There is no model that anything could be compared with.
        "compared_with": None,
        "accuracy": None,
        "reason": f"not trained: {why}",
        "stopped": True,
        "card": {},
    }
    _tell(run, iteration, written, current)


def _tell(run: Run, iteration: int, written: dict[str, Any], kept: int) -> None:
    """Writes a decision and says it; `kept` is the iteration that is current after it."""
    files.write_json(join(run.layout.iteration(iteration), "promotion.json"), written)
    run.display.line(f"M{iteration} {written['reason']}")
    if written["stopped"]:
        left = run.config.loop.iterations - iteration
        run.display.line(
            f"stopped after iteration {iteration}{f', {left} left' if left else ''}: the loop is"
            f" collapsing; M{kept} stays current"
        )


def _taken_back(pointed: int, iteration: int, stop: bool) -> bool:
    """Whether the pointer is on a model that no longer stands: this one, or a later one that the
    loop does not come to. A later one that it comes to is decided on in its turn."""
    return pointed == iteration or (stop and pointed > iteration)


def _by_labelled_pairs(
    run: Run, iteration: int, labelled: dict[str, Source], current: int
) -> tuple[bool, str, float]:
    decision = judged_better(run, labelled, current, iteration).decision
    return decision.promote, decision.reason, decision.accuracy


def _by_head_to_head(run: Run, figures: dict[str, Any], current: int) -> tuple[bool, str]:
    rival = f"M{current}"
    report = figures["head_to_head"][rival]
    if report is None:
        return (
            False,
            f"not promoted: no held-out instruction was answered by {rival} too",
        )
    if report["n"] == 0:
        return False, f"not promoted: {_without_verdict(run, rival, report['failed_readings'])}"
    wins, losses = report["num_wins"], report["num_losses"]
    p = sign_test(wins, losses)
    promoted = wins > losses and p <= run.config.promotion.max_p_value
    told = _compared(run, rival, report, p)
    return promoted, f"{'promoted' if promoted else 'not promoted'}: {told}"


def _lost_to(run: Run, figures: dict[str, Any], current: int) -> str | None:
    """The comparison with the current model where it is lost by more than chance explains."""
    report = figures["head_to_head"][f"M{current}"]
    if report is None:
        return None
    wins, losses = report["num_wins"], report["num_losses"]
    p = sign_test(losses, wins)
    if losses <= wins or p > run.config.promotion.max_p_value:
        return None
    return _compared(run, f"M{current}", report, p)


def _compared(run: Run, rival: str, report: dict[str, Any], p: float) -> str:
    wins, ties, losses = (report[f"num_{what}"] for what in ("wins", "ties", "losses"))
    max_p = run.config.promotion.max_p_value
    return (
        f"{wins} wins, {ties} ties, {losses} losses against {rival}, one-sided sign test p"
        f" {p:.2g} {'<=' if p <= max_p else '>'} {max_p:g}"
    )


def _without_verdict(run: Run, rival: str, failed_readings: Mapping[str, int]) -> str:
    """Why nothing is known of the comparison, and what to change for the commonest reason."""
    failed = {what: n for what, n in failed_readings.items() if n}
    counted = ", ".join(f"{what} {n}" for what, n in failed.items())
    commonest = max(failed, key=lambda what: failed[what], default="")
    if commonest == DropReason.PROMPT_TOO_LONG:
        engine = run.config.engine
        told = (
            "they do not fit the judge's context; lower respond.sampling.max_tokens, or raise"
            f" engine.max_model_len={engine.max_model_len}"
        )
    elif commonest == DropReason.ENGINE_FAILURE:
        told = "the judge's engine refused them; name another evaluation.head_to_head_judge"
    else:
        told = "set judge.guided=true or name another evaluation.head_to_head_judge"
    return f"no comparison with {rival} has a verdict (readings: {counted}); {told}"
