"""Line charts with interval bands: from numbers to where things are drawn, in SVG's units.

Series differ in colour, dash and mark, so that none of them alone has to be seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfreward.reports.page.axis import linear_axis, log_axis, numeric_ticks
from selfreward.reports.page.numbers import number

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 44
NUM_STYLES = 6
MAX_LABELS = 9
LOG_FROM = 5.0
"""Largest over smallest number from which a logarithmic scale says more than a straight one."""
MAX_MARKED = 30
"""With more points than this a line has no marks."""
_RADIUS = 4.2

Interval = tuple[float, float]
Place = Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A named line; None where there is no number.

    Example: `Series(name="accuracy", values=(0.5, 0.58), intervals=((0.5, 0.5), (0.53, 0.63)))`
    """

    name: str
    values: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point, with what a pointer on it is told."""

    path: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    name: str
    style: int
    strokes: tuple[str, ...]
    """Points of each unbroken piece."""
    bands: tuple[str, ...]
    marks: tuple[Mark, ...]
    swatch: str
    """The mark as the legend shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A drawn chart: `x_ticks` and `y_ticks` in SVG's units, the lines, and what it shows."""

    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    reference: Tick | None
    """A level that means something, such as chance."""
    has_names: bool
    """The labels below are names of two words, in two lines, and stand for the axis' title."""
    band: str
    """What the bands are; empty where there are none."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def line_plot(
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    x_title: str,
    y_title: str,
    xs: Sequence[float] | None = None,
    low: float | None = None,
    high: float | None = None,
    is_log: bool = False,
    reference: tuple[float, str] | None = None,
    band: str = "interval",
) -> Plot | None:
    """Draws the series over `labels`; None where they have no number at all.

    `xs` places the labels by number, such as the steps of a training, and joins what was measured
    at some of them only; otherwise they lie evenly, and a gap stays a gap. `is_log` asks for a
    logarithmic scale where the numbers lie far apart.
    """
    shown = [s for s in series if any(v is not None for v in s.values)]
    known = [v for s in shown for v in s.values if v is not None]
    known += [v for s in shown for ci in s.intervals if ci is not None for v in ci]
    if not known:
        return None
    is_wide = is_log and min(known) > 0 and max(known) > LOG_FROM * min(known)
    y_axis = log_axis(known) if is_wide else linear_axis(known, low, high)
    places = list(xs) if xs is not None else list(range(len(labels)))
    across = _across(places)
    columns = [across(x) for x in places]

    def down(value: float) -> float:
        return round(HEIGHT - BOTTOM - y_axis.at(value) * (HEIGHT - BOTTOM - TOP), 1)

    if xs is None:
        every = -(-len(labels) // MAX_LABELS)
        x_ticks = [Tick(at=columns[i], label=labels[i]) for i in range(0, len(labels), every)]
    else:
        x_ticks = [Tick(at=across(t), label=number(t)) for t in numeric_ticks(places)]
    lines = []
    for style, one in enumerate(shown):
        intervals = one.intervals or (None,) * len(one.values)
        lines.append(
            Line(
                name=one.name,
                style=style % NUM_STYLES,
                strokes=_strokes(columns, one.values, down, is_joined=xs is not None),
                bands=_bands(columns, intervals, down),
                marks=_marks(style, columns, labels, one, intervals, down),
                swatch=mark_path(style, 13, 6),
            )
        )
    return Plot(
        x_title=x_title,
        y_title=y_title,
        x_ticks=tuple(x_ticks),
        y_ticks=tuple(Tick(at=down(t), label=number(t)) for t in y_axis.ticks),
        lines=tuple(lines),
        reference=None if reference is None else Tick(at=down(reference[0]), label=reference[1]),
        has_names=xs is None and any(" " in label for label in labels),
        band=band if any(line.bands for line in lines) else "",
    )


def _across(places: Sequence[float]) -> Place:
    least, most = min(places), max(places)
    room = WIDTH - LEFT - RIGHT
    inset = 14.0 if most > least else room / 2

    def place(x: float) -> float:
        part = (x - least) / (most - least) if most > least else 0.0
        return round(LEFT + inset + part * (room - 2 * inset), 1)

    return place


def _pieces(present: Sequence[bool]) -> list[range]:
    """Unbroken runs of what is present."""
    found: list[range] = []
    start = 0
    for i, here in enumerate([*present, False]):
        if not here:
            if i > start:
                found.append(range(start, i))
            start = i + 1
    return found


def _strokes(
    columns: Sequence[float], values: Sequence[float | None], down: Place, is_joined: bool
) -> tuple[str, ...]:
    points = [None if v is None else f"{x},{down(v)}" for x, v in zip(columns, values, strict=True)]
    if is_joined:
        return (" ".join(p for p in points if p is not None),)
    pieces = _pieces([p is not None for p in points])
    return tuple(" ".join(p for i in piece if (p := points[i])) for piece in pieces)


def _bands(
    columns: Sequence[float], intervals: Sequence[Interval | None], down: Place
) -> tuple[str, ...]:
    """The outline of each unbroken piece; one point alone becomes a narrow bar."""
    found = []
    for piece in _pieces([ci is not None for ci in intervals]):
        known = [(columns[i], ci) for i in piece if (ci := intervals[i]) is not None]
        if len(known) == 1:
            ((x, ci),) = known
            known = [(x - 3, ci), (x + 3, ci)]
        upper = [f"{x},{down(ci[1])}" for x, ci in known]
        lower = [f"{x},{down(ci[0])}" for x, ci in reversed(known)]
        found.append(" ".join([*upper, *lower]))
    return tuple(found)


def _marks(
    style: int,
    columns: Sequence[float],
    labels: Sequence[str],
    one: Series,
    intervals: Sequence[Interval | None],
    down: Place,
) -> tuple[Mark, ...]:
    if sum(v is not None for v in one.values) > MAX_MARKED:
        return ()
    found = []
    for x, label, value, ci in zip(columns, labels, one.values, intervals, strict=True):
        if value is not None:
            between = "" if ci is None else f" ({number(ci[0])} to {number(ci[1])})"
            tip = f"{label}, {one.name}: {number(value)}{between}"
            found.append(Mark(path=mark_path(style, x, down(value)), tip=tip))
    return tuple(found)


def mark_path(style: int, x: float, y: float) -> str:
    """A circle, square, diamond or triangle around a point."""
    r = _RADIUS
    shape = style % 4
    if shape == 0:
        return f"M{x - r:.1f},{y:.1f}a{r},{r} 0 1,0 {2 * r},0a{r},{r} 0 1,0 {-2 * r},0z"
    if shape == 1:
        side = 2 * (r - 0.5)
        return f"M{x - r + 0.5:.1f},{y - r + 0.5:.1f}h{side}v{side}h{-side}z"
    if shape == 2:
        r += 0.8
        return f"M{x:.1f},{y - r:.1f}l{r},{r}l{-r},{r}l{-r},{-r}z"
    return f"M{x:.1f},{y - r - 0.4:.1f}l{r + 0.4},{2 * r}h{-2 * r - 0.8}z"
