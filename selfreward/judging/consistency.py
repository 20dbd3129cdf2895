"""How far to trust a preference: do this model and the one before rank the responses alike?

CREAM (arXiv 2410.12735). Both models rank the same responses by DPO's implicit reward; the less the
two rankings agree, the more weight the opposite of each preference gets in training
(`Preference.label_confidence`). In the paper the implicit rewards also make the pairs; here the
scores by a rubric do, so the consistency is that of another ranking than the one a pair comes from.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import kendalltau

from selfreward.records_self_rewarding import ResponseLikelihood

# The same tokens scored in another batch can differ in the last digits of single precision.
_REWARD_DECIMALS = 6


def implicit_rewards(
    policy: Sequence[ResponseLikelihood],
    reference: Sequence[ResponseLikelihood],
    beta: float,
) -> dict[str, float]:
    """Returns `beta * (logp_policy - logp_reference)` of each response, by response id.

    Source: arXiv 2305.18290, section 4, without the term that all responses to one prompt share.
    Log-probabilities are sums over the response's tokens, in nats. Raises ValueError where the two
    are not of the same responses, a response is there twice, a log-probability is not finite, or
    `beta` is not above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    of_policy, of_reference = _by_response(policy), _by_response(reference)
    if of_policy.keys() != of_reference.keys():
        odd = sorted(of_policy.keys() ^ of_reference.keys())
        raise ValueError(f"{len(odd)} responses have one of two likelihoods only, as {odd[0]}")
    return {ident: beta * (logp - of_reference[ident]) for ident, logp in of_policy.items()}


def _by_response(likelihoods: Sequence[ResponseLikelihood]) -> dict[str, float]:
    logps: dict[str, float] = {}
    for likelihood in likelihoods:
        ident = likelihood.response_id
        if ident in logps:
            raise ValueError(f"{ident} has two likelihoods of one model")
        if not math.isfinite(likelihood.logp):
            raise ValueError(f"the log-probability of {ident} is {likelihood.logp}")
        logps[ident] = likelihood.logp
    return logps


def ranking_consistency(
    rewards_now: Mapping[str, float], rewards_before: Mapping[str, float]
) -> float | None:
    """Returns (tau + 1) / 2 of two rankings of one instruction's responses: 1 is the same order.

    Source: arXiv 2410.12735, section 4. tau is Kendall's tau-b. Without ties it is the paper's;
    the paper does not say what becomes of ties, and its code ranks tied responses in the order
    they are listed in, which agrees by accident. Here a pair tied in both rankings (a text sampled
    twice) does not count, and a pair tied in one lowers |tau|.

    None where a ranking does not exist: fewer than two responses, or equal rewards for all, as of
    a model that is the reference itself. Raises ValueError where the two are not of the same
    responses.
    """
    if rewards_now.keys() != rewards_before.keys():
        raise ValueError("the two rankings are not of the same responses")
    idents = sorted(rewards_now)
    now = np.array([rewards_now[i] for i in idents], dtype=np.float64).round(_REWARD_DECIMALS)
    before = np.array([rewards_before[i] for i in idents], dtype=np.float64).round(_REWARD_DECIMALS)
    if not (np.isfinite(now).all() and np.isfinite(before).all()):
        raise ValueError("a reward is not a finite number")
    if len(idents) < 2 or np.ptp(now) == 0 or np.ptp(before) == 0:
        return None
    return (float(kendalltau(now, before).statistic) + 1) / 2


def label_confidence(consistencies: Sequence[float | None]) -> float:
    """Returns C, the mean consistency over the data set: the weight of every preference.

    One number for all preferences of an iteration is what arXiv 2410.12735 trains with (section 4).
    Instructions without a consistency are left out. Raises ValueError with none left.
    """
    known = [c for c in consistencies if c is not None]
    if not known:
        raise ValueError("no instruction has two rankings to compare")
    return math.fsum(known) / len(known)
