"""How sure a judge was of the right verdict, by numbers worked by hand."""

import math

import pytest

from selfreward.judging.margins import verdict_margin
from selfreward.judging.prompts import get_pairwise_rubric
from selfreward.judging.selection import select_preferences, select_sft
from selfreward.records import Judgment, Message, ModelRef, Outcome, Position, ResponsePair, Verdict

FIRST, SECOND = Position.CHOSEN_FIRST, Position.REJECTED_FIRST
LETTER = get_pairwise_rubric("pairwise_verdict_only")
PAIR = ResponsePair.new(
    instruction_id="ins-1",
    messages=(Message(role="user", content="Name a river."),),
    chosen="The Loire.",
    rejected="Lake Annecy.",
    corruption="modified_instruction",
)


def judged(
    text: str, position: Position = FIRST, p_first: float | None = None, draw: int = 0
) -> Judgment:
    """A reading that says A, B, or something that is no verdict."""
    choice = {"A": "first", "B": "second"}.get(text)
    verdict = Verdict(outcome=Outcome.UNPARSED)
    if choice is not None:
        verdict = Verdict(
            outcome=Outcome.CHOICE,
            choice="first" if choice == "first" else "second",
            probability_first=p_first,
        )
    return Judgment.new(
        pair_id=PAIR.id,
        judge=ModelRef(name="judge", iteration=0, fingerprint="f0"),
        rubric_id=LETTER.id,
        position=position,
        draw=draw,
        text=text,
        finish_reason="stop",
        num_tokens=1,
        num_prompt_tokens=1,
        verdict=verdict,
    )


def test_the_margin_is_the_mean_over_both_orders_of_the_log_odds_of_the_right_verdict() -> None:
    # The better response first: P(right) = .8. Second: P(right) = 1 - .6 = .4.
    judgments = [judged("A", FIRST, 0.8), judged("A", SECOND, 0.6)]
    # (log(.8 / .2) + log(.4 / .6)) / 2 = (1.3863 - 0.4055) / 2
    assert verdict_margin(judgments) == pytest.approx(0.4904, abs=1e-4)
    # In one order only, and a judge that is sure of the wrong one.
    assert verdict_margin(judgments[1:]) == pytest.approx(-0.4055, abs=1e-4)


def test_a_liking_for_one_position_cancels() -> None:
    # Log-odds of 2 for A whatever it is: right in one order, wrong in the other.
    p_first = 1 / (1 + math.exp(-2))
    judgments = [judged("A", FIRST, p_first), judged("A", SECOND, p_first)]
    assert verdict_margin(judgments) == pytest.approx(0.0, abs=1e-12)


def test_each_order_counts_alike_however_often_it_was_drawn() -> None:
    # First: log-odds 1 and 3, mean 2; a draw that is no verdict has none. Second: -1.
    def at(log_odds: float) -> float:
        return 1 / (1 + math.exp(-log_odds))

    judgments = [
        judged("A", FIRST, at(1), draw=0),
        judged("?", FIRST, draw=1),
        judged("A", FIRST, at(3), draw=2),
        judged("A", SECOND, at(1)),
    ]
    assert verdict_margin(judgments) == pytest.approx((2 - 1) / 2)
    assert verdict_margin(judgments[::-1]) == verdict_margin(judgments)


def test_without_probabilities_the_draws_vote() -> None:
    # First: 2 right, 1 wrong, 1 failed of 4, so 1/4. Second: 1 right of 1. (1/4 + 1) / 2 = 5/8.
    judgments = [judged(text, FIRST, draw=i) for i, text in enumerate("AAB?")]
    judgments.append(judged("B", SECOND))
    assert verdict_margin(judgments) == 0.625
    assert verdict_margin(judgments[:4]) == 0.25
    assert verdict_margin([judged("?")]) == 0.0
    assert verdict_margin([]) is None


@pytest.mark.parametrize(("p_first", "sign"), [(1.0, 1), (0.0, -1)])
def test_a_certain_verdict_has_a_finite_margin(p_first: float, sign: int) -> None:
    # log((1 - 2^-53) / 2^-53) = 53 log 2
    margin = verdict_margin([judged("A", FIRST, p_first)])
    assert margin == pytest.approx(sign * 53 * math.log(2), rel=1e-9)


def test_both_orders_of_a_pair_carry_the_same_margin() -> None:
    judgments = [
        judged("A", FIRST, 0.8, draw=0),
        judged("B", FIRST, 0.8, draw=1),
        judged("B", SECOND, 0.4, draw=0),
        judged("A", SECOND, 0.4, draw=1),
    ]
    # (log 4 + log 1.5) / 2
    wanted = pytest.approx(0.8959, abs=1e-4)
    examples, _ = select_sft(PAIR, judgments, LETTER, 0)
    assert [(e.gold, e.verdict_margin) for e in examples] == [("first", wanted), ("second", wanted)]
    preferences, _ = select_preferences(PAIR, judgments, LETTER, 0, per_example=1)
    assert [p.verdict_margin for p in preferences] == [wanted, wanted]
    # An order that is dropped still has its say: the pair is no easier for it.
    judgments = [judged("A", FIRST, 0.8), judged("A", SECOND, 0.9)]
    examples, drops = select_sft(PAIR, judgments, LETTER, 0)
    assert len(drops) == 1
    # (log 4 - log 9) / 2
    assert [e.verdict_margin for e in examples] == [pytest.approx(-0.4055, abs=1e-4)]
