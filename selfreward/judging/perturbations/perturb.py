"""Ways to make a response worse whose label is known by construction: no model, no judge.

Trained on one kind of corruption, a judge learns that kind; trained on rejected responses that are
all shorter, it learns to measure. So there are many kinds, each subtle, plain or gross, and each
can be made longer or shorter than the response it came from.

    made = perturb("negate", response, random.Random(derived_seed(...)), others, severity=2,
                   instruction=question, longer=False)

What a kind cannot know: a fact altered in a story is no fault. `kinds_for` says which kinds a
category of instructions can bear.
"""

import random
from collections.abc import Sequence

from selfreward.judging.answers import is_checkable, matches_reference
from selfreward.judging.categories import CATEGORIES
from selfreward.judging.perturbations.base import Given, Perturbation, Severity
from selfreward.judging.perturbations.code import mutate_code, premature_end_code, stub_code
from selfreward.judging.perturbations.constraints import drop_constraint
from selfreward.judging.perturbations.facts import alter_entity, negate, swap_terms
from selfreward.judging.perturbations.numbers import alter_number, wrong_final_answer, wrong_step
from selfreward.judging.perturbations.text import (
    drop_sentences,
    garble_words,
    mixed_language,
    overlong_filler,
    repeat,
    shuffle_sentences,
    truncate,
)
from selfreward.judging.perturbations.whole import (
    echo_instruction,
    off_topic_append,
    other_answer,
    refuse,
    splice_other,
    vague,
)

PERTURBATIONS: dict[str, Perturbation] = {
    # Form.
    "truncate": truncate,
    "drop_sentences": drop_sentences,
    "shuffle_sentences": shuffle_sentences,
    "repeat": repeat,
    "garble_words": garble_words,
    "mixed_language": mixed_language,
    "overlong_filler": overlong_filler,
    # Facts and figures.
    "alter_number": alter_number,
    "wrong_step": wrong_step,
    "wrong_final_answer": wrong_final_answer,
    "alter_entity": alter_entity,
    "negate": negate,
    "swap_terms": swap_terms,
    # Code.
    "mutate_code": mutate_code,
    "premature_end_code": premature_end_code,
    "stub_code": stub_code,
    # Off the instruction.
    "other_answer": other_answer,
    "splice_other": splice_other,
    "off_topic_append": off_topic_append,
    "refuse": refuse,
    "vague": vague,
    "echo_instruction": echo_instruction,
    "drop_constraint": drop_constraint,
}

MAX_TRIES = 6
"""Draws made to hit the wanted side of the length."""

_FACTS = frozenset({"alter_number", "alter_entity", "negate", "swap_terms", "wrong_final_answer"})
_NEEDS_A_RIGHT_TEXT = _FACTS | {"wrong_step"}
_ORDER = frozenset({"shuffle_sentences"})
_UNSUITED: dict[str, frozenset[str]] = {
    # Nothing to be false about: another name or number makes another story, not a worse one.
    "creative_writing": _FACTS | {"repeat"},
    "persona": _FACTS,
    "brainstorming": _FACTS | _ORDER,
    "asking_for_advice": frozenset({"alter_number", "alter_entity", "swap_terms"}),
    # Lists whose order says nothing.
    "extraction": _ORDER,
    "classification": _ORDER,
}


def kinds_for(category: str | None, reference: str | None = None) -> tuple[str, ...]:
    """Returns the kinds whose label holds for a category of `judging.categories.CATEGORIES`.

    Where the category is none of these only those come that every category can bear, but all where
    a checkable `reference` answer says that there is a right one. A kind listed here may still find
    nothing to do in a given response.
    """
    if category in CATEGORIES:
        unsuited = _UNSUITED.get(category, frozenset())
    else:
        unsuited = frozenset() if is_checkable(reference) else _all_unsuited()
    return tuple(kind for kind in PERTURBATIONS if kind not in unsuited)


def _all_unsuited() -> frozenset[str]:
    return frozenset().union(*_UNSUITED.values())


def perturb(
    kind: str,
    text: str,
    rng: random.Random,
    others: Sequence[str] = (),
    *,
    severity: Severity = 2,
    instruction: str = "",
    reference: str | None = None,
    longer: bool | None = None,
) -> str | None:
    """Makes `text` worse in one way; None where that way does not apply to it.

    `others` are responses to other instructions, none to the same one. `severity` is 1 (subtle),
    2 or 3 (gross). With `longer` the result is at least as long as `text` (True) or at most as long
    (False) wherever the kind finds a way in a few tries; its length is not promised, so pairs still
    pass `balance_lengths`. With the `reference` answer, a result that is right where `text` is
    wrong is never returned. The result is stripped, not empty, and differs from `text` by more than
    white space. Equal arguments and equal states of `rng` give equal results.

    Raises ValueError for an unknown kind or severity.
    """
    if kind not in PERTURBATIONS:
        raise ValueError(f"unknown perturbation {kind!r}: one of {', '.join(PERTURBATIONS)}")
    if severity not in (1, 2, 3):
        raise ValueError(f"severity must be 1, 2 or 3, not {severity!r}")
    text = text.strip()
    words = text.split()
    if not words:
        return None
    # A wrong answer that is wrong in another way is no worse than it was.
    checked = kind in _NEEDS_A_RIGHT_TEXT and is_checkable(reference)
    if checked and not matches_reference(text, reference or ""):
        return None
    given = Given(
        rng=rng,
        others=others,
        severity=severity,
        instruction=instruction,
        reference=reference,
        longer=longer,
    )
    wrong_side = None
    for _ in range(MAX_TRIES):
        made = PERTURBATIONS[kind](text, given)
        made = made.strip() if made else None
        if not made or made.split() == words or _is_righter(made, text, reference):
            continue
        if longer is None or len(made) == len(text) or (len(made) > len(text)) == longer:
            return made
        wrong_side = wrong_side or made
    return wrong_side


def _is_righter(made: str, text: str, reference: str | None) -> bool:
    return (
        reference is not None
        and matches_reference(made, reference)
        and not matches_reference(text, reference)
    )
