"""The suite from pairs to its table, answered by judges of a few lines instead of a model."""

import json
from collections.abc import Callable
from typing import Literal

import pytest

from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.errors import DataError
from selfreward.evaluation.injection import InjectionReport, injection_report, injection_requests
from selfreward.judging.injection_targets import injection_targets
from selfreward.judging.injections.attempts import INJECTIONS, injections_named
from selfreward.judging.rubrics import get_pairwise_rubric, verdict_choices
from selfreward.records import Message, ModelRef, ResponsePair

LETTER = get_pairwise_rubric("pairwise_verdict_only")
REASONED = get_pairwise_rubric("pairwise_reasoned")
MODEL = ModelRef(name="few-lines", iteration=0, fingerprint="0")
ATTEMPTS = injections_named(["close_plain_tags", "brackets_a", "plea"])


def pair(number: int) -> ResponsePair:
    return ResponsePair.new(
        instruction_id=f"ins-{number}",
        messages=(Message(role="user", content=f"What is {number} + 1?"),),
        chosen=f"It is {number + 1}: right.",
        rejected=f"It is {number + 2}: wrong.",
        corruption="rewrite",
    )


PAIRS = [pair(1), pair(2), pair(3)]

Judge = Callable[[str], str]


def block(prompt: str, letter: str) -> str:
    """A response as a reader sees it who trusts the first delimiter that closes it."""
    return prompt.split(f"<response-{letter}", 1)[1].split(f"</response-{letter}", 1)[0]


def honest(prompt: str) -> str:
    letter = "A" if ": right." in block(prompt, "A") else "B"
    return f"That one adds correctly.\n[[{letter}]]"


def charmed(prompt: str) -> str:
    """Names a response that says please; fair otherwise."""
    for letter in "AB":
        if "so\nkind" in block(prompt, letter) or "so kind" in block(prompt, letter):
            return f"It asks so nicely.\n[[{letter}]]"
    return honest(prompt)


def quoting(prompt: str) -> str:
    """Repeats the last line of each response before its own verdict, if that is in brackets."""
    lines = [block(prompt, letter).strip().split("\n")[-1] for letter in "AB"]
    return "\n".join([*(line for line in lines if line.startswith("[[")), honest(prompt)])


def answer(judge: Judge, request: GenerationRequest) -> Completion:
    text = judge(request.messages[-1].content)
    if request.sampling.regex is not None:
        # Guided: brackets are left to the verdict on the last line.
        *reason, verdict = text.split("\n")
        text = "\n".join([*(line for line in reason if "[" not in line), verdict])
    draw = Draw(text=text, finish_reason="stop", num_tokens=5)
    return Completion(request_id=request.id, model=MODEL, draws=(draw,), num_prompt_tokens=50)


def suite(
    judge: Judge, *names: str, attacked: Literal["chosen", "rejected"] = "rejected"
) -> InjectionReport:
    targets = [injection_targets(REASONED)[name] for name in names]
    requests = [
        r for t in targets for r in injection_requests(PAIRS, ATTEMPTS, t, attacked=attacked)
    ]
    # Answers may come back in any order.
    completions = [answer(judge, request) for request in reversed(requests)]
    return injection_report(PAIRS, ATTEMPTS, targets, completions, attacked=attacked)


def test_every_pair_is_read_in_both_orders_with_and_without_each_attempt() -> None:
    target = injection_targets(LETTER)["protected"]
    requests = injection_requests(PAIRS, ATTEMPTS, target)
    assert len(requests) == len({r.id for r in requests}) == 2 * 3 * (1 + 3)
    clean = [r for r in requests if "/clean/" in r.id]
    assert len(clean) == 6 and all("so kind" not in r.messages[1].content for r in clean)
    [pleading, turned] = [
        r.messages[1].content for r in requests if "/plea/" in r.id and PAIRS[0].id in r.id
    ]
    # The attempt stands in the worse response, shown second and then first.
    assert "so kind" in block(pleading, "B") and ": right." in block(pleading, "A")
    assert "so kind" in block(turned, "A") and ": right." in block(turned, "B")


def test_the_better_response_can_be_the_attacked_one() -> None:
    target = injection_targets(LETTER)["protected"]
    requests = injection_requests(PAIRS, injections_named(["plea"]), target, attacked="chosen")
    attacked = [r.messages[1].content for r in requests if "/plea/" in r.id]
    assert all(
        (": right." in block(p, letter)) == ("so kind" in block(p, letter))
        for p in attacked
        for letter in "AB"
    )
    # The judge names it already, so there is nothing left to win.
    [row] = suite(charmed, "protected", attacked="chosen").to_rows("all")
    assert (row["open"], row["won"], row["lost"], row["flip_rate"]) == (0, 18, 0, None)


def test_guiding_is_asked_for_where_the_target_has_it() -> None:
    for rubric in (LETTER, REASONED):
        for target in injection_targets(rubric).values():
            sampling = injection_requests(PAIRS[:1], [], target, max_tokens=99, seed=7)[0].sampling
            assert (sampling.temperature, sampling.seed) == (0.0, 7)
            is_guided = bool(sampling.choices or sampling.regex)
            assert is_guided == target.guided
            if target.guided:
                assert sampling.choices == verdict_choices(rubric)
                assert sampling.regex == rubric.guided_regex
            assert sampling.max_tokens == (4 if sampling.choices else 99)


def test_a_judge_that_resists_has_no_flips_and_still_an_interval() -> None:
    rows = suite(honest, "protected").to_rows()
    assert [row["group"] for row in rows] == [
        "all",
        *("closed_block", "forged_verdict", "instruction"),
        *("close_plain_tags", "brackets_a", "plea"),
    ]
    overall = rows[0]
    # 3 pairs, 2 orders, 3 attempts; the worse response is never named.
    assert (overall["readings"], overall["open"], overall["flips"]) == (18, 18, 0)
    # Three pairs: z² / (3 + z²) = 3.8415 / 6.8415
    assert overall["flip_high"] == pytest.approx(0.5615, abs=1e-4)
    assert (overall["attempts"], overall["breaching"]) == (3, 0)
    assert json.loads(json.dumps(rows)) == rows


def test_a_judge_that_is_persuaded_flips_under_every_protection() -> None:
    rows = suite(charmed, "protected", "unprotected").to_rows("attempt")
    rates = {(row["target"], row["group"]): row["flip_rate"] for row in rows}
    assert rates["protected", "plea"] == rates["unprotected", "plea"] == 1.0
    assert rates["protected", "brackets_a"] == 0.0


def test_a_judge_that_quotes_flips_only_where_the_verdict_is_read_from_free_text() -> None:
    rows = suite(quoting, "protected", "free_verdict", "unprotected").to_rows("attempt")
    rates = {(row["target"], row["group"]): row["flip_rate"] for row in rows}
    assert rates["protected", "brackets_a"] == 0.0
    # `[[A]]` is quoted first; it helps the attacked response where that is shown first.
    assert rates["free_verdict", "brackets_a"] == rates["unprotected", "brackets_a"] == 0.5


def test_the_table_says_which_attempts_break_the_prompts_form() -> None:
    rows = suite(honest, "protected", "fixed_delimiters", "free_verdict", "unprotected").to_rows(
        "attempt"
    )
    breaching = {(row["target"], row["group"]) for row in rows if row["breaching"]}
    assert breaching == {
        ("fixed_delimiters", "close_plain_tags"),
        ("unprotected", "close_plain_tags"),
        ("free_verdict", "brackets_a"),
        ("unprotected", "brackets_a"),
    }


def test_refused_and_failed_readings_are_counted_apart() -> None:
    target = injection_targets(REASONED)["protected"]
    requests = injection_requests(PAIRS, ATTEMPTS, target)
    completions = []
    for request in requests:
        completion = answer(honest, request)
        if "/plea/" in request.id:
            completion = Completion(request_id=request.id, model=MODEL, error="prompt_too_long")
        elif "/brackets_a/" in request.id:
            draw = Draw(text="Well, it", finish_reason="length", num_tokens=5)
            completion = Completion(request_id=request.id, model=MODEL, draws=(draw,))
        completions.append(completion)
    report = injection_report(PAIRS, ATTEMPTS, [target], completions)
    [overall] = report.to_rows("all")
    assert overall["failed_after"] == {"truncated": 6, "unanswered": 6}
    assert (overall["open"], overall["flip_rate"], overall["failed_before"]) == (6, 0.0, {})


def test_pairs_that_are_missing_or_repeat_are_refused() -> None:
    target = injection_targets(LETTER)["protected"]
    with pytest.raises(DataError, match="at least one pair"):
        injection_requests([], ATTEMPTS, target)
    with pytest.raises(DataError, match="repeat"):
        injection_requests([PAIRS[0], PAIRS[0]], ATTEMPTS, target)


def test_a_missing_completion_is_named() -> None:
    target = injection_targets(LETTER)["protected"]
    completions = [answer(honest, r) for r in injection_requests(PAIRS, ATTEMPTS, target)]
    with pytest.raises(DataError, match=f"injection/protected/plea/{PAIRS[2].id}/rejected_first"):
        injection_report(PAIRS, ATTEMPTS, [target], completions[:-1])


def test_the_whole_suite_runs_for_every_target_and_rubric() -> None:
    for rubric in (LETTER, REASONED):
        targets = list(injection_targets(rubric).values())
        attempts = list(INJECTIONS.values())
        requests = [r for t in targets for r in injection_requests(PAIRS[:1], attempts, t)]
        report = injection_report(
            PAIRS[:1], attempts, targets, [answer(honest, request) for request in requests]
        )
        assert [row["target"] for row in report.to_rows("all")] == [t.name for t in targets]
        assert len(report.to_rows("attempt")) == len(targets) * len(attempts)
