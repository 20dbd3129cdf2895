"""The pool: duplicates go, splits never overlap, and the same rows give the same pool."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from selfreward.config import PoolConfig
from selfreward.errors import DataError
from selfreward.records import DroppedRow, DropReason, Instruction, Message, ResponsePair
from selfreward.records_scores import ScoredResponse
from selfreward.stages.held_out import NOTHING, HeldOut
from selfreward.stages.pool import SplitSizes, build_pool
from selfreward.storage.shards import ShardSummary, read_records, sealed_shards, write_records

SUBJECTS = ("bees", "trains", "soap", "rivers", "clocks", "bread", "chess", "moss", "kites", "maps")
TEXTS = [f"Question {i}: say something about {SUBJECTS[i % 10]} in {i} words" for i in range(40)]
SPLITS = ("train", "validation", "heldout")


def build(
    tmp_path: Path,
    rows: list[Any],
    validation: int = 4,
    heldout: int = 6,
    seed: int = 0,
    root: str | None = None,
    held_out: HeldOut = NOTHING,
    **options: Any,
) -> tuple[dict[str, list[str]], list[DroppedRow], dict[str, list[ShardSummary]]]:
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    folders = {split: f"{root or tmp_path}/{split}" for split in SPLITS}
    options = {"near_duplicate_threshold": None, "shard_size": 8} | options
    config = PoolConfig(path=str(path), **options)
    sizes = SplitSizes(validation=validation, heldout=heldout)
    summaries = build_pool(config, sizes, seed, folders, held_out)
    texts = {
        split: [
            i.messages[-1].content
            for url in sealed_shards(folder)
            for i in read_records(url, Instruction)
        ]
        for split, folder in folders.items()
    }
    dropped = read_records(f"{folders['train']}/dropped/shard-00000.parquet", DroppedRow)
    return texts, dropped, summaries


def everything(texts: dict[str, list[str]]) -> list[str]:
    return [text for split in SPLITS for text in texts[split]]


def rows_of(texts: list[str]) -> list[dict[str, str]]:
    return [{"instruction": t} for t in texts]


def test_splits_are_disjoint_and_hold_everything(tmp_path: Path) -> None:
    texts, dropped, summaries = build(tmp_path, rows_of(TEXTS))
    assert {split: len(t) for split, t in texts.items()} == {
        "train": 30,
        "validation": 4,
        "heldout": 6,
    }
    assert sorted(everything(texts)) == sorted(TEXTS)
    assert dropped == []
    # 30 rows in shards of 8.
    assert [s.num_records for s in summaries["train"]] == [8, 8, 8, 6]
    assert [s.index for s in summaries["train"]] == [0, 1, 2, 3]


def test_the_same_rows_in_any_order_give_the_same_pool(tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    first, *_ = build(tmp_path, rows_of(TEXTS))
    assert build(tmp_path, rows_of(shuffled))[0] == first
    assert build(tmp_path, rows_of(TEXTS), seed=1)[0] != first
    assert build(tmp_path, rows_of(TEXTS), shuffle=False)[0]["validation"] == TEXTS[:4]


def test_it_works_the_same_in_an_object_store(tmp_path: Path) -> None:
    MemoryFileSystem.store.clear()
    on_disk, *_ = build(tmp_path, rows_of(TEXTS))
    assert build(tmp_path, rows_of(TEXTS), root="memory://run")[0] == on_disk


def test_exact_duplicates_differ_in_case_and_spaces_only(tmp_path: Path) -> None:
    extra = [TEXTS[0].upper(), f"  {TEXTS[1]}\n", TEXTS[2]]
    texts, dropped, summaries = build(tmp_path, rows_of(TEXTS + extra))
    assert sorted(everything(texts)) == sorted(TEXTS)
    assert [d.reason.value for d in dropped] == ["exact_duplicate"] * 3
    assert all(d.detail.startswith("of ins-") for d in dropped)
    assert summaries["train"][0].drops == {"exact_duplicate": 3}
    assert sum(s.num_inputs for s in summaries["train"]) == 33
    # Without the rule, equal conversations still go: their ids would collide later.
    texts, dropped, _ = build(tmp_path, rows_of(TEXTS + extra), exact_dedupe=False)
    assert len(everything(texts)) == 42
    assert [d.reason.value for d in dropped] == ["exact_duplicate"]


def test_near_duplicates_go_with_the_earlier_one_named(tmp_path: Path) -> None:
    base = " ".join(f"word{i}" for i in range(60))
    # Of 56 shingles of five words the last word changes one: Jaccard 55 / 57 = 0.96.
    rows = rows_of([*TEXTS, base, base.replace("word59", "other")])
    texts, dropped, _ = build(tmp_path, rows, near_duplicate_threshold=0.8)
    assert base in everything(texts)
    (drop,) = dropped
    assert (drop.reason.value, drop.stage) == ("near_duplicate", "pool")
    kept = Instruction.new(messages=messages_of(base), source="").id
    assert drop.detail == f"of {kept}"
    assert len(everything(build(tmp_path, rows)[0])) == 42, "off: both stay"


def messages_of(text: str) -> list[Any]:
    return [Message(role="user", content=text)]


def test_unusable_rows_are_dropped_with_a_reason(tmp_path: Path) -> None:
    rows = [*rows_of(TEXTS), {"instruction": " "}, {"label": 3}, {"instruction": "x" * 200}]
    _, dropped, summaries = build(tmp_path, rows, max_instruction_chars=100)
    assert [d.reason.value for d in dropped] == ["empty_instruction", "missing_column", "too_long"]
    assert summaries["train"][0].drops == {
        "empty_instruction": 1,
        "missing_column": 1,
        "too_long": 1,
    }


def test_the_first_row_decides_nothing(tmp_path: Path) -> None:
    """Rows differ: the first lacks the columns, optional ones stand in some only."""
    last = {"instruction": "Last?", "gold": "42"}
    rows = [{"title": "x"}, [1], "text", *rows_of(TEXTS), last]
    texts, dropped, summaries = build(tmp_path, rows, columns={"reference_answer": "gold"})
    assert sorted(everything(texts)) == sorted([*TEXTS, "Last?"])
    assert summaries["train"][0].drops == {"missing_column": 1, "unreadable": 2}
    assert [(d.row_id, d.detail) for d in dropped if d.reason == DropReason.UNREADABLE] == [
        ("pool.jsonl, line 2", "a list, not an object"),
        ("pool.jsonl, line 3", "a str, not an object"),
    ]


def test_at_most_so_many_instructions(tmp_path: Path) -> None:
    rows = [{"instruction": " "}, *rows_of(TEXTS)]
    texts, dropped, _ = build(tmp_path, rows, max_instructions=15, shuffle=False)
    assert texts["validation"] == TEXTS[:4]
    assert sorted(everything(texts)) == sorted(TEXTS[:15])
    assert len(dropped) == 1


def test_a_part_of_a_pool_is_drawn_from_all_of_it(tmp_path: Path) -> None:
    # Two sources, one after the other; each has 20 of the 40 rows.
    texts, *_ = build(tmp_path, rows_of(TEXTS), max_instructions=20)
    part = everything(texts)
    assert len(part) == 20
    assert 5 <= len(set(part) & set(TEXTS[:20])) <= 15
    turned, *_ = build(tmp_path, rows_of(TEXTS[::-1]), max_instructions=20)
    assert turned == texts, "whatever the order of the file"
    more, *_ = build(tmp_path, rows_of(TEXTS), max_instructions=30)
    assert set(part) < set(everything(more)), "a larger part holds the smaller one"


def test_splits_may_be_empty(tmp_path: Path) -> None:
    texts, _, summaries = build(tmp_path, rows_of(TEXTS), validation=0)
    assert texts["validation"] == []
    assert summaries["validation"] == []
    assert len(texts["train"]) == 34


def test_a_shorter_second_attempt_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    build(tmp_path, rows_of(TEXTS))
    texts, *_ = build(tmp_path, rows_of(TEXTS[:20]))
    assert sorted(everything(texts)) == sorted(TEXTS[:20])


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pool\.jsonl: no usable instruction$"):
        build(tmp_path, [])


def test_a_file_without_usable_rows_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no usable instruction; 2 rows were dropped \(empty_instruction\)$"
    ):
        build(tmp_path, rows_of([" ", ""]))


def test_too_few_rows_say_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        build(tmp_path, rows_of([*TEXTS[:10], TEXTS[0]]))
    text = str(caught.value)
    assert "10 usable instructions are too few for 6 held-out and 4 validation ones" in text
    assert "1 rows were dropped (exact_duplicate)" in text
    assert "lower evaluation.heldout_pairs" in text
    assert sealed_shards(f"{tmp_path}/train") == [], "nothing was written"
    build(tmp_path, rows_of(TEXTS[:11]))
    with pytest.raises(DataError, match=r"8 usable instructions \(pool\.max_instructions\) are"):
        build(tmp_path, rows_of(TEXTS), max_instructions=8)


def test_a_misnamed_column_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'q'; it has \['instruction'\]"):
        build(tmp_path, rows_of(TEXTS), columns={"instruction": "q"})


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (
            [{"title": "x"}, {"instructions": "y"}],
            {},
            r"no column holds instructions; it has \['instructions', 'title'\]; name one with"
            r" pool.columns.instruction=instructions or ",
        ),
        (
            [{"ask": "x"}, {"query": "y", "golden": "z"}],
            {"reference_answer": "goldn"},
            r"no column 'goldn'; it has \['ask', 'golden', 'query'\], 'golden' among them; set",
        ),
        (
            [[], 3],
            {},
            r"2 rows were dropped \(unreadable\); pool.jsonl, line 1: a list, not an object$",
        ),
    ],
)
def test_a_pool_in_which_nothing_fits_says_what_it_has(
    tmp_path: Path, rows: list[Any], columns: dict[str, str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        build(tmp_path, rows, columns=columns)


def test_what_models_are_measured_on_is_in_no_split(tmp_path: Path) -> None:
    # Two of the 40 rows: the prompt of a labelled pair, and one whose response people scored.
    pair = ResponsePair.new(
        instruction_id="ins-1",
        messages=(Message(role="user", content=TEXTS[3].upper()),),
        chosen="a",
        rejected="b",
        corruption="labelled",
        source="pairs.jsonl",
    )
    scored = ScoredResponse.new(
        messages=(Message(role="user", content=TEXTS[7]),),
        response="a",
        score=2.0,
        low=1.0,
        high=5.0,
        group=None,
        subset="",
        source="scores.jsonl",
    )
    write_records(f"{tmp_path}/pairs/0.parquet", [pair], ResponsePair)
    write_records(f"{tmp_path}/scored/0.parquet", [scored], ScoredResponse)
    held_out = HeldOut(
        pairs=[f"{tmp_path}/pairs/0.parquet"], scored=[f"{tmp_path}/scored/0.parquet"]
    )
    texts, dropped, summaries = build(tmp_path, rows_of(TEXTS), held_out=held_out)
    assert sorted(everything(texts)) == sorted(t for t in TEXTS if t not in (TEXTS[3], TEXTS[7]))
    assert [d.reason for d in dropped] == [DropReason.HELD_OUT] * 2
    assert summaries["train"][0].drops == {"held_out": 2}
