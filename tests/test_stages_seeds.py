"""Seeds: answered instructions are split and deduplicated, ranked responses stay together."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import ColumnsConfig
from selfreward.errors import DataError
from selfreward.records import AnsweredInstruction, Instruction, Message
from selfreward.records_scores import ScoredResponse
from selfreward.stages.held_out import HeldOut
from selfreward.stages.ranked_seeds import build_ranked
from selfreward.stages.row_limit import RowLimit
from selfreward.stages.scored import build_scored
from selfreward.stages.seeds import HUMAN, IftExamples, build_ift
from selfreward.stages.sources import to_instruction
from selfreward.storage.shards import ShardSummary, read_records, sealed_shards, write_records
from tests.stage_tools import drops_in, records_in, run

TASKS = [f"Name {i} things that {w}" for i in range(3) for w in ("fly", "swim", "run", "sing")]
SEEDS = [{"instruction": t, "response": f"Answer to {t}"} for t in TASKS]


def write(tmp_path: Path, rows: list[Any], name: str) -> str:
    path = tmp_path / name
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def ift(
    tmp_path: Path,
    rows: list[Any],
    heldout: int = 0,
    max_rows: int | None = None,
    seed: int = 0,
) -> tuple[list[AnsweredInstruction], list[AnsweredInstruction]]:
    folders = (f"{tmp_path}/ift", f"{tmp_path}/heldout")
    path = write(tmp_path, rows, "seeds.jsonl")
    build_ift((path,), folders, 4, max_rows, heldout, 200, seed)
    train, aside = (records_in(folder, AnsweredInstruction) for folder in folders)
    return train, aside


def asked(rows: list[AnsweredInstruction]) -> list[str]:
    return [row.instruction.messages[-1].content for row in rows]


# --- answered instructions -----------------------------------------------------------------------


def test_answers_of_people_are_records_of_their_own(tmp_path: Path) -> None:
    (row,), _ = ift(tmp_path, [{"instruction": "Add 2 and 3.", "response": " 5\n"}])
    assert row.instruction.messages == (Message(role="user", content="Add 2 and 3."),)
    assert row.instruction.source == "seeds.jsonl"
    assert (row.response.text, row.response.model) == ("5", HUMAN)
    assert row.response.instruction_id == row.instruction.id


def test_the_held_out_rows_are_the_same_in_any_order(tmp_path: Path) -> None:
    train, aside = ift(tmp_path, SEEDS, heldout=3)
    assert (len(train), len(aside)) == (9, 3)
    assert sorted(asked(train + aside)) == sorted(TASKS)
    # 9 rows in shards of 4.
    sizes = [len(read_records(u, AnsweredInstruction)) for u in sealed_shards(f"{tmp_path}/ift")]
    assert sizes == [4, 4, 1]
    assert ift(tmp_path, SEEDS[::-1], heldout=3) == (train, aside)
    assert ift(tmp_path, SEEDS, heldout=3, seed=1)[1] != aside


def test_at_most_so_many_are_a_part_chosen_by_content(tmp_path: Path) -> None:
    train, aside = ift(tmp_path, SEEDS, heldout=2, max_rows=6)
    assert (len(train), len(aside)) == (4, 2)
    assert ift(tmp_path, SEEDS[::-1], heldout=2, max_rows=6) == (train, aside)


def test_without_held_out_rows_the_folder_is_there_and_empty(tmp_path: Path) -> None:
    train, aside = ift(tmp_path, SEEDS)
    assert (len(train), aside) == (12, [])
    assert len(sealed_shards(f"{tmp_path}/heldout")) == 1


def test_the_same_task_again_is_dropped_whatever_its_answer(tmp_path: Path) -> None:
    again = [
        {"instruction": "NAME  a river.", "response": "The Rhine."},
        {"instruction": "Name a river.", "response": "The Nile."},
    ]
    first = {"instruction": "Name a river.", "response": "The Nile."}
    train, _ = ift(tmp_path, [first, *again])
    assert [row.response.text for row in train] == ["The Nile."]
    drops = drops_in(f"{tmp_path}/ift")
    assert [d.reason.value for d in drops] == ["exact_duplicate"] * 2
    assert {d.stage for d in drops} == {"seeds"}


def test_unusable_rows_are_dropped_with_a_reason_and_counted(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Name a lake.", "response": " "},
        # The row before has no answer, so this one is no duplicate.
        {"instruction": "Name a lake.", "response": "Baikal"},
        {"instruction": "Name a sea."},
        {"instruction": " ", "response": "x"},
        {"instruction": "x" * 201, "response": "x"},
    ]
    folders = (f"{tmp_path}/ift", f"{tmp_path}/heldout")
    (summary,), (aside,) = build_ift(
        (write(tmp_path, rows, "seeds.jsonl"),), folders, 4, None, 0, 200, 0
    )
    assert asked(records_in(folders[0], AnsweredInstruction)) == ["Name a lake."]
    assert summary == ShardSummary(
        index=0,
        num_inputs=5,
        num_records=1,
        drops={"empty_response": 2, "empty_instruction": 1, "too_long": 1},
        ledger={},
    )
    assert (aside.num_inputs, aside.num_records, aside.drops) == (0, 0, {})


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


TALK = [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Why?")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [*TALK, turn("assistant", "Because.")]},
        {"messages": TALK, "response": "Because."},
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello"},
                {"from": "human", "value": "Why?"},
                {"from": "gpt", "value": "Because."},
            ]
        },
    ],
)
def test_a_conversation_keeps_its_turns(tmp_path: Path, row: dict[str, Any]) -> None:
    (made,), _ = ift(tmp_path, [row])
    turns = [(m.role, m.content) for m in made.instruction.messages]
    assert turns == [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
    assert made.response.text == "Because."


@pytest.mark.parametrize("speaker", ["user", "human", "prompter"])
def test_a_question_at_the_end_is_no_answer(tmp_path: Path, speaker: str) -> None:
    rows = [SEEDS[0], {"messages": [*TALK[:2], turn(speaker, "Why?")]}]
    train, _ = ift(tmp_path, rows)
    assert asked(train) == [TASKS[0]]
    assert [d.reason.value for d in drops_in(f"{tmp_path}/ift")] == ["empty_response"]


def test_a_file_without_answers_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        ift(tmp_path, [{"instruction": "Name a river.", "output": "The Nile."}])
    text = str(caught.value)
    assert "seeds need the column response" in text
    assert "it has ['instruction', 'output']" in text
    assert "\n" not in text


def test_too_few_seeds_say_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        ift(tmp_path, [*SEEDS[:3], SEEDS[0]], heldout=3)
    text = str(caught.value)
    assert "3 usable seeds are too few for seeds.ift_heldout=3" in text
    assert "(dropped: {'exact_duplicate': 1})" in text
    assert "\n" not in text
    assert sealed_shards(f"{tmp_path}/ift") == [], "nothing was written"


def test_examples_learn_the_answer_behind_the_whole_conversation(tmp_path: Path) -> None:
    ift(tmp_path, [{"messages": TALK, "response": "Because."}])
    logic = IftExamples()
    rows = logic.read(sealed_shards(f"{tmp_path}/ift"))
    ((example,),) = [r.records for r in run(logic, rows)]
    assert [m.content for m in example.messages] == ["Hi", "Hello", "Why?"]
    assert (example.target, example.pair_id) == ("Because.", rows[0].instruction.id)
    assert example.judgment_id is None


# --- ranked responses ----------------------------------------------------------------------------


def scored(task: str, *scores: float) -> list[dict[str, Any]]:
    return [
        {"prompt": task, "response": f"{task} {n}", "score": score, "scale": [1, 5]}
        for n, score in enumerate(scores)
    ]


def ranked(
    tmp_path: Path, *tables: list[Any], shard_size: int = 4, known: tuple[str, ...] = ()
) -> tuple[list[list[ScoredResponse]], list[ShardSummary]]:
    paths = [write(tmp_path, rows, f"ranked_{n}.jsonl") for n, rows in enumerate(tables)]
    folder = f"{tmp_path}/ranked"
    summaries = build_ranked(paths, folder, shard_size, None, 200, known)
    return [read_records(url, ScoredResponse) for url in sealed_shards(folder)], summaries


@pytest.mark.parametrize(
    ("shard_size", "sizes"),
    # Groups of at most 3: one, two and three groups fit; smaller than a group is one group too.
    [(1, [3, 2, 3]), (4, [3, 2, 3]), (7, [5, 3]), (9, [8])],
)
def test_responses_to_one_prompt_share_a_shard(
    tmp_path: Path, shard_size: int, sizes: list[int]
) -> None:
    a, b, c = scored("a", 1, 3, 5), scored("b", 2, 4), scored("c", 5, 5, 1)
    mixed = [a[0], b[0], c[0], a[1], c[1], b[1], c[2], a[2]]
    shards, summaries = ranked(tmp_path, mixed, shard_size=shard_size)
    assert [len(shard) for shard in shards] == sizes
    assert [s.num_records for s in summaries] == sizes
    homes: dict[str, set[int]] = {}
    for index, shard in enumerate(shards):
        for row in shard:
            homes.setdefault(row.group, set()).add(index)
    assert len(homes) == 3
    assert all(len(found) == 1 for found in homes.values())


def test_prompts_that_are_answered_seeds_are_left_out(tmp_path: Path) -> None:
    ift(tmp_path, [{"instruction": "Name a river.", "response": "The Nile."}])
    known = tuple(sealed_shards(f"{tmp_path}/ift"))
    rows = scored("name a RIVER.", 1, 5) + scored("Name a lake.", 1, 5)
    ((*kept,),), _ = ranked(tmp_path, rows, known=known)
    assert {row.messages[0].content for row in kept} == {"Name a lake."}
    drops = drops_in(f"{tmp_path}/ranked")
    assert [(d.reason.value, d.detail) for d in drops] == [
        ("exact_duplicate", "the prompt is an answered seed")
    ] * 2


def test_a_prompt_that_nobody_ranked_is_left_out(tmp_path: Path) -> None:
    rows = scored("even", 3, 3) + scored("single", 5) + scored("ranked", 2, 4)
    ((*kept,),), (summary,) = ranked(tmp_path, rows)
    assert [row.score for row in kept] == [2, 4]
    assert summary.drops == {"too_few_scores": 3}
    assert summary.num_inputs == 5


def test_a_row_in_two_files_counts_once(tmp_path: Path) -> None:
    rows = scored("a", 1, 5)
    ((*kept,),), (summary,) = ranked(tmp_path, rows, [rows[0], *scored("b", 1, 2)])
    assert sorted(row.response for row in kept) == ["a 0", "a 1", "b 0", "b 1"]
    assert summary.drops == {"exact_duplicate": 1}


def test_files_name_groups_without_knowing_of_each_other(tmp_path: Path) -> None:
    a, b = ([row | {"group": "1"} for row in scored(task, 1, 5)] for task in "ab")
    ((*kept,),), _ = ranked(tmp_path, a, b)
    groups: dict[str, set[str]] = {row.group: set() for row in kept}
    for row in kept:
        groups[row.group].add(row.messages[0].content)
    assert sorted(map(sorted, groups.values())) == [["a"], ["b"]]


def test_no_ranked_prompt_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no prompt with two responses that people rank apart$"):
        ranked(tmp_path, scored("even", 3, 3))


def test_what_models_are_measured_on_is_no_ranked_prompt_and_no_seed(tmp_path: Path) -> None:
    (row,), _ = ift(tmp_path, [{"instruction": "Name a river.", "response": "The Nile."}])
    held_out = HeldOut(answered=sealed_shards(f"{tmp_path}/ift"))
    rows = scored("name a RIVER.", 1, 5) + scored("Name a lake.", 1, 5)
    folder = f"{tmp_path}/ranked"
    path = write(tmp_path, rows, "ranked.jsonl")
    (summary,) = build_ranked([path], folder, 8, None, 200, [], held_out)
    assert {r.messages[0].content for r in records_in(folder, ScoredResponse)} == {"Name a lake."}
    assert summary.drops == {"held_out": 2}
    folders = (f"{tmp_path}/again", f"{tmp_path}/aside")
    path = write(
        tmp_path, [*SEEDS, {"instruction": "Name a river.", "response": "x"}], "more.jsonl"
    )
    summaries, _ = build_ift((path,), folders, 16, None, 0, 200, 0, held_out)
    assert summaries[0].drops == {"held_out": 1}
    assert row.instruction.id not in {
        r.instruction.id for r in records_in(folders[0], AnsweredInstruction)
    }


def test_a_seed_that_the_pool_trains_on_is_not_held_out(tmp_path: Path) -> None:
    # Of 12 seeds the first 10 are in the pool: only the last two can be held out.
    pool = [to_instruction(row, ColumnsConfig(), "pool", 200) for row in SEEDS[:10]]
    write_records(f"{tmp_path}/pool/0.parquet", pool, Instruction)
    path, urls = write(tmp_path, SEEDS, "seeds.jsonl"), [f"{tmp_path}/pool/0.parquet"]
    folders = (f"{tmp_path}/train", f"{tmp_path}/aside")
    build_ift((path,), folders, 16, None, 2, 200, 0, pool=urls)
    assert sorted(asked(records_in(folders[1], AnsweredInstruction))) == sorted(TASKS[10:])
    assert sorted(asked(records_in(folders[0], AnsweredInstruction))) == sorted(TASKS[:10])
    with pytest.raises(DataError, match=r"12 usable seeds, 10 of them in the pool,.*heldout=3"):
        build_ift((path,), folders, 16, None, 3, 200, 0, pool=urls)


def test_a_part_of_the_ranked_sample_can_be_kept_for_measuring(tmp_path: Path) -> None:
    # 24 prompts with three responses each: six prompts are measured on, 18 are learnt from.
    build_scored("sample:ranked", f"{tmp_path}/scored", 100, RowLimit(18, whole_prompts=True), 8000)
    measured = records_in(f"{tmp_path}/scored", ScoredResponse)
    held_out = HeldOut(scored=sealed_shards(f"{tmp_path}/scored"))
    build_ranked(["sample:ranked"], f"{tmp_path}/ranked", 100, None, 8000, [], held_out)
    learnt = records_in(f"{tmp_path}/ranked", ScoredResponse)
    assert (len(measured), len({r.group for r in measured})) == (18, 6)
    assert (len(learnt), len({r.group for r in learnt})) == (54, 18)
    assert not {r.messages for r in measured} & {r.messages for r in learnt}
