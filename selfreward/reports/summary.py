"""The table at the end of a run, and of `selfreward status`: read from the run folder alone."""

from dataclasses import dataclass
from typing import Any

import yaml
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from selfreward.errors import DataError
from selfreward.layout import Layout, join
from selfreward.reports.custom_llm import LlmReport, llm_folders, read_llm
from selfreward.reports.rewarding import rewarding_tables, stage_folders
from selfreward.storage import files
from selfreward.storage.manifest import Manifest, read_manifest
from selfreward.storage.shards import LOST_DRAWS


def _counted(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLine:
    """One stage's folder with its manifest."""

    title: str
    folder: str
    manifest: Manifest

    @property
    def why_dropped(self) -> str:
        """Reasons with their numbers: of the rows that left, and of the draws that were lost."""
        drops = _counted(self.manifest.drops)
        draws = _counted(self.manifest.ledger.get(LOST_DRAWS, {}))
        return "; ".join(part for part in (drops, draws and f"draws lost: {draws}") if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run folder holds, for people."""

    layout: Layout
    record: dict[str, Any]
    stages: list[StageLine]
    evaluations: dict[int, dict[str, Any]]
    promotions: dict[int, dict[str, Any]]
    figures: dict[int, dict[str, Any]]
    """Of a self-rewarding run: each model's `figures.json`."""
    watched: dict[int, dict[str, Any]]
    """What was watched of each, and of a round that trained no model: figures, limits, reasons."""
    current: dict[str, Any] | None
    llm: LlmReport | None = None
    """Of a run of one's own LLM."""

    @property
    def is_complete(self) -> bool:
        """True where every iteration the recipe asks for was trained and promoted or not, or the
        loop ended by itself before; of one's own LLM, where every stage was measured."""
        if self.llm is not None:
            return self.llm.is_complete
        if any(p.get("stopped") for p in self.promotions.values()):
            return True
        return all(i in self.promotions for i in range(1, self.record["iterations"] + 1))


def read_summary(layout: Layout) -> RunSummary:
    """Reads a run folder.

    Raises:
        DataError: there is no run.
    """
    record = _json(layout.run_json)
    if record is None:
        raise DataError(f"no run at {layout.root}: it has no run.json")
    try:
        config = yaml.safe_load(files.read_bytes(layout.config))
        iterations = config["loop"]["iterations"]
    except FileNotFoundError:
        config, iterations = {}, record["iterations"]
    folders = _folders(layout, iterations)
    if record.get("loop") == "self_rewarding":
        rounds = config["self_instruct"]["rounds"] if config else 0
        folders = stage_folders(layout, iterations, rounds)
    llm = None
    if record.get("loop") == "custom_llm":
        folders = llm_folders(layout, record["stages"])
        llm = read_llm(layout, record["stages"], config["custom_llm"]["probe"] if config else "")
    stages = [
        StageLine(title=_titled(title, manifest), folder=folder, manifest=manifest)
        for title, folder in folders
        if (manifest := read_manifest(folder)) is not None
    ]
    numbers = range(iterations + 1)
    figures = _by_iteration(layout, numbers, "evaluation/figures.json")
    measured = _by_iteration(layout, numbers, "round.json") | figures
    current = _json(layout.current)
    return RunSummary(
        layout=layout,
        record=record | {"iterations": iterations},
        stages=stages,
        evaluations=_by_iteration(layout, numbers, "evaluation/evaluation.json"),
        promotions=_by_iteration(layout, numbers, "promotion.json"),
        figures=figures,
        watched={i: found["collapse"] for i, found in measured.items() if "collapse" in found},
        current=current["current"] if current else None,
        llm=llm,
    )


def _titled(title: str, manifest: Manifest) -> str:
    """Where nothing is gathered, the pairs are what the engines made."""
    return title.replace("pairs", manifest.stage) if manifest.stage == "corrupt" else title


def _json(url: str) -> Any:
    try:
        return files.read_json(url)
    except FileNotFoundError:
        return None


def _by_iteration(layout: Layout, numbers: range, name: str) -> dict[int, dict[str, Any]]:
    found = {i: _json(join(layout.iteration(i), name)) for i in numbers}
    return {i: data for i, data in found.items() if data is not None}


def _folders(layout: Layout, iterations: int) -> list[tuple[str, str]]:
    once = [
        ("pool", layout.pool),
        ("categorise", layout.categorised),
        ("select instructions", layout.instructions),
        ("categorise, held out", layout.split("heldout", "categorised")),
        ("select instructions, held out", layout.split("heldout", "instructions")),
        ("respond, held out", layout.split("heldout", "responses")),
        ("corrupt, held out", layout.split("heldout", "corrupted")),
        ("perturb, held out", layout.split("heldout", "perturbed")),
        ("pairs, held out", layout.split("heldout", "pairs")),
        ("categorise, validation", layout.split("validation", "categorised")),
        ("select instructions, validation", layout.split("validation", "instructions")),
        ("respond, validation", layout.split("validation", "responses")),
        ("corrupt, validation", layout.split("validation", "corrupted")),
        ("perturb, validation", layout.split("validation", "perturbed")),
        ("pairs, validation", layout.split("validation", "pairs")),
        ("evaluate M0", join(layout.evaluation(0), "heldout")),
    ]
    each = []
    for i in range(1, iterations + 1):
        each += [
            (f"respond {i}", layout.responses(i)),
            (f"corrupt {i}", layout.stage(i, "corrupted")),
            (f"perturb {i}", layout.stage(i, "perturbed")),
            (f"pairs {i}", layout.pairs(i)),
            (f"score {i}", layout.stage(i, "pair_scores")),
            (f"judge {i}", layout.judgments(i)),
            (f"select {i}", layout.selected(i)),
            (f"balance {i}", layout.examples(i)),
            (f"balance {i}", layout.preferences(i)),
            (f"train {i}", layout.training(i)),
            (f"evaluate M{i}", join(layout.evaluation(i), "heldout")),
        ]
    return once + each


def render(summary: RunSummary) -> Group:
    """Returns the tables: the funnel with costs, the accuracies, and where things lie."""
    parts: list[Any] = [_funnel(summary)]
    if summary.figures:
        parts += rewarding_tables(summary.figures, summary.watched)
    if summary.llm is not None:
        parts.append(summary.llm.view())
    elif summary.evaluations or not summary.figures:
        parts.append(_accuracies(summary))
    parts.append(Text("\n".join(_where(summary))))
    return Group(*parts)


def print_summary(summary: RunSummary, console: Console) -> None:
    # A table wrapped to the 80 columns of a log file is not readable as a table.
    wide = (
        console if console.is_terminal else Console(width=118, highlight=False, file=console.file)
    )
    wide.print(render(summary))


def _funnel(summary: RunSummary) -> Table:
    table = Table(title="Stages", title_justify="left", pad_edge=False)
    for heading in ("stage", "in", "out", "dropped", "prompt tok", "new tok", "seconds"):
        right = heading in ("in", "out", "prompt tok", "new tok", "seconds")
        table.add_column(heading, justify="right" if right else "left")
    for line in summary.stages:
        m = line.manifest
        tokens = m.ledger.get("completion_tokens", m.ledger.get("train_tokens"))
        table.add_row(
            line.title if m.is_complete else f"{line.title} (running)",
            str(m.num_inputs),
            str(m.num_records),
            line.why_dropped,
            _number(m.ledger.get("prompt_tokens")),
            _number(tokens),
            f"{m.seconds:.1f}",
        )
    return table


def _number(value: Any) -> str:
    return "" if not value else f"{value:,}"


def _accuracies(summary: RunSummary) -> Table:
    table = Table(
        title="Judges on pairs kept out of training", title_justify="left", pad_edge=False
    )
    headings = ("model", "set", "pairs", "accuracy", "interval", "both orders", "first", "failed")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("model", "set") else "right")
    for iteration, sets in summary.evaluations.items():
        promoted = summary.promotions.get(iteration, {}).get("promoted")
        for name, report in sets.items():
            low, high = report["accuracy_ci"]
            first = report["first_position_rate"]
            failed = report["unparsed_rate"] + report["truncated_rate"] + report["refused_rate"]
            table.add_row(
                f"M{iteration}{' (promoted)' if promoted else ''}",
                name,
                str(report["n"]),
                f"{report['accuracy']:.3f}",
                f"{low:.3f}-{high:.3f}",
                f"{report['position_consistent_accuracy']:.3f}",
                "" if first is None else f"{first:.2f}",
                f"{failed:.2f}",
            )
    return table


def _where(summary: RunSummary) -> list[str]:
    lines = [f"M{i}: {p['reason']}" for i, p in summary.promotions.items()]
    if summary.current is not None:
        current = summary.current
        what = "judge" if summary.llm is None else "model"
        lines.append(f"current {what}: iteration {current['iteration']}, {current['checkpoint']}")
    for number, attempt in enumerate(summary.record.get("attempts", []), 1):
        swaps = ", ".join(f"{s:.1f} s" for s in attempt["swap_seconds"]) or "none"
        lines.append(
            f"attempt {number}: {attempt['engine_starts']} engine start(s), weight swaps: {swaps}"
        )
    lines.append(f"run folder: {summary.layout.root}")
    return lines
