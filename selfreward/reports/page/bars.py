"""Bars of parts of a whole, such as wins, ties and losses, one bar a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 460
_LEFT, _RIGHT = 110, 10
_BAR, _GAP = 24, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a bar, in SVG's units; its label is empty where it would not fit."""

    style: int
    x: float
    width: float
    label: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    name: str
    y: float
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BarPlot:
    """A drawn chart of bars, each as long as the whole."""

    names: tuple[str, ...]
    """Of the parts, in order."""
    bars: tuple[Bar, ...]
    height: float
    width: int = WIDTH
    left: int = _LEFT
    thickness: int = _BAR


def bar_plot(names: Sequence[str], shares: Sequence[tuple[str, Sequence[float]]]) -> BarPlot | None:
    """Bars of parts that sum to 1; None without any.

    Example: `bar_plot(("win", "tie", "loss"), [("M1 against M0", (0.5, 0.25, 0.25))])`
    """
    room = WIDTH - _LEFT - _RIGHT
    bars = []
    for number, (title, parts) in enumerate(shares):
        x, drawn = float(_LEFT), []
        for style, (name, share) in enumerate(zip(names, parts, strict=True)):
            width = share * room
            label = f"{share:.0%}" if width >= 34 else ""
            tip = f"{title}: {name} {share:.3f}"
            if width > 0:
                drawn.append(
                    Part(style=style, x=round(x, 1), width=round(width, 1), label=label, tip=tip)
                )
            x += width
        bars.append(Bar(name=title, y=number * (_BAR + _GAP) + 4, parts=tuple(drawn)))
    if not bars:
        return None
    return BarPlot(names=tuple(names), bars=tuple(bars), height=len(bars) * (_BAR + _GAP) + 4)
