"""The watch against collapse: figures of an iteration against the thresholds of the config.

A loop that rewards itself can end in one score for everything (arXiv 2401.10020, appendix A.3;
arXiv 2407.19594, whose scores pile up at the top), in ever longer answers or in the same
instructions over and over, while its own score keeps rising. What is done about it is the loop's
to know.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from selfreward.config_self_rewarding import CollapseConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CollapseFigures:
    """What is watched in an iteration; None was not measured.

    Example: `CollapseFigures(unscored=0.02, saturation=0.22, modal_share=0.41, tie_rate=0.1,
    mean_length=512.0, length_ratio=1.3, distinct_2=0.66, near_duplicate_rate=0.18,
    seed_agreement=0.42, kl_per_token=0.12)`
    """

    unscored: float | None = None
    """Share of the candidates none of whose judgments could be read."""
    saturation: float | None = None
    """Share of the scored candidates with the highest score of the rubric."""
    modal_share: float | None = None
    """Share of the scored candidates with the commonest score, whichever it is."""
    tie_rate: float | None = None
    """Share of the instructions whose candidates all got the same score."""
    mean_length: float | None = None
    """Of the candidates, in characters; it has no threshold of its own."""
    length_ratio: float | None = None
    """Mean length against the seed's on the same instructions."""
    distinct_2: float | None = None
    """Share of distinct word pairs in the new instructions."""
    near_duplicate_rate: float | None = None
    """Share of the new instructions dropped as too similar to kept ones."""
    seed_agreement: float | None = None
    """Kendall's tau-b with the frozen seed's scores."""
    kl_per_token: float | None = None
    """KL(M_t || M_0) in nats per token."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary of plain values; JSON-ready where the figures are finite."""
        return asdict(self)


def length_ratio(lengths: Sequence[int], reference: Sequence[int]) -> float | None:
    """Returns the mean of `lengths` over that of `reference`, for answers to the same instructions.

    None without answers and where the reference answers are all empty. Raises ValueError for
    unequally many.
    """
    if len(lengths) != len(reference):
        raise ValueError(
            "the lengths must be of answers to the same instructions, not of"
            f" {len(lengths)} and {len(reference)}"
        )
    return sum(lengths) / sum(reference) if sum(reference) else None


# Shares such as 1 - 0.05 are not exact: on the limit is not beyond it.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class _Rule:
    figure: str
    key: str
    side: Literal["max", "min"]
    text: str
    """What is wrong, with the value as `{}`."""


_RULES = (
    _Rule("unscored", "max_unscored", "max", "{} of the answers got no score that could be read"),
    _Rule("saturation", "max_saturation", "max", "{} of the scored answers have the top score"),
    _Rule("modal_share", "max_modal_share", "max", "{} of the scored answers have one score"),
    _Rule(
        "tie_rate",
        "max_tie_rate",
        "max",
        "at {} of the instructions all candidates got the same score, a tie",
    ),
    _Rule(
        "length_ratio",
        "max_length_ratio",
        "max",
        "responses are {} times the length of the seed's",
    ),
    _Rule(
        "distinct_2",
        "min_distinct_2",
        "min",
        "only {} of the word pairs in the new instructions are distinct",
    ),
    _Rule(
        "near_duplicate_rate",
        "max_near_duplicates",
        "max",
        "{} of the new instructions are near duplicates of kept ones",
    ),
    _Rule(
        "seed_agreement",
        "min_seed_agreement",
        "min",
        "the agreement with the frozen seed's scores is a Kendall tau of {}",
    ),
    _Rule(
        "kl_per_token",
        "max_kl_per_token",
        "max",
        "the KL to the first model is {} nats per token",
    ),
)


def limits(config: CollapseConfig) -> dict[str, dict[str, Any]]:
    """Returns each watched figure that has a limit, with its `side` (`max` or `min`) and `limit`.

    Example: `limits(CollapseConfig())["tie_rate"]` is `{"side": "max", "limit": 0.98}`.
    """
    found = {rule.figure: (rule.side, getattr(config, rule.key)) for rule in _RULES}
    return {
        figure: {"side": side, "limit": limit}
        for figure, (side, limit) in found.items()
        if limit is not None
    }


def _shown(value: float, limit: float) -> str:
    """Returns the value in as few digits as tell it from the limit."""
    short = f"{value:.4g}"
    return short if float(short) != limit else f"{value:.9g}"


def collapse_reasons(figures: CollapseFigures, config: CollapseConfig) -> list[str]:
    """Returns a line for each figure beyond its threshold; an empty list is the good case.

    A figure exactly on its threshold is not beyond it. One that was not measured (None) gives no
    line, nor does one whose threshold is None. One that is NaN or infinite gives a line with any
    threshold and without one: whatever it was measured on is broken.
    """
    values: dict[str, float | None] = figures.to_dict()
    rules = {rule.figure: rule for rule in _RULES}
    lines = []
    for name, value in values.items():
        if value is None:
            continue
        rule = rules.get(name)
        limit: float | None = None if rule is None else getattr(config, rule.key)
        if not math.isfinite(value):
            key = "collapse" if rule is None else f"collapse.{rule.key}"
            stated = "" if limit is None else f" (limit {limit:g})"
            lines.append(f"{key}: {name} is {value}, not a number that can be watched{stated}")
        elif rule is not None and limit is not None:
            excess = value - limit if rule.side == "max" else limit - value
            if excess > _ROUNDING:
                text = rule.text.format(_shown(value, limit))
                lines.append(f"collapse.{rule.key}: {text} (limit {limit:g})")
    return lines


def nothing_left(num: int, what: str, drops: Mapping[str, int]) -> str:
    """Returns what is told where none of `num` things was kept, the commonest reason first.

    Example: `nothing_left(24, "instructions gave a training row", {"tied_scores": 24})` is
    `none of 24 instructions gave a training row (tied_scores 24)`.
    """
    counted = sorted((-n, reason) for reason, n in drops.items() if n)
    reasons = ", ".join(f"{reason} {-n}" for n, reason in counted)
    return f"none of {num} {what} ({reasons or 'nothing was dropped'})"
