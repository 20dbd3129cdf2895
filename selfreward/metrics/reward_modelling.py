"""How well a judge's scores order responses that humans ranked.

The figures are those of Self-Rewarding Language Models (arXiv 2401.10020, section 3.2). A
response whose judgment failed has no score: it is left out and counted, never scored 0.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreward.metrics.correlations import ROUNDING, correlations, is_constant
from selfreward.metrics.intervals import bootstrap_ratios, percentiles

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedResponses:
    """The responses to one prompt, ranked by humans and scored by a judge.

    Example: `RankedResponses(prompt_id="ins-4b…", human_ranks=(0, 1, 2), scores=(5.0, 3.5, None))`
    """

    prompt_id: str
    human_ranks: tuple[float, ...]
    """Lower is better; equal ranks say that humans did not decide."""
    scores: tuple[float | None, ...]
    """Higher is better; None where the judgment failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModellingReport:
    """Agreement with human rankings. A figure with nothing to measure is None.

    Example: `RewardModellingReport(n=541, num_pairs=1270, pairwise_accuracy=0.787, …)`
    """

    n: int
    """Prompts given."""
    num_responses: int
    num_failed: int
    """Responses without a score."""
    num_skipped: int
    """Prompts without two scored responses that humans rank differently."""
    num_pairs: int
    """Pairs of scored responses to one prompt that humans rank differently."""
    num_score_ties: int
    """Pairs of these with equal scores."""
    pairwise_accuracy: float | None
    """Share of the pairs scored in the human order; a tie in score is wrong."""
    pairwise_accuracy_ties_half: float | None
    """The same with half a point for a tie, beside it: the paper does not say which it used."""
    pairwise_accuracy_ci: tuple[float, float] | None
    """Percentile bootstrap interval of `pairwise_accuracy`; prompts are resampled, not pairs."""
    num_full_scores: int
    """Responses with the full score, of prompts that humans ranked."""
    five_best: float | None
    """Share of these that no response to the same prompt is ranked above."""
    exact_match: float | None
    """Share of the prompts not skipped with all pairs scored in the human order, without ties."""
    num_undefined: int
    """Prompts not skipped whose scores are all equal: a correlation does not exist."""
    spearman: float | None
    """Mean over the prompts where it exists."""
    kendall_tau: float | None
    """Tau-b, mean over the prompts where it exists."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        interval = self.pairwise_accuracy_ci
        return {**asdict(self), "pairwise_accuracy_ci": None if interval is None else [*interval]}

    def headline(self) -> float | None:
        """The pairwise accuracy."""
        return self.pairwise_accuracy

    @property
    def overall_ci(self) -> tuple[float, float] | None:
        """The interval of the headline figure."""
        return self.pairwise_accuracy_ci

    def section_values(self) -> dict[str, float | None]:
        """The paper's four other figures."""
        return {
            "5-best": self.five_best,
            "exact match": self.exact_match,
            "Spearman": self.spearman,
            "Kendall tau": self.kendall_tau,
        }


def _split(prompt: RankedResponses) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Returns human ranks, scores (nan without one) and which responses have a score."""
    ranks = np.array(prompt.human_ranks, dtype=np.float64)
    is_scored = np.array([score is not None for score in prompt.scores], dtype=bool)
    scores = np.array([np.nan if s is None else s for s in prompt.scores], dtype=np.float64)
    if len(ranks) != len(scores):
        raise ValueError(
            f"{prompt.prompt_id} has {len(ranks)} human ranks and {len(scores)} scores"
        )
    if not (np.isfinite(ranks).all() and np.isfinite(scores[is_scored]).all()):
        raise ValueError(f"{prompt.prompt_id} has a rank or score that is not a finite number")
    # Draws averaged in another order differ in the last digits.
    return ranks, np.round(scores, 9), is_scored


def _pair_counts(ranks: FloatArray, scores: FloatArray) -> tuple[int, int, int]:
    """Returns how many pairs humans rank differently, and how many are right and tied in score."""
    left, right = np.triu_indices(len(ranks), k=1)
    human = np.sign(ranks[right] - ranks[left])
    judge = np.sign(scores[left] - scores[right])[human != 0]
    human = human[human != 0]
    return len(human), int((human == judge).sum()), int((judge == 0).sum())


def _ratio_interval(
    right: FloatArray, total: FloatArray, confidence: float, num_samples: int, seed: int
) -> tuple[float, float]:
    """Bootstrap of sum(right) / sum(total) over prompts: pairs of one prompt hang together."""
    rng = np.random.default_rng(seed)
    return percentiles(bootstrap_ratios(right, total, num_samples, rng), confidence)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def reward_modelling_report(
    prompts: Sequence[RankedResponses],
    full_score: float = 5.0,
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> RewardModellingReport:
    """Measures scores against human rankings (arXiv 2401.10020, section 3.2).

    Pairs are pooled over prompts; exact match and the correlations are per prompt, on the
    responses that have a score. Pairs that humans rank equal have no label and are left out.
    Whether a response is the humans' best is asked among all responses to the prompt, those with
    a failed judgment included; prompts on which humans rank nothing above anything are not asked.
    Raises ValueError without prompts, for unequal lengths and for numbers that are not finite.
    """
    if not prompts:
        raise ValueError("a judge cannot be measured on no prompts")
    pairs: list[tuple[int, int, int]] = []
    bests: list[bool] = []
    spearmans: list[float] = []
    taus: list[float] = []
    for prompt in prompts:
        ranks, scores, is_scored = _split(prompt)
        if not is_constant(ranks):
            bests += [bool(r == ranks.min()) for r in ranks[scores >= full_score - ROUNDING]]
        ranks, scores = ranks[is_scored], scores[is_scored]
        counts = _pair_counts(ranks, scores)
        if counts[0] == 0:
            continue
        pairs.append(counts)
        spearman, tau, _ = correlations(-ranks, scores)
        if spearman is not None and tau is not None:
            spearmans.append(spearman)
            taus.append(tau)
    total, right, tied = np.array(pairs, dtype=np.float64).reshape(-1, 3).T
    num_pairs, num_right, num_tied = (int(a.sum()) for a in (total, right, tied))
    return RewardModellingReport(
        n=len(prompts),
        num_responses=sum(len(p.scores) for p in prompts),
        num_failed=sum(p.scores.count(None) for p in prompts),
        num_skipped=len(prompts) - len(pairs),
        num_pairs=num_pairs,
        num_score_ties=num_tied,
        pairwise_accuracy=num_right / num_pairs if pairs else None,
        pairwise_accuracy_ties_half=(num_right + num_tied / 2) / num_pairs if pairs else None,
        pairwise_accuracy_ci=(
            _ratio_interval(right, total, confidence, num_samples, seed) if pairs else None
        ),
        num_full_scores=len(bests),
        five_best=_mean(bests),
        exact_match=float((right == total).mean()) if pairs else None,
        num_undefined=len(pairs) - len(spearmans),
        spearman=_mean(spearmans),
        kendall_tau=_mean(taus),
    )
