"""Whether a new judge replaces the current one. Moving the pointer is not done here."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfreward.metrics.intervals import sign_flip_test


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionDecision:
    """The decision with its reason in one line.

    Example: `PromotionDecision(promote=False, reason="not promoted: accuracy 0.641 against 0.625
    on 64 pairs, difference +0.016, one-sided p 0.38 > 0.05", difference=0.016, p_value=0.38)`
    """

    promote: bool
    reason: str
    difference: float | None
    """Candidate minus current accuracy; None without a current judge."""
    p_value: float | None


def decide_promotion(
    current: npt.NDArray[np.float64] | None,
    candidate: npt.NDArray[np.float64],
    max_p_value: float,
    num_samples: int = 10_000,
    seed: int = 0,
) -> PromotionDecision:
    """Decides on the accuracies per pair, 1-d and of the same pairs in the same order.

    The candidate is promoted if its mean is above the current one's with a one-sided p of at most
    `max_p_value` in a paired sign-flip test, or if there is no current judge. An equal or lower
    mean is never promoted, whatever `max_p_value` allows. Raises ValueError for empty arrays or
    unequal lengths.
    """
    if len(candidate) == 0:
        raise ValueError("a judge cannot be promoted on no pairs")
    accuracy = float(np.mean(candidate))
    if current is None:
        return PromotionDecision(
            promote=True,
            reason=(
                f"promoted: accuracy {accuracy:.3f} on {len(candidate)} pairs,"
                " no current judge to compare with"
            ),
            difference=None,
            p_value=None,
        )
    test = sign_flip_test(current, candidate, num_samples=num_samples, seed=seed)
    is_better = test.difference > 0
    promote = is_better and test.p_value <= max_p_value
    facts = (
        f"accuracy {accuracy:.3f} against {float(np.mean(current)):.3f} on {len(candidate)} pairs,"
        f" difference {test.difference:+.3f}, one-sided p {test.p_value:.2g}"
    )
    comparison = "<=" if test.p_value <= max_p_value else ">"
    return PromotionDecision(
        promote=promote,
        reason=(
            f"{'promoted' if promote else 'not promoted'}: {facts} {comparison} {max_p_value:g}"
            + ("" if is_better else ", not better")
        ),
        difference=test.difference,
        p_value=test.p_value,
    )
