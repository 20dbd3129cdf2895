"""From judgments to training data (arXiv 2408.02666, section 3.2, and its released recipe).

Rejection sampling with a label known by construction: a judgment whose verdict names the better
response is worth imitating, one that does not is worth avoiding. Every choice is seeded by the
pair and its order, so shards may be selected in any order, on any machine.
"""

import random
from collections.abc import Sequence
from typing import Literal

from selfreward.judging.balance import (
    balance_categories,
    balance_rank,
    balance_ranks,
    balance_threshold,
    kept,
)
from selfreward.judging.margins import verdict_margin
from selfreward.judging.prompts import render_pairwise
from selfreward.judging.rubrics import PairwiseRubric, find_verdict, flip_verdict, verdict_text
from selfreward.records import (
    Conversation,
    DroppedRow,
    DropReason,
    Judgment,
    Outcome,
    Position,
    Preference,
    ResponsePair,
    TrainingExample,
    content_id,
    derived_seed,
)

__all__ = [
    "STAGE",
    "balance_categories",
    "balance_rank",
    "balance_ranks",
    "balance_threshold",
    "completion_ended",
    "completion_text",
    "is_negative",
    "judged_prompt",
    "kept",
    "needs_more",
    "select_preferences",
    "select_sft",
]

STAGE = "select"

_NEGATIVE_FAILURES = frozenset({Outcome.TIE, Outcome.UNPARSED, Outcome.TRUNCATED})


def is_negative(judgment: Judgment) -> bool:
    """True where DPO may push away from a judgment: wrong, tied, unparsed or truncated.

    A refusal is no negative: it says nothing about how to judge.
    """
    if judgment.verdict.outcome is Outcome.CHOICE:
        return not judgment.is_right
    return judgment.verdict.outcome in _NEGATIVE_FAILURES


def needs_more(judgments: Sequence[Judgment], objective: Literal["sft", "dpo"]) -> bool:
    """Whether one (pair, position) still lacks what training needs.

    SFT needs one right judgment, DPO one right and one negative.
    """
    if not any(j.is_right for j in judgments):
        return True
    return objective == "dpo" and not any(is_negative(j) for j in judgments)


def judged_prompt(rubric: PairwiseRubric, pair: ResponsePair, position: Position) -> Conversation:
    """Returns the prompt that was judged: the pair rendered in the order of `position`."""
    if position is Position.CHOSEN_FIRST:
        return render_pairwise(rubric, pair.messages, pair.chosen, pair.rejected)
    return render_pairwise(rubric, pair.messages, pair.rejected, pair.chosen)


def completion_text(rubric: PairwiseRubric, judgment: Judgment) -> str:
    """Returns what training imitates or avoids of a judgment.

    A choice is cut after its verdict (letter style: the bare letter), since what follows a verdict
    is not part of judging. Where the rubric asks for the verdict first, what follows it is the
    reason and stays; what stands before it goes. Any other outcome is kept as the judge wrote it.
    """
    verdict = judgment.verdict
    if verdict.outcome is not Outcome.CHOICE or verdict.choice is None:
        return judgment.text
    if rubric.verdict_style == "letter":
        return verdict_text(rubric, verdict.choice)
    complete = judgment.finish_reason != "length"
    mark = find_verdict(rubric, judgment.text, complete=complete)
    if mark is None:
        raise ValueError(
            f"judgment {judgment.id} is a choice, but rubric {rubric.id!r} finds no verdict in it"
        )
    if rubric.verdict_first:
        return judgment.text[mark.start :].rstrip()
    return judgment.text[: mark.end]


def completion_ended(rubric: PairwiseRubric, judgment: Judgment) -> bool:
    """Whether what `completion_text` returns of a choice ends by itself: it does with the verdict,
    while a reason that follows the verdict may have been cut."""
    return not rubric.verdict_first or judgment.finish_reason != "length"


def _by_position(
    pair: ResponsePair, judgments: Sequence[Judgment], rubric: PairwiseRubric
) -> list[tuple[Position, list[Judgment]]]:
    """Groups by position, positions in a fixed order and draws in theirs."""
    for judgment in judgments:
        if judgment.pair_id != pair.id or judgment.rubric_id != rubric.id:
            raise ValueError(
                f"judgment {judgment.id} (pair {judgment.pair_id}, rubric {judgment.rubric_id!r})"
                f" does not belong to pair {pair.id} and rubric {rubric.id!r}"
            )
    groups = (
        (position, sorted((j for j in judgments if j.position is position), key=_draw_order))
        for position in Position
    )
    return [(position, group) for position, group in groups if group]


def _draw_order(judgment: Judgment) -> tuple[int, str]:
    return judgment.draw, judgment.id


def _drop(pair: ResponsePair, position: Position, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(
        row_id=f"{pair.id}/{position.value}", stage=STAGE, reason=reason, detail=detail
    )


def select_sft(
    pair: ResponsePair,
    judgments: Sequence[Judgment],
    rubric: PairwiseRubric,
    seed: int,
    drop_all_right: bool = False,
) -> tuple[list[TrainingExample], list[DroppedRow]]:
    """Keeps one right judgment at random for each position of `pair` that has judgments.

    `judgments` are all of the pair's, in any order. A position without a right judgment is dropped
    as `no_right_judgment`; with `drop_all_right`, one whose every judgment is right as
    `no_wrong_judgment`. Raises ValueError for a judgment of another pair or rubric.
    """
    examples: list[TrainingExample] = []
    drops: list[DroppedRow] = []
    margin = verdict_margin(judgments)
    for position, group in _by_position(pair, judgments, rubric):
        right = [j for j in group if j.is_right]
        if not right:
            detail = f"none of {len(group)} judgments was right"
            drops.append(_drop(pair, position, DropReason.NO_RIGHT_JUDGMENT, detail))
            continue
        if drop_all_right and len(right) == len(group):
            detail = f"each of {len(group)} judgments was right"
            drops.append(_drop(pair, position, DropReason.NO_WRONG_JUDGMENT, detail))
            continue
        choice = random.Random(derived_seed(seed, pair.id, position.value)).choice(right)
        target = completion_text(rubric, choice)
        examples.append(
            TrainingExample(
                id=content_id("exa", pair.id, position.value, rubric.id, choice.id),
                messages=judged_prompt(rubric, pair, position),
                target=target,
                pair_id=pair.id,
                judgment_id=choice.id,
                gold=choice.gold,
                counter_target=flip_verdict(rubric, target),
                ended=completion_ended(rubric, choice),
                verdict_margin=margin,
            )
        )
    return examples, drops


def _first_of_each_text(
    rubric: PairwiseRubric, judgments: Sequence[Judgment]
) -> list[tuple[str, Judgment]]:
    """Distinct completions with the earliest judgment of each; empty ones teach nothing."""
    texts: dict[str, Judgment] = {}
    for judgment in judgments:
        text = completion_text(rubric, judgment)
        if text.strip():
            texts.setdefault(text, judgment)
    return list(texts.items())


def select_preferences(
    pair: ResponsePair,
    judgments: Sequence[Judgment],
    rubric: PairwiseRubric,
    seed: int,
    per_example: int,
) -> tuple[list[Preference], list[DroppedRow]]:
    """Combines right with negative judgments, up to `per_example` per position.

    The combinations are random and no two have the same texts: draws that came out alike count
    once (in letter style there is one right text). A position lacking either kind is dropped as
    `no_right_judgment` or `no_wrong_judgment`. Raises ValueError for a judgment of another pair
    or rubric.
    """
    preferences: list[Preference] = []
    drops: list[DroppedRow] = []
    margin = verdict_margin(judgments)
    for position, group in _by_position(pair, judgments, rubric):
        right = _first_of_each_text(rubric, [j for j in group if j.is_right])
        negative = _first_of_each_text(rubric, [j for j in group if is_negative(j)])
        if not right:
            detail = f"none of {len(group)} judgments was right"
            drops.append(_drop(pair, position, DropReason.NO_RIGHT_JUDGMENT, detail))
            continue
        if not negative:
            detail = f"none of {len(group)} judgments was wrong, tied, unparsed or truncated"
            drops.append(_drop(pair, position, DropReason.NO_WRONG_JUDGMENT, detail))
            continue
        combinations = [(c, r) for c in right for r in negative]
        rng = random.Random(derived_seed(seed, pair.id, position.value))
        for (chosen_text, chosen), (rejected_text, rejected) in rng.sample(
            combinations, min(per_example, len(combinations))
        ):
            preferences.append(
                Preference(
                    id=content_id(
                        "pre", pair.id, position.value, rubric.id, chosen.id, rejected.id
                    ),
                    messages=judged_prompt(rubric, pair, position),
                    chosen=chosen_text,
                    rejected=rejected_text,
                    pair_id=pair.id,
                    chosen_id=chosen.id,
                    rejected_id=rejected.id,
                    gold=chosen.gold,
                    chosen_ended=completion_ended(rubric, chosen),
                    rejected_ended=rejected.finish_reason != "length",
                    verdict_margin=margin,
                )
            )
    return preferences, drops
