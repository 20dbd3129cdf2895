"""The trainings of a run, step by step: losses, learning rate, rewards (`metrics.jsonl`)."""

import json
from collections.abc import Sequence

from selfreward.errors import StorageError
from selfreward.layout import join
from selfreward.reports.page.content import Card, Section, row, table
from selfreward.reports.page.numbers import number, significant
from selfreward.reports.page.plot import Series, line_plot
from selfreward.reports.summary import RunSummary, StageLine
from selfreward.storage import files

Steps = Sequence[dict[str, float]]

MAX_POINTS = 200
"""Of a curve; a longer training is drawn at so many steps, spread evenly."""
MAX_ROWS = 6

_CURVES: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("loss", "loss", (("eval/loss", "validation"), ("train/loss", "training"))),
    ("learning rate", "learning rate", (("train/lr", "learning rate"),)),
    ("reward", "reward", (("rollout/reward", "reward of rollouts"),)),
    ("accuracy", "accuracy", (("eval/accuracy", "validation"), ("train/accuracy", "training"))),
)
"""Title, axis, and the metrics drawn with their names."""


def training_section(summary: RunSummary) -> Section | None:
    """A card for each curve of each finished training; None before the first."""
    cards = [
        card
        for line in summary.stages
        if line.manifest.stage == "train"
        for steps in [read_steps(line)]
        if steps
        for card in _cards(line.title, steps)
    ]
    if not cards:
        return None
    return Section(
        ident="training",
        title="Training curves",
        lede="Of every training in the run, from its metrics.jsonl. The published model is the"
        " checkpoint with the best validation figures, not always the last step.",
        cards=tuple(cards),
    )


def read_steps(line: StageLine) -> Steps:
    """The metrics of every step; none while it is not finished.

    Raises:
        StorageError: the file is no JSON.
    """
    folder = join(line.folder, "ray_train")
    names = [n for n in files.find_files(folder, "metrics.jsonl") if n.count("/") == 1]
    steps: list[dict[str, float]] = []
    for name in names:
        url = join(folder, name)
        try:
            steps += [json.loads(text) for text in files.read_bytes(url).splitlines() if text]
        except ValueError:
            raise StorageError(f"{url} is not readable as JSON lines") from None
    return steps


def _cards(title: str, steps: Steps) -> list[Card]:
    measured = [s for s in steps if "eval/loss" in s]
    drawn = _in_order([*_spread(steps, MAX_POINTS), *_spread(measured, MAX_POINTS)])
    told = _in_order([*_spread(steps, MAX_ROWS), *_spread(measured, MAX_ROWS)])
    cards = []
    for what, axis, metrics in _CURVES:
        shown = [(key, name) for key, name in metrics if any(key in s for s in steps)]
        # What was measured once is no curve; the model's own figures have it.
        if all(sum(key in s for s in steps) < 2 for key, _ in shown):
            continue
        plot = line_plot(
            [f"step {number(s['step'])}" for s in drawn],
            [Series(name=name, values=tuple(s.get(key) for s in drawn)) for key, name in shown],
            xs=[s["step"] for s in drawn],
            x_title="step",
            y_title=axis,
            low=0.0 if axis == "learning rate" else None,
        )
        if plot is not None:
            rows = [
                row(number(s["step"]), *(significant(s.get(key)) for key, _ in shown)) for s in told
            ]
            numbers = table(("step", *(name for _, name in shown)), rows)
            cards.append(Card(title=f"{title}: {what}", plot=plot, table=numbers))
    return cards


def _spread(steps: Steps, most: int) -> list[dict[str, float]]:
    """At most so many, evenly, with the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (most - 1))] for i in range(most)]


def _in_order(steps: Steps) -> list[dict[str, float]]:
    by_step = {s["step"]: s for s in steps}
    return [by_step[step] for step in sorted(by_step)]
