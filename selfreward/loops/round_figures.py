"""The figures of a self-rewarding round: they are known before its model is trained, and a round
that has collapsed trains none."""

from typing import Any

from selfreward.config import RunConfig
from selfreward.errors import NothingToLearnError
from selfreward.evaluation import rewarding
from selfreward.layout import join
from selfreward.loops.create import created_folder, creation_counts
from selfreward.loops.sources import on_cluster
from selfreward.loops.steps import Run
from selfreward.metrics.collapse import CollapseFigures, collapse_reasons, limits
from selfreward.records import DropReason
from selfreward.storage import files
from selfreward.storage.manifest import read_manifest

_SIMILAR = (
    DropReason.SIMILAR_INSTRUCTION,
    DropReason.NEAR_DUPLICATE,
    DropReason.EXACT_DUPLICATE,
)


def tie_spread(config: RunConfig) -> float:
    """How far apart scores may be that count as one: expectations are hardly ever equal."""
    return config.collapse.tie_spread if config.rating.expected else 0.0


def round_figures(run: Run, iteration: int, scale: tuple[float, float]) -> dict[str, Any]:
    """What the round that makes M_t drew, scored and kept, as plain data."""
    config, layout = run.config, run.layout
    figures: dict[str, Any] = {
        "candidates": on_cluster(
            run,
            rewarding.candidate_figures,
            layout.responses(iteration),
            layout.stage(iteration, "ratings"),
            scale,
            layout.preferences(iteration) if config.preferences.kind == "pairs" else None,
            tie_spread(config),
        )
    }
    if config.self_instruct.enabled:
        rounds = range(config.self_instruct.rounds)
        kept = [created_folder(run, iteration, "kept", n) for n in rounds]
        figures["creation"] = creation_counts(run, iteration) | {
            "diversity": on_cluster(run, rewarding.creation_figures, kept)
        }
    return figures


def watched_of_round(figures: dict[str, Any]) -> dict[str, float | None]:
    """The watched figures among those of a round; None where there was no round."""
    candidates, creation = figures.get("candidates") or {}, figures.get("creation")
    similar = None
    if creation is not None and creation["created"]:
        similar = sum(creation.get(r.value, 0) for r in _SIMILAR) / creation["created"]
    return {
        "tie_rate": candidates.get("tie_rate"),
        "distinct_2": None if creation is None else _distinct_2(creation["diversity"]),
        "near_duplicate_rate": similar,
    }


def check_round(run: Run, iteration: int, scale: tuple[float, float]) -> None:
    """Writes the round's figures as `round.json` and looks for a collapse, before M_t is trained.

    Where M_t is trained already, by looser thresholds than today's, its examination decides: it
    takes back a promotion too.

    Raises:
        NothingToLearnError: a figure is beyond its threshold.
    """
    training = read_manifest(run.layout.training(iteration))
    if training is not None and training.is_complete:
        return
    figures = round_figures(run, iteration, scale)
    watched = CollapseFigures(**watched_of_round(figures))
    reasons = collapse_reasons(watched, run.config.collapse)
    figures["collapse"] = watch(watched, reasons, run.config)
    files.write_json(join(run.layout.iteration(iteration), "round.json"), figures)
    if reasons:
        raise NothingToLearnError("; ".join(reasons))


def watch(watched: CollapseFigures, reasons: list[str], config: RunConfig) -> dict[str, Any]:
    """What was watched, against which limits, and the reasons to stop, as plain data."""
    return {
        "figures": watched.to_dict(),
        "limits": limits(config.collapse),
        "reasons": reasons,
    }


def _distinct_2(diversity: dict[str, Any]) -> float | None:
    """By a sample of fixed size where there are so many, since the plain share falls with size."""
    at_sample: float | None = diversity["distinct_2_at_sample"]
    plain: float | None = diversity["distinct_2"]
    return plain if at_sample is None else at_sample
