"""How alike two judges score the same responses."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from selfreward.metrics.intervals import bootstrap_interval

FloatArray = npt.NDArray[np.float64]

# Draws averaged in another order differ in the last digits: equal scores must compare as equal.
_DECIMALS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAgreement:
    """How alike two judges order the responses to an instruction.

    Example: `JudgeAgreement(n=256, num_skipped=4, num_undefined=31, kendall_tau=0.42,
    kendall_tau_ci=(0.36, 0.48))`
    """

    n: int
    """Instructions."""
    num_skipped: int
    """Instructions without two responses that both judges scored."""
    num_undefined: int
    """Other instructions to whose responses a judge gave one score: tau does not exist. Where
    this nears `n` the agreement says little, and the tie rate says what is wrong."""
    kendall_tau: float | None
    """Tau-b, mean over the instructions where it exists."""
    kendall_tau_ci: tuple[float, float] | None
    """Percentile bootstrap interval; instructions are resampled. None for fewer than two taus."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        interval = self.kendall_tau_ci
        return {**asdict(self), "kendall_tau_ci": None if interval is None else [*interval]}


def _tau_b(first: FloatArray, second: FloatArray) -> float | None:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(kendalltau(first, second).statistic)


def judge_agreement(
    scores: Iterable[tuple[Sequence[float | None], Sequence[float | None]]],
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> JudgeAgreement:
    """Compares the scores of two judges, given for each instruction as two equally long rows.

    A row has one mean score a response, None where the judge has none; responses that both judges
    scored are compared. Raises ValueError for rows of unequal lengths and for scores that are not
    finite.
    """
    taus: list[float] = []
    num_rows = num_skipped = 0
    for first, second in scores:
        num_rows += 1
        kept = [
            (a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None
        ]
        if len(kept) < 2:
            num_skipped += 1
            continue
        one, other = np.array(kept, dtype=np.float64).round(_DECIMALS).T
        if not (np.isfinite(one).all() and np.isfinite(other).all()):
            raise ValueError("a score is not a finite number; failed judgments have no score")
        tau = _tau_b(one, other)
        if tau is not None:
            taus.append(tau)
    return JudgeAgreement(
        n=num_rows,
        num_skipped=num_skipped,
        num_undefined=num_rows - num_skipped - len(taus),
        kendall_tau=float(np.mean(taus)) if taus else None,
        kendall_tau_ci=(
            bootstrap_interval(taus, confidence, num_samples, seed) if len(taus) > 1 else None
        ),
    )
