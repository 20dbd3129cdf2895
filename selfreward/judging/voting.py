"""Several verdicts made into one: draws of one order, both orders of a pair, scores of a response.

A failed draw has no vote and is never a number. Which verdicts belong together is the caller's to
know.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selfreward.records import Outcome, Verdict

# Between failures that are equally common the earlier is reported, whatever the order of the
# draws. A tie says something about the responses, so it must not hide that reading failed.
_FAILURES = (Outcome.UNPARSED, Outcome.TRUNCATED, Outcome.REFUSED, Outcome.TIE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreVote:
    """The mean score of several draws.

    Example: `ScoreVote(verdict=Verdict(outcome="score", score=3.5), num_scores=2, num_draws=3)`
    """

    verdict: Verdict
    num_scores: int
    """Draws with a score; only these are averaged."""
    num_draws: int


def most_common_failure(outcomes: Iterable[Outcome]) -> Outcome:
    """Returns the failure that most of the outcomes are."""
    counts = Counter(outcomes)
    return max(_FAILURES, key=lambda outcome: counts[outcome])


def _most_common_failure(verdicts: Iterable[Verdict]) -> Verdict:
    return Verdict(outcome=most_common_failure(v.outcome for v in verdicts))


def _refuse(verdicts: Sequence[Verdict], outcome: Outcome, what: str) -> None:
    if any(v.outcome is outcome for v in verdicts):
        raise ValueError(f"{what} cannot be made from verdicts of outcome {outcome.value!r}")


def majority(verdicts: Sequence[Verdict]) -> Verdict:
    """Returns the verdict of several draws of one prompt (arXiv 2408.02666 takes 32).

    The choice with the most votes; a draw without a choice, a tie among them, has no vote. Equal
    votes are a tie. Without a vote it is the most common failure. Where every vote carries a
    `probability_first`, the choice carries their mean, which can be on the other side of 0.5.
    Raises ValueError without verdicts or with a score among them.
    """
    if not verdicts:
        raise ValueError("a majority needs at least one verdict")
    _refuse(verdicts, Outcome.SCORE, "a majority")
    votes = [v for v in verdicts if v.outcome is Outcome.CHOICE]
    if not votes:
        return _most_common_failure(verdicts)
    num_first = sum(v.choice == "first" for v in votes)
    if 2 * num_first == len(votes):
        return Verdict(outcome=Outcome.TIE)
    known = [v.probability_first for v in votes if v.probability_first is not None]
    return Verdict(
        outcome=Outcome.CHOICE,
        choice="first" if 2 * num_first > len(votes) else "second",
        probability_first=sum(known) / len(known) if len(known) == len(votes) else None,
    )


def _by_probability(probability: float) -> Verdict:
    if probability == 0.5:
        return Verdict(outcome=Outcome.TIE)
    return Verdict(
        outcome=Outcome.CHOICE,
        choice="first" if probability > 0.5 else "second",
        probability_first=probability,
    )


def verdict_by_probability(verdict: Verdict) -> Verdict:
    """Returns the verdict that `probability_first` alone gives: exactly 0.5 is a tie.

    At temperature 0 this is the written verdict; of a sampled one it is what the judge finds
    likelier. A choice without a probability is unparsed here, since the written letter is another
    measurement; a failure stays as it is. Raises ValueError for a score.
    """
    _refuse([verdict], Outcome.SCORE, "a verdict by probability")
    if verdict.outcome is not Outcome.CHOICE:
        return verdict
    if verdict.probability_first is None:
        return Verdict(outcome=Outcome.UNPARSED)
    return _by_probability(verdict.probability_first)


def combine_orders(chosen_first: Verdict, rejected_first: Verdict) -> Verdict:
    """Returns one verdict on a pair read in both orders: `first` means the chosen response.

    With both probabilities the choice follows their mean P(chosen response), in which a constant
    liking for one position cancels. Otherwise two readings that name the same response make a
    choice, and two that name different ones a tie (as in the head-to-head comparisons of
    arXiv 2401.10020). With a failed reading the pair has that failure; of two different ones, a
    tie gives way to the other. Raises ValueError for a score.
    """
    readings = (chosen_first, rejected_first)
    _refuse(readings, Outcome.SCORE, "a verdict on both orders")
    failed = [v for v in readings if v.outcome is not Outcome.CHOICE]
    if failed:
        return _most_common_failure(failed)
    one, other = chosen_first.probability_first, rejected_first.probability_first
    if one is not None and other is not None:
        return _by_probability((one + (1 - other)) / 2)
    if chosen_first.choice == rejected_first.choice:
        # The same position twice is each response once.
        return Verdict(outcome=Outcome.TIE)
    return Verdict(outcome=Outcome.CHOICE, choice=chosen_first.choice)


def mean_score(verdicts: Sequence[Verdict]) -> ScoreVote:
    """Returns the mean score of several draws (arXiv 2401.10020 takes three).

    Draws without a score are left out and the count says how many were averaged; with none left,
    the verdict is the most common failure. Raises ValueError without verdicts or with a choice
    among them.
    """
    if not verdicts:
        raise ValueError("a mean score needs at least one verdict")
    _refuse(verdicts, Outcome.CHOICE, "a mean score")
    scores = [v.score for v in verdicts if v.outcome is Outcome.SCORE and v.score is not None]
    verdict = (
        Verdict(outcome=Outcome.SCORE, score=sum(scores) / len(scores))
        if scores
        else _most_common_failure(verdicts)
    )
    return ScoreVote(verdict=verdict, num_scores=len(scores), num_draws=len(verdicts))
