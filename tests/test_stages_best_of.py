"""The stage that asks for the best of several: which slot, what is asked, what becomes of it."""

import pickle
import re
from pathlib import Path

import pytest

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Draw, GenerationRequest
from selfreward.judging.best_of import best_of_rubric, render_best_of
from selfreward.records import Message, Outcome, derived_seed
from selfreward.records_scores import ScoredResponse
from selfreward.stages.best_of import BestOf, Question, build_questions, read_questions, slot_of
from selfreward.storage.shards import sealed_shards
from tests.stage_tools import Fake, cut, reasons, run, shard


def turns(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def row(
    group: str, response: str, score: float, subset: str = "Math", high: float = 1.0
) -> ScoredResponse:
    return ScoredResponse.new(
        messages=turns(f"Ask {group}"),
        response=response,
        score=score,
        low=0.0,
        high=high,
        group=group,
        subset=subset,
    )


def question(number: int) -> Question:
    return Question(
        id=f"que-{number}",
        messages=turns(f"Ask {number}"),
        right="right",
        wrong=("wrong 1", "wrong 2", "wrong 3"),
        subset="Math",
    )


def logic(wants_reason: bool = False, num_draws: int = 1) -> BestOf:
    made = BestOf(
        rubric=best_of_rubric(wants_reason),
        sampling=SamplingConfig(max_tokens=64),
        guided=True,
        num_draws=num_draws,
        seed=7,
        apart="Ties",
    )
    copied: BestOf = pickle.loads(pickle.dumps(made))
    return copied


def shown(request: GenerationRequest) -> list[str]:
    return re.findall(r"<response-[A-D]-\w+>\n(.*)\n", request.messages[1].content)


def test_the_right_response_stands_at_the_slot_drawn_and_recorded() -> None:
    rows = [question(i) for i in range(400)]
    fake = Fake(lambda request, _: "ABCD"[shown(request).index("right")])
    results = run(logic(), rows, fake)
    readings = [r for result in results for r in result.records]
    assert [r.gold for r in readings] == [slot_of(q, 7) for q in rows]
    assert readings[0].gold == derived_seed(7, "slot", "que-0") % 4
    assert all(r.verdict.slot == r.gold and r.num_shown == 4 for r in readings)
    # 100 of each are expected; four standard deviations are 35.
    assert all(abs(sum(r.gold == slot for r in readings) - 100) < 35 for slot in range(4))
    wrong = [text for text in shown(fake.asked[0]) if text != "right"]
    assert wrong == ["wrong 1", "wrong 2", "wrong 3"]
    # Neither a second attempt nor the rows beside it move a slot; another seed does.
    assert run(logic(), rows[5:6], fake)[0].records == results[5].records
    assert [slot_of(q, 8) for q in rows] != [slot_of(q, 7) for q in rows]


def test_what_is_asked_and_what_becomes_of_each_answer() -> None:
    rows = [question(i) for i in range(4)]
    answers: dict[str, list[str | Draw]] = {
        "que-0": ["D is right.\n[[D]]", "[[A]] or [[B]]"],
        "que-1": [cut("Response A"), cut("[[C]] since")],
        "que-2": ["I cannot judge this.", "[[B]]"],
    }
    fake = Fake(
        lambda request, j: answers[request.id.partition("/")[0]][j],
        errors={"que-3": "prompt_too_long"},
    )
    results = run(logic(wants_reason=True, num_draws=2), rows, fake)
    asked = fake.asked[0]
    responses = list(rows[0].wrong)
    responses.insert(slot_of(rows[0], 7), "right")
    assert asked.messages == render_best_of(best_of_rubric(True), rows[0].messages, responses)
    assert (asked.purpose, asked.sampling.n, asked.sampling.choices) == ("best_of", 2, ())
    assert asked.sampling.regex is not None and asked.sampling.regex.endswith(r"\[\[[ABCD]\]\]")
    verdicts = [(r.verdict.outcome, r.verdict.slot) for result in results for r in result.records]
    assert verdicts == [
        (Outcome.CHOICE, 3),
        (Outcome.UNPARSED, None),
        (Outcome.TRUNCATED, None),
        (Outcome.CHOICE, 2),
        (Outcome.REFUSED, None),
        (Outcome.CHOICE, 1),
    ]
    assert results[3].records == [] and reasons(results) == ["prompt_too_long"]
    first = results[0].records[0]
    assert (first.rubric_id, first.draw, first.num_prompt_tokens) == ("best_of_reasoned", 0, 10)


def test_a_letter_alone_is_guided_by_the_letters_shown() -> None:
    fake = Fake(lambda *_: "A")
    run(logic(), [question(0)], fake)
    sampling = fake.asked[0].sampling
    assert (sampling.choices, sampling.regex, sampling.max_tokens) == (tuple("ABCD"), None, 4)


def test_questions_are_put_together_over_shards_without_ties(tmp_path: Path) -> None:
    first = [row("q1", "yes", 1), row("q1", "no", 0), row("t", "red", 1, "Ties")]
    second = [row("q1", "never", 0), row("q2", "4", 1), row("q2", "5", 0)]
    urls = [
        shard(tmp_path, name, rows, ScoredResponse) for name, rows in (("a", first), ("b", second))
    ]
    found = read_questions(urls, apart="Ties")
    assert [(q.right, q.wrong, q.subset) for q in found] == [
        ("yes", ("no", "never"), "Math"),
        ("4", ("5",), "Math"),
    ]
    assert len({q.id for q in found}) == 2
    # Written anew, each shard holds whole questions.
    done = build_questions(urls, str(tmp_path / "q"), 1, "Ties")
    assert [summary.num_records for summary in done] == [3, 2]
    parts = sealed_shards(str(tmp_path / "q"))
    assert [logic().read([part]) for part in parts] == [found[:1], found[1:]]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row("q", "a", 1), row("q", "b", 1), row("q", "c", 0)], "2 right and 1 other"),
        ([row("q", "a", 0), row("q", "b", 0)], "0 right and 2 other"),
        ([row("q", "a", 1)], "1 right and 0 other"),
        ([row("q", "a", 1), *(row("q", f"w{i}", 0) for i in range(4))], "1 right and 4 other"),
        # Scores of another scale say of no response that it is right.
        ([row("q", "a", 1, high=5), row("q", "b", 0, high=5)], "0 right and 2 other"),
    ],
)
def test_questions_that_cannot_be_asked_are_named(
    tmp_path: Path, rows: list[ScoredResponse], told: str
) -> None:
    url = shard(tmp_path, "a", rows, ScoredResponse)
    with pytest.raises(ValueError, match=f"question 'q' has {told} responses"):
        read_questions([url], apart="Ties")
