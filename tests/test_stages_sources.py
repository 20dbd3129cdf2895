"""Reading pools: every format, every way of naming columns, and what is said when it fails."""

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfreward.config import ColumnsConfig, PoolConfig
from selfreward.errors import DataError
from selfreward.records import DroppedRow, DropReason, Instruction, ResponsePair
from selfreward.stages.labelled import build_labelled
from selfreward.stages.labelled_rows import LABELLED
from selfreward.stages.row_limit import RowLimit
from selfreward.stages.scored import read_scored
from selfreward.stages.sources import SAMPLE, check_columns, read_rows, to_instruction
from selfreward.storage import files
from selfreward.storage.shards import read_records, sealed_shards

ROWS = [{"instruction": f"Task {i} with ünïcode"} for i in range(3)]


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read(path: str | Path, **options: Any) -> list[dict[str, Any]]:
    return list(read_rows(PoolConfig(path=str(path), **options)))


def refusal(path: str | Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def as_instruction(row: dict[str, Any], **columns: Any) -> Instruction | DroppedRow:
    return to_instruction(row, ColumnsConfig(**columns), "pool.jsonl", 1000)


def turns(row: dict[str, Any], **columns: Any) -> list[tuple[str, str]]:
    made = as_instruction(row, **columns)
    assert isinstance(made, Instruction), made
    return [(m.role, m.content) for m in made.messages]


def drop(row: dict[str, Any], **columns: Any) -> tuple[DropReason, str]:
    made = as_instruction(row, **columns)
    assert isinstance(made, DroppedRow), made
    assert made.stage == "pool"
    return made.reason, made.detail


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson", "a.jsonl.gz", "a.json.gz"])
def test_lines_of_json_with_and_without_compression(tmp_path: Path, name: str) -> None:
    text = ("\ufeff" + lines(ROWS[:2]) + "\n   \n" + lines(ROWS[2:])).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    assert read(tmp_path / name) == ROWS


def test_parquet_a_glob_and_other_filesystems(tmp_path: Path) -> None:
    for index in (1, 0):
        pq.write_table(pa.Table.from_pylist(ROWS[index : index + 1]), tmp_path / f"p{index}.pq")
    assert read(tmp_path / "p0.pq") == ROWS[:1]
    assert read(tmp_path / "p*.pq") == ROWS[:2], "in the order of the names"
    files.write_bytes("memory://pool/a.jsonl", lines(ROWS).encode())
    assert read("memory://pool/a.jsonl") == ROWS


def test_a_named_format_goes_before_the_ending(tmp_path: Path) -> None:
    (tmp_path / "pool.txt").write_text(lines(ROWS))
    assert read(tmp_path / "pool.txt", format="jsonl") == ROWS
    assert refusal(tmp_path / "pool.txt").endswith("its ending names no format; set pool.format")


def test_the_shipped_sample_can_be_read() -> None:
    rows = read(SAMPLE)
    assert len(rows) > 100
    made = [as_instruction(row) for row in rows]
    assert all(isinstance(m, Instruction) for m in made)


def test_saved_datasets_with_and_without_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(str(tmp_path / "flat"))
    splits = datasets.DatasetDict({"train": saved.select([0]), "test": saved.select([1, 2])})
    splits.save_to_disk(str(tmp_path / "splits"))
    assert read(tmp_path / "flat") == ROWS
    assert read(tmp_path / "splits", dataset_split="test") == ROWS[1:]
    text = refusal(tmp_path / "splits", dataset_split="dev")
    assert text.endswith("no split 'dev'; set pool.dataset_split to one of ['train', 'test']")


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    assert f"saved dataset or reachable hub dataset at {tmp_path}" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["none.jsonl", "none.parquet", "none-*.jsonl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name).startswith(f"no file at {tmp_path / name}; set pool.path")


def test_an_unknown_protocol_is_named() -> None:
    assert refusal("nope://bucket/a.jsonl").startswith("cannot read nope://bucket/a.jsonl: ")


def test_a_bad_line_is_told_with_its_place_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n[{"a": 1}]\n' + "[" * 200_000 + '\n{"a": 2}\n')
    told: list[tuple[str, str]] = []
    config = PoolConfig(path=str(path))
    assert list(read_rows(config, lambda *line: told.append(line))) == [{"a": 1}, {"a": 2}]
    no_json = "not JSON; one object a line is wanted"
    assert [(where.rpartition("/")[2], why) for where, why in told] == [
        ("a.jsonl, line 3", no_json),
        ("a.jsonl, line 4", "a list, not an object"),
        ("a.jsonl, line 5", no_json),
    ]
    # Where every line is meant to be a row, the first is an error.
    assert refusal(path).endswith(f"a.jsonl, line 3: {no_json}")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"a": "\xff"}\n')
    assert "latin.jsonl: 'utf-8' codec can't decode" in refusal(tmp_path / "latin.jsonl")
    packed = gzip.compress(lines(ROWS * 50).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-20])
    assert "cut.jsonl.gz" in refusal(tmp_path / "cut.jsonl.gz")
    (tmp_path / "not.jsonl.gz").write_bytes(b"plain text\n")
    assert "not.jsonl.gz" in refusal(tmp_path / "not.jsonl.gz")
    (tmp_path / "not.parquet").write_bytes(b"plain text\n")
    assert "not.parquet as Parquet" in refusal(tmp_path / "not.parquet")


# --- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Hi"},
        {"prompt": "Hi"},
        {"question": "Hi", "answer": "Hello"},
        {"query": "Hi"},
        {"text": "Hi"},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"prompt": [{"role": "user", "content": "Hi"}]},
        {"messages": None, "conversations": [{"from": "human", "value": "Hi"}]},
        {"conversation": "an id, no turns", "prompt": [{"role": "user", "content": "Hi"}]},
    ],
)
def test_usual_names_need_no_config(row: dict[str, Any]) -> None:
    assert turns(row) == [("user", "Hi")]


def test_named_columns_go_before_the_usual_ones() -> None:
    row = {"prompt": "no", "q": "Hi", "gold": 4, "kind": "maths", "category": "no"}
    made = as_instruction(row, instruction="q", reference_answer="gold", category="kind")
    assert isinstance(made, Instruction)
    assert made.messages[0].content == "Hi"
    assert (made.reference_answer, made.category, made.source) == ("4", "maths", "pool.jsonl")
    # A text column that is named wins over a list of turns.
    chat = [{"role": "user", "content": "no"}]
    assert turns({"messages": chat, "q": "Hi"}, instruction="q") == [("user", "Hi")]
    assert turns({"chat": chat, "prompt": "x"}, messages="chat") == [("user", "no")]


def test_a_finished_conversation_ends_with_its_last_user_turn() -> None:
    row = {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "One"},
            {"from": "gpt", "value": "1"},
            {"from": "human", "value": "Two"},
            {"from": "gpt", "value": "2"},
        ]
    }
    assert turns(row) == [
        ("system", "Be brief."),
        ("user", "One"),
        ("assistant", "1"),
        ("user", "Two"),
    ]


def chat(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"label": 1}, DropReason.MISSING_COLUMN, "no column"),
        ({"instruction": None}, DropReason.MISSING_COLUMN, "no column"),
        ({"instruction": 5}, DropReason.MISSING_COLUMN, "no column"),
        ({"instruction": "  \n"}, DropReason.EMPTY_INSTRUCTION, "nothing is asked"),
        (chat(), DropReason.EMPTY_INSTRUCTION, "nothing is asked"),
        (chat(("assistant", "Hi")), DropReason.EMPTY_INSTRUCTION, "nothing is asked"),
        (chat(("system", "Be brief.")), DropReason.EMPTY_INSTRUCTION, "nothing is asked"),
        (
            chat(("system", "S"), ("assistant", "Hi")),
            DropReason.EMPTY_INSTRUCTION,
            "nothing is asked",
        ),
        (
            chat(("user", "a"), ("system", "b")),
            DropReason.BAD_CONVERSATION,
            "a system turn after the first",
        ),
        (
            chat(("user", "a"), ("user", "b")),
            DropReason.BAD_CONVERSATION,
            "two user turns in a row",
        ),
        (
            chat(("tool", "a")),
            DropReason.BAD_CONVERSATION,
            "a turn has role 'tool' or no text",
        ),
        (
            chat(("user", ["image"])),
            DropReason.BAD_CONVERSATION,
            "a turn has role 'user' or no text",
        ),
        (
            {"messages": ["Hi"]},
            DropReason.BAD_CONVERSATION,
            "a turn is not a mapping of role and content",
        ),
        (
            {"instruction": "x" * 1001},
            DropReason.TOO_LONG,
            "1001 characters, the limit is 1000",
        ),
    ],
)
def test_rows_that_are_no_instruction_say_why(
    row: dict[str, Any], reason: DropReason, detail: str
) -> None:
    assert drop(row) == (reason, detail)


def test_a_dropped_row_can_be_found_again() -> None:
    made = as_instruction({"id": "row-7", "label": 1})
    assert isinstance(made, DroppedRow)
    assert made.row_id == "row-7"
    made = as_instruction({"label": "x" * 500})
    assert isinstance(made, DroppedRow)
    assert made.row_id.startswith('{"label": "xxx')
    assert len(made.row_id) == 200


def test_half_a_character_pair_does_not_stop_a_pool(tmp_path: Path) -> None:
    """JSON can write half of an emoji (`\\ud83d`), which no file of ours can hold."""
    (tmp_path / "a.jsonl").write_text(
        '{"instruction": "a \\ud83d b \\ud83d\\ude00", "category": "\\ud83d"}\n{"x": "\\ud83d"}\n'
    )
    good, bad = [as_instruction(row) for row in read(tmp_path / "a.jsonl")]
    assert isinstance(good, Instruction)
    assert good.messages[0].content == "a \ufffd b \U0001f600"
    assert good.category == "\ufffd"
    assert isinstance(bad, DroppedRow)
    assert bad.row_id == '{"x": "\ufffd"}'


def test_a_source_without_a_usable_column_lists_what_it_has() -> None:
    with pytest.raises(DataError, match=r"p: no column holds instructions; it has \['a', 'b'\]"):
        check_columns({"b": 1, "a": 2}, ColumnsConfig(), "p")
    for name in ("messages", "instruction", "reference_answer", "category"):
        with pytest.raises(DataError, match=r"p: no column 'q'; it has \['prompt'\]; set pool"):
            check_columns({"prompt": "x"}, ColumnsConfig(**{name: "q"}), "p")
    check_columns({"prompt": "x", "q": 1}, ColumnsConfig(reference_answer="q"), "p")


# --- labelled pairs ------------------------------------------------------------------------------


def label(tmp_path: Path, rows: list[Any], **options: Any) -> tuple[list[Any], list[Any], Any]:
    (tmp_path / "pairs.jsonl").write_text(lines(rows))
    folder = f"{tmp_path}/out"
    arguments = {"shard_size": 2, "limit": None, "max_chars": 1000} | options
    summaries = build_labelled(f"{tmp_path}/pairs.jsonl", folder, **arguments)
    pairs = [p for url in sealed_shards(folder) for p in read_records(url, ResponsePair)]
    dropped = read_records(f"{folder}/dropped/shard-00000.parquet", DroppedRow)
    return pairs, dropped, summaries


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": " good ", "rejected": "bad"},
        {
            "prompt": [turn("user", "Hi")],
            "chosen": [turn("assistant", "good")],
            "rejected": [turn("assistant", "bad")],
        },
        {
            "prompt": "Hi",
            "chosen": [turn("user", "Hi"), turn("assistant", "good")],
            "rejected": [turn("user", "Hi"), turn("assistant", "bad")],
        },
        {
            "chosen": [turn("user", "Hi"), turn("assistant", "good")],
            "rejected": [turn("user", "Hi"), turn("assistant", "bad")],
        },
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": [{"from": "gpt", "value": "good"}],
            "rejected": [{"from": "gpt", "value": "bad"}],
        },
    ],
    ids=["text", "conversational", "prompt repeated", "implicit prompt", "sharegpt"],
)
def test_labelled_pairs_in_the_forms_data_sets_have(tmp_path: Path, row: dict[str, Any]) -> None:
    ((pair,), dropped, _) = label(tmp_path, [row])
    assert [(m.role, m.content) for m in pair.messages] == [("user", "Hi")]
    assert (pair.chosen, pair.rejected, pair.corruption) == ("good", "bad", "labelled")
    assert (pair.source, dropped) == ("pairs.jsonl", [])


def test_one_pair_with_two_annotations_is_two_rows(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "good", "rejected": "bad"}
    first, second = row | {"meta": {"judge": "a"}}, row | {"meta": {"judge": "b"}}
    pairs, dropped, _ = label(tmp_path, [first, second, first, second, row, row])
    assert [pair.meta for pair in pairs] == ['{"judge": "a"}', '{"judge": "b"}', None]
    assert len({pair.id for pair in pairs}) == 3
    assert [drop.reason.value for drop in dropped] == ["exact_duplicate"] * 3
    # The first keeps the id it has without the others.
    ((alone,), _, _) = label(tmp_path, [first])
    assert alone.id == pairs[0].id


def test_every_labelled_row_that_is_left_out_is_counted(tmp_path: Path) -> None:
    good = {"prompt": "Hi", "chosen": "good", "rejected": "bad", "subset": "chat"}
    pairs, dropped, summaries = label(
        tmp_path,
        [
            good,
            good,
            good | {"rejected": "good "},
            good | {"chosen": " "},
            {"prompt": "Hi", "rejected": "bad"},
            {"chosen": "a", "rejected": "b"},
            good | {"prompt": "Ho"},
            good | {"prompt": "Hu"},
        ],
    )
    assert [p.messages[0].content for p in pairs] == ["Hi", "Ho", "Hu"]
    assert {p.corruption for p in pairs} == {"chat"}
    assert [d.reason.value for d in dropped] == [
        "exact_duplicate",
        "same_response",
        "empty_response",
        "empty_response",
        "missing_column",
    ]
    assert {d.stage for d in dropped} == {"labelled"}
    # Three pairs in shards of two; the five drops are counted with the first.
    assert [(s.num_inputs, s.num_records) for s in summaries] == [(7, 2), (1, 1)]
    assert summaries[0].drops == {
        "exact_duplicate": 1,
        "same_response": 1,
        "empty_response": 2,
        "missing_column": 1,
    }


def test_the_first_row_of_a_labelled_file_decides_nothing(tmp_path: Path) -> None:
    good = {"q": "Hi", "better": "good", "rejected": "bad"}
    rows = [{"note": "header"}, good, [1], {"q": "Ho", "chosen": "x", "rejected": "bad"}]
    columns = {"prompt": "q", "chosen": "better"}
    pairs, dropped, _ = label(tmp_path, rows, columns=columns)
    assert [p.chosen for p in pairs] == ["good"], "a mapped column takes the place of its name"
    assert sorted(d.reason.value for d in dropped) == [
        "empty_response",
        "missing_column",
        "unreadable",
    ]
    with pytest.raises(DataError, match=r"no column 'best' \(for chosen\); it has \['better', "):
        label(tmp_path, rows, columns={"chosen": "best"})


def test_rows_keep_their_own_ids_and_who_wrote_them(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "x", "rejected": "y"}
    named = row | {"id": 3, "prompt": "Ho", "chosen_model": "a", "meta": {"chosen_model": None}}
    theirs = {"prompt": "Hu", "meta": {"chosen_model": "m"}}
    as_text = row | {"prompt": "He", "rejected_model": "b", "meta": '{"chosen_model": "m"}'}
    rows = [row, named, row | theirs | {"chosen_model": "a"}, as_text]
    pairs, _, _ = label(tmp_path, rows)
    assert [(p.source_id, p.meta) for p in pairs] == [
        (None, None),
        ("3", '{"chosen_model": "a"}'),
        (None, '{"chosen_model": "m"}'),
        (None, '{"chosen_model": "m", "rejected_model": "b"}'),
    ]
    right = {"id": "q", "prompt": "Hi", "chosen": ["x"], "rejected": ["y", "z"], "model": "m"}
    (tmp_path / "rb2.jsonl").write_text(lines([right]))
    scored, _ = read_scored(f"{tmp_path}/rb2.jsonl", None, 1000)
    assert [(r.source_id, r.meta) for r in scored] == [("q", '{"model": "m"}')] * 3


def test_a_scored_row_without_a_score_is_dropped(tmp_path: Path) -> None:
    good = {"prompt": "Hi", "response": "x", "score": 3, "scale": "1-5"}
    bad = {name: value for name, value in good.items() if name != "scale"}
    (tmp_path / "a.jsonl").write_text(lines([bad, good]) + "no json\n")
    rows, dropped = read_scored(f"{tmp_path}/a.jsonl", None, 1000)
    assert [row.score for row in rows] == [3]
    assert [(d.reason.value, d.detail) for d in dropped] == [
        ("missing_column", "no scale"),
        ("unreadable", "not JSON; one object a line is wanted"),
    ]
    (tmp_path / "a.jsonl").write_text(lines([bad]))
    with pytest.raises(DataError, match=r"need the columns .* and scale; it has \['prompt', 're"):
        read_scored(f"{tmp_path}/a.jsonl", None, 1000)
    (tmp_path / "a.jsonl").write_text("no json\n")
    with pytest.raises(DataError, match=r"dropped rows: unreadable 1; a.jsonl, line 1: not JSON"):
        read_scored(f"{tmp_path}/a.jsonl", None, 1000)


def test_at_most_so_many_labelled_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}", "chosen": "a", "rejected": "b"} for i in range(9)]
    assert len(label(tmp_path, rows, limit=RowLimit(5))[0]) == 5
    # A shorter second attempt leaves nothing of the longer one.
    assert len(label(tmp_path, rows, limit=RowLimit(2))[0]) == 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"prompt": "Hi", "answer": "x"}],
            r"columns chosen and rejected .*\['answer', 'prompt'\]",
        ),
        ([{"chosen": "a", "rejected": "b"}], "no usable pair; dropped rows: missing_column 1"),
        ([], "no usable pair; dropped rows: none"),
    ],
)
def test_a_labelled_file_without_pairs_is_an_error(
    tmp_path: Path, rows: list[Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        label(tmp_path, rows)


# --- files as benchmarks are published -----------------------------------------------------------


def test_a_json_file_may_be_one_array(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "chosen": "good", "rejected": f"bad {n}"} for n in range(2)]
    path = tmp_path / "rows.json"
    for text in (json.dumps(rows), json.dumps(rows, indent=2), lines(rows)):
        path.write_text(text)
        assert list(read_rows(PoolConfig(path=str(path)))) == rows
    path.write_text("[1, {}]")
    with pytest.raises(DataError, match=r"rows\.json, row 1: a int, not an object"):
        list(read_rows(PoolConfig(path=str(path))))
    path.write_text('[{"prompt": ')
    with pytest.raises(DataError, match=r"rows\.json, line 1: not JSON"):
        list(read_rows(PoolConfig(path=str(path))))


def test_meta_that_is_the_text_of_an_object_is_that_object(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "good", "rejected": "bad"}
    metas: list[Any] = [{"b": 1, "a": "x"}, '{"b": 1, "a": "x"}', "plain", "[1]", None]
    rows = [{**row, "prompt": f"Q{n}", "meta": meta} for n, meta in enumerate(metas)]
    pairs, _, _ = label(tmp_path, rows)
    assert [p.meta for p in pairs] == ['{"a": "x", "b": 1}'] * 2 + ['"plain"', '"[1]"', None]


def test_a_row_of_styles_is_nine_pairs(tmp_path: Path) -> None:
    lists = {"chosen": ["a", "aa", "aaa"], "rejected": ["b", "bb", "a"], "domain": "math"}
    rows = [{"id": n, "prompt": f"Q{n}"} | lists for n in range(3)]
    reading = replace(LABELLED, styled=True)
    pairs, dropped, _ = label(tmp_path, rows, reading=reading)
    # Of each row one pair has two equal responses.
    assert len(pairs) == 24 and [d.reason.value for d in dropped] == ["same_response"] * 3
    assert {p.corruption for p in pairs} == {"math"}
    # The pairs of a row go by its id.
    assert Counter(p.source_id for p in pairs) == {"0": 8, "1": 8, "2": 8}
    shown = [(p.chosen, p.rejected, json.loads(p.meta)) for p in pairs[:2]]
    assert shown == [
        ("a", "b", {"chosen_style": "concise", "rejected_style": "concise"}),
        ("a", "bb", {"chosen_style": "concise", "rejected_style": "detailed_plain"}),
    ]


def test_a_limit_on_rows_of_styles_draws_prompts_with_all_their_pairs(tmp_path: Path) -> None:
    lists = {"chosen": ["a", "aa", "aaa"], "rejected": ["b", "bb", "bbb"]}
    rows = [{"prompt": f"Q{n}"} | lists for n in range(9)]
    reading = replace(LABELLED, styled=True)
    for limit in (RowLimit(3), RowLimit(3, whole_prompts=True)):
        pairs, _, _ = label(tmp_path, rows, reading=reading, limit=limit)
        drawn = Counter(pair.messages[0].content for pair in pairs)
        assert list(drawn.values()) == [9, 9, 9]
        # Not the first ones of the file.
        assert set(drawn) != {"Q0", "Q1", "Q2"}
