"""The head of the page: what ran, which judge is current and why, versions and dates."""

from dataclasses import dataclass

from selfreward.reports.page.content import Card, Cell, Row, row, table
from selfreward.reports.page.cost import total_cost
from selfreward.reports.page.judges import best_line
from selfreward.reports.page.numbers import ABSENT, count, duration, moment
from selfreward.reports.summary import RunSummary

_LOOPS = {
    "self_taught": "Self-taught judge",
    "self_rewarding": "Self-rewarding model",
    "custom_llm": "One's own LLM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure that is read first.

    Example: `Tile(name="current judge", value="M4", note="promoted 2026-11-22 05:00 UTC")`
    """

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What stands above the sections."""

    title: str
    loop: str
    is_complete: bool
    tiles: tuple[Tile, ...]
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    decisions: Card | None


def header_of(summary: RunSummary) -> Header:
    """The head of a run's page, finished or not."""
    record = summary.record
    return Header(
        title=summary.layout.root.rstrip("/").rpartition("/")[2] or summary.layout.root,
        loop=_LOOPS.get(record.get("loop", ""), str(record.get("loop", ABSENT))),
        is_complete=summary.is_complete,
        tiles=tuple(_tiles(summary)),
        facts=tuple(_facts(summary)),
        versions=tuple(sorted(record.get("versions", {}).items())),
        decisions=_decisions(summary),
    )


def _tiles(summary: RunSummary) -> list[Tile]:
    tiles = []
    current = summary.current
    what = "judge" if summary.llm is None else "model"
    if current is not None:
        note = f"promoted {moment(current.get('promoted_at'))}" if current["iteration"] else ""
        name = f"{'M' if summary.llm is None else 'stage '}{current['iteration']}"
        tiles.append(Tile(name=f"current {what}", value=name, note=note or "the seed model"))
    best = best_line(summary)
    if best is not None:
        tiles.append(Tile(name="its accuracy, held out", value=best[0], note=best[1]))
    seconds, new, trained = total_cost(summary)
    if summary.stages:
        tiles.append(Tile(name="time in stages", value=duration(seconds)))
        tiles.append(
            Tile(
                name="tokens generated",
                value=count(new),
                note=f"{count(trained)} trained on" if trained else "",
            )
        )
    return tiles


def _facts(summary: RunSummary) -> list[tuple[str, str]]:
    record, current = summary.record, summary.current
    ends = [s.manifest.finished_at for s in summary.stages if s.manifest.finished_at]
    facts = [
        ("seed model", record.get("seed_model")),
        ("its fingerprint", record.get("seed_fingerprint")),
        ("generator", record.get("generator")),
        ("stages", ", ".join(record.get("stages", ()))),
        ("current checkpoint", current and current["checkpoint"]),
        ("why it is current", current and current.get("reason")),
        ("begun", record.get("created_at") and moment(record["created_at"])),
        ("last stage finished", moment(max(ends)) if ends else None),
        ("run id", record.get("id")),
        ("run folder", summary.layout.root),
    ]
    if record.get("generator") == record.get("seed_model"):
        facts = [f for f in facts if f[0] != "generator"]
    return [(name, str(value)) for name, value in facts if value]


def _decisions(summary: RunSummary) -> Card | None:
    if not summary.promotions:
        return None
    rows: list[Row] = []
    for iteration, decision in sorted(summary.promotions.items()):
        promoted = decision["promoted"]
        word = "promoted" if promoted else "stopped" if decision.get("stopped") else "not promoted"
        tone = "good" if promoted else "bad" if decision.get("stopped") else "even"
        compared = decision.get("compared_with")
        rows.append(
            row(
                f"M{iteration}",
                Cell(text=word, tone=tone),
                ABSENT if compared is None else f"M{compared}",
                str(decision["reason"]),
            )
        )
    headings = ("model", "decision", "compared with", "reason")
    return Card(title="Promotions", table=table(headings, rows, num_left=4), is_wide=True)
