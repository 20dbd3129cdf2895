"""Tasks: read from files and samples, split by what is asked, trained on and answered."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfreward.config import SamplingConfig
from selfreward.config_custom_llm import TasksConfig
from selfreward.errors import ConfigError, DataError
from selfreward.records import Message
from selfreward.records_custom_llm import Check, TaskAnswer, TaskItem
from selfreward.stages.task_rows import row_checks
from selfreward.stages.tasks import AnswerTasks, TaskExamples, build_tasks, heldout_keys
from selfreward.storage.shards import read_records, sealed_shards
from selfreward.text.task_templates import is_unseen_form
from tests.stage_tools import Fake, cut, drops_in, reasons, records_in, run

FORMS = ("Translate: {en}", "What is {en} in German?", "German for {en}?")
WORDS = [
    {"en": f"{word} {n}", "target": f"{made} {n}"}
    for word, made in (("house", "Haus"), ("tree", "Baum"), ("dog", "Hund"), ("cloud", "Wolke"))
    for n in range(6)
]

Split = tuple[list[TaskItem], list[TaskItem]]


def write(tmp_path: Path, rows: list[Any], name: str = "german.jsonl") -> str:
    path = tmp_path / name
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def build(tmp_path: Path, *data: str, seed: int = 0, max_chars: int = 500, **config: Any) -> Split:
    folders = {split: f"{tmp_path}/out/{split}" for split in ("train", "heldout")}
    made = TasksConfig(data=data, **{"heldout": 2, **config})
    summaries = build_tasks(made, max_chars, 16, seed, folders)
    train, heldout = (records_in(folders[split], TaskItem) for split in ("train", "heldout"))
    assert sum(s.num_records for s in summaries["train"]) == len(train)
    assert sum(s.num_records for s in summaries["heldout"]) == len(heldout)
    return train, heldout


def drops(tmp_path: Path) -> list[tuple[str, str]]:
    return [(d.reason.value, d.detail) for d in drops_in(f"{tmp_path}/out/train")]


def asked(items: list[TaskItem]) -> list[str]:
    return [item.messages[-1].content for item in items]


# --- columns and prompt forms --------------------------------------------------------------------


def test_columns_become_prompts_in_several_forms(tmp_path: Path) -> None:
    train, heldout = build(tmp_path, write(tmp_path, WORDS), templates=FORMS, heldout=6)
    assert (len(train), len(heldout)) == (18, 6)
    assert {item.task for item in train + heldout} == {"german"}
    by_template = {item.template: item for item in train}
    # The last of the three forms is for measuring only.
    assert set(by_template) == {"german/0", "german/1"}
    one = by_template["german/1"]
    row = next(r for r in WORDS if r["target"] == one.target)
    assert one.messages == (Message(role="user", content=f"What is {row['en']} in German?"),)
    assert sum(is_unseen_form(item.template) for item in heldout) == 3
    unseen = [item for item in heldout if is_unseen_form(item.template)]
    assert all(text.startswith("German for ") for text in asked(unseen))
    # 18 items in shards of 16.
    sizes = [len(read_records(u, TaskItem)) for u in sealed_shards(f"{tmp_path}/out/train")]
    assert sizes == [16, 2]


def test_an_exercise_is_on_one_side_only(tmp_path: Path) -> None:
    # The same words with other targets and in other spacing are the same exercise.
    again = [{"en": f" {r['en'].upper()} ", "target": f"das {r['target']}"} for r in WORDS]
    train, heldout = build(tmp_path, write(tmp_path, WORDS + again), templates=FORMS, heldout=6)
    numbers = [{" ".join(i.target.split()[-2:]) for i in items} for items in (train, heldout)]
    assert numbers[0] & numbers[1] == set()
    assert (len(train), len(heldout)) == (36, 6)
    assert drops(tmp_path) == [("exact_duplicate", "its exercise is held out")] * 6


def test_what_another_section_holds_out_is_not_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path, WORDS)
    folders = {split: f"{tmp_path}/out/{split}" for split in ("train", "heldout")}
    other = TasksConfig(data=(path,), templates=FORMS, heldout=8)
    keys = heldout_keys(other, 500, 0, "custom_llm.finetuning")
    assert len(keys) == len(set(keys)) == 8
    section = TasksConfig(data=(path,), templates=FORMS, heldout=2)
    build_tasks(section, 500, 16, 0, folders, "custom_llm.instruction_tuning", keys)
    train, heldout = (records_in(folders[split], TaskItem) for split in ("train", "heldout"))
    # The two that are held out here too are the first two of the same order.
    assert (len(train), len(heldout)) == (24 - 8, 2)
    assert drops(tmp_path) == [("exact_duplicate", "another stage holds its exercise out")] * 6


def test_the_split_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    first = build(tmp_path, write(tmp_path, WORDS), templates=FORMS)
    assert build(tmp_path, write(tmp_path, WORDS[::-1]), templates=FORMS) == first
    assert build(tmp_path, write(tmp_path, WORDS), templates=FORMS, seed=1)[1] != first[1]


def test_no_forms_are_held_out_where_there_is_one_or_none_is_wanted(tmp_path: Path) -> None:
    path = write(tmp_path, WORDS)
    train, heldout = build(tmp_path, path, templates=FORMS[:1])
    assert {item.template for item in train + heldout} == {"german/0"}
    train, heldout = build(tmp_path, path, templates=FORMS, heldout_templates=0)
    assert {item.template for item in train} == {"german/0", "german/1", "german/2"}
    assert not any(is_unseen_form(item.template) for item in heldout)


def test_max_items_counts_both_splits(tmp_path: Path) -> None:
    train, heldout = build(tmp_path, write(tmp_path, WORDS), templates=FORMS, max_items=10)
    assert (len(train), len(heldout)) == (8, 2)


def test_parquet_with_another_target_column_and_numbers(tmp_path: Path) -> None:
    path = str(tmp_path / "sums.parquet")
    table = {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8], "sum": [6, 8, 10, 12]}
    pq.write_table(pa.table(table), path)
    train, heldout = build(tmp_path, path, templates=["{a} + {b}?"], target_column="sum")
    got = {(item.messages[0].content, item.target) for item in train + heldout}
    assert got == {("1 + 5?", "6"), ("2 + 6?", "8"), ("3 + 7?", "10"), ("4 + 8?", "12")}


def test_a_place_that_is_no_column_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, WORDS)
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, path, templates=["Translate: {fr}"])
    assert str(caught.value) == (
        f"prompt form 'Translate: {{fr}}': {path} has no column 'fr'; it has ['en', 'target']"
    )


def test_columns_without_forms_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need messages, a prompt, or columns and `templates`"):
        build(tmp_path, write(tmp_path, WORDS))


def test_a_file_without_targets_is_one_line(tmp_path: Path) -> None:
    rows = [{"en": row["en"]} for row in WORDS]
    with pytest.raises(DataError, match=r"no column 'target' holds the target; it has \['en'\]"):
        build(tmp_path, write(tmp_path, rows), templates=FORMS)


# --- conversations -------------------------------------------------------------------------------


def turns(*texts: str) -> list[dict[str, str]]:
    return [
        {"role": "user" if index % 2 == 0 else "assistant", "content": text}
        for index, text in enumerate(texts)
    ]


def talks(count: int) -> list[dict[str, Any]]:
    return [{"messages": turns(f"Hi {n}", f"Hello {n}", "Why?", f"So {n}")} for n in range(count)]


def test_every_answer_of_a_conversation_is_learnt_behind_the_turns_before(tmp_path: Path) -> None:
    train, heldout = build(tmp_path, write(tmp_path, talks(4), "talks.jsonl"))
    # Two conversations are left, of two answers each.
    seen = {tuple(m.content for m in item.messages): item.target for item in train}
    assert len(train) == 4
    for opening in {key[0] for key in seen}:
        n = opening.split()[1]
        assert seen[(opening,)] == f"Hello {n}"
        assert seen[(opening, f"Hello {n}", "Why?")] == f"So {n}"
    # Of the held-out ones the last answer is asked, and nothing of them is trained on.
    assert [len(item.messages) for item in heldout] == [3, 3]
    openings = {item.messages[0].content for item in train}
    assert not openings & {item.messages[0].content for item in heldout}
    assert {item.template for item in train + heldout} == {"talks/0"}


def test_with_a_target_the_earlier_answers_are_not_learnt(tmp_path: Path) -> None:
    rows = [{"messages": turns(f"Hi {n}", "Hello", "Why?"), "target": "So"} for n in range(4)]
    train, heldout = build(tmp_path, write(tmp_path, rows))
    assert [(len(item.messages), item.target) for item in train + heldout] == [(3, "So")] * 4


def test_a_prompt_column_alone_is_asked_as_it_is(tmp_path: Path) -> None:
    rows = [{"prompt": f"Spell {n}", "answer": f"{n}", "task": "spell"} for n in range(4)]
    train, heldout = build(tmp_path, write(tmp_path, rows), target_column="answer")
    assert {(i.task, i.messages[0].content, i.target) for i in train + heldout} == {
        ("spell", f"Spell {n}", f"{n}") for n in range(4)
    }


def test_the_same_rows_in_two_files_are_the_same_exercises(tmp_path: Path) -> None:
    rows = [{"prompt": f"Spell {n}", "target": f"{n}"} for n in range(6)]
    paths = write(tmp_path, rows, "a.jsonl"), write(tmp_path, rows, "b.jsonl")
    train, heldout = build(tmp_path, *paths)
    assert (len(train), len(heldout)) == (4, 2)
    assert set(asked(train)) & set(asked(heldout)) == set()
    assert drops(tmp_path) == [("exact_duplicate", "the same exercise stands above")] * 6


def test_rows_that_cannot_be_used_are_dropped_with_a_reason(tmp_path: Path) -> None:
    good = [{"prompt": f"Spell {n}", "target": f"{n}"} for n in range(4)]
    bad = [
        {"prompt": "no target", "target": " "},
        {"prompt": " ", "target": "x"},
        {"prompt": "x" * 90, "target": "x" * 11},
        {"messages": turns("Hi", "Hello"), "target": "x"},
        {"prompt": "Two words.", "target": "one", "checks": [{"kind": "num_words", "args": [2]}]},
    ]
    train, heldout = build(tmp_path, write(tmp_path, good + bad), max_chars=100)
    assert len(train + heldout) == 4
    assert drops(tmp_path) == [
        ("empty_response", "the row has no target"),
        ("empty_instruction", "nothing is asked"),
        ("too_long", "101 characters, the limit is 100"),
        ("bad_conversation", "messages end with an answer, and there is a target besides"),
        ("low_quality", "the target itself does not pass num_words['2']"),
    ]
    assert {d.stage for d in drops_in(f"{tmp_path}/out/train")} == {"tasks"}


def test_too_few_items_say_what_was_wanted(tmp_path: Path) -> None:
    rows = [{"prompt": f"Spell {n % 2}", "target": f"{n % 2}"} for n in range(3)]
    with pytest.raises(DataError) as caught:
        build(tmp_path, write(tmp_path, rows))
    text = str(caught.value)
    assert "2 usable items of 2 exercises are too few for custom_llm.finetuning.heldout=2" in text
    assert "(dropped: {'exact_duplicate': 1})" in text
    assert sealed_shards(f"{tmp_path}/out/train") == [], "nothing was written"


# --- checks --------------------------------------------------------------------------------------


def test_checks_of_a_row_and_of_ifeval() -> None:
    row = {"checks": [{"kind": "num_words", "args": [3]}, {"kind": "no_commas"}]}
    wanted = (Check(kind="num_words", args=("3",)), Check(kind="no_commas"))
    assert row_checks(row, "a.jsonl") == wanted
    ifeval = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    assert row_checks(ifeval, "a.jsonl") == wanted[1:]
    assert row_checks({}, "a.jsonl") == ()


@pytest.mark.parametrize(
    ("checks", "part"),
    [
        ([{"kind": "rhymes"}], "a.jsonl: no check is called 'rhymes'"),
        (["no_commas"], "a.jsonl: a check is {kind, args}, not 'no_commas'"),
    ],
)
def test_an_unknown_check_names_the_file(checks: list[Any], part: str) -> None:
    with pytest.raises(DataError) as caught:
        row_checks({"checks": checks}, "a.jsonl")
    assert part in str(caught.value)


# --- samples -------------------------------------------------------------------------------------


def test_samples_are_split_by_exercise_too(tmp_path: Path) -> None:
    train, heldout = build(
        tmp_path, "sample:instructions_checked", "sample:tasks", max_items=600, heldout=100
    )
    assert (len(train) + len(heldout), len(heldout)) == (600, 100)
    prompts = {(item.task, item.messages) for item in train}
    assert not prompts & {(item.task, item.messages) for item in heldout}
    unseen = {item.template for item in heldout if is_unseen_form(item.template)}
    assert 40 <= sum(is_unseen_form(item.template) for item in heldout) <= 60
    assert not any(is_unseen_form(item.template) for item in train)
    assert len({name.split("/")[0] for name in unseen}) > 10
    assert any(item.checks for item in train)


def test_only_the_named_tasks_are_kept(tmp_path: Path) -> None:
    train, heldout = build(tmp_path, "sample:tasks", max_items=40, tasks=["plural", "last_word"])
    assert {item.task for item in train + heldout} == {"plural", "last_word"}
    assert len(train) == 38
    rows = [{"prompt": f"Spell {n}", "target": f"{n}", "task": f"t{n % 2}"} for n in range(8)]
    train, heldout = build(tmp_path, write(tmp_path, rows), tasks=["t1"])
    assert {item.task for item in train + heldout} == {"t1"}
    with pytest.raises(DataError, match=r"finetuning.tasks: no row has the task 't2'; there are"):
        build(tmp_path, write(tmp_path, rows), tasks=["t1", "t2"])


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"custom_llm\.finetuning\.data"):
        build(tmp_path, f"{tmp_path}/none.jsonl")


# --- training and answering ----------------------------------------------------------------------


def test_examples_learn_the_target(tmp_path: Path) -> None:
    build(tmp_path, write(tmp_path, talks(4)))
    logic = TaskExamples()
    rows = logic.read(sealed_shards(f"{tmp_path}/out/train"))
    examples = [record for result in run(logic, rows) for record in result.records]
    assert [(e.messages, e.target, e.pair_id) for e in examples] == [
        (row.messages, row.target, row.id) for row in rows
    ]
    assert {e.judgment_id for e in examples} == {None}
    assert len({e.id for e in examples}) == len(rows)


def test_every_item_is_answered_whatever_the_answer_is(tmp_path: Path) -> None:
    build(tmp_path, write(tmp_path, WORDS), templates=FORMS, heldout=4)
    logic = AnswerTasks(sampling=SamplingConfig(temperature=0.0, max_tokens=7), seed=3)
    rows = logic.read(sealed_shards(f"{tmp_path}/out/heldout"))
    texts = {rows[0].id: "Haus", rows[1].id: " ", rows[2].id: "Baum"}

    def said(request: Any, draw: int) -> Any:
        text = texts[request.id.split("/")[0]]
        return cut(text) if text == "Baum" else f" {text}\n"

    engine = Fake(said, errors={rows[3].id: "prompt_too_long"})
    results = run(logic, rows, engine)
    answers: list[TaskAnswer] = [record for result in results for record in result.records]
    # Empty and cut answers count as answers; what the engine refuses is dropped.
    assert [(a.item, a.response.text) for a in answers] == [
        (rows[0], "Haus"),
        (rows[1], ""),
        (rows[2], "Baum"),
    ]
    assert answers[2].response.finish_reason == "length"
    assert reasons(results) == ["prompt_too_long"]
    assert {(r.purpose, r.sampling.max_tokens, r.sampling.temperature) for r in engine.asked} == {
        ("respond", 7, 0.0)
    }
    assert len({r.sampling.seed for r in engine.asked}) == 4


def test_files_of_different_columns_have_forms_of_their_own(tmp_path: Path) -> None:
    german = write(tmp_path, WORDS)
    sums = [{"a": n, "b": n + 1, "sum": 2 * n + 1} for n in range(12)]
    numbers = write(tmp_path, sums, "sums.v1.jsonl")
    forms = {"german.jsonl": FORMS[:1], "sums": ("{a} + {b} =",)}
    train, heldout = build(
        tmp_path, german, numbers, templates=forms, target_column={"sums": "sum"}
    )
    pairs = {(asked([item])[0], item.target) for item in train + heldout}
    assert {("3 + 4 =", "7"), ("Translate: house 0", "Haus 0")} <= pairs
    assert len(pairs) == len(WORDS) + len(sums)
    wrong = r"templates names 'germn', which is no file of .*\.data; there are german\.jsonl$"
    with pytest.raises(ConfigError, match=wrong):
        build(tmp_path, german, templates={"germn": FORMS})
