"""The tables of a self-rewarding run: what each iteration drew and kept, how its model fares."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from selfreward.layout import Layout, join
from selfreward.reports.watch import WatchRow, histogram, watch_rows
from selfreward.storage.shards import LOST_DRAWS


def stage_folders(layout: Layout, iterations: int, rounds: int) -> list[tuple[str, str]]:
    """Titles and folders of the loop's stages, in the order in which they are made."""
    found = [
        ("pool", layout.pool),
        ("answered seeds", join(layout.root, "seeds", "ift")),
        ("ranked responses", join(layout.root, "seeds", "ranked")),
        ("baseline train", layout.stage(1, "baseline_training")),
        ("judge ranked", layout.stage(1, "eft_ratings")),
        ("agreeing judgments", layout.stage(1, "eft")),
        ("train 1", layout.training(1)),
    ]
    for i in range(2, iterations + 1):
        for number in range(rounds):
            for stage, title in (("created", "create"), ("kept", "filter")):
                folder = join(layout.stage(i, stage), f"{number:02d}")
                found.append((f"{title} {i}, round {number + 1}", folder))
        found += [
            (f"respond {i}", layout.responses(i)),
            (f"respond {i}, first model", layout.stage(i, "first_responses")),
            (f"score {i}", layout.stage(i, "ratings")),
            (f"pairs {i}", layout.preferences(i)),
            (f"positives {i}", layout.examples(i)),
            (f"meta-judge {i}", layout.stage(i, "meta_judgments")),
            (f"judgment pairs {i}", layout.stage(i, "meta_preferences")),
            (f"train {i}", layout.training(i)),
        ]
    return found


def rewarding_tables(
    figures: dict[int, dict[str, Any]], watched: dict[int, dict[str, Any]]
) -> list[Table]:
    """The tables of the models' figures (`figures.json`) and of what was watched, by iteration."""
    tables = [_models(figures)]
    rows = watch_rows(watched)
    if rows:
        tables.append(_watch(rows, [f"M{i}" for i in sorted(watched)]))
    counted = {i: counts for i, found in figures.items() if (counts := histogram(found))}
    if counted:
        tables.append(_histogram(counted))
    if any(found.get("head_to_head") for found in figures.values()):
        tables.append(_head_to_head(figures))
    if any(found["scored"] for found in figures.values()):
        tables.append(_scored(figures))
    return tables


def _table(title: str, headings: tuple[str, ...], num_left: int) -> Table:
    table = Table(title=title, title_justify="left", pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < num_left else "right")
    return table


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _models(figures: dict[int, dict[str, Any]]) -> Table:
    headings = (
        *("model", "kept", "draws lost", "pairs", "ties", "score", "top score", "length"),
        *("perplexity", "KL/token", "tau with M0"),
    )
    table = _table("Models", headings, 1)
    for iteration, found in figures.items():
        creation, candidates = found.get("creation"), found.get("candidates") or {}
        pairs = candidates.get("pairs")
        own, kl = found["own_scores"], found.get("kl")
        table.add_row(
            f"M{iteration}",
            "" if creation is None else f"{creation['kept']} of {creation['created']}",
            _number(lost_draws(candidates), 0),
            "" if pairs is None else str(pairs["n"]),
            _number(candidates.get("tie_rate")),
            _number(own["mean_score"]),
            # Expected scores hardly ever are the top score itself.
            _number(own["top_level_share"]),
            _number(own["mean_length"], 0),
            "" if found["perplexity"] is None else _number(found["perplexity"]["perplexity"]),
            # To M0, as its threshold has it: per response it would grow with the length.
            "" if kl is None else _number(kl["kl_per_token"], 3),
            _number((found.get("seed_agreement") or {}).get("kendall_tau")),
        )
    return table


def lost_draws(candidates: Mapping[str, Any]) -> int | None:
    """Draws that were empty or cut and not kept; None where no candidates were drawn."""
    lost: Mapping[str, int] | None = candidates.get(LOST_DRAWS)
    return None if lost is None else sum(lost.values())


def _watch(rows: Sequence[WatchRow], models: Sequence[str]) -> Table:
    table = _table("Watch (! is beyond its limit)", ("figure", "limit", *models), 2)
    for line in rows:
        marked = zip(line.values, line.beyond, strict=True)
        table.add_row(line.name, line.limit, *(v + "!" * beyond for v, beyond in marked))
    return table


def _histogram(counted: dict[int, dict[str, int]]) -> Table:
    levels = list(dict.fromkeys(level for counts in counted.values() for level in counts))
    headings = ("model", *(f"score {level}" for level in levels))
    table = _table("Its own answers by score", headings, 1)
    for iteration, counts in counted.items():
        table.add_row(f"M{iteration}", *(str(counts.get(level, 0)) for level in levels))
    return table


def _head_to_head(figures: dict[int, dict[str, Any]]) -> Table:
    judges = {f["head_to_head_judge"] for f in figures.values() if f.get("head_to_head_judge")}
    headings = (
        *("model", "against", "n", "failed", "win", "tie", "loss"),
        *("win + tie/2", "interval", "length"),
    )
    table = _table(f"Answers compared by {', '.join(sorted(judges))}", headings, 2)
    for iteration, found in figures.items():
        for rival, report in (found.get("head_to_head") or {}).items():
            failed = "" if report is None else str(report["num_failed"])
            if report is None or report["n"] == 0:
                table.add_row(f"M{iteration}", rival, "0", failed)
                continue
            low, high = report["adjusted_win_rate_ci"]
            lengths = (report["mean_model_length"], report["mean_baseline_length"])
            table.add_row(
                f"M{iteration}",
                rival,
                str(report["n"]),
                failed,
                *(_number(report[f"{what}_rate"]) for what in ("win", "tie", "loss")),
                _number(report["adjusted_win_rate"]),
                f"{low:.2f}-{high:.2f}",
                " / ".join(_number(length, 0) for length in lengths),
            )
    return table


def _scored(figures: dict[int, dict[str, Any]]) -> Table:
    headings = (
        *("model", "set", "pairs right", "interval", "ties half", "5-best", "exact"),
        *("Spearman", "Kendall", "failed"),
    )
    table = _table("Scores against people's", headings, 2)
    for iteration, found in figures.items():
        for name, reports in found["scored"].items():
            report = reports["reward_modelling"]
            interval = report["pairwise_accuracy_ci"]
            table.add_row(
                f"M{iteration}",
                name,
                _number(report["pairwise_accuracy"], 3),
                "" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}",
                _number(report["pairwise_accuracy_ties_half"], 3),
                _number(report["five_best"]),
                _number(report["exact_match"]),
                _number(report["spearman"]),
                _number(report["kendall_tau"]),
                f"{report['num_failed']} of {report['num_responses']}",
            )
    return table
