"""Which of two models answers better: win, tie and loss by a judge that reads both orders.

Here a tie is a result and not a failure: it is what the two orders disagreeing means. A reading
without a verdict (unparsed, truncated, refused) gives no result, and neither does one that was not
made, since the engine refused the prompt; they are counted and left out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest

from selfreward.metrics.intervals import bootstrap_interval
from selfreward.records import Outcome, Verdict

Result = Literal["win", "tie", "loss"]

_POINTS: dict[Result, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}
_FAILURES = (Outcome.UNPARSED, Outcome.TRUNCATED, Outcome.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadToHeadOutcome:
    """Both readings of two models' responses to one prompt.

    Example: `HeadToHeadOutcome(prompt_id="ins-4b…",
    model_first=Verdict(outcome="choice", choice="first"),
    baseline_first=Verdict(outcome="choice", choice="second"), model_length=812,
    baseline_length=640)`, which is a win
    """

    prompt_id: str
    model_first: Verdict | None
    """The reading in which the model's response was shown first; None where it was not read."""
    baseline_first: Verdict | None
    model_length: int | None = None
    """Characters or tokens of the model's response."""
    baseline_length: int | None = None
    unread: str = ""
    """Why a reading is missing, `prompt_too_long` for instance."""

    @property
    def readings(self) -> tuple[Result | None, Result | None]:
        """What each reading says, for the model; None without a verdict."""
        return _reading(self.model_first, "first"), _reading(self.baseline_first, "second")

    @property
    def result(self) -> Result | None:
        """What both readings say, a tie where they differ; None if one has no verdict."""
        first, second = self.readings
        if first is None or second is None:
            return None
        return first if first == second else "tie"


def _reading(verdict: Verdict | None, model_position: str) -> Result | None:
    if verdict is None:
        return None
    if verdict.outcome is Outcome.SCORE:
        raise ValueError("a score is not a reading of two responses")
    if verdict.outcome is Outcome.TIE:
        return "tie"
    if verdict.outcome is not Outcome.CHOICE:
        return None
    return "win" if verdict.choice == model_position else "loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadToHeadReport:
    """The model against the baseline. A rate without a result to count is None.

    Example: `HeadToHeadReport(n=256, num_wins=142, num_ties=84, num_losses=30,
    adjusted_win_rate=0.719, adjusted_win_rate_ci=(0.68, 0.76), …)`
    """

    n: int
    """Prompts with a result."""
    num_failed: int
    """Prompts without one, since at least one reading has no verdict."""
    failed_readings: dict[str, int]
    """Readings without a verdict, by outcome, and those that were not made, by their reason."""
    num_wins: int
    num_ties: int
    num_losses: int
    num_order_ties: int
    """Ties that are a disagreement between the orders; in the others both readings say tie."""
    win_rate: float | None
    tie_rate: float | None
    loss_rate: float | None
    adjusted_win_rate: float | None
    """Wins plus half of the ties, over prompts with a result: 0.5 is even."""
    adjusted_win_rate_ci: tuple[float, float] | None
    """Percentile bootstrap interval over prompts: outcomes of one are resampled together."""
    mean_model_length: float | None
    """Over the prompts with a result where both lengths are known. A judge that likes length can
    make a longer answer look better: read every win rate beside these two."""
    mean_baseline_length: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        interval = self.adjusted_win_rate_ci
        return {**asdict(self), "adjusted_win_rate_ci": None if interval is None else [*interval]}

    def headline(self) -> float | None:
        """Wins and half of the ties, over the prompts with a result."""
        return self.adjusted_win_rate

    @property
    def overall_ci(self) -> tuple[float, float] | None:
        """The interval of the headline figure."""
        return self.adjusted_win_rate_ci

    def section_values(self) -> dict[str, float | None]:
        """The shares of wins, ties and losses."""
        return {"wins": self.win_rate, "ties": self.tie_rate, "losses": self.loss_rate}


def sign_test(wins: int, losses: int) -> float:
    """The exact one-sided p of a sign test: how likely as many wins are if either side is as good.

    Ties say nothing of either side and are left out (Conover, Practical Nonparametric Statistics);
    without a win or a loss p is 1. Raises ValueError for negative counts.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"wins and losses are counts, not {wins} and {losses}")
    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue)


def head_to_head_report(
    outcomes: Sequence[HeadToHeadOutcome],
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> HeadToHeadReport:
    """Counts wins, ties and losses with the order swapped (arXiv 2401.10020, section 3.1).

    A win or a loss needs both orders; a disagreement is a tie, and so is one tie beside a choice
    (the rule of MT-Bench, arXiv 2306.05685, section 3.4). Raises ValueError without outcomes and
    for a verdict that is a score.
    """
    if not outcomes:
        raise ValueError("two models cannot be compared on no prompts")
    judged = [(o, o.result) for o in outcomes]
    results = [r for _, r in judged if r is not None]
    n = len(results)
    wins, ties, losses = (results.count(r) for r in ("win", "tie", "loss"))
    readings = [(o, v) for o in outcomes for v in (o.model_first, o.baseline_first)]
    verdicts = [v.outcome for _, v in readings if v is not None]
    unread = Counter(o.unread for o, v in readings if v is None)
    lengths = [
        (o.model_length, o.baseline_length)
        for o, result in judged
        if result is not None and o.model_length is not None and o.baseline_length is not None
    ]
    points = [_POINTS[r] for r in results]
    prompts = [o.prompt_id for o, result in judged if result is not None]
    return HeadToHeadReport(
        n=n,
        num_failed=len(outcomes) - n,
        failed_readings={outcome.value: verdicts.count(outcome) for outcome in _FAILURES}
        | dict(sorted(unread.items())),
        num_wins=wins,
        num_ties=ties,
        num_losses=losses,
        num_order_ties=sum(r is not None and o.readings[0] != o.readings[1] for o, r in judged),
        win_rate=wins / n if n else None,
        tie_rate=ties / n if n else None,
        loss_rate=losses / n if n else None,
        adjusted_win_rate=(wins + ties / 2) / n if n else None,
        adjusted_win_rate_ci=(
            bootstrap_interval(points, confidence, num_samples, seed, prompts) if n else None
        ),
        mean_model_length=float(np.mean([m for m, _ in lengths])) if lengths else None,
        mean_baseline_length=float(np.mean([b for _, b in lengths])) if lengths else None,
    )
