"""The cards of the watch against collapse: every watched figure beside its limit, the scores by
their level, and the reasons to stop."""

from typing import Any

from selfreward.reports.page.content import Card, Cell, row, table
from selfreward.reports.page.numbers import ABSENT, count
from selfreward.reports.summary import RunSummary
from selfreward.reports.watch import histogram, watch_rows


def watch_cards(summary: RunSummary) -> list[Card]:
    """The cards for which something was measured."""
    cards = (_watched(summary), _histogram(summary.figures), _reasons(summary))
    return [card for card in cards if card is not None]


def _watched(summary: RunSummary) -> Card | None:
    rows = [
        row(
            line.name,
            line.limit or ABSENT,
            *(
                Cell(text=value or ABSENT, tone="bad" if beyond else "")
                for value, beyond in zip(line.values, line.beyond, strict=True)
            ),
        )
        for line in watch_rows(summary.watched)
    ]
    if not rows:
        return None
    labels = [f"M{i}" for i in sorted(summary.watched)]
    return Card(
        title="Watch",
        note="A figure beyond its limit ends the loop; M0 is what is compared with.",
        table=table(("figure", "limit", *labels), rows, num_left=2),
        is_wide=True,
    )


def _histogram(figures: dict[int, dict[str, Any]]) -> Card | None:
    counted = {i: counts for i, f in sorted(figures.items()) if (counts := histogram(f))}
    if not counted:
        return None
    levels = list(dict.fromkeys(level for counts in counted.values() for level in counts))
    rows = [
        row(f"M{i}", *(_level(counts, level) for level in levels)) for i, counts in counted.items()
    ]
    headings = ("model", *(f"score {level}" for level in levels))
    return Card(title="Its own answers by the nearest whole score", table=table(headings, rows))


def _level(counts: dict[str, int], level: str) -> Cell:
    num = counts.get(level, 0)
    return Cell(text=count(num), share=num / max(1, sum(counts.values())))


def _reasons(summary: RunSummary) -> Card | None:
    reasons = [
        row(f"M{i}", reason)
        for i, found in sorted(summary.watched.items())
        for reason in found["reasons"]
    ]
    if not reasons:
        return None
    return Card(title="Signs of collapse", table=table(("model", "sign"), reasons, num_left=2))
