"""Scores of a response by its likelihood under a language model: no rubric, no label, no training.

The pure part: from summed log-probabilities to scores. They are natural, of the response's tokens
and its end-of-turn token where the caller counts one. The higher score is the better response;
`baselines.verdict_of_scores` makes verdicts of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseLogps:
    """What a model says of one response.

    Example: `ResponseLogps(given_prompt=-42.0, num_tokens=30, alone=-75.0)`

    Raises ValueError for a response without tokens and for sums that are not finite.
    """

    given_prompt: float
    """Sum over the response's tokens of log P(token | prompt, tokens before it)."""
    num_tokens: int
    alone: float | None = None
    """The same sum without the prompt; None where it was not computed."""

    def __post_init__(self) -> None:
        if self.num_tokens < 1:
            raise ValueError(f"a response of {self.num_tokens} tokens has no likelihood")
        if not math.isfinite(self.given_prompt) or not math.isfinite(self.alone or 0.0):
            raise ValueError(f"log-probabilities must be finite, not {self}")


Likelihood = Callable[[ResponseLogps], float]


def sum_logps(logps: ResponseLogps) -> float:
    """log P(response | prompt): favours short responses, as every token lowers it."""
    return logps.given_prompt


def mean_logps(logps: ResponseLogps) -> float:
    """The same per token: favours fluent, common and repetitive text, and so often long text.

    This is the reward of SimPO without its factor (arXiv 2405.14734).
    """
    return logps.given_prompt / logps.num_tokens


def relative_sum(logps: ResponseLogps) -> float:
    """log P(response | prompt) - log P(response): how much the prompt makes it likelier.

    The pointwise mutual information of the two (used for choosing answers in arXiv 2104.08315):
    common text gains nothing, what takes up the prompt gains, and a long response gains token by
    token. Raises ValueError where `alone` is None.
    """
    if logps.alone is None:
        raise ValueError("a relative likelihood needs the log-probability of the response alone")
    return logps.given_prompt - logps.alone


def relative_mean(logps: ResponseLogps) -> float:
    """The same per token: favours short responses that repeat the words of the prompt.

    Raises ValueError where `alone` is None.
    """
    return relative_sum(logps) / logps.num_tokens


LIKELIHOODS: dict[str, Likelihood] = {
    "sum": sum_logps,
    "mean": mean_logps,
    "relative_sum": relative_sum,
    "relative_mean": relative_mean,
}

RELATIVE_LIKELIHOODS = frozenset({"relative_sum", "relative_mean"})
"""Those that need `alone`: a second pass over the response."""
