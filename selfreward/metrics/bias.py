"""The bias card of a judge: what it leans on besides quality, on pairs whose label is known.

A rate alone says little where the data lean themselves (better responses are often longer, and a
strong model's own answers are often better), so each is given beside what the labels say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreward.metrics.pairwise import PairOutcome, accuracy_per_pair, pairwise_report

MIN_OWN_CHOICES = 20
"""Choices on pairs with an own answer below which its self-preference stops no judge: the other
figures of the card are of all pairs, and this one may be of a handful."""

# Differences of rates such as 0.3 - 0.1 are not exact: on the tolerance is not above it.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasCard:
    """Biases and failures of a judge. A figure without anything to measure is None.

    Example: `BiasCard(n=64, swap_flip_rate=0.31, first_position_rate=0.58,
    longer_chosen_rate=0.66, share_chosen_longer=0.55, accuracy_with_lengths=0.7,
    length_only_accuracy=0.55, unparsed_rate=0.02, truncated_rate=0.0, tie_rate=0.0,
    refused_rate=0.0, score_entropy_bits=1.4, score_saturation=0.12, self_preference=None)`
    """

    n: int
    """Pairs; each has two readings, or one where a random order was asked for."""
    swap_flip_rate: float | None
    """Of the pairs with two choices: share whose chosen response changes with the order."""
    first_position_rate: float | None
    """Share of the choices that name the first position; 0.5 is without bias."""
    longer_chosen_rate: float | None
    """Of the choices between responses of unequal known length: share naming the longer."""
    share_chosen_longer: float | None
    """Of the same choices: share in which the better response is the longer; a judge that is
    always right has the same figure here and in `longer_chosen_rate`."""
    accuracy_with_lengths: float | None
    """Accuracy over the readings of the pairs with two known lengths."""
    length_only_accuracy: float | None
    """Accuracy on these pairs of always naming the longer response, equal lengths counted half:
    a judge below it has learnt less than a ruler knows."""
    unparsed_rate: float
    truncated_rate: float
    tie_rate: float
    refused_rate: float
    score_entropy_bits: float | None
    """Entropy of the distinct scores: 0 is one score for everything. Averages of several draws
    have more distinct values, so compare cards of equally many draws."""
    score_saturation: float | None
    """Share of the scores at the top of the scale."""
    self_preference: float | None
    """On pairs with one answer of the judge's own model: share of the choices naming it minus
    the share of these choices in which it is the better; above 0 the judge favours its own."""
    own_choices: int = 0
    """Choices that `self_preference` is of."""
    own_score_excess: float | None = None
    """Mean of its score minus people's, both as a share of their scale, over the single responses
    of its own model; 0.1 is a tenth of the scale too high."""
    other_score_excess: float | None = None
    """The same over the responses of other models."""
    score_self_preference: float | None = None
    """The first minus the second; above 0 the judge is kinder to its own."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _side_rates(
    outcomes: Sequence[PairOutcome], is_chosen: Mapping[str, bool]
) -> tuple[float | None, float | None]:
    """Returns how often a marked side is named, and how often it is the better one.

    `is_chosen` says for some pair ids whether the marked side is the chosen response. Both rates
    are over the same choices: a pair of which one reading failed counts once in each.
    """
    sides = [
        (is_right == is_chosen[o.pair_id], is_chosen[o.pair_id])
        for o in outcomes
        if o.pair_id in is_chosen
        for is_right in o.choices
        if is_right is not None
    ]
    return _mean([named for named, _ in sides]), _mean([better for _, better in sides])


def _with_lengths(
    outcomes: Sequence[PairOutcome],
) -> tuple[list[PairOutcome], npt.NDArray[np.float64]]:
    """Returns the pairs with two known lengths, and the sign of chosen minus rejected length."""
    sized, signs = [], []
    for outcome in outcomes:
        if outcome.chosen_length is not None and outcome.rejected_length is not None:
            sized.append(outcome)
            signs.append(np.sign(outcome.chosen_length - outcome.rejected_length))
    return sized, np.array(signs, dtype=np.float64)


def score_figures(
    scores: Sequence[float] | None, scale: tuple[float, float] | None
) -> tuple[float | None, float | None]:
    """Returns the entropy of scores in bits, and the share of them at the top of their scale.

    For the entropy averages and expectations, hardly two of which are equal, count as the whole
    score they are nearest to, on scales that have several.

    Raises ValueError for a score that is not finite or lies outside the scale.
    """
    if not scores:
        return None, None
    values = np.round(np.array(scores, dtype=np.float64), 9)
    if not np.isfinite(values).all():
        raise ValueError("a score is not a finite number; failed judgments have no score")
    has_levels = scale is not None and scale[1] - scale[0] >= 2
    levels = np.round(values) if has_levels else values
    shares = np.unique(levels, return_counts=True)[1] / len(values)
    # Adding 0 turns the -0.0 of a single score into 0.0.
    entropy = float(-(shares * np.log2(shares)).sum()) + 0.0
    if scale is None:
        return entropy, None
    low, high = scale
    if values.min() < low or values.max() > high:
        raise ValueError(f"a score lies outside the scale from {low} to {high}")
    return entropy, float((values == high).mean())


def excess_figures(own: Sequence[float], others: Sequence[float]) -> dict[str, float | None]:
    """Returns the figures of a card on how much more than people the judge gives to responses.

    Each number is the judge's score minus people's, both as a share of their scale; `own` are
    those of responses of the judge's own model.
    """
    first, second = _mean(own), _mean(others)
    return {
        "own_score_excess": first,
        "other_score_excess": second,
        "score_self_preference": None if first is None or second is None else first - second,
    }


def bias_card(
    outcomes: Sequence[PairOutcome],
    scores: Sequence[float] | None = None,
    scale: tuple[float, float] | None = None,
    own: Mapping[str, str] | None = None,
    own_excess: Sequence[float] = (),
    other_excess: Sequence[float] = (),
) -> BiasCard:
    """Measures the biases of a judge on labelled pairs read in both orders, or in a random one.

    `scores` are the scores it gave to single responses, failed judgments left out, and `scale`
    their lowest and highest possible value, without which there is no saturation. `own` maps ids
    of pairs to the side, `chosen` or `rejected`, that the judge's own model wrote; pairs with no
    or two own answers are not in it. `own_excess` and `other_excess` are those of
    `excess_figures`. Raises ValueError without pairs, for scores outside the scale and for another
    word than these two.
    """
    # Only its rates are wanted: one resample spares the interval's cost.
    report = pairwise_report(outcomes, num_samples=1)
    sides = own or {}
    for side in sides.values():
        if side not in ("chosen", "rejected"):
            raise ValueError(f"an own side is 'chosen' or 'rejected', not {side!r}")
    named_own, better_own = _side_rates(outcomes, {i: s == "chosen" for i, s in sides.items()})
    sized, signs = _with_lengths(outcomes)
    unequal = [(o, s > 0) for o, s in zip(sized, signs, strict=True) if s != 0]
    longer, chosen_longer = _side_rates(
        [o for o, _ in unequal], {o.pair_id: is_longer for o, is_longer in unequal}
    )
    entropy, saturation = score_figures(scores, scale)
    return BiasCard(
        n=report.n,
        swap_flip_rate=report.swap_flip_rate,
        first_position_rate=report.first_position_rate,
        longer_chosen_rate=longer,
        share_chosen_longer=chosen_longer,
        accuracy_with_lengths=float(accuracy_per_pair(sized).mean()) if sized else None,
        length_only_accuracy=float(((signs + 1) / 2).mean()) if sized else None,
        unparsed_rate=report.unparsed_rate,
        truncated_rate=report.truncated_rate,
        tie_rate=report.tie_rate,
        refused_rate=report.refused_rate,
        score_entropy_bits=entropy,
        score_saturation=saturation,
        self_preference=(
            None if named_own is None or better_own is None else named_own - better_own
        ),
        own_choices=sum(
            choice is not None for o in outcomes if o.pair_id in sides for choice in o.choices
        ),
        **excess_figures(own_excess, other_excess),
    )


def _distance(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else abs(value - reference)


def _gated_figures(card: BiasCard) -> dict[str, float | None]:
    """The figures that must not get worse; for all of them 0 is best."""
    return {
        "position bias |first position rate - 0.5|": _distance(card.first_position_rate, 0.5),
        "swap flip rate": card.swap_flip_rate,
        "unparsed rate": card.unparsed_rate,
        "truncated rate": card.truncated_rate,
        "tie rate": card.tie_rate,
        "refused rate": card.refused_rate,
        "length bias |longer chosen rate - share chosen longer|": _distance(
            card.longer_chosen_rate, card.share_chosen_longer
        ),
        "self-preference |own named rate - share own better|": (
            _distance(card.self_preference, 0.0) if card.own_choices >= MIN_OWN_CHOICES else None
        ),
    }


def worse_figures(before: BiasCard, after: BiasCard, tolerance: float) -> list[str]:
    """Returns a line for every figure that is worse after than before by more than `tolerance`.

    An empty list is the good case. Asked are position bias, flip rate, length bias,
    self-preference (of at least `MIN_OWN_CHOICES` choices), and the rates of unparsed, truncated,
    tied and refused readings, all from 0 to 1. A figure that was not measured before cannot get
    worse; one that was measured and no longer can be is named, for a judge without choices must
    not pass as one without bias. Raises ValueError for a negative tolerance.
    """
    if not tolerance >= 0:
        raise ValueError(f"the tolerance must be 0 or more, not {tolerance}")
    lines = []
    later = _gated_figures(after)
    for name, old in _gated_figures(before).items():
        new = later[name]
        if old is None:
            continue
        if new is None:
            lines.append(f"{name} was {old:.3f} and can no longer be measured")
        elif new - old > tolerance + _ROUNDING:
            lines.append(f"{name} rose from {old:.3f} to {new:.3f}, by more than {tolerance:g}")
    return lines
