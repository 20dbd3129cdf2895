"""Records: ids and seeds that depend on content alone. Schemas: rows and back without loss."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfreward import errors
from selfreward.errors import DataError, SelfRewardError, UserError
from selfreward.records import (
    AnsweredInstruction,
    DroppedRow,
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
    content_id,
    derived_seed,
)
from selfreward.records_custom_llm import (
    AnswerReward,
    Check,
    Document,
    Ranking,
    ScoredRanking,
    TaskAnswer,
    TaskItem,
)
from selfreward.records_scores import (
    BestOfReading,
    PairScore,
    Rating,
    ScoredResponse,
    SlotVerdict,
)
from selfreward.records_self_rewarding import (
    CreatedInstruction,
    CreationPrompt,
    RatingPair,
    ResponseLikelihood,
    SampledInstruction,
)
from selfreward.schemas import (
    STORED_RECORDS,
    from_table,
    missing_columns,
    schema_of,
    to_row,
    to_table,
)
from selfreward.storage.find import record_of

MODEL = ModelRef(name="m", iteration=2, fingerprint="f")
MESSAGES = (Message(role="user", content="Größe?\n“2 + 2”"), Message(role="assistant", content=""))
INSTRUCTION = Instruction.new(messages=MESSAGES, source="a.jsonl", reference_answer="4")
RESPONSE = Response.new(
    instruction_id=INSTRUCTION.id,
    text="4",
    model=MODEL,
    draw=0,
    finish_reason="stop",
    num_tokens=2,
)


def judgment(verdict: Verdict, position: Position = Position.CHOSEN_FIRST) -> Judgment:
    return Judgment.new(
        pair_id="pair-1",
        judge=MODEL,
        rubric_id="r",
        position=position,
        draw=3,
        text="[[A]]",
        finish_reason="stop",
        num_tokens=4,
        num_prompt_tokens=50,
        verdict=verdict,
    )


def rating(draw: int, verdict: Verdict) -> Rating:
    return Rating.new(
        response_id="sco-1",
        judge=MODEL,
        rubric_id="pointwise_additive",
        draw=draw,
        text="Score: 4",
        finish_reason="stop",
        num_tokens=4,
        num_prompt_tokens=90,
        verdict=verdict,
    )


TASK = TaskItem.new(
    task="plural",
    template="plural/2",
    messages=MESSAGES,
    target="cats",
    checks=(Check(kind="all_lowercase"), Check(kind="num_words", args=("1",))),
)
RANKING = Ranking.new(messages=MESSAGES, responses=("4", "5"), ranks=(1, 2), source="review")

SAMPLES: dict[str, Any] = {
    "Instruction": INSTRUCTION,
    "AnsweredInstruction": AnsweredInstruction(
        id="ans-1", instruction=INSTRUCTION, response=RESPONSE
    ),
    "ResponsePair": ResponsePair.new(
        instruction_id="ins-1",
        messages=MESSAGES,
        chosen="4",
        rejected="5",
        corruption="rewrite",
    ),
    "Judgment": judgment(Verdict(outcome=Outcome.TIE), Position.REJECTED_FIRST),
    "TrainingExample": TrainingExample(
        id="exa-1", messages=MESSAGES, target="A", pair_id="p", judgment_id=None, gold="first"
    ),
    "Preference": Preference(
        id="pre-1",
        messages=MESSAGES,
        chosen="A",
        rejected="B",
        pair_id="p",
        chosen_id="c",
        rejected_id="r",
        gold="second",
        chosen_score=4.0,
        rejected_score=1.5,
    ),
    "DroppedRow": DroppedRow(row_id="x", stage="respond", reason=DropReason.TOO_LONG),
    "ScoredResponse": ScoredResponse.new(
        messages=MESSAGES, response="4", score=4.0, low=1.0, high=5.0, subset="sums"
    ),
    "Rating": rating(1, Verdict(outcome=Outcome.SCORE, score=4.0)),
    "PairScore": PairScore(
        id="psc-1",
        pair_id="pair-1",
        judge=MODEL,
        chosen=-3.5,
        rejected=-9.0,
        chosen_alone=None,
        rejected_alone=None,
        chosen_tokens=2,
        rejected_tokens=5,
    ),
    "BestOfReading": BestOfReading.new(
        question_id="que-1",
        judge=MODEL,
        rubric_id="best_of_reasoned",
        draw=0,
        gold=3,
        num_shown=4,
        text="Hm",
        finish_reason="length",
        num_tokens=1,
        num_prompt_tokens=90,
        verdict=SlotVerdict(outcome=Outcome.TRUNCATED),
    ),
    "CreationPrompt": CreationPrompt(
        id="cre-1", round=2, shot_ids=("ins-1", "ins-2"), shots=("Name a river.", "Größe?")
    ),
    "CreatedInstruction": CreatedInstruction(
        id=INSTRUCTION.id,
        instruction=INSTRUCTION,
        shot_ids=(),
        model=MODEL,
        round=0,
        draw=1,
        text=" Größe?",
        part=1,
    ),
    "SampledInstruction": SampledInstruction(
        id=INSTRUCTION.id, instruction=INSTRUCTION, responses=(RESPONSE, RESPONSE)
    ),
    "ResponseLikelihood": ResponseLikelihood.new(
        response_id=RESPONSE.id, model=MODEL, logp=-41.5, num_tokens=22
    ),
    "RatingPair": RatingPair.new(
        response=ScoredResponse.new(messages=MESSAGES, response="4", score=4.0, low=0.0, high=5.0),
        first=rating(0, Verdict(outcome=Outcome.SCORE, score=4.0)),
        second=rating(1, Verdict(outcome=Outcome.UNPARSED)),
    ),
    "Document": Document.new(text="A cat sat.\n", source="a.txt"),
    "TaskItem": TASK,
    "TaskAnswer": TaskAnswer(id="tan-1", item=TASK, response=RESPONSE),
    "Ranking": RANKING,
    "AnswerReward": AnswerReward(
        id="rew-1", item_id=TASK.id, response_id="res-1", model=MODEL, reward=-0.5
    ),
    "ScoredRanking": ScoredRanking(id="srk-1", ranking=RANKING, model=MODEL, scores=(1.5, -0.25)),
}


def test_content_id_is_the_digest_of_compact_json() -> None:
    digest = hashlib.sha256('["ins","Größe",1]'.encode()).hexdigest()
    assert content_id("ins", "Größe", 1) == f"ins-{digest[:20]}"


def test_ids_follow_content_and_nothing_else() -> None:
    moved = Instruction.new(messages=list(MESSAGES), source="/elsewhere/b.jsonl", category="x")
    assert moved.id == INSTRUCTION.id
    other = Instruction.new(messages=MESSAGES[:1], source="a.jsonl")
    assert other.id != INSTRUCTION.id
    # The text is left out on purpose: a draw is known by who drew it, for what, and as which.
    one, two = judgment(Verdict(outcome=Outcome.TIE)), judgment(Verdict(outcome=Outcome.REFUSED))
    assert one.id == two.id
    assert one.id != judgment(one.verdict, Position.REJECTED_FIRST).id


def test_seeds_are_31_bits_and_differ_between_rows() -> None:
    seeds = {derived_seed(0, "respond", f"ins-{i}") for i in range(2000)}
    assert len(seeds) == 2000
    assert all(0 <= s < 2**31 for s in seeds)
    assert derived_seed(0, "a", "b") != derived_seed(0, "ab", "")
    assert derived_seed(1, "x") == derived_seed(1, "x")


@pytest.mark.parametrize(
    ("position", "choice", "is_right"),
    [
        (Position.CHOSEN_FIRST, "first", True),
        (Position.CHOSEN_FIRST, "second", False),
        (Position.REJECTED_FIRST, "first", False),
        (Position.REJECTED_FIRST, "second", True),
    ],
)
def test_right_is_naming_the_better_response_where_it_stands(
    position: Position, choice: Any, is_right: bool
) -> None:
    assert judgment(Verdict(outcome=Outcome.CHOICE, choice=choice), position).is_right is is_right


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.CHOICE])
def test_a_failed_judgment_is_never_right(outcome: Outcome) -> None:
    assert not judgment(Verdict(outcome=outcome)).is_right


def test_score_margin_needs_both_scores() -> None:
    full = SAMPLES["Preference"]
    assert full.score_margin == 2.5
    without = from_table(to_table([full], Preference), Preference)[0]
    assert without.score_margin == 2.5
    none = Preference(**{**to_row(full), "messages": full.messages, "chosen_score": None})
    assert none.score_margin is None


def test_every_stored_record_has_a_sample_here() -> None:
    assert set(SAMPLES) == set(STORED_RECORDS)


@pytest.mark.parametrize("name", list(STORED_RECORDS))
def test_records_come_back_equal_from_a_table(name: str) -> None:
    record, kind = SAMPLES[name], STORED_RECORDS[name]
    back: Any
    (back,) = from_table(to_table([record], kind), kind)
    assert back == record
    assert pickle.loads(pickle.dumps(record)) == record
    # Enumerations come back as members, not as text.
    assert {type(v) for v in vars_of(back)} == {type(v) for v in vars_of(record)}


def vars_of(record: Any) -> list[Any]:
    return [getattr(record, name) for name in record.__slots__]


@pytest.mark.parametrize("name", list(STORED_RECORDS))
def test_an_empty_table_has_the_full_schema(name: str) -> None:
    kind = STORED_RECORDS[name]
    table = to_table([], kind)
    assert table.schema == schema_of(kind)
    assert from_table(table, kind) == []


def test_all_null_columns_keep_their_type() -> None:
    schema = schema_of(Instruction)
    assert schema.field("complexity").type == pa.int64()
    assert schema.field("complexity").nullable
    assert not schema.field("source").nullable
    assert schema.field("messages").type == pa.list_(
        pa.struct(
            [
                pa.field("role", pa.string(), nullable=False),
                pa.field("content", pa.string(), nullable=False),
            ]
        )
    )


def test_a_missing_column_is_named() -> None:
    table = to_table([SAMPLES["DroppedRow"]], DroppedRow).drop_columns(["reason"])
    with pytest.raises(DataError, match=r"\['reason'\] of DroppedRow are missing"):
        from_table(table, DroppedRow)


@pytest.mark.parametrize("name", ["TrainingExample", "Preference"])
def test_a_shard_from_before_a_column_was_added_is_read(name: str, tmp_path: Path) -> None:
    record, kind = SAMPLES[name], STORED_RECORDS[name]
    table = to_table([replace(record, verdict_margin=1.5)], kind)
    older = table.drop_columns(["verdict_margin"])
    assert from_table(older, kind) == [record]
    pq.write_table(older, tmp_path / "shard-00000.parquet")
    assert record_of(str(tmp_path / "shard-00000.parquet")) == name
    # Of no other kind, though it lacks a column; and what is no column of ours is none of them.
    assert [n for n, k in STORED_RECORDS.items() if not missing_columns(k, older.column_names)] == [
        name
    ]
    pq.write_table(older.rename_columns([*older.column_names[:-1], "x"]), tmp_path / "x.parquet")
    assert record_of(str(tmp_path / "x.parquet")) is None


def test_errors_survive_pickling_with_their_message() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    assert len(kinds) > 10
    for kind in kinds:
        back = pickle.loads(pickle.dumps(kind("one line")))
        assert type(back) is kind
        assert str(back) == "one line"
        assert isinstance(back, SelfRewardError)
    assert issubclass(DataError, UserError)


def test_a_file_older_than_a_field_that_may_be_none_is_read() -> None:
    pair, nested = SAMPLES["ResponsePair"], SAMPLES["RatingPair"]
    old = to_table([pair], ResponsePair).drop_columns(["source_id"])
    assert from_table(old, ResponsePair) == [pair]
    rows = to_table([nested], RatingPair).to_pylist()
    for name in ("meta", "source_id"):
        del rows[0]["response"][name]
    assert from_table(pa.Table.from_pylist(rows), RatingPair) == [nested]


def test_what_a_file_calls_a_row_is_no_part_of_its_id() -> None:
    pair: dict[str, Any] = {
        "instruction_id": "i",
        "messages": MESSAGES,
        "chosen": "4",
        "rejected": "5",
    }
    one, other = (
        ResponsePair.new(**pair, corruption="labelled", source_id=ident) for ident in ("a", "b")
    )
    assert (one.id, one.source_id) == (other.id, "a")
    scored: dict[str, Any] = {
        "messages": MESSAGES,
        "response": "4",
        "score": 4.0,
        "low": 1.0,
        "high": 5.0,
    }
    named = ScoredResponse.new(**scored, meta='{"model": "m"}', source_id="a")
    assert named.id == ScoredResponse.new(**scored).id
