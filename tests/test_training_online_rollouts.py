"""Who is asked what in a step, and how answers become rewards; the scripted engine answers."""

import asyncio
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from selfreward.config import EngineConfig, RatingConfig, ScriptedConfig
from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.engines.replica import ReplicaSpec, Wanted
from selfreward.engines.scripted_replica import ScriptedReplica
from selfreward.errors import DataError
from selfreward.judging.checks import passes
from selfreward.judging.pointwise import get_pointwise_rubric
from selfreward.judging.prompts import get_pairwise_rubric
from selfreward.judging.rewards import RewardFailure
from selfreward.records import Message, ModelRef, ResponsePair
from selfreward.records_custom_llm import Check, Ranking, TaskItem
from selfreward.training.encoding import encode_examples
from selfreward.training.online.encoding import encode_rollouts
from selfreward.training.online.lesson import make_lesson
from selfreward.training.online.plan import plan_steps, share_of
from selfreward.training.online.prompts import (
    prompts_of_pairs,
    prompts_of_rankings,
    prompts_of_tasks,
)
from selfreward.training.online.rollouts import Rollout, RolloutPrompt
from selfreward.training.online.scorers import (
    ChecksScorer,
    JudgeScorer,
    RewardModelScorer,
    Scorer,
    VerdictScorer,
    rewarded,
)
from tests.online_tools import make_online_config, make_prompts
from tests.tiny_model import make_tiny_tokenizer
from tests.training_data import make_examples

MODEL = ModelRef(name="scripted", iteration=0, fingerprint="seed")


class OneBoard:
    def begin_start(self, replica: str) -> Wanted:
        return Wanted(model=MODEL, folder="")

    def note_failure(self, replica: str, text: str) -> None:
        raise AssertionError(text)


class Scripted:
    """A scripted replica in this process, asked as a pool is; notes what it was asked."""

    def __init__(self, max_model_len: int = 4096, **script: Any) -> None:
        engine = EngineConfig(
            kind="scripted", max_model_len=max_model_len, scripted=ScriptedConfig(**script)
        )
        spec = ReplicaSpec(name="judge-0", device="cpu", engine=engine)
        self._replica = ScriptedReplica(spec, OneBoard())
        self.asked: list[GenerationRequest] = []

    async def __call__(self, requests: list[GenerationRequest]) -> list[Completion]:
        self.asked += requests
        return list(await asyncio.gather(*(self._replica.generate(r, "seed") for r in requests)))


def make_rollout(prompt: RolloutPrompt, text: str, draw: int = 0, end: str = "stop") -> Rollout:
    return Rollout(
        prompt_id=prompt.id, draw=draw, text=text, finish_reason=end, num_tokens=len(text)
    )


def values(
    scorer: Scorer, prompts: list[RolloutPrompt], rollouts: list[Rollout]
) -> list[float | None]:
    return [r.reward for r in rewarded(scorer, prompts, rollouts, 30.0)]


# --- which prompts ------------------------------------------------------------------------------


def pairs(count: int) -> list[RolloutPrompt]:
    """Both orders of so many pairs."""
    return [
        RolloutPrompt(
            id=f"{i}/{gold}",
            messages=(Message(role="user", content=f"{i} {gold}"),),
            group=f"pair-{i}",
            gold=gold,
        )
        for i in range(count)
        for gold in ("first", "second")
    ]


def test_steps_are_full_groups_stay_whole_and_epochs_are_other_shuffles() -> None:
    prompts = pairs(7)
    steps = plan_steps(prompts, num_steps=6, prompts_per_step=5, seed=1)
    # Two pairs fit into 5; the seventh of an epoch fills no step.
    assert [len(step) for step in steps] == [4] * 6
    for step in steps:
        assert sorted(step) == sorted(i ^ 1 for i in step)
    first, second = ([i for step in steps[a : a + 3] for i in step] for a in (0, 3))
    assert len(set(first)) == len(set(second)) == 12
    assert first != second
    assert steps == plan_steps(prompts, num_steps=6, prompts_per_step=5, seed=1)
    assert steps != plan_steps(prompts, num_steps=6, prompts_per_step=5, seed=2)


def test_few_prompts_are_all_in_every_step() -> None:
    steps = plan_steps(make_prompts(3), num_steps=2, prompts_per_step=8, seed=0)
    assert [sorted(step) for step in steps] == [[0, 1, 2]] * 2
    with pytest.raises(DataError, match="same id"):
        plan_steps(make_prompts(2) * 2, num_steps=1, prompts_per_step=1, seed=0)


def test_workers_share_a_step_without_parting_pairs() -> None:
    prompts = pairs(5)
    shares = [share_of(prompts, range(10), rank=rank, num_workers=3) for rank in range(3)]
    assert shares == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5]]


def test_records_become_prompts() -> None:
    asked = (Message(role="user", content="2 + 2?"),)
    pair = ResponsePair.new(
        instruction_id="ins", messages=asked, chosen="four", rejected="five", corruption="rewrite"
    )
    rubric = get_pairwise_rubric("pairwise_verdict_only")
    first, second = prompts_of_pairs([pair], rubric)
    assert (first.gold, second.gold) == ("first", "second")
    assert first.key == second.key == pair.id != first.id != second.id
    shown = [p.messages[-1].content for p in (first, second)]
    assert [text.index("four") < text.index("five") for text in shown] == [True, False]
    VerdictScorer(rubric=rubric, consistency_bonus=0.5).check([first, second])

    other = (Message(role="user", content="3 + 3?"),)
    rankings = [
        Ranking.new(messages=turns, responses=answers, ranks=(1, 2), source="review")
        for turns, answers in ((asked, ("4", "5")), (other, ("6", "7")), (asked, ("4", "3")))
    ]
    prompts = prompts_of_rankings(rankings)
    assert [(p.id, p.messages) for p in prompts] == [
        (rankings[0].id, asked),
        (rankings[1].id, other),
    ]
    item = TaskItem.new(
        task="sum", template="sum/1", messages=asked, target="4", checks=(Check(kind="is_json"),)
    )
    assert prompts_of_tasks([item])[0].checks == item.checks


# --- rewards ------------------------------------------------------------------------------------


def test_the_reward_model_scores_the_answer_to_its_prompt() -> None:
    (prompt,) = make_prompts(1)
    ask = Scripted()
    good, bad = make_rollout(prompt, "(quality 9) one two"), make_rollout(prompt, "(quality 1) one")
    scorer = RewardModelScorer(ask=ask)
    # Scripted likelihoods: each of the words counts -(2 - quality / 10).
    assert values(scorer, [prompt], [good, bad]) == pytest.approx([-4 * 1.1, -3 * 1.9])
    assert [(r.messages, r.target) for r in ask.asked] == [
        (prompt.messages, good.text),
        (prompt.messages, bad.text),
    ]


def test_a_reward_that_is_no_number_is_a_failure() -> None:
    async def ask(requests: list[GenerationRequest]) -> list[Completion]:
        draw = Draw(text="", finish_reason="stop", num_tokens=0, score=float("nan"))
        return [Completion(request_id=r.id, model=MODEL, draws=(draw,)) for r in requests]

    (prompt,) = make_prompts(1)
    (found,) = rewarded(RewardModelScorer(ask=ask), [prompt], [make_rollout(prompt, "a")], 5.0)
    assert (found.reward, found.failed) == (None, RewardFailure.BAD_SCORE)


def judge(ask: Scripted) -> JudgeScorer:
    rubric = get_pointwise_rubric("pointwise_additive")
    return JudgeScorer(ask=ask, rubric=rubric, rating=RatingConfig(num_draws=2), seed=3)


def test_the_judge_scores_and_what_cannot_be_read_is_a_failure() -> None:
    (prompt,) = make_prompts(1)
    good, bad = make_rollout(prompt, "(quality 9) x"), make_rollout(prompt, "(quality 0) x", 1)
    # A judge without error gives round(9 / 9 * 5) and round(0 / 9 * 5) in each of two readings.
    ask = Scripted(skill=1.0)
    assert values(judge(ask), [prompt], [good, bad]) == [5.0, 0.0]
    assert [r.sampling.n for r in ask.asked] == [2, 2]
    assert ask.asked[0].sampling.regex is not None
    mute = rewarded(judge(Scripted(unparsed_share=1.0)), [prompt], [good], 30.0)
    assert (mute[0].reward, mute[0].failed) == (None, RewardFailure.UNPARSED)
    narrow = rewarded(judge(Scripted(max_model_len=64)), [prompt], [good], 30.0)
    assert narrow[0].failed is RewardFailure.PROMPT_TOO_LONG


def test_rollouts_that_failed_are_not_scored() -> None:
    (prompt,) = make_prompts(1)
    failed = replace(make_rollout(prompt, ""), failed=RewardFailure.PROMPT_TOO_LONG)
    ask = Scripted()
    found = rewarded(
        RewardModelScorer(ask=ask), [prompt], [failed, make_rollout(prompt, "a", 1)], 30.0
    )
    assert found[0] == failed
    assert found[1].reward is not None
    assert len(ask.asked) == 1


def test_checks_reward_prompts_that_have_some() -> None:
    scorer = ChecksScorer(passes=passes)
    (plain,) = make_prompts(1)
    prompt = replace(plain, checks=(Check(kind="num_words", args=("2",)),))
    rollouts = [make_rollout(prompt, "two words"), make_rollout(prompt, "three of them")]
    assert values(scorer, [prompt], rollouts) == [1.0, 0.0]
    with pytest.raises(DataError, match="prompt p0 has no checks"):
        scorer.check([plain])
    assert pickle.loads(pickle.dumps(scorer)) == scorer


def test_verdicts_earn_more_where_both_orders_are_right() -> None:
    scorer = VerdictScorer(
        rubric=get_pairwise_rubric("pairwise_verdict_only"), consistency_bonus=0.5
    )
    first, second = pairs(1)
    scorer.check([first, second])
    texts = {first: ["A", "A", "B", "both"], second: ["B", "A", "B", "A"]}
    rollouts = [make_rollout(p, t, i) for p, list_ in texts.items() for i, t in enumerate(list_)]
    # Draw 0 is right in both orders, draws 1 and 2 in one, draw 3 in none.
    wanted = [1.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.5, 0.0]
    assert values(scorer, [first, second], rollouts) == wanted
    lost = [replace(r, failed=RewardFailure.BAD_REQUEST) for r in rollouts[4:]]
    found = rewarded(scorer, [first, second], [*rollouts[:4], *lost], 30.0)
    assert [r.failed for r in found[:4]] == [RewardFailure.NO_PARTNER] * 2 + [None] * 2
    with pytest.raises(DataError, match="pair pair-0 is not there once in each order"):
        scorer.check([first])
    with pytest.raises(DataError, match="does not say which response is better"):
        scorer.check(list(make_prompts(1)))


# --- tokens -------------------------------------------------------------------------------------


def test_rollouts_are_encoded_as_examples_are_and_a_cut_one_has_no_end() -> None:
    tokenizer = make_tiny_tokenizer()
    examples = make_examples(3)
    prompts = {e.id: RolloutPrompt(id=e.id, messages=e.messages) for e in examples}
    written = [make_rollout(prompts[e.id], e.target) for e in examples]
    wanted, _ = encode_examples(tokenizer, examples, 4096)
    for ours, theirs in zip(encode_rollouts(tokenizer, prompts, written), wanted, strict=True):
        np.testing.assert_array_equal(ours.prompt, theirs.prompt)
        np.testing.assert_array_equal(ours.completions[0], theirs.completions[0])
    cut, empty, drawn = encode_rollouts(
        tokenizer,
        prompts,
        [
            replace(written[0], finish_reason="length"),
            replace(written[0], text=""),
            replace(written[0], token_ids=(7, 8, 258)),
        ],
    )
    np.testing.assert_array_equal(cut.completions[0], wanted[0].completions[0][:-1])
    assert empty.completions[0].tolist() == [258]
    assert drawn.completions[0].tolist() == [7, 8, 258]


def test_a_lesson_leaves_out_what_is_too_long_cut_or_failed() -> None:
    tokenizer = make_tiny_tokenizer()
    (prompt,) = make_prompts(1)
    rollouts = [
        replace(make_rollout(prompt, "a" * 10, 0), reward=1.0),
        replace(make_rollout(prompt, "a" * 10, 1), reward=0.0),
        replace(make_rollout(prompt, "a" * 80, 2), reward=9.0),
        replace(make_rollout(prompt, "a" * 10, 3, "length"), reward=9.0),
        replace(make_rollout(prompt, "", 4), failed=RewardFailure.UNPARSED),
    ]
    config = make_online_config(truncated="mask", updates_per_step=2, training={"max_length": 80})
    lesson = make_lesson(tokenizer, [prompt], rollouts, config)
    assert lesson.advantages.values == [1.0, -1.0, 0.0, 0.0, 0.0]
    assert [(s.advantage, s.part) for s in lesson.samples] == [(1.0, 0), (-1.0, 1)]
    assert [r.failed for r in lesson.rollouts] == [
        None,
        None,
        RewardFailure.TOO_LONG,
        None,
        RewardFailure.UNPARSED,
    ]
    kept = make_lesson(
        tokenizer, [prompt], rollouts, config.model_copy(update={"truncated": "keep"})
    )
    # Rewards 1, 0 and 9: 1 - 4.5, 0 - 5 and 9 - 0.5.
    assert [s.advantage for s in kept.samples] == pytest.approx([-3.5, -5.0, 8.5])
