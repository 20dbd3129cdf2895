"""Whether a new judge replaces the current one. Moving the pointer is not done here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfreward.metrics.comparison import macro_comparison
from selfreward.metrics.intervals import Groups

Accuracies = Mapping[str, npt.NDArray[np.float64]]
"""Accuracy of each pair, by data set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionDecision:
    """The decision with its reason in one line.

    Example: `PromotionDecision(promote=False, reason="not promoted: accuracy 0.641 against 0.625
    on 64 pairs, difference +0.016, one-sided p 0.38 > 0.05", accuracy=0.641, difference=0.016,
    p_value=0.38)`
    """

    promote: bool
    reason: str
    accuracy: float
    """Of the candidate: the plain mean over data sets."""
    difference: float | None
    """Candidate minus current accuracy; None without a current judge."""
    p_value: float | None


def _macro(accuracies: Accuracies) -> float:
    return float(np.mean([np.mean(values) for values in accuracies.values()]))


def _where(accuracies: Accuracies, prompts: Mapping[str, Groups]) -> str:
    pairs = sum(len(values) for values in accuracies.values())
    num_prompts = sum(len(set(prompts.get(n, range(len(v))))) for n, v in accuracies.items())
    asked = f" of {num_prompts} prompts" if num_prompts < pairs else ""
    sets = f" of {len(accuracies)} sets" if len(accuracies) > 1 else ""
    return f"{pairs} pairs{asked}{sets}"


def decide_promotion(
    current: Accuracies | None,
    candidate: Accuracies,
    max_p_value: float,
    worse: Sequence[str] = (),
    num_samples: int = 10_000,
    seed: int = 0,
    prompts: Mapping[str, Groups] | None = None,
) -> PromotionDecision:
    """Decides on the accuracies per pair, 1-d and of the same pairs in the same order.

    The candidate is promoted if its mean over data sets is above the current one's with a one-sided
    p of at most `max_p_value` in a paired sign-flip test and no figure of its bias card got worse
    (`worse`, a line for each); or if there is no current judge. `prompts` has for each data set the
    prompt of every pair: the test flips whole prompts, since pairs of one are not independent
    evidence; without it every pair is one of its own. An equal or lower mean is never promoted,
    whatever `max_p_value` allows. Raises ValueError for empty arrays, unequal lengths and different
    data sets.
    """
    where = _where(candidate, prompts or {})
    if not candidate or any(len(values) == 0 for values in candidate.values()):
        raise ValueError("a judge cannot be promoted on no pairs")
    accuracy = _macro(candidate)
    if current is None:
        return PromotionDecision(
            promote=True,
            reason=(
                f"promoted: accuracy {accuracy:.3f} on {where}, no current judge to compare with"
            ),
            accuracy=accuracy,
            difference=None,
            p_value=None,
        )
    test = macro_comparison(current, candidate, num_samples=num_samples, seed=seed, groups=prompts)
    is_better = test.difference > 0
    is_sure = test.p_value <= max_p_value
    promote = is_better and is_sure and not worse
    reason = (
        f"{'promoted' if promote else 'not promoted'}: accuracy {accuracy:.3f} against"
        f" {_macro(current):.3f} on {where}, difference {test.difference:+.3f},"
        f" one-sided p {test.p_value:.2g} {'<=' if is_sure else '>'} {max_p_value:g}"
    )
    if not is_better:
        reason += ", not better"
    elif worse:
        reason += f", but {'; '.join(worse)}"
    return PromotionDecision(
        promote=promote,
        reason=reason,
        accuracy=accuracy,
        difference=test.difference,
        p_value=test.p_value,
    )
