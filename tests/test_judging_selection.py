from collections import Counter
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.judging.prompts import get_pairwise_rubric, render_pairwise
from selfreward.judging.rubrics import PairwiseRubric
from selfreward.judging.selection import (
    balance_categories,
    balance_rank,
    balance_ranks,
    balance_threshold,
    kept,
    needs_more,
    select_preferences,
    select_sft,
)
from selfreward.judging.verdicts import parse_pairwise
from selfreward.records import (
    DropReason,
    Judgment,
    Message,
    ModelRef,
    Position,
    ResponsePair,
)

REASONED = get_pairwise_rubric("pairwise_reasoned")
LETTER = get_pairwise_rubric("pairwise_verdict_only")
FIRST = get_pairwise_rubric("pairwise_verdict_first")
JUDGE = ModelRef(name="judge", iteration=0, fingerprint="f0")
PAIR = ResponsePair.new(
    instruction_id="ins-1",
    messages=(Message(role="user", content="Name a river."),),
    chosen="The Loire.",
    rejected="Lake Annecy.",
    corruption="modified_instruction",
)


def judged(
    draw: int,
    text: str,
    position: Position = Position.CHOSEN_FIRST,
    rubric: PairwiseRubric = REASONED,
    finish_reason: str = "stop",
    pair_id: str = PAIR.id,
) -> Judgment:
    return Judgment.new(
        pair_id=pair_id,
        judge=JUDGE,
        rubric_id=rubric.id,
        position=position,
        draw=draw,
        text=text,
        finish_reason=finish_reason,
        num_tokens=1,
        num_prompt_tokens=1,
        verdict=parse_pairwise(rubric, text, finish_reason),
    )


RIGHT = judged(0, "A names a river.\n[[A]]")
WRONG = judged(1, "B is longer.\n[[B]]")
TIE = judged(2, "Same.\n[[C]]")
UNPARSED = judged(3, "I like rivers.")
TRUNCATED = judged(4, "Rivers are", finish_reason="length")
REFUSED = judged(5, "I cannot judge this.")


@pytest.mark.parametrize(
    ("judgments", "sft", "dpo"),
    [
        ([], True, True),
        ([RIGHT], False, True),
        ([WRONG], True, True),
        ([RIGHT, WRONG], False, False),
        ([RIGHT, TIE], False, False),
        ([RIGHT, UNPARSED], False, False),
        ([RIGHT, TRUNCATED], False, False),
        ([RIGHT, REFUSED], False, True),
        ([WRONG, UNPARSED], True, True),
    ],
)
def test_drawing_stops_once_training_has_what_it_needs(
    judgments: list[Judgment], sft: bool, dpo: bool
) -> None:
    assert needs_more(judgments, "sft") is sft
    assert needs_more(judgments, "dpo") is dpo


def test_sft_keeps_one_right_judgment_per_position() -> None:
    right_second = judged(7, "A is a lake.\n[[B]] Done.", Position.REJECTED_FIRST)
    wrong_second = judged(8, "[[A]]", Position.REJECTED_FIRST)
    examples, drops = select_sft(PAIR, [wrong_second, WRONG, right_second, RIGHT], REASONED, 0)
    assert drops == []
    first, second = examples
    assert (first.gold, first.target, first.counter_target, first.judgment_id) == (
        "first",
        "A names a river.\n[[A]]",
        "A names a river.\n[[B]]",
        RIGHT.id,
    )
    assert first.messages == render_pairwise(REASONED, PAIR.messages, PAIR.chosen, PAIR.rejected)
    # What follows the verdict is cut.
    assert (second.gold, second.target) == ("second", "A is a lake.\n[[B]]")
    assert second.messages == render_pairwise(REASONED, PAIR.messages, PAIR.rejected, PAIR.chosen)


def test_in_letter_style_the_target_is_the_bare_letter() -> None:
    examples, _ = select_sft(PAIR, [judged(0, " **A**\n", rubric=LETTER)], LETTER, 0)
    assert (examples[0].target, examples[0].counter_target) == ("A", "B")


def test_of_a_verdict_that_comes_first_the_reason_stays_in_the_target() -> None:
    said = "Verdict: [[A]]\nThe Loire is a river, Annecy a lake.\n"
    (example,), _ = select_sft(PAIR, [judged(0, said, rubric=FIRST)], FIRST, 0)
    assert example.target == "[[A]]\nThe Loire is a river, Annecy a lake."
    assert example.counter_target == "[[B]]\nThe Loire is a river, Annecy a lake."
    assert example.ended
    # Cut in its reason: the verdict is right, and nobody drew an end behind it.
    cut = judged(0, "[[A]]\nThe Loire is", rubric=FIRST, finish_reason="length")
    (example,), _ = select_sft(PAIR, [cut], FIRST, 0)
    assert (example.target, example.ended) == ("[[A]]\nThe Loire is", False)
    # A reason that comes first ends with its verdict, wherever the text was cut.
    late = judged(0, "A is a river.\n[[A]] As", finish_reason="length")
    (example,), _ = select_sft(PAIR, [late], REASONED, 0)
    assert (example.target, example.ended) == ("A is a river.\n[[A]]", True)


def test_preferences_of_verdicts_that_come_first_hold_their_reasons() -> None:
    right = judged(0, "[[A]]\nThe Loire is", rubric=FIRST, finish_reason="length")
    wrong = judged(1, "[[B]]\nIt is prettier.", rubric=FIRST)
    (preference,), _ = select_preferences(PAIR, [right, wrong], FIRST, 0, per_example=3)
    assert (preference.chosen, preference.rejected) == (right.text, wrong.text)
    assert (preference.chosen_ended, preference.rejected_ended) == (False, True)


def test_a_position_without_a_right_judgment_is_dropped() -> None:
    only_other_side = judged(0, "[[B]]", Position.REJECTED_FIRST)
    examples, drops = select_sft(PAIR, [WRONG, UNPARSED, only_other_side], REASONED, 0)
    assert [e.gold for e in examples] == ["second"]
    (drop,) = drops
    assert drop.row_id == f"{PAIR.id}/chosen_first"
    assert drop.reason is DropReason.NO_RIGHT_JUDGMENT
    assert drop.detail == "none of 2 judgments was right"


def test_examples_without_signal_can_be_dropped() -> None:
    judgments = [RIGHT, judged(9, "Clearly.\n[[A]]")]
    examples, drops = select_sft(PAIR, judgments, REASONED, 0, drop_all_right=True)
    assert examples == [] and drops[0].reason is DropReason.NO_WRONG_JUDGMENT
    examples, drops = select_sft(PAIR, [*judgments, WRONG], REASONED, 0, drop_all_right=True)
    assert len(examples) == 1 and drops == []


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    rights = [judged(i, f"Reason {i}.\n[[A]]") for i in range(4)]

    def chosen(seed: int, rows: list[Judgment]) -> str | None:
        return select_sft(PAIR, rows, REASONED, seed)[0][0].judgment_id

    assert chosen(3, rights) == chosen(3, rights[::-1])
    counts = Counter(chosen(seed, rights) for seed in range(400))
    # 400 draws of 4 give 100 each with a standard deviation of 8.7; 60 is 4.6 of them away.
    assert len(counts) == 4 and min(counts.values()) > 60


def test_preferences_combine_right_with_negative_judgments_without_repetition() -> None:
    other_right = judged(6, "The Loire is a river.\n[[A]]")
    judgments = [RIGHT, other_right, WRONG, TIE, UNPARSED, TRUNCATED, REFUSED]
    preferences, drops = select_preferences(PAIR, judgments, REASONED, 0, per_example=100)
    # 2 right x 4 negatives (wrong, tie, unparsed, truncated).
    assert len(preferences) == 8 and drops == []
    assert {p.chosen_id for p in preferences} == {RIGHT.id, other_right.id}
    assert {p.rejected_id for p in preferences} == {WRONG.id, TIE.id, UNPARSED.id, TRUNCATED.id}
    # Nobody drew an end behind what was cut.
    assert {p.rejected_id for p in preferences if not p.rejected_ended} == {TRUNCATED.id}
    assert all(p.chosen_ended for p in preferences)
    assert len({(p.chosen, p.rejected) for p in preferences}) == len({p.id for p in preferences})
    some, _ = select_preferences(PAIR, judgments, REASONED, 0, per_example=3)
    assert len(some) == 3 and set(some) <= set(preferences)


def test_equal_texts_make_one_preference() -> None:
    judgments = [judged(i, text, rubric=LETTER) for i, text in enumerate("AABAB")]
    preferences, _ = select_preferences(PAIR, judgments, LETTER, 0, per_example=6)
    assert [(p.chosen, p.rejected) for p in preferences] == [("A", "B")]


@pytest.mark.parametrize(
    ("judgments", "reason"),
    [
        ([WRONG, TIE], DropReason.NO_RIGHT_JUDGMENT),
        ([RIGHT], DropReason.NO_WRONG_JUDGMENT),
        ([RIGHT, REFUSED], DropReason.NO_WRONG_JUDGMENT),
        ([RIGHT, judged(3, "  ")], DropReason.NO_WRONG_JUDGMENT),
    ],
)
def test_a_preference_needs_both_kinds(judgments: list[Judgment], reason: DropReason) -> None:
    preferences, drops = select_preferences(PAIR, judgments, REASONED, 0, per_example=1)
    assert preferences == [] and [d.reason for d in drops] == [reason]


def test_judgments_of_another_pair_or_rubric_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="does not belong"):
        select_sft(PAIR, [judged(0, "[[A]]", pair_id="pair-other")], REASONED, 0)
    with pytest.raises(ValueError, match="does not belong"):
        select_sft(PAIR, [RIGHT], LETTER, 0)


Gold = Literal["first", "second"]


@given(st.dictionaries(st.text(max_size=8), st.sampled_from(["first", "second"]), max_size=60))
def test_balancing_keeps_the_same_number_of_both_labels(rows: dict[str, Gold]) -> None:
    counts = Counter(rows.values())
    thresholds = balance_threshold(list(rows.values()), list(rows))
    survivors = Counter(gold for ident, gold in rows.items() if kept(gold, ident, thresholds))
    fewest = min(counts["first"], counts["second"])
    assert (survivors["first"], survivors["second"]) == (fewest, fewest)


def test_balancing_keeps_the_lowest_ranks() -> None:
    # The rarer label keeps its 2 rows, the other the 2 lowest ranks, 10 and 30.
    cutoffs = balance_ranks(np.array([50, 10, 30, 40]), np.array([7, 99]))
    assert cutoffs == {"first": 30, "second": 99}
    assert balance_ranks(np.array([50]), np.array([], dtype=np.int64)) == {
        "first": -1,
        "second": -1,
    }


def test_balancing_is_the_same_for_any_sharding() -> None:
    ids = [f"exa-{i}" for i in range(200)]
    golds: list[Gold] = ["first" if i % 3 else "second" for i in range(200)]
    whole = balance_threshold(golds, ids)
    turned = balance_threshold(golds[::-1], ids[::-1])
    assert whole == turned
    assert all(0 <= balance_rank(i) < 2**63 for i in ids)
    # `printf exa-0 | sha256sum` begins with da1492e214dff4d1; half of it, one bit shifted out.
    assert balance_rank("exa-0") == 0xDA1492E214DFF4D1 >> 1


def test_repeated_ids_cannot_be_balanced() -> None:
    with pytest.raises(ValueError, match="unique"):
        balance_threshold(["first", "first", "second"], ["x", "x", "y"])


def test_category_quotas_follow_the_rarest_category() -> None:
    counts = {"coding": 100, "open_qa": 9, "persona": 4, "other": 0}
    # 2.5 x 4 = 10
    assert balance_categories(counts, 2.5) == {
        "coding": 10,
        "open_qa": 9,
        "persona": 4,
        "other": 0,
    }
    assert balance_categories(counts, 1.0)["coding"] == 4
    assert balance_categories({}, 2.0) == {}
    with pytest.raises(ValueError, match="max_ratio"):
        balance_categories(counts, 0.5)
