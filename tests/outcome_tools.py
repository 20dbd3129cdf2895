"""Short ways to write verdicts and pairs down."""

from typing import Literal

from selfreward.metrics.pairwise import PairOutcome
from selfreward.records import Outcome, Verdict

UNPARSED = Verdict(outcome=Outcome.UNPARSED)
TRUNCATED = Verdict(outcome=Outcome.TRUNCATED)
REFUSED = Verdict(outcome=Outcome.REFUSED)
TIE = Verdict(outcome=Outcome.TIE)


def chose(choice: Literal["first", "second"], probability: float | None = None) -> Verdict:
    return Verdict(outcome=Outcome.CHOICE, choice=choice, probability_first=probability)


def pair(
    ident: str,
    chosen_first: Verdict | None,
    rejected_first: Verdict | None,
    lengths: tuple[int, int] | None = None,
) -> PairOutcome:
    """`lengths` are those of the chosen and the rejected response."""
    chosen_length, rejected_length = lengths if lengths else (None, None)
    return PairOutcome(
        pair_id=ident,
        subset="all",
        chosen_first=chosen_first,
        rejected_first=rejected_first,
        chosen_length=chosen_length,
        rejected_length=rejected_length,
    )
