"""Pairs: from a request to prompts, and from draws to a typed outcome."""

import math

import pytest

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import Completion, Draw
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.judging.token_logps import TokenLogps
from selfreward.records import ModelRef
from selfreward.serving.judge_wire import (
    OrderReading,
    PairwiseJudgment,
    PairwiseRequest,
    Usage,
    VoteCounts,
)
from selfreward.serving.pairwise import plan_pairwise
from selfreward.serving.wire import JudgeVersion

CONFIG = ServingConfig()
MODEL = ModelRef(name="m", iteration=2, fingerprint="f00d")
VERSION = JudgeVersion(version=3, model="m", iteration=2, fingerprint="f00d")


def letter(name: str, p_a: float | None = None) -> Draw:
    """A verdict of the letter rubric, with P(A) of its letter where it is given."""
    return Draw(text=name, finish_reason="stop", num_tokens=2, logps=chances(name, p_a))


def chances(text: str, p_a: float | None) -> tuple[TokenLogps, ...]:
    """P(A) and P(B) at the last letter of a text that ends with its verdict."""
    if p_a is None:
        return ()
    start = max(text.rfind("A"), text.rfind("B"))
    logps = {"A": math.log(p_a), "B": math.log(1 - p_a)}
    return (TokenLogps(produced=text[start], start=start, logps=logps),)


def said(text: str, finish_reason: str = "stop") -> Draw:
    return Draw(text=text, finish_reason=finish_reason, num_tokens=5)


def answered(*draws: Draw, error: str | None = None, detail: str = "") -> Completion:
    return Completion(
        request_id="", model=MODEL, draws=draws, num_prompt_tokens=100, error=error, detail=detail
    )


def compared(
    request: PairwiseRequest, *completions: Completion, config: ServingConfig = CONFIG
) -> PairwiseJudgment:
    return plan_pairwise(request, config, "req-1").judgment(completions, VERSION)


PAIR = PairwiseRequest(prompt="2 + 2?", first="4", second="5")
THREE_VOTES = PAIR.model_copy(update={"votes": 3})
REASONED = PAIR.model_copy(update={"rationale": True})


def test_a_pair_is_asked_in_both_orders_with_guided_letters() -> None:
    one, other = plan_pairwise(PAIR, CONFIG, "req-1").requests
    assert [one.id, other.id] == ["req-1/first_second", "req-1/second_first"]
    assert one.purpose == "judge"
    assert "-A-" in one.messages[1].content
    assert one.messages[1].content.index("\n4\n") < one.messages[1].content.index("\n5\n")
    assert other.messages[1].content.index("\n5\n") < other.messages[1].content.index("\n4\n")
    assert one.sampling.choices == ("A", "B") and one.sampling.regex is None
    assert one.sampling.logps_of == ("A", "B")
    assert one.sampling.max_tokens == 4
    assert (one.sampling.n, one.sampling.temperature) == (1, 0.0)


def test_a_rationale_is_asked_for_with_its_own_rubric_regex_and_room() -> None:
    config = ServingConfig(max_rationale_tokens=123)
    plan = plan_pairwise(REASONED, config, "req-1")
    sampling = plan.requests[0].sampling
    assert plan.rubric.id == "pairwise_reasoned"
    assert (sampling.choices, sampling.max_tokens) == ((), 123)
    assert sampling.regex == get_pairwise_rubric("pairwise_reasoned").guided_regex


@pytest.mark.parametrize("request_of_pair", [PAIR, REASONED])
def test_nothing_is_guided_where_the_config_says_so(request_of_pair: PairwiseRequest) -> None:
    plan = plan_pairwise(request_of_pair, ServingConfig(guided=False), "req-1")
    assert all((r.sampling.choices, r.sampling.regex) == ((), None) for r in plan.requests)


def test_several_votes_are_drawn_at_a_temperature_unless_the_request_has_its_own() -> None:
    def temperature(request: PairwiseRequest) -> float:
        return plan_pairwise(request, CONFIG, "req-1").requests[0].sampling.temperature

    assert temperature(THREE_VOTES) == 0.7
    assert temperature(THREE_VOTES.model_copy(update={"temperature": 1.2})) == 1.2
    assert temperature(PAIR.model_copy(update={"temperature": 0.3})) == 0.3
    assert plan_pairwise(THREE_VOTES, CONFIG, "req-1").requests[0].sampling.n == 3


def test_the_same_request_gives_the_same_draws_whatever_its_id() -> None:
    def seeds(request: PairwiseRequest, request_id: str = "req-1") -> list[int]:
        return [r.sampling.seed for r in plan_pairwise(request, CONFIG, request_id).requests]

    assert seeds(PAIR) == seeds(PAIR, "req-2")
    assert len(set(seeds(PAIR))) == 2
    for changed in ({"seed": 1}, {"prompt": "2 + 3?"}, {"first": "6"}, {"second": "6"}):
        assert not set(seeds(PAIR.model_copy(update=changed))) & set(seeds(PAIR))


def test_the_choice_names_the_response_and_not_the_position() -> None:
    # A in the first order and B in the second are both the request's first response:
    # P(first) = (.9 + (1 - .3)) / 2 = .8
    judgment = compared(PAIR, answered(letter("A", 0.9)), answered(letter("B", 0.3)))
    assert (judgment.outcome, judgment.choice) == ("choice", "first")
    assert judgment.probability_first == pytest.approx(0.8)
    assert judgment.consistent is True
    assert judgment.detail is None
    assert judgment.votes == VoteCounts(first=2)
    second_first = judgment.orders[1]
    assert (second_first.shown, second_first.choice) == ("second_first", "first")
    assert second_first.probability_first == pytest.approx(0.7)
    assert judgment.judge == VERSION
    assert (judgment.id, judgment.rubric) == ("req-1", "pairwise_verdict_only")
    # Two prompts of 100 tokens, two draws of 2.
    assert judgment.usage == Usage(prompt_tokens=200, completion_tokens=4)


def test_a_liking_for_the_first_position_is_a_tie() -> None:
    judgment = compared(PAIR, answered(letter("A")), answered(letter("A")))
    assert (judgment.outcome, judgment.choice, judgment.consistent) == ("tie", None, False)
    assert judgment.detail is not None and "two orders" in judgment.detail
    assert judgment.votes == VoteCounts(first=1, second=1)


def test_with_probabilities_the_surer_order_decides_between_two_that_differ() -> None:
    # (.9 + (1 - .6)) / 2 = .65 for the first, though the second order names the second.
    judgment = compared(PAIR, answered(letter("A", 0.9)), answered(letter("A", 0.6)))
    assert (judgment.choice, judgment.consistent) == ("first", False)
    assert judgment.probability_first == pytest.approx(0.65)


def test_one_order_alone_has_nothing_to_be_consistent_with() -> None:
    request = PAIR.model_copy(update={"both_orders": False})
    judgment = compared(request, answered(letter("B", 0.25)))
    assert (judgment.outcome, judgment.choice, judgment.consistent) == ("choice", "second", None)
    assert judgment.probability_first == pytest.approx(0.25)
    assert [o.shown for o in judgment.orders] == ["first_second"]


def test_draws_vote_in_each_order_and_failed_ones_are_counted() -> None:
    judgment = compared(
        THREE_VOTES,
        answered(letter("A"), letter("A"), letter("B")),
        # By response: first, unparsed, tie (C); one vote is a majority.
        answered(letter("B"), said("Hm."), letter("C")),
    )
    assert judgment.choice == "first"
    assert [o.votes for o in judgment.orders] == [
        VoteCounts(first=2, second=1),
        VoteCounts(first=1, tie=1, failed=1),
    ]
    assert judgment.votes == VoteCounts(first=3, second=1, tie=1, failed=1)


def test_draws_that_are_split_evenly_are_a_tie() -> None:
    request = PAIR.model_copy(update={"votes": 2, "both_orders": False})
    judgment = compared(request, answered(letter("A"), letter("B")))
    assert (judgment.outcome, judgment.consistent) == ("tie", None)
    assert judgment.detail == "the judge's draws put neither response ahead"


@pytest.mark.parametrize(
    ("draw", "outcome", "word"),
    [
        (said("Both are fine."), "unparsed", "no clear verdict"),
        (said("The first is", "length"), "truncated", "token limit"),
        (said("I cannot judge these."), "refused", "declined"),
    ],
)
def test_an_order_without_a_verdict_leaves_the_pair_without_one(
    draw: Draw, outcome: str, word: str
) -> None:
    judgment = compared(PAIR, answered(letter("A", 0.9)), answered(draw))
    assert (judgment.outcome, judgment.choice) == (outcome, None)
    assert (judgment.probability_first, judgment.consistent) == (None, None)
    assert judgment.detail is not None and word in judgment.detail
    assert [o.outcome for o in judgment.orders] == ["choice", outcome]


@pytest.mark.parametrize(
    ("completion", "outcome", "detail"),
    [
        (
            answered(error="prompt_too_long", detail="2310 of 2048 tokens"),
            "prompt_too_long",
            "2310 of 2048 tokens",
        ),
        (answered(error="bad_request", detail="no such regex"), "failed", "bad_request: no such"),
        (answered(), "failed", "no draw"),
    ],
)
def test_a_request_the_engine_refused_is_an_outcome(
    completion: Completion, outcome: str, detail: str
) -> None:
    judgment = compared(THREE_VOTES, completion, answered(*[letter("B")] * 3))
    assert (judgment.outcome, judgment.choice) == (outcome, None)
    assert judgment.detail is not None and detail in judgment.detail
    assert judgment.votes == VoteCounts(first=3, failed=3)


def test_the_rationale_is_that_of_the_winner_cut_before_the_verdict() -> None:
    judgment = compared(
        REASONED.model_copy(update={"votes": 3}),
        answered(
            said("One says five.\n[[B]]"),
            said("Four is right.\n[[A]]"),
            said("Sums to 4.\n[[A]]"),
        ),
        answered(said("Hm."), said("B adds well.\n[[B]]"), said("B again.\n[[B]]")),
    )
    assert judgment.choice == "first"
    assert judgment.rationale == "Four is right."
    assert [o.rationales for o in judgment.orders] == [
        ["One says five.", "Four is right.", "Sums to 4."],
        ["Hm.", "B adds well.", "B again."],
    ]


def test_of_a_verdict_that_comes_first_the_rationale_is_what_follows() -> None:
    request = PAIR.model_copy(update={"rubric": "pairwise_verdict_first"})
    judgment = compared(
        request, answered(said("[[A]]\nFour is right.")), answered(said("[[B]]\nB adds well.\n"))
    )
    assert (judgment.choice, judgment.rationale) == ("first", "Four is right.")
    assert [o.rationales for o in judgment.orders] == [["Four is right."], ["B adds well."]]


def test_the_rationale_is_of_the_order_that_names_the_winner() -> None:
    def reasoned(text: str, p_a: float) -> Draw:
        return Draw(text=text, finish_reason="stop", num_tokens=5, logps=chances(text, p_a))

    # (.4 + (1 - .1)) / 2 = .65: the first wins, which only the second order names.
    judgment = compared(
        REASONED, answered(reasoned("Five.\n[[B]]", 0.4)), answered(reasoned("Four.\n[[B]]", 0.1))
    )
    assert (judgment.choice, judgment.rationale) == ("first", "Four.")


def test_a_letter_rubric_has_no_rationale() -> None:
    judgment = compared(PAIR, answered(letter("A")), answered(letter("B")))
    assert judgment.rationale is None
    assert judgment.orders[0] == OrderReading(
        shown="first_second", outcome="choice", choice="first", votes=VoteCounts(first=1)
    )
