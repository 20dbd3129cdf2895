"""Figures from log-probabilities of whole texts: perplexity, and how far a model has moved.

Log-probabilities are natural ones, summed over the tokens of a text. Those of a model that broke
in training are NaN or infinite: its figures are then NaN or infinite too, without an interval,
and never an average of the rows that are left.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreward.metrics.intervals import bootstrap_interval, bootstrap_ratios, percentiles

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityReport:
    """How well a model predicts texts, each token weighing the same.

    Example: `PerplexityReport(n=8, num_tokens=410, nats_per_token=2.303, perplexity=10.0,
    perplexity_ci=(8.1, 12.6))`
    """

    n: int
    """Texts."""
    num_tokens: int
    nats_per_token: float
    """Cross-entropy: minus the sum of the log-probabilities, over all tokens."""
    perplexity: float
    """exp of it."""
    perplexity_ci: Interval | None
    """Percentile bootstrap interval; texts are resampled. None where a row is not finite."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary of plain values; JSON-ready where the figures are finite."""
        interval = self.perplexity_ci
        return {**asdict(self), "perplexity_ci": None if interval is None else [*interval]}


@dataclass(frozen=True, slots=True, kw_only=True)
class KlReport:
    """Estimates of KL(M_t || M_0), in nats.

    Example: `KlReport(n=64, num_tokens=3200, kl=6.4, kl_ci=(5.6, 7.3), kl_per_token=0.128,
    kl_per_token_ci=(0.117, 0.139), kl_k3=5.5, kl_k3_ci=(4.7, 6.4))`
    """

    n: int
    """Responses."""
    num_tokens: int
    kl: float
    """Per response, by the plain estimator: the figure to report and to watch. Chance can bring
    it below 0 where the models are close."""
    kl_ci: Interval | None
    """Percentile bootstrap interval; responses are resampled. None where a row is not finite."""
    kl_per_token: float
    """The sum over all responses divided by all their tokens."""
    kl_per_token_ci: Interval | None
    kl_k3: float
    """Per response, by the estimator that is never negative, beside the plain one."""
    kl_k3_ci: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary of plain values; JSON-ready where the figures are finite."""
        values = asdict(self)
        return {k: [*v] if isinstance(v, tuple) else v for k, v in values.items()}


def _rows(values: npt.ArrayLike, num_tokens: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    sums = np.asarray(values, dtype=np.float64)
    tokens = np.asarray(num_tokens, dtype=np.float64)
    if sums.ndim != 1 or len(sums) == 0 or sums.shape != tokens.shape:
        raise ValueError(
            "log-probabilities and token counts must be 1-d, of the same texts and of at least"
            f" one: {sums.shape}, {tokens.shape}"
        )
    # Written so that nan fails it too.
    if not (tokens >= 1).all():
        raise ValueError("a text has at least one token; leave empty ones out")
    return sums, tokens


def _ratio_interval(
    sums: FloatArray, tokens: FloatArray, confidence: float, num_samples: int, seed: int
) -> Interval | None:
    """Bootstrap of sum(sums) / sum(tokens): the tokens of a text are drawn together."""
    if not np.isfinite(sums).all():
        return None
    rng = np.random.default_rng(seed)
    return percentiles(bootstrap_ratios(sums, tokens, num_samples, rng), confidence)


def _mean_interval(
    values: FloatArray, confidence: float, num_samples: int, seed: int
) -> Interval | None:
    if not np.isfinite(values).all():
        return None
    return bootstrap_interval(values, confidence, num_samples, seed)


def perplexity_report(
    logps: npt.ArrayLike,
    num_tokens: npt.ArrayLike,
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> PerplexityReport:
    """Measures perplexity, exp(-sum of logps / sum of tokens), on 1-d rows, one a text.

    Weighing tokens and not texts (Jelinek et al. 1977) keeps short texts from swaying it. It
    compares only between models with the same tokenizer. Raises ValueError without texts, for
    unequal lengths and for texts without tokens.
    """
    sums, tokens = _rows(logps, num_tokens)
    # A ruined model's perplexity can be beyond the largest float: infinite, not an error.
    with np.errstate(over="ignore", invalid="ignore"):
        nats = float(-sums.sum() / tokens.sum())
        interval = _ratio_interval(-sums, tokens, confidence, num_samples, seed)
        return PerplexityReport(
            n=len(sums),
            num_tokens=int(tokens.sum()),
            nats_per_token=nats,
            perplexity=float(np.exp(nats)),
            perplexity_ci=(
                None
                if interval is None
                else (float(np.exp(interval[0])), float(np.exp(interval[1])))
            ),
        )


def kl_report(
    current: npt.ArrayLike,
    first: npt.ArrayLike,
    num_tokens: npt.ArrayLike,
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> KlReport:
    """Estimates KL(M_t || M_0) from responses that M_t sampled.

    `current` and `first` are 1-d log-probabilities of the same responses under M_t and M_0, whose
    tokens are the same. With d = log p_t - log p_0, `kl` is the mean of d and `kl_k3` that of
    exp(-d) - 1 + d (k1 and k3 of Schulman, Approximating KL Divergence, 2020,
    joschu.net/blog/kl-approx.html). The expectation of both is the divergence.

    k3 is the steadier one for single tokens, whose ratios are near 1. For whole responses it is
    not: exp(-d) has mean 1, but nearly all of that lies in responses so rare that a sample has
    none (k3 is then k1 - 1) or one, which outweighs all others: a single d of -12 adds 160,000 to
    the sum. Hence k1 is what is reported here; where k3 - k1 is not near 0, k3 is not to be
    trusted.

    The responses must be sampled at temperature 1 from the whole distribution. Sampled sharper
    (temperature below 1, top-p), they are those M_t likes best and the figure can lie on either
    side of the divergence: compare only figures sampled alike. Raises ValueError without responses,
    for unequal lengths and for responses without tokens.
    """
    logps, tokens = _rows(current, num_tokens)
    firsts, _ = _rows(first, num_tokens)
    with np.errstate(over="ignore", invalid="ignore"):
        ratios = logps - firsts
        # expm1 keeps the digits where the two models nearly agree.
        k3 = np.expm1(-ratios) + ratios
        return KlReport(
            n=len(ratios),
            num_tokens=int(tokens.sum()),
            kl=float(ratios.mean()),
            kl_ci=_mean_interval(ratios, confidence, num_samples, seed),
            kl_per_token=float(ratios.sum() / tokens.sum()),
            kl_per_token_ci=_ratio_interval(ratios, tokens, confidence, num_samples, seed),
            kl_k3=float(k3.mean()),
            kl_k3_ci=_mean_interval(k3, confidence, num_samples, seed),
        )
