"""How the page writes numbers; what was not measured is a dash."""

import math
from collections.abc import Sequence

ABSENT = "–"  # noqa: RUF001
_MINUTE, _HOUR = 60.0, 3600.0


def share(value: float | None) -> str:
    """A rate of 0 to 1, or a correlation, to three digits."""
    return ABSENT if value is None else f"{value:.3f}"


def number(value: float | None) -> str:
    """Four significant digits, thousands apart; below 0.001 as `3e-4`."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == int(value) and abs(value) < 1e15:
        return count(int(value))
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 1e-3:
        return f"{value:.4g}"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def significant(value: float | None) -> str:
    """The same with trailing zeros, for a column in which the digits should be equally many."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:#.4g}" if 1e-3 <= abs(value) < 1000 else number(value)


def count(value: int | None) -> str:
    return ABSENT if value is None else f"{value:,}"


def interval(values: Sequence[float] | None, digits: int = 3) -> str:
    if values is None:
        return ABSENT
    return f"{values[0]:.{digits}f} to {values[1]:.{digits}f}"


def duration(seconds: float) -> str:
    """`12.3 s`, `4 min 5 s`, `2 h 10 min`."""
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} s"
    if round(seconds) < _HOUR:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min"


def moment(stamp: str | None) -> str:
    """`2026-11-22T05:00:00Z` as `2026-11-22 05:00 UTC`."""
    if not stamp:
        return ABSENT
    return f"{stamp[:16].replace('T', ' ')} UTC"
