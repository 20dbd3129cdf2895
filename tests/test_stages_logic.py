"""What each stage asks the engine and makes of the answers, with a hand-written `generate`."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from selfreward.config import (
    CorruptConfig,
    RespondConfig,
    SamplingConfig,
    SelectInstructionsConfig,
)
from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.judging.balance import balance_ranks
from selfreward.judging.prompts import ANSWER_END, ANSWER_START, MODIFIED_INSTRUCTION_HEADER
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.judging.selection import judged_prompt, needs_more
from selfreward.judging.token_logps import TokenLogps
from selfreward.records import (
    AnsweredInstruction,
    Corruption,
    DropReason,
    Instruction,
    Judgment,
    Message,
    ModelRef,
    Outcome,
    Position,
    Preference,
    Response,
    ResponsePair,
    TrainingExample,
    Verdict,
)
from selfreward.records_scores import PairScore
from selfreward.stages.categorise import (
    Categorise,
    KeepCategories,
    category_cutoffs,
    category_ranks,
)
from selfreward.stages.corrupt import Corrupt, pick_method
from selfreward.stages.judge import Judge
from selfreward.stages.respond import Respond
from selfreward.stages.select import (
    Balance,
    JudgedPair,
    Select,
    ValidationExamples,
    label_ranks,
    read_judged_pairs,
)
from selfreward.storage.shards import RowResult, write_records

MODEL = ModelRef(name="m", iteration=0, fingerprint="f0")
Answer = Callable[[GenerationRequest, int], str | Draw]


@dataclass
class Fake:
    """Answers draw j of a request with `answer(request, seed of the draw)`."""

    answer: Answer
    errors: dict[str, str] = field(default_factory=dict)
    """Part of a request id to the error code it gets."""
    asked: list[GenerationRequest] = field(default_factory=list)
    calls: int = 0

    async def __call__(self, requests: list[GenerationRequest]) -> list[Completion]:
        self.calls += 1
        self.asked += requests
        return [self._complete(r) for r in requests]

    def _complete(self, request: GenerationRequest) -> Completion:
        for part, code in self.errors.items():
            if part in request.id:
                return Completion(request_id=request.id, model=MODEL, error=code, detail="why")
        draws = []
        for i in range(request.sampling.n):
            made = self.answer(request, request.sampling.seed + i)
            draws.append(
                made if isinstance(made, Draw) else draw_of(made, "stop", len(made.split()))
            )
        return Completion(
            request_id=request.id, model=MODEL, draws=tuple(draws), num_prompt_tokens=10
        )


def run(logic: Any, rows: Sequence[Any], generate: Any = None) -> list[RowResult[Any]]:
    results: list[RowResult[Any]] = asyncio.run(logic.process(rows, generate or Fake(no_engine)))
    assert [r.row_id for r in results] == [row.id for row in rows]
    return results


def draw_of(
    text: str, finish_reason: str, num_tokens: int, logps: dict[str, float] | None = None
) -> Draw:
    # The verdict is all that is written where its chances are given.
    places = () if logps is None else (TokenLogps(produced=text, start=0, logps=logps),)
    return Draw(text=text, finish_reason=finish_reason, num_tokens=num_tokens, logps=places)


def no_engine(request: GenerationRequest, seed: int) -> str:
    raise AssertionError(f"nothing should be asked, but {request.id} was")


def reasons(results: Sequence[RowResult[Any]]) -> list[str]:
    return [d.reason.value for r in results for d in r.dropped]


def instruction(text: str, reference: str | None = None, **fields: Any) -> Instruction:
    made = Instruction.new(
        messages=(Message(role="user", content=text),), source="s", reference_answer=reference
    )
    return replace(made, **fields)


def answered(text: str, answer: str = "good", reference: str | None = None) -> AnsweredInstruction:
    row = instruction(text, reference)
    response = Response.new(
        instruction_id=row.id,
        text=answer,
        model=MODEL,
        draw=0,
        finish_reason="stop",
        num_tokens=1,
    )
    return AnsweredInstruction(id=f"ans-{text}", instruction=row, response=response)


def pair(number: int) -> ResponsePair:
    return ResponsePair.new(
        instruction_id=f"ins-{number}",
        messages=(Message(role="user", content=f"Task {number}"),),
        chosen=f"good {number}",
        rejected=f"bad {number}",
        corruption="rewrite",
    )


# --- respond -------------------------------------------------------------------------------------


def test_respond_keeps_answers_and_names_what_it_drops() -> None:
    answers: dict[str, str | Draw] = {
        "a": "  fine \n",
        "b": " \n",
        "c": draw_of("cut", "length", 256),
        "d": "x",
        "e": "x",
    }
    fake = Fake(lambda r, s: answers[r.messages[-1].content])
    rows = [instruction(t) for t in answers]
    fake.errors = {rows[3].id: "prompt_too_long", rows[4].id: "bad_request"}
    results = run(Respond(config=RespondConfig(), seed=0), rows, fake)
    (kept,) = results[0].records
    assert (kept.response.text, kept.response.instruction_id) == ("fine", rows[0].id)
    assert kept.instruction == rows[0]
    assert reasons(results) == [
        "empty_response",
        "truncated_response",
        "prompt_too_long",
        "engine_failure",
    ]
    assert results[2].dropped[0].detail == "cut after 256 tokens"
    assert all(len(r.records) + len(r.dropped) == 1 for r in results)
    keeping = run(Respond(config=RespondConfig(keep_truncated=True), seed=0), rows, fake)
    assert keeping[2].records[0].response.finish_reason == "length"


def test_respond_asks_with_the_config_and_a_seed_of_the_row() -> None:
    sampling = SamplingConfig(temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, max_tokens=33)
    fake = Fake(lambda r, s: "x")
    rows = [instruction("a"), instruction("b")]
    run(Respond(config=RespondConfig(sampling=sampling), seed=0), rows, fake)
    run(Respond(config=RespondConfig(sampling=sampling), seed=0), rows[::-1], fake)
    first, second, second_again, first_again = fake.asked
    assert (first, second) == (first_again, second_again), "whatever the order"
    assert first.sampling.seed != second.sampling.seed
    asked = first.sampling
    assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p) == (0.5, 0.9, 7, 0.1)
    assert (asked.max_tokens, asked.n, first.messages) == (33, 1, rows[0].messages)


# --- corrupt -------------------------------------------------------------------------------------


def corrupt(method: str = "modified_instruction", **options: Any) -> Corrupt:
    config = CorruptConfig.model_validate({"methods": {method: 1}, **options})
    return Corrupt(config=config, respond_sampling=SamplingConfig(max_tokens=9), seed=0)


def single(instruction_text: str, answer: str) -> str:
    return (
        f"{MODIFIED_INSTRUCTION_HEADER}\n{instruction_text}\n\n{ANSWER_START}\n{answer}\n"
        f"{ANSWER_END}"
    )


def test_two_calls_answer_a_modified_instruction() -> None:
    def answer(request: GenerationRequest, seed: int) -> str:
        return "Modified task: Other?" if request.purpose == "modify" else "other answer"

    fake = Fake(answer)
    row = answered("Why?")
    ((made,),) = [r.records for r in run(corrupt(), [row], fake)]
    assert (made.chosen, made.rejected) == ("good", "other answer")
    assert (made.corruption, made.modified_instruction) == ("modified_instruction", "Other?")
    assert (made.messages, made.chosen_id) == (row.instruction.messages, row.response.id)
    modify, respond = fake.asked
    assert (modify.purpose, modify.sampling.max_tokens) == ("modify", 96)
    assert (respond.purpose, respond.sampling.max_tokens) == ("respond_modified", 512)
    # The modified instruction is answered as if a user had asked it, with no trace of the first.
    assert respond.messages == (Message(role="user", content="Other?"),)


def test_two_calls_keep_the_earlier_turns_of_a_conversation() -> None:
    turns = (
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Hello"),
        Message(role="user", content="Why?"),
    )
    row = answered("x")
    row = replace(row, instruction=replace(row.instruction, messages=turns))
    fake = Fake(lambda r, s: "Other?" if r.purpose == "modify" else "other")
    run(corrupt(), [row], fake)
    assert fake.asked[1].messages == (*turns[:2], Message(role="user", content="Other?"))


def test_two_calls_drop_each_failure_under_its_own_name() -> None:
    modified: dict[str, str] = {
        "Fine?": "Other?",
        "Empty?": " \n",
        "Same?": "Modified task: same?",
        "Long?": "x",
        "Late?": "Later?",
        "Equal?": "Equals?",
        "Cut?": "Cutting?",
        "Mute?": "Muted?",
    }
    answers: dict[str, str | Draw] = {
        "Equal?": " good ",
        "Cut?": draw_of("c", "length", 5),
        "Mute?": "",
    }
    rows = [answered(text) for text in modified]

    def answer(request: GenerationRequest, seed: int) -> str | Draw:
        row = next(r for r in rows if request.id.startswith(f"{r.id}/"))
        text = row.instruction.messages[-1].content
        if request.purpose == "modify":
            return modified[text]
        return answers.get(text, "bad")

    fake = Fake(answer, errors={"Long?/modify": "prompt_too_long", "Late?/respond": "bad_request"})
    results = run(corrupt(), rows, fake)
    assert [bool(r.records) for r in results] == [True] + [False] * 7
    assert reasons(results) == [
        "unparsed_corruption",
        "unparsed_corruption",
        "prompt_too_long",
        "engine_failure",
        "same_response",
        "truncated_response",
        "empty_response",
    ]
    assert fake.calls == 2
    # The three rows without a modified instruction are not asked about again.
    assert Counter(r.purpose for r in fake.asked) == {"modify": 8, "respond_modified": 5}
    kept = run(corrupt(keep_truncated=True), rows, fake)
    assert kept[6].records[0].rejected == "c"


def test_one_call_holds_instruction_and_answer() -> None:
    replies: dict[str, str | Draw] = {
        "Fine?": single("Other?", "other answer"),
        "Loose?": "Other? other answer",
        "Same?": single("same?", "an answer to the same"),
        "Equal?": single("Other?", "good"),
        "Cut?": draw_of(f"{MODIFIED_INSTRUCTION_HEADER}\nOther?\n", "length", 512),
        "Long?": "x",
    }
    rows = [answered(text) for text in replies]
    fake = Fake(
        lambda r, s: replies[r.id.removeprefix("ans-").partition("/")[0]],
        errors={"Long?": "prompt_too_long"},
    )
    results = run(corrupt(single_call=True), rows, fake)
    (made,) = results[0].records
    assert (made.rejected, made.modified_instruction) == ("other answer", "Other?")
    assert reasons(results) == [
        "unparsed_corruption",
        "unparsed_corruption",
        "same_response",
        "truncated_response",
        "prompt_too_long",
    ]
    assert Counter(r.purpose for r in fake.asked) == {"modify_and_respond": 6}


def test_a_rewrite_is_shown_the_answer_it_makes_worse() -> None:
    fake = Fake(lambda r, s: "worse")
    ((made,),) = [r.records for r in run(corrupt("rewrite"), [answered("Why?", "Because.")], fake)]
    assert (made.chosen, made.rejected, made.corruption) == ("Because.", "worse", "rewrite")
    assert made.modified_instruction is None
    assert "Because." in fake.asked[0].messages[-1].content
    assert fake.asked[0].purpose == "rewrite"


def sample_fake(*texts: str) -> Fake:
    """Draw i of a request says `texts[i]`."""
    return Fake(lambda r, s: texts[s - r.sampling.seed])


@pytest.mark.parametrize(
    ("baseline", "samples", "wanted"),
    [
        # The baseline answer counts as a sample: here it is the right one.
        ("It is 4.", ["It is 5.", "It is 4."], ("It is 4.", "It is 5.")),
        ("It is 5.", ["It is 6.", "It is 4."], ("It is 4.", "It is 5.")),
        # An empty sample is neither right nor wrong.
        ("It is 4.", [" ", "It is 6."], ("It is 4.", "It is 6.")),
        ("It is 4.", ["So 4", "4"], DropReason.NO_WRONG_SAMPLE),
        ("It is 5.", ["It is 6.", "7"], DropReason.NO_RIGHT_SAMPLE),
    ],
)
def test_the_reference_method_takes_the_first_right_and_the_first_wrong_sample(
    baseline: str, samples: list[str], wanted: Any
) -> None:
    fake = sample_fake(*samples)
    logic = corrupt("reference", reference_samples=2)
    (result,) = run(logic, [answered("2 + 2?", baseline, reference="4")], fake)
    if isinstance(wanted, DropReason):
        assert reasons([result]) == [wanted.value]
        return
    (made,) = result.records
    assert (made.chosen, made.rejected) == wanted
    assert (made.corruption, fake.asked[0].sampling.n) == ("reference", 2)
    assert fake.asked[0].sampling.max_tokens == 9, "samples are drawn as answers are"
    assert made.chosen_id != made.rejected_id


@pytest.mark.parametrize("reference", [None, "", "word " * 40])
def test_without_an_answer_that_can_be_checked_there_is_no_pair(reference: str | None) -> None:
    results = run(corrupt("reference"), [answered("Why?", reference=reference)])
    assert reasons(results) == ["no_reference"]


def test_shares_of_methods_are_met_and_follow_the_row_alone() -> None:
    rows = [answered(f"Task {i}", reference="4") for i in range(2000)]
    methods = {"modified_instruction": 1, "rewrite": 2, "reference": 1}
    config = CorruptConfig.model_validate({"methods": methods})
    picked = [pick_method(row, config, 0) for row in rows]
    counts = Counter(picked)
    # Binomial with n = 2000: standard deviations of 22 for a half and 19 for a quarter.
    assert abs(counts[Corruption.REWRITE] - 1000) < 100
    assert abs(counts[Corruption.REFERENCE] - 500) < 90
    listed_otherwise = CorruptConfig.model_validate({"methods": dict(reversed(methods.items()))})
    assert [pick_method(row, listed_otherwise, 0) for row in rows] == picked
    doubled = CorruptConfig.model_validate({"methods": {k: 2 * v for k, v in methods.items()}})
    assert [pick_method(row, doubled, 0) for row in rows] == picked, "shares are normalised"
    assert [pick_method(row, config, 1) for row in rows] != picked
    # Rows without a reference share the other two methods, 1 to 2.
    plain = Counter(pick_method(answered(f"Task {i}"), config, 0) for i in range(2000))
    assert plain[Corruption.REFERENCE] == 0
    assert abs(plain[Corruption.REWRITE] - 1333) < 100


def test_methods_mix_within_a_call_and_results_keep_the_order() -> None:
    config = CorruptConfig.model_validate({"methods": {"modified_instruction": 1, "rewrite": 1}})
    logic = Corrupt(config=config, respond_sampling=SamplingConfig(), seed=0)
    rows = [answered(f"Task {i}") for i in range(8)]
    fake = Fake(lambda r, s: "Other?" if r.purpose == "modify" else f"bad {r.purpose}")
    results = run(logic, rows, fake)
    for row, result in zip(rows, results, strict=True):
        (made,) = result.records
        method = pick_method(row, config, 0)
        assert made.corruption == method
        assert made.messages == row.instruction.messages
    assert len({r.records[0].corruption for r in results}) == 2


# --- judge ---------------------------------------------------------------------------------------

RIGHT, WRONG, NONE = "right", "wrong", "none"


def judge(**options: Any) -> Judge:
    defaults: dict[str, Any] = {
        "rubric_id": "pairwise_reasoned",
        "sampling": SamplingConfig(max_tokens=64),
        "guided": False,
        "num_draws": 15,
        "seed": 0,
        "objective": "sft",
        "adaptive": True,
    }
    return Judge(**(defaults | options))


def position_of(request: GenerationRequest) -> Position:
    return Position(request.id.split("/")[1])


def judging(plan: Callable[[str, Position, int], str]) -> Fake:
    """Draw `seed` of a pair's order says what `plan(pair id, position, draw index)` wants.

    The draw index is told from the request's id, which ends with the index of its first draw.
    """

    def answer(request: GenerationRequest, seed: int) -> str:
        pair_id, position, first = request.id.split("/")
        index = int(first) + seed - request.sampling.seed
        wanted = plan(pair_id, Position(position), index)
        if wanted == NONE:
            return "I wonder."
        names_first = (wanted == RIGHT) == (position == Position.CHOSEN_FIRST)
        return f"Draw with seed {seed}.\n[[{'A' if names_first else 'B'}]]"

    return Fake(answer)


def coin(pair_id: str, position: Position, index: int) -> str:
    digest = hashlib.sha256(f"{pair_id}{position}{index}".encode()).digest()
    return RIGHT if digest[0] < 80 else WRONG


@pytest.mark.parametrize("objective", ["sft", "dpo"])
@pytest.mark.parametrize(("start", "largest"), [(1, 8), (2, 2), (4, 64), (9, 3)])
def test_adaptive_draws_are_a_prefix_of_fixed_ones(
    objective: Literal["sft", "dpo"], start: int, largest: int
) -> None:
    rows = [pair(i) for i in range(12)]
    fixed = run(judge(adaptive=False, objective=objective), rows, judging(coin))
    adaptive = run(
        judge(objective=objective, draws_per_round=start, max_draws_per_round=largest),
        rows,
        judging(coin),
    )
    fewer = 0
    for full, part in zip(fixed, adaptive, strict=True):
        for position in Position:
            all_draws = [j for j in full.records if j.position is position]
            some = [j for j in part.records if j.position is position]
            assert [j.draw for j in all_draws] == list(range(15))
            # Seeds stand in the texts, so equal judgments are equal draws.
            assert some == all_draws[: len(some)]
            if len(some) < 15:
                fewer += 1
                assert not needs_more(some, objective)
    assert fewer > 12


def test_requests_and_draws_of_adaptive_judging_worked_by_hand() -> None:
    """SFT, rounds of 1, 2, 4, 8 draws; the first right draw of the four orders is at 0, 2, 6, -.

    Order with right draw 0: round 1 only.                      1 request,   1 draw
    Right draw 2: rounds hold draws 0 | 1-2.                    2 requests,  3 draws
    Right draw 6: 0 | 1-2 | 3-6.                                3 requests,  7 draws
    None of 15: 0 | 1-2 | 3-6 | 7-14.                           4 requests, 15 draws
    """
    one, two = pair(1), pair(2)
    first_right = {
        (one.id, Position.CHOSEN_FIRST): 0,
        (one.id, Position.REJECTED_FIRST): 2,
        (two.id, Position.CHOSEN_FIRST): 6,
        (two.id, Position.REJECTED_FIRST): 99,
    }

    def plan(pair_id: str, position: Position, index: int) -> str:
        return RIGHT if index == first_right[pair_id, position] else WRONG

    fake = judging(plan)
    results = run(judge(), [one, two], fake)
    assert len(fake.asked) == 1 + 2 + 3 + 4
    assert fake.calls == 4
    assert sum(r.sampling.n for r in fake.asked) == 1 + 3 + 7 + 15
    assert [len(r.records) for r in results] == [4, 22]
    assert [r.sampling.n for r in fake.asked[:4]] == [1, 1, 1, 1]

    fixed = judging(plan)
    results = run(judge(adaptive=False), [one, two], fixed)
    assert (len(fixed.asked), fixed.calls) == (4, 1)
    assert [r.sampling.n for r in fixed.asked] == [15] * 4
    assert [len(r.records) for r in results] == [30, 30]


def test_rounds_stop_at_n_and_never_exceed_the_largest() -> None:
    fake = judging(lambda *_: WRONG)
    run(judge(num_draws=10, draws_per_round=2, max_draws_per_round=4), [pair(1)], fake)
    # 2, then 4, then 4 of at most 4: 10 draws; each round asks both orders.
    assert [r.sampling.n for r in fake.asked] == [2, 2, 4, 4, 4, 4]
    fake = judging(lambda *_: WRONG)
    run(judge(num_draws=5, draws_per_round=9, max_draws_per_round=3), [pair(1)], fake)
    assert [r.sampling.n for r in fake.asked] == [3, 3, 2, 2]


@pytest.mark.parametrize(
    ("said", "draws"),
    [
        ([RIGHT, RIGHT, WRONG, RIGHT], 3),
        ([WRONG, RIGHT], 2),
        ([NONE, RIGHT], 2),  # a judgment without a verdict is a negative too
        ([RIGHT] * 4, 4),
        ([WRONG] * 4, 4),
    ],
)
def test_dpo_goes_on_until_it_has_a_right_and_a_wrong_one(said: list[str], draws: int) -> None:
    fake = judging(lambda _p, _o, index: said[index])
    (result,) = run(judge(objective="dpo", num_draws=4, max_draws_per_round=1), [pair(1)], fake)
    for position in Position:
        assert [j.draw for j in result.records if j.position is position] == list(range(draws))


def test_a_prompt_too_long_in_one_order_keeps_the_other() -> None:
    fake = judging(lambda *_: RIGHT)
    fake.errors = {"/rejected_first/": "prompt_too_long"}
    (result,) = run(judge(), [pair(1)], fake)
    assert [(j.position, j.draw) for j in result.records] == [(Position.CHOSEN_FIRST, 0)]
    assert reasons([result]) == ["prompt_too_long"]
    assert result.dropped[0].row_id == pair(1).id


def test_a_pair_too_long_in_both_orders_is_dropped_once() -> None:
    fake = judging(lambda *_: RIGHT)
    fake.errors = {pair(1).id: "prompt_too_long"}
    results = run(judge(), [pair(1), pair(2)], fake)
    assert (results[0].records, reasons(results)) == ([], ["prompt_too_long"])
    assert len(results[1].records) == 2
    assert len(fake.asked) == 4, "what cannot be asked is asked once"


def test_an_engine_failure_in_a_later_round_keeps_the_earlier_draws() -> None:
    fake = judging(lambda *_: WRONG)
    fake.errors = {"/chosen_first/1": "bad_request"}
    (result,) = run(judge(num_draws=3), [pair(1)], fake)
    drawn = Counter(j.position for j in result.records)
    assert drawn == {Position.CHOSEN_FIRST: 1, Position.REJECTED_FIRST: 3}
    assert reasons([result]) == ["engine_failure"]


def test_judgments_are_in_order_whatever_the_rounds() -> None:
    (result,) = run(judge(adaptive=True, num_draws=6), [pair(1)], judging(lambda *_: WRONG))
    wanted = [(p, d) for p in ("chosen_first", "rejected_first") for d in range(6)]
    assert [(j.position.value, j.draw) for j in result.records] == wanted


def test_what_a_judge_is_shown_and_how_it_is_guided() -> None:
    fake = judging(lambda *_: RIGHT)
    run(judge(guided=True), [pair(1)], fake)
    first, second = fake.asked
    rubric = get_pairwise_rubric("pairwise_reasoned")
    assert first.messages == judged_prompt(rubric, pair(1), Position.CHOSEN_FIRST)
    assert second.messages == judged_prompt(rubric, pair(1), Position.REJECTED_FIRST)
    assert first.sampling.seed != second.sampling.seed
    assert (first.sampling.regex, first.sampling.choices) == (rubric.guided_regex, ())
    assert first.sampling.logps_of == ("A", "B")

    letters = Fake(lambda r, s: draw_of("A", "stop", 1, {"A": -0.1, "B": -2.4}))
    (result,) = run(judge(rubric_id="pairwise_verdict_only", guided=True), [pair(1)], letters)
    sampling = letters.asked[0].sampling
    assert (sampling.choices, sampling.regex, sampling.max_tokens) == (("A", "B"), None, 4)
    verdict = result.records[0].verdict
    # exp(-0.1) / (exp(-0.1) + exp(-2.4)) = 0.9089
    assert (verdict.choice, round(verdict.probability_first, 4)) == ("first", 0.9089)
    free = Fake(lambda r, s: "A")
    run(judge(rubric_id="pairwise_verdict_only"), [pair(1)], free)
    assert free.asked[0].sampling.choices == ()


def test_another_seed_draws_anew() -> None:
    seeds = set()
    for seed in (0, 1):
        fake = judging(lambda *_: RIGHT)
        run(judge(seed=seed), [pair(1)], fake)
        seeds |= {r.sampling.seed for r in fake.asked}
    assert len(seeds) == 4


# --- select --------------------------------------------------------------------------------------


def reading(of: ResponsePair, position: Position, draw: int, said: str) -> Judgment:
    names_first = (said == RIGHT) == (position is Position.CHOSEN_FIRST)
    return Judgment.new(
        pair_id=of.id,
        judge=MODEL,
        rubric_id="pairwise_reasoned",
        position=position,
        draw=draw,
        text=f"Reason {draw}.\n[[{'A' if names_first else 'B'}]]\nBye.",
        finish_reason="stop",
        num_tokens=5,
        num_prompt_tokens=10,
        verdict=Verdict(outcome=Outcome.CHOICE, choice="first" if names_first else "second"),
    )


def judged(of: ResponsePair, **said: list[str]) -> JudgedPair:
    judgments = [
        reading(of, Position(position), draw, word)
        for position, words in said.items()
        for draw, word in enumerate(words)
    ]
    return JudgedPair(id=of.id, pair=of, judgments=tuple(judgments))


def select(**options: Any) -> Select:
    defaults: dict[str, Any] = {
        "rubric_id": "pairwise_reasoned",
        "objective": "sft",
        "drop_all_right": False,
        "preferences_per_example": 1,
        "seed": 0,
        "out_type": TrainingExample,
    }
    return Select(**(defaults | options))


def test_sft_keeps_a_right_judgment_of_each_order() -> None:
    rows = [
        judged(pair(1), chosen_first=[WRONG, RIGHT], rejected_first=[WRONG, WRONG]),
        judged(pair(2), chosen_first=[RIGHT], rejected_first=[RIGHT]),
        judged(pair(3)),
    ]
    results = run(select(), rows)
    (example,) = results[0].records
    assert (example.target, example.gold) == ("Reason 1.\n[[A]]", "first")
    assert example.counter_target == "Reason 1.\n[[B]]"
    assert reasons(results[:1]) == ["no_right_judgment"]
    assert [e.gold for e in results[1].records] == ["first", "second"]
    # A pair that could not be judged was dropped there, not here.
    assert (results[2].records, results[2].dropped) == ([], [])
    kept = run(select(drop_all_right=True), rows)
    assert reasons(kept[1:2]) == ["no_wrong_judgment"] * 2


def test_dpo_pairs_a_right_with_a_wrong_judgment() -> None:
    rows = [judged(pair(1), chosen_first=[RIGHT, WRONG, WRONG], rejected_first=[RIGHT])]
    logic = select(objective="dpo", out_type=Preference, preferences_per_example=2)
    (result,) = run(logic, rows)
    assert {(p.chosen, p.rejected) for p in result.records} == {
        ("Reason 0.\n[[A]]", "Reason 1.\n[[B]]"),
        ("Reason 0.\n[[A]]", "Reason 2.\n[[B]]"),
    }
    assert reasons([result]) == ["no_wrong_judgment"]


def test_pairs_whose_chosen_response_is_the_less_likely_one_are_dropped(tmp_path: Any) -> None:
    pairs = [pair(i) for i in range(4)]
    # Nats per token, chosen against rejected: -2 and -1.5, -1 and -1.5, -3 and -1; the last pair
    # could not be scored.
    sums = [(-20.0, 10, -30.0, 20), (-10.0, 10, -30.0, 20), (-30.0, 10, -20.0, 20)]
    scores = [
        PairScore(
            id=f"psc-{i}",
            pair_id=pairs[i].id,
            judge=MODEL,
            chosen=chosen,
            rejected=rejected,
            chosen_alone=None,
            rejected_alone=None,
            chosen_tokens=num_chosen,
            rejected_tokens=num_rejected,
        )
        for i, (chosen, num_chosen, rejected, num_rejected) in enumerate(sums)
    ]
    readings = [reading(p, Position.CHOSEN_FIRST, 0, RIGHT) for p in pairs]
    urls = [f"{tmp_path}/{name}.parquet" for name in "pjs"]
    write_records(urls[0], pairs, ResponsePair)
    write_records(urls[1], readings, Judgment)
    write_records(urls[2], scores, PairScore)

    def kept(margin: float | None) -> list[Any]:
        logic = select(min_likelihood_margin=margin)
        return run(logic, logic.read(urls if margin is not None else urls[:2]))

    assert [len(r.records) for r in kept(None)] == [1, 1, 1, 1]
    # -0.5, 0.5 and -2.
    assert [len(r.records) for r in kept(-0.5)] == [1, 1, 0, 0]
    assert [len(r.records) for r in kept(0.6)] == [0, 0, 0, 0]
    results = kept(0.0)
    assert [len(r.records) for r in results] == [0, 1, 0, 0]
    assert reasons(results) == ["low_margin", "low_margin"]
    (drop,) = results[0].dropped
    assert (drop.row_id, drop.stage) == (pairs[0].id, "select")
    assert drop.detail == "nats per token of the chosen response above the rejected: -0.500"


def test_pairs_meet_their_judgments_from_storage(tmp_path: Any) -> None:
    pairs = [pair(i) for i in range(3)]
    readings = [reading(p, Position.CHOSEN_FIRST, 0, RIGHT) for p in (pairs[2], pairs[0])]
    write_records(f"{tmp_path}/p.parquet", pairs, ResponsePair)
    write_records(f"{tmp_path}/j.parquet", readings, Judgment)
    rows = read_judged_pairs([f"{tmp_path}/p.parquet", f"{tmp_path}/j.parquet"])
    assert [row.pair for row in rows] == pairs
    assert [[j.pair_id for j in row.judgments] for row in rows] == [
        [pairs[0].id],
        [],
        [pairs[2].id],
    ]


def test_validation_examples_end_with_the_right_verdict() -> None:
    logic = ValidationExamples(rubric_id="pairwise_reasoned")
    row = judged(pair(1), chosen_first=[WRONG], rejected_first=[RIGHT])
    unparsed = replace(row.judgments[0], text="Hm.", verdict=Verdict(outcome=Outcome.UNPARSED))
    row = replace(row, judgments=(*row.judgments, unparsed))
    (result,) = run(logic, [row])
    assert [(e.target, e.counter_target, e.gold) for e in result.records] == [
        ("Reason 0.\n[[A]]", "Reason 0.\n[[B]]", "first"),
        ("Reason 0.\n[[B]]", "Reason 0.\n[[A]]", "second"),
        ("[[A]]", "[[B]]", "first"),
    ]


def test_a_verdict_that_comes_first_is_measured_without_its_reason() -> None:
    row = judged(pair(1), chosen_first=[WRONG], rejected_first=[RIGHT])
    row = replace(
        row,
        judgments=tuple(
            replace(j, rubric_id="pairwise_verdict_first", text="[[B]]\nReason.")
            for j in row.judgments
        ),
    )
    (result,) = run(ValidationExamples(rubric_id="pairwise_verdict_first"), [row])
    assert [(e.target, e.counter_target, e.ended) for e in result.records] == [
        ("[[A]]", "[[B]]", False),
        ("[[B]]", "[[A]]", False),
    ]


def balanced(folder: Any, rows: list[TrainingExample]) -> list[Any]:
    """The rows that both passes keep: ranks of the shard, cut-offs, the stage over it."""
    url = f"{folder}/x.parquet"
    write_records(url, rows, TrainingExample)
    ranks = label_ranks(url, TrainingExample)
    cutoffs = balance_ranks(ranks["first"], ranks["second"])
    logic = Balance(cutoffs={str(g): c for g, c in cutoffs.items()}, out_type=TrainingExample)
    return run(logic, logic.read([url]))


def verdict_on(pair_id: str, gold: Literal["first", "second"]) -> TrainingExample:
    return TrainingExample(
        id=f"exa-{pair_id}-{gold}",
        messages=(),
        target="A",
        pair_id=pair_id,
        judgment_id=None,
        gold=gold,
    )


def test_balance_keeps_as_many_rows_of_each_label(tmp_path: Any) -> None:
    rows = [verdict_on(f"p{i}", "first" if i < 5 else "second") for i in range(8)]
    results = balanced(tmp_path, rows)
    assert Counter(r.gold for x in results for r in x.records) == {"first": 3, "second": 3}
    assert reasons(results) == ["label_balance"] * 2
    # A label without a cutoff keeps nothing.
    logic = Balance(cutoffs={}, out_type=TrainingExample)
    assert not any(r.records for r in run(logic, logic.read([f"{tmp_path}/x.parquet"])))


def test_balance_keeps_both_orders_of_a_pair(tmp_path: Any) -> None:
    # 20 pairs are right with the better answer first, of which 8 are right in both orders: those
    # 8 pairs are what is left, and no row of another one.
    rows = [verdict_on(f"p{i}", "first") for i in range(20)]
    rows += [verdict_on(f"p{i}", "second") for i in range(0, 16, 2)]
    kept = Counter(r.pair_id for x in balanced(tmp_path, rows) for r in x.records)
    assert kept == {f"p{i}": 2 for i in range(0, 16, 2)}


# --- categorise ----------------------------------------------------------------------------------


def test_instructions_are_sorted_by_what_the_model_says() -> None:
    replies = {
        "a": '{"category": "coding", "complexity": 4, "expected_length": "page"}',
        "b": '{"category": "cooking", "complexity": 4, "expected_length": "page"}',
        "c": "x",
    }
    rows = [instruction(t) for t in replies]
    fake = Fake(
        lambda r, s: next(
            text for row, text in zip(rows, replies.values(), strict=True) if row.id in r.id
        ),
        errors={rows[2].id: "prompt_too_long"},
    )
    results = run(Categorise(config=SelectInstructionsConfig(), seed=0), rows, fake)
    (kept,) = results[0].records
    assert (kept.id, kept.category, kept.complexity) == (rows[0].id, "coding", 4)
    assert kept.expected_length == "page"
    assert reasons(results) == ["unparsed_category", "prompt_too_long"]
    sampling = fake.asked[0].sampling
    assert sampling.temperature == 0
    assert sampling.json_schema is not None


def test_unwanted_sorts_go_and_frequent_ones_are_cut_to_the_quota(tmp_path: Any) -> None:
    def sort(text: str, category: str, complexity: int = 5, length: str = "page") -> Instruction:
        return instruction(text, category=category, complexity=complexity, expected_length=length)

    config = SelectInstructionsConfig(
        categories=("coding", "open_qa"),
        min_complexity=3,
        max_complexity=8,
        expected_lengths=("page", "paragraph"),
        max_category_ratio=2.0,
    )
    unwanted = [
        sort("p", "persona"),
        sort("easy", "coding", complexity=2),
        sort("short", "coding", length="phrase"),
        instruction("unsorted", category="coding", complexity=None, expected_length="page"),
    ]
    rows = [sort(f"c{i}", "coding") for i in range(9)]
    rows += [sort(f"o{i}", "open_qa") for i in range(2)]
    write_records(f"{tmp_path}/x.parquet", rows + unwanted, Instruction)
    ranks = category_ranks(f"{tmp_path}/x.parquet", config)
    assert {category: len(values) for category, values in ranks.items()} == {
        "coding": 9,
        "open_qa": 2,
    }
    cutoffs = category_cutoffs(ranks, config)
    results = run(KeepCategories(config=config, cutoffs=cutoffs), rows + unwanted)
    kept = Counter(r.category for x in results for r in x.records)
    assert kept == {"coding": 4, "open_qa": 2}, "at most twice the rarest"
    assert Counter(reasons(results)) == {"over_category_share": 5, "not_selected": 4}
    details = [d.detail for x in results[-4:] for d in x.dropped]
    assert details == [
        "category persona",
        "complexity 2",
        "expected length phrase",
        "complexity None",
    ]
    unbalanced = config.model_copy(update={"balance": False})
    everything = run(
        KeepCategories(config=unbalanced, cutoffs=category_cutoffs(ranks, unbalanced)), rows
    )
    assert reasons(everything) == []
