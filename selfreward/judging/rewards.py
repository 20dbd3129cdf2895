"""What a sampled text earns, from texts and verdicts alone.

A reward is a number or the name of what failed, never a number that stands for a failure: a text
whose judge could not be read says nothing about the text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from selfreward.judging.rubrics import PairwiseRubric
from selfreward.judging.verdicts import parse_pairwise
from selfreward.judging.voting import mean_score
from selfreward.records import Outcome, Verdict
from selfreward.records_custom_llm import Check

Passes = Callable[[Check, str], bool]
"""Whether a text passes a check."""


class RewardFailure(StrEnum):
    """Why a sampled text has no reward."""

    PROMPT_TOO_LONG = "prompt_too_long"
    """The prompt, of the policy or of who rewards it, leaves no room in its engine's context."""
    BAD_REQUEST = "bad_request"
    """An engine does not take the request."""
    TOO_LONG = "too_long"
    """Prompt and text together are longer than the trainer takes."""
    UNPARSED = "unparsed"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    """These three are the outcome of the judge's reading, not of the text that is judged."""
    BAD_SCORE = "bad_score"
    """A reward model's score is no finite number."""
    NO_PARTNER = "no_partner"
    """The sample in the other order of the pair failed, so consistency is not known."""


_OF_OUTCOME = {
    Outcome.UNPARSED: RewardFailure.UNPARSED,
    Outcome.TRUNCATED: RewardFailure.TRUNCATED,
    Outcome.REFUSED: RewardFailure.REFUSED,
}


@dataclass(frozen=True, slots=True)
class Reward:
    """What a text earns; exactly one of the two is set.

    Example: `Reward(value=0.75)`, `Reward(failure=RewardFailure.UNPARSED)`
    """

    value: float | None = None
    failure: RewardFailure | None = None


def checks_reward(checks: Sequence[Check], text: str, passes: Passes) -> Reward:
    """The share of the checks that a text passes, 0..1.

    Raises:
        ValueError: there are no checks.
    """
    if not checks:
        raise ValueError("a text without checks has no share of passed ones")
    return Reward(value=sum(passes(check, text) for check in checks) / len(checks))


def score_reward(verdicts: Sequence[Verdict]) -> Reward:
    """The mean of the scores a judge gave in several readings; without one, the usual failure."""
    verdict = mean_score(verdicts).verdict
    if verdict.outcome is Outcome.SCORE:
        return Reward(value=verdict.score)
    return Reward(failure=_OF_OUTCOME[verdict.outcome])


def names_better(
    rubric: PairwiseRubric, text: str, finish_reason: str, gold: Literal["first", "second"]
) -> bool:
    """Whether a judgment's text names the better response.

    A text without a readable verdict does not: whoever wrote it is who learns, so that is its own
    fault and no failed measurement.
    """
    verdict = parse_pairwise(rubric, text, finish_reason)
    return verdict.outcome is Outcome.CHOICE and verdict.choice == gold


def verdict_rewards(
    right: Sequence[bool], right_swapped: Sequence[bool | None], consistency_bonus: float
) -> list[Reward]:
    """Rewards of the samples of a judgment on one order of a pair (J1, arXiv 2505.10320).

    `right[i]` says whether sample i names the better response, `right_swapped[i]` the same of
    sample i on the swapped pair, None where that one failed. A right sample earns
    1 - `consistency_bonus`, and `consistency_bonus` more where its partner is right too; without a
    partner it has no reward. Nothing is given for a form and nothing is taken off.
    """
    rewards = []
    for own, other in zip(right, right_swapped, strict=True):
        if own and other is None and consistency_bonus > 0:
            rewards.append(Reward(failure=RewardFailure.NO_PARTNER))
        else:
            bonus = consistency_bonus if other else 0.0
            rewards.append(Reward(value=(1.0 - consistency_bonus) + bonus if own else 0.0))
    return rewards
