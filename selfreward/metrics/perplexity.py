"""How well models predict documents: perplexity, bits per byte, and two models on the same ones.

Perplexity counts tokens, so it compares only between models of one tokenizer. Bits per byte counts
what the tokens stand for and compares between all. Log-likelihoods of a model that broke in
training are NaN or infinite: its figures are then so too, without an interval, and never those of
the documents that are left.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreward.metrics.intervals import in_slices, percentiles
from selfreward.metrics.likelihoods import perplexity_report

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]

# Sums are exact only up to rounding: equal statistics must compare as equal.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentNll:
    """What a model made of one document.

    Example: `DocumentNll(id="doc-3f…", nll_nats=412.6, num_tokens=160, num_bytes=702)`
    """

    id: str
    nll_nats: float
    """Minus the log-probability of its predicted tokens."""
    num_tokens: int
    """Predicted tokens; 0 where the document is a single one."""
    num_bytes: int
    """UTF-8 bytes of those tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentReport:
    """How well a model predicts documents, each token (each byte) weighing the same.

    Example: `DocumentReport(n=40, num_tokens=6400, num_bytes=28100, perplexity=13.2,
    perplexity_ci=(12.1, 14.4), bits_per_byte=0.848, bits_per_byte_ci=(0.82, 0.876))`
    """

    n: int
    """Documents with a predicted token."""
    num_tokens: int
    num_bytes: int
    perplexity: float
    perplexity_ci: Interval | None
    """Percentile bootstrap interval over documents. None where a document's is not finite."""
    bits_per_byte: float
    bits_per_byte_ci: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary of plain values; JSON-ready where the figures are finite."""
        return {k: [*v] if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentComparison:
    """Two models on the same documents, `after` against `before`. Lower is better.

    Example: `DocumentComparison(n=40, before=0.902, after=0.848, difference=-0.054,
    ci=(-0.071, -0.038), p_value=0.0005)`
    """

    n: int
    before: float
    """Bits per byte."""
    after: float
    difference: float
    """Bits per byte of after minus those of before: negative where `after` predicts better."""
    ci: Interval | None
    """Percentile bootstrap interval; documents are resampled, both models' together. None where
    a figure is not finite."""
    p_value: float | None
    """One-sided: small where `after` is better."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary of plain values; JSON-ready where the figures are finite."""
        return {k: [*v] if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def document_report(
    documents: Sequence[DocumentNll],
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> DocumentReport:
    """Measures perplexity, exp(sum of nll / sum of tokens), and bits per byte, sum of nll over
    sum of bytes and log 2.

    Documents without a predicted token are left out. Raises ValueError where none is left.
    """
    kept = [d for d in documents if d.num_tokens > 0]
    if not kept:
        raise ValueError("perplexity needs at least one document of two tokens")
    logps = [-d.nll_nats for d in kept]
    sizes = [max(1, d.num_bytes) for d in kept]
    per_token = perplexity_report(
        logps, [d.num_tokens for d in kept], confidence, num_samples, seed
    )
    # The same ratio of sums over bytes; its interval comes back from the exponential.
    per_byte = perplexity_report(logps, sizes, confidence, num_samples, seed)
    return DocumentReport(
        n=len(kept),
        num_tokens=per_token.num_tokens,
        num_bytes=per_byte.num_tokens,
        perplexity=per_token.perplexity,
        perplexity_ci=per_token.perplexity_ci,
        bits_per_byte=per_byte.nats_per_token / math.log(2),
        bits_per_byte_ci=None if per_byte.perplexity_ci is None else _bits(per_byte.perplexity_ci),
    )


def _bits(interval: Interval) -> Interval:
    return math.log2(interval[0]), math.log2(interval[1])


def compare_documents(
    before: Sequence[DocumentNll],
    after: Sequence[DocumentNll],
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> DocumentComparison:
    """Tests whether `after` needs fewer bits per byte than `before` on the same documents.

    The two may have other tokenizers. The p-value is of a randomisation test: if both are equally
    good, which of them a document's figures came from is a coin toss (Good 2005, section 3.7; with
    equal bytes these are the sign flips of `intervals.sign_flip_test`). Documents of which either
    model predicted no token are left out.

    Raises ValueError where the documents are not the same in the same order, or none is left.
    """
    if [d.id for d in before] != [d.id for d in after]:
        raise ValueError("two models can only be compared on the same documents in the same order")
    both = [
        (b, a) for b, a in zip(before, after, strict=True) if min(b.num_tokens, a.num_tokens) > 0
    ]
    if not both:
        raise ValueError("a comparison needs at least one document of two tokens")
    bits_DM = np.array([[d.nll_nats for d in pair] for pair in both]) / math.log(2)
    bytes_DM = np.array([[float(max(1, d.num_bytes)) for d in pair] for pair in both])
    rates = bits_DM.sum(axis=0) / bytes_DM.sum(axis=0)
    observed = float(rates[1] - rates[0])
    ci: Interval | None = None
    p_value: float | None = None
    if np.isfinite(bits_DM).all():
        resampling, tossing = np.random.default_rng(seed).spawn(2)
        ci = percentiles(_resampled(bits_DM, bytes_DM, num_samples, resampling), confidence)
        tossed = _tossed(bits_DM, bytes_DM, num_samples, tossing)
        count = int(np.count_nonzero(tossed <= observed + _ROUNDING))
        # One is added to both counts, so that no p-value is 0 (Davison and Hinkley 1997, 4.2.3).
        p_value = (1 + count) / (1 + num_samples)
    return DocumentComparison(
        n=len(both),
        before=float(rates[0]),
        after=float(rates[1]),
        difference=observed,
        ci=ci,
        p_value=p_value,
    )


def _resampled(
    bits_DM: FloatArray, bytes_DM: FloatArray, num_samples: int, rng: np.random.Generator
) -> FloatArray:
    """Differences of bits per byte on bootstrap samples of documents, shape (num_samples,).

    _D documents, _M the two models, before and after.
    """

    def draw(count: int) -> FloatArray:
        drawn = rng.integers(0, len(bits_DM), (count, len(bits_DM)))
        rates = bits_DM[drawn].sum(axis=1) / bytes_DM[drawn].sum(axis=1)
        out: FloatArray = rates[:, 1] - rates[:, 0]
        return out

    return in_slices(2 * len(bits_DM), num_samples, draw)


def _tossed(
    bits_DM: FloatArray, bytes_DM: FloatArray, num_samples: int, rng: np.random.Generator
) -> FloatArray:
    """Differences where each document's two models change places at random, (num_samples,)."""

    def draw(count: int) -> FloatArray:
        changes = rng.integers(0, 2, (count, len(bits_DM))).astype(np.float64)
        bits = changes @ (bits_DM[:, 1] - bits_DM[:, 0])
        sizes = changes @ (bytes_DM[:, 1] - bytes_DM[:, 0])
        first = (bits_DM[:, 0].sum() + bits) / (bytes_DM[:, 0].sum() + sizes)
        second = (bits_DM[:, 1].sum() - bits) / (bytes_DM[:, 1].sum() - sizes)
        out: FloatArray = second - first
        return out

    return in_slices(len(bits_DM), num_samples, draw)
