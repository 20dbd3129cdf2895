"""From the scored responses of one instruction to one preference, or a named reason for none.

Nothing here knows how responses are made or judged. The order in which candidates are given never
matters: what scores and lengths leave open is settled by a hash of the response's id.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfreward.judging.balance import balance_rank
from selfreward.judging.voting import mean_score
from selfreward.records import DropReason, Verdict
from selfreward.records_scores import Rating

# Means of the same draws summed in another order differ near 1e-15, and means of whole scores that
# truly differ do so by 1 / (number of draws) at least.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A response that can become one side of a preference.

    Example: `Candidate(response_id="res-a1…", text="Paris.", score=4.33)`
    """

    response_id: str
    text: str
    score: float | None
    """None where no draw of the judge gave a score."""
    ended: bool = True
    """False where it was cut at the limit."""

    @property
    def num_chars(self) -> int:
        return len(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPair:
    """The two sides of a preference; the chosen one's score is always above the other's.

    Example: `ChosenPair(chosen=Candidate(…), rejected=Candidate(…), margin=2.67)`
    """

    chosen: Candidate
    rejected: Candidate
    margin: float
    """Chosen minus rejected score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDrop:
    """Why an instruction, or a response whose judgments were compared, gives no preference.

    Example: `PairDrop(reason="tied_scores", detail="all 4 scores are 4")`
    """

    reason: DropReason
    detail: str


_Scored = tuple[float, Candidate]


def mean_scores(ratings: Sequence[Rating]) -> dict[str, float]:
    """Returns the mean score of each response over its draws (arXiv 2401.10020, section 2.2).

    Draws without a score are left out; a response of which no draw has one is not in the result.
    Raises ValueError for a rating whose verdict is a choice.
    """
    verdicts: dict[str, list[Verdict]] = {}
    for rating in ratings:
        verdicts.setdefault(rating.response_id, []).append(rating.verdict)
    means = {ident: mean_score(draws).verdict.score for ident, draws in verdicts.items()}
    return {ident: mean for ident, mean in means.items() if mean is not None}


def choose_pair(
    candidates: Sequence[Candidate],
    *,
    length_rho: float = 0.0,
    min_margin: float = 0.0,
    min_scored: int = 2,
) -> ChosenPair | PairDrop:
    """Returns the best response against the worst one, or why there is no such pair.

    With `length_rho` 0 the highest mean score is chosen and the lowest rejected; of equal ones the
    hash of the id decides (arXiv 2401.10020, section 2.3). Above 0 the length rule of arXiv
    2407.19594, section 2.3, applies: chosen is the shortest response whose score is within
    `length_rho` of the range of scores from the highest, rejected the longest one within as much
    from the lowest. Where the two ranges overlap (above 0.5), chosen is never a response with the
    lowest score, and rejected always has a lower score than chosen. Lengths are in characters; of
    equally long ones the better is chosen and the worse rejected.

    Dropped, in this order: fewer than `min_scored` candidates with a score (`too_few_scores`),
    equal scores (`tied_scores`), the same text on both sides apart from outer white space
    (`same_response`), scores nearer than `min_margin` (`low_margin`). Raises ValueError for a
    score that is not finite and for `length_rho` outside 0 to 1.
    """
    scored = _with_score(candidates)
    if len(scored) < max(1, min_scored):
        return _too_few(len(scored), len(candidates), "candidates", min_scored)
    return _choose(scored, scored, length_rho, min_margin)


def choose_anchored_pair(
    candidates: Sequence[Candidate],
    anchors: Sequence[Candidate],
    *,
    length_rho: float = 0.0,
    min_margin: float = 0.0,
    min_scored: int = 2,
) -> ChosenPair | PairDrop:
    """As `choose_pair`, with the rejected response taken from `anchors`.

    `anchors` are the first model's responses to the same instruction, scored by the same judge, so
    that the gap between the two sides does not close as the model improves (the anchored rejection
    of Temporal Self-Rewarding, arXiv 2508.06026, without its curated chosen responses). The range
    of scores goes from the worst anchor to the best candidate. `min_scored` counts candidates; of
    the anchors one score is enough. Where no candidate scores above the worst anchor, the reason is
    `tied_scores` if they are equal and `low_margin` if it is below.
    """
    tops, bottoms = _with_score(candidates), _with_score(anchors)
    if len(tops) < max(1, min_scored):
        return _too_few(len(tops), len(candidates), "candidates", min_scored)
    if not bottoms:
        return _too_few(0, len(anchors), "responses of the first model", 1)
    return _choose(tops, bottoms, length_rho, min_margin)


def positives(candidates: Sequence[Candidate], min_score: float) -> list[Candidate]:
    """Returns the candidates that score at least `min_score`, each text once, in their order.

    For training on good responses alone (arXiv 2401.10020, appendix A.4, with the full score).
    """
    texts: dict[str, Candidate] = {}
    for score, candidate in _with_score(candidates):
        if score >= min_score - _ROUNDING:
            texts.setdefault(candidate.text.strip(), candidate)
    return list(texts.values())


def _with_score(candidates: Sequence[Candidate]) -> list[_Scored]:
    scored = [(c.score, c) for c in candidates if c.score is not None]
    for score, candidate in scored:
        if not math.isfinite(score):
            raise ValueError(f"the score of {candidate.response_id} is {score}, not a number")
    return scored


def _too_few(num_scored: int, num: int, what: str, needed: int) -> PairDrop:
    return PairDrop(
        reason=DropReason.TOO_FEW_SCORES,
        detail=f"{num_scored} of {num} {what} have a score, {needed} needed",
    )


def _choose(
    tops: Sequence[_Scored], bottoms: Sequence[_Scored], length_rho: float, min_margin: float
) -> ChosenPair | PairDrop:
    if not 0 <= length_rho <= 1:
        raise ValueError(f"length_rho must be from 0 to 1, not {length_rho}")
    high, low = max(s for s, _ in tops), min(s for s, _ in bottoms)
    if high - low <= _ROUNDING:
        is_tie = high - low >= -_ROUNDING
        return PairDrop(
            reason=DropReason.TIED_SCORES if is_tie else DropReason.LOW_MARGIN,
            detail=f"best score {high:.6g}, worst {low:.6g}",
        )
    reach = length_rho * (high - low) + _ROUNDING
    near_best = [(s, c) for s, c in tops if s >= high - reach and s > low + _ROUNDING]
    chosen_score, chosen = min(near_best, key=_preferred(length_rho, sign=1))
    limit = min(low + reach, chosen_score - _ROUNDING)
    near_worst = [(s, c) for s, c in bottoms if s <= limit]
    rejected_score, rejected = min(near_worst, key=_preferred(length_rho, sign=-1))
    margin = chosen_score - rejected_score
    ids = f"{chosen.response_id} over {rejected.response_id}"
    if chosen.text.strip() == rejected.text.strip():
        return PairDrop(reason=DropReason.SAME_RESPONSE, detail=f"{ids}: one text, two scores")
    if margin < min_margin - _ROUNDING:
        return PairDrop(reason=DropReason.LOW_MARGIN, detail=f"{ids}: margin {margin:.6g}")
    return ChosenPair(chosen=chosen, rejected=rejected, margin=margin)


def _preferred(length_rho: float, sign: int) -> Callable[[_Scored], tuple[float, float, int]]:
    """A sorting key: short and good first for sign 1, long and bad first for -1."""

    def key(scored: _Scored) -> tuple[float, float, int]:
        score, candidate = scored
        rank = balance_rank(candidate.response_id)
        if length_rho == 0:
            # All within rounding of each other: lengths must not matter without the rule.
            return 0, 0, rank
        return sign * candidate.num_chars, -sign * score, rank

    return key
