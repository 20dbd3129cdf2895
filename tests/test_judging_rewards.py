"""What a sampled text earns: checks, scores of a judge, right verdicts."""

import pytest

from selfreward.judging.checks import passes
from selfreward.judging.prompts import get_pairwise_rubric
from selfreward.judging.rewards import (
    Reward,
    RewardFailure,
    checks_reward,
    names_better,
    score_reward,
    verdict_rewards,
)
from selfreward.records import Outcome, Verdict
from selfreward.records_custom_llm import Check


def test_checks_give_the_share_that_pass() -> None:
    checks = (Check(kind="num_words", args=("2",)), Check(kind="all_lowercase"))
    assert checks_reward(checks, "parse url", passes) == Reward(value=1.0)
    assert checks_reward(checks, "Parse url", passes) == Reward(value=0.5)
    assert checks_reward(checks, "Parse", passes) == Reward(value=0.0)
    with pytest.raises(ValueError, match="without checks"):
        checks_reward((), "parse url", passes)


def test_scores_are_averaged_and_a_judge_that_cannot_be_read_gives_no_number() -> None:
    score = [Verdict(outcome=Outcome.SCORE, score=s) for s in (2.0, 5.0)]
    unparsed, cut = Verdict(outcome=Outcome.UNPARSED), Verdict(outcome=Outcome.TRUNCATED)
    assert score_reward([*score, unparsed]) == Reward(value=3.5)
    assert score_reward([unparsed]) == Reward(failure=RewardFailure.UNPARSED)
    assert score_reward([cut, cut, unparsed]) == Reward(failure=RewardFailure.TRUNCATED)


@pytest.mark.parametrize(
    ("text", "finish_reason", "right"),
    [
        ("A is sounder.\n[[A]]", "stop", True),
        ("B is sounder.\n[[B]]", "stop", False),
        ("Both are fine.", "stop", False),
        ("[[C]]", "stop", False),
        ("Weighing them", "length", False),
        ("[[A]] since it", "length", True),
    ],
)
def test_only_the_right_verdict_is_right(text: str, finish_reason: str, right: bool) -> None:
    rubric = get_pairwise_rubric("pairwise_reasoned")
    assert names_better(rubric, text, finish_reason, "first") is right


def test_the_bonus_is_for_samples_right_in_both_orders() -> None:
    rewards = verdict_rewards([True, True, False, False], [True, False, True, False], 0.4)
    assert [r.value for r in rewards] == pytest.approx([1.0, 0.6, 0.0, 0.0])
    alone = verdict_rewards([True, False], [False, True], 0.0)
    assert [r.value for r in alone] == [1.0, 0.0]


def test_a_right_sample_whose_partner_failed_has_no_reward_unless_no_bonus_is_at_stake() -> None:
    no_partner = Reward(failure=RewardFailure.NO_PARTNER)
    assert verdict_rewards([True, False], [None, None], 0.5) == [no_partner, Reward(value=0.0)]
    assert verdict_rewards([True], [None], 0.0) == [Reward(value=1.0)]
