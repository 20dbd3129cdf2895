"""The watched figures of a self-rewarding run's models beside their limits, as texts for tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NAMES = {
    "unscored": "answers it cannot score",
    "saturation": "answers with the top score",
    "modal_share": "answers with the commonest score",
    "tie_rate": "tied candidates",
    "mean_length": "mean length, characters",
    "length_ratio": "length over M0's",
    "distinct_2": "distinct word pairs (distinct-2)",
    "near_duplicate_rate": "near-duplicate instructions",
    "seed_agreement": "tau with M0's scores",
    "kl_per_token": "KL to M0, nats per token",
}
"""Watched figure → what it is called, in the order shown."""

# On the limit is not beyond it, and shares are not exact in floats.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRow:
    """A watched figure of every model.

    Example: `WatchRow(name="tied candidates", limit="at most 0.98", values=("", "0.125"),
    beyond=(False, False))`
    """

    name: str
    limit: str
    """Empty where it is watched without stopping."""
    values: tuple[str, ...]
    """By model; empty where it was not measured."""
    beyond: tuple[bool, ...]


def watch_rows(watched: Mapping[int, Mapping[str, Any]]) -> list[WatchRow]:
    """Returns a row for each figure that any model has.

    `watched` holds by iteration what was watched: `figures`, `limits` and `reasons` (`collapse` of
    `figures.json` and of `round.json`). The limits are those of the last iteration. M0 is what the
    others are compared with and is never beyond a limit.
    """
    last = watched[max(watched)] if watched else {}
    limits = last.get("limits", {})
    rows = []
    for figure, name in _NAMES.items():
        values = {i: found["figures"].get(figure) for i, found in sorted(watched.items())}
        if all(value is None for value in values.values()):
            continue
        limit = limits.get(figure)
        rows.append(
            WatchRow(
                name=name,
                limit="" if limit is None else _limit(limit),
                values=tuple("" if v is None else f"{v:.4g}" for v in values.values()),
                beyond=tuple(
                    bool(i) and value is not None and limit is not None and _is_beyond(value, limit)
                    for i, value in values.items()
                ),
            )
        )
    return rows


def histogram(figures: Mapping[str, Any]) -> dict[str, int]:
    """A model's own held-out answers by the nearest whole score; empty where it is not known."""
    counts: dict[str, int] = figures["own_scores"].get("histogram", {})
    return counts


def _limit(limit: Mapping[str, Any]) -> str:
    return f"at {'most' if limit['side'] == 'max' else 'least'} {limit['limit']:g}"


def _is_beyond(value: float, limit: Mapping[str, Any]) -> bool:
    excess = value - limit["limit"] if limit["side"] == "max" else limit["limit"] - value
    return bool(excess > _ROUNDING)
