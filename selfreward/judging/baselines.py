"""Judges without a model or a label: the floor that a trained judge has to clear.

Each reads a pair in one order and gives the `Verdict` a judge would. `verdict_of_scores` makes
verdicts of any two scores, for scorers that read one response at a time.
"""

import math
from collections.abc import Callable

from selfreward.records import Outcome, Position, ResponsePair, Verdict, derived_seed

Baseline = Callable[[ResponsePair, Position, int], Verdict]


def _choice(is_first: bool, probability_first: float | None = None) -> Verdict:
    return Verdict(
        outcome=Outcome.CHOICE,
        choice="first" if is_first else "second",
        probability_first=probability_first,
    )


def verdict_of_scores(
    chosen_score: float,
    rejected_score: float,
    position: Position,
    with_probability: bool = False,
    guesses: bool = False,
) -> Verdict:
    """Returns the verdict of a scorer on a pair shown in the order of `position`.

    The higher score is chosen. Equal scores are a tie, which is not right; with `guesses` they
    choose the first position in either order, so both orders together count half, as a guess does.
    With `with_probability` a choice carries
    P(first) = sigmoid(score of the first - score of the second), the model of Bradley and Terry
    (1952); it means something only for scores that are log-odds, such as those of a reward model.
    Raises ValueError for NaN.
    """
    if math.isnan(chosen_score) or math.isnan(rejected_score):
        raise ValueError(f"a pair cannot be judged by scores {chosen_score} and {rejected_score}")
    is_chosen_first = position is Position.CHOSEN_FIRST
    first, second = (
        (chosen_score, rejected_score) if is_chosen_first else (rejected_score, chosen_score)
    )
    if first == second and not guesses:
        return Verdict(outcome=Outcome.TIE, probability_first=0.5 if with_probability else None)
    if not with_probability:
        return _choice(first >= second)
    # Two infinite scores of one sign are equal too, though their difference is no number.
    difference = 0.0 if first == second else first - second
    # exp overflows only past 700, where the probability is 0 to any use.
    return _choice(first >= second, 1.0 / (1.0 + math.exp(min(-difference, 700.0))))


def longest(pair: ResponsePair, position: Position, seed: int) -> Verdict:
    """Chooses the response with more characters; equal lengths choose the first position."""
    return verdict_of_scores(len(pair.chosen), len(pair.rejected), position, guesses=True)


def shortest(pair: ResponsePair, position: Position, seed: int) -> Verdict:
    """Chooses the response with fewer characters; equal lengths choose the first position."""
    return verdict_of_scores(-len(pair.chosen), -len(pair.rejected), position, guesses=True)


def first(pair: ResponsePair, position: Position, seed: int) -> Verdict:
    """Always chooses the first position: right in one order of each pair."""
    return _choice(True)


def random_choice(pair: ResponsePair, position: Position, seed: int) -> Verdict:
    """Tosses a coin that depends on the pair, the order and `seed` alone."""
    return _choice(derived_seed("random baseline", seed, pair.id, position.value) % 2 == 0)


BASELINES: dict[str, Baseline] = {
    "longest": longest,
    "shortest": shortest,
    "first": first,
    "random": random_choice,
}
