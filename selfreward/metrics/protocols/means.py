"""A mean that a missing part makes unknown."""

from collections.abc import Iterable
from statistics import fmean


def mean_if_complete(values: Iterable[float | None]) -> float | None:
    """Returns the plain mean; None where a value is None or there are none."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return fmean(known) if listed and len(known) == len(listed) else None
