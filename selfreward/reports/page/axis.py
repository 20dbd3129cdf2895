"""Scales of a chart: where a value lies, and which round values are marked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A straight or logarithmic scale from `low` to `high`, with its marks.

    Example: `Axis(low=0.0, high=1.0, ticks=(0.0, 0.5, 1.0))`
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, 0 at the lower end and 1 at the upper; never outside."""
        low, high, place = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, place = math.log(low), math.log(high), math.log(place)
        return (place - low) / (high - low)


def linear_axis(
    values: Sequence[float], low: float | None = None, high: float | None = None
) -> Axis:
    """An axis that holds all of `values`, and `low` and `high` where they are given."""
    known = [*values, *(v for v in (low, high) if v is not None)]
    least, most = min(known, default=0.0), max(known, default=1.0)
    if least == most:
        room = abs(least) * 0.1 or 1.0
        least, most = least - room, most + room
    step = _round_step((most - least) / 5)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    ticks = tuple(round(i * step, _DIGITS) for i in range(first, last + 1))
    return Axis(low=ticks[0], high=ticks[-1], ticks=ticks)


def log_axis(values: Sequence[float]) -> Axis:
    """A logarithmic axis of positive values, marked at 1, 2 and 5 times powers of ten; only at
    the powers where there are many."""
    least, most = min(values), max(values)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    fine = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    below = [t for t in fine if t <= least * (1 + 1e-9)]
    above = [t for t in fine if t >= most * (1 - 1e-9)]
    low, high = below[-1], above[0]
    if low == high:
        high = fine[fine.index(low) + 1] if low != fine[-1] else low * 2
    inside = [t for t in fine if low <= t <= high]
    if len(inside) > 7:
        tens = [10.0**p for p in powers if low <= 10.0**p <= high]
        inside = [low, *(t for t in tens if t not in (low, high)), high]
    return Axis(low=low, high=high, ticks=tuple(inside), is_log=True)


def numeric_ticks(values: Sequence[float]) -> list[float]:
    """Round values inside the range of `values`, for the steps of a training."""
    axis = linear_axis(values)
    return [t for t in axis.ticks if min(values) <= t <= max(values) and t == int(t)]


def _round_step(raw: float) -> float:
    size = 10.0 ** math.floor(math.log10(raw))
    return size * next(s for s in _STEPS if s * size >= raw * (1 - 1e-9))
