"""How far our reading of judges' texts agrees with somebody else's, on the same texts.

For judges that were told to write their verdict in other words than ours, `translated_marks` turns
those into ours; the parser that is compared stays the one every judgment goes through.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from selfreward.judging.rubrics import Choice, PairwiseRubric
from selfreward.judging.verdicts import parse_pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseCase:
    """One text of a judge with the choice that was read in it elsewhere.

    Example: `ParseCase(id="maths/3/order 1", text="… Therefore, Output (a) is better.",
    finish_reason="stop", expected="first")`
    """

    id: str
    text: str
    finish_reason: str
    expected: Choice | None
    """None where no choice was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseComparison:
    """Where two parsers agree and where they do not.

    Example: `ParseComparison(n=3, num_agreements=2, counts={("first", "first"): 2,
    ("first", "unparsed"): 1}, disagreements={("first", "unparsed"): ("maths/7",)})`
    """

    n: int
    num_agreements: int
    counts: dict[tuple[str, str], int]
    """Texts by (theirs, ours): `first`, `second`, theirs `none`, ours also the failed outcomes."""
    disagreements: dict[tuple[str, str], tuple[str, ...]]
    """The ids of the texts read differently, in the order given."""


def translated_marks(text: str, first: re.Pattern[str], second: re.Pattern[str]) -> str:
    """Returns `text` with each match of `first` replaced by `[[A]]`, of `second` by `[[B]]`.

    Marks of our own form that already stand in the text are broken: that judge was not asked for
    them. Where both patterns match at one place, `first` wins.
    """
    text = text.replace("[[", "[ [")
    return second.sub("[[B]]", first.sub("[[A]]", text))


def compare_parses(
    cases: Iterable[ParseCase],
    rubric: PairwiseRubric,
    translate: Callable[[str], str] | None = None,
) -> ParseComparison:
    """Reads every text, passed through `translate`, with `parse_pairwise` and compares.

    Two choices agree if they are the same; where the other parser read none, every outcome that
    is no choice agrees.
    """
    pairs: list[tuple[str, str]] = []
    differing: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        text = case.text if translate is None else translate(case.text)
        verdict = parse_pairwise(rubric, text, case.finish_reason)
        pair = (case.expected or "none", verdict.choice or verdict.outcome.value)
        pairs.append(pair)
        if verdict.choice != case.expected:
            differing.setdefault(pair, []).append(case.id)
    return ParseComparison(
        n=len(pairs),
        num_agreements=len(pairs) - sum(len(ids) for ids in differing.values()),
        counts=dict(sorted(Counter(pairs).items())),
        disagreements={pair: tuple(ids) for pair, ids in sorted(differing.items())},
    )
