"""Shards: whatever interrupts their writing, what is sealed is the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from selfreward.errors import StorageError
from selfreward.records import DroppedRow, DropReason, Instruction, Message
from selfreward.storage import files
from selfreward.storage.shards import (
    RowResult,
    ShardSummary,
    ShardWriter,
    add_ledgers,
    dropped_rows,
    read_records,
    remove_shards_from,
    sealed_shards,
    write_records,
)

ROWS = ["r0", "r1", "r2", "r3"]
LEDGER = {"requests": 2, "by_purpose": {"respond": 7}}


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        MemoryFileSystem.store.clear()
        return "memory://run/stage"
    return str(tmp_path / "stage")


def record(text: str) -> Instruction:
    return Instruction.new(messages=(Message(role="user", content=text),), source="s")


def result(row_id: str) -> RowResult[Instruction]:
    """r0 has two records, r1 only a drop, r2 a record and a drop, r3 a record."""
    drop = DroppedRow(row_id=row_id, stage="s", reason=DropReason.TOO_LONG, detail=f"of {row_id}")
    return {
        "r0": RowResult("r0", [record("0a"), record("0b")]),
        "r1": RowResult[Instruction]("r1", [], [drop]),
        "r2": RowResult("r2", [record("2")], [drop]),
        "r3": RowResult("r3", [record("3")]),
    }[row_id]


WANTED = ["0a", "0b", "2", "3"]


def test_lost_draws_are_counted_beside_the_dropped_rows_and_kept_with_them(folder: str) -> None:
    def draw(row_id: str, reason: DropReason) -> DroppedRow:
        return DroppedRow(row_id=row_id, stage="s", reason=reason, detail="draw 1")

    cut, empty = DropReason.TRUNCATED_RESPONSE, DropReason.EMPTY_RESPONSE
    # r0 has a record beside its two lost draws, r1 left with its one.
    whole = RowResult("r0", [record("0")], lost=[draw("r0", cut), draw("r0", empty)])
    gone = RowResult[Instruction](
        "r1", dropped=[replace(draw("r1", cut), detail="")], lost=[draw("r1", cut)]
    )
    writer(folder).add([gone], LEDGER)
    writer(folder).add([whole], LEDGER)
    summary = writer(folder).seal(["r0", "r1"])
    assert (summary.num_records, summary.drops) == (1, {"truncated_response": 1})
    assert summary.ledger["lost_draws"] == {"truncated_response": 2, "empty_response": 1}
    assert summary.ledger["requests"] == 4
    rows = [(d.row_id, d.reason, d.detail) for d in dropped_rows(folder)]
    assert rows == [
        ("r1", cut, ""),
        ("r0", cut, "draw 1"),
        ("r0", empty, "draw 1"),
        ("r1", cut, "draw 1"),
    ]
    assert dropped_rows(f"{folder}/none") == []


def writer(folder: str, index: int = 0) -> ShardWriter[Instruction]:
    return ShardWriter(folder, index, Instruction)


def texts(url: str) -> list[str]:
    return [i.messages[0].content for i in read_records(url, Instruction)]


def parts(folder: str) -> list[str]:
    return files.list_files(f"{folder}/_parts/00000")


def test_a_shard_is_sealed_in_the_order_of_its_input(folder: str) -> None:
    shard = writer(folder)
    assert shard.summary_if_sealed() is None
    assert shard.finished_ids() == set()
    shard.add([result("r3"), result("r1")], LEDGER)
    shard.add([result("r2")], LEDGER)
    assert writer(folder).finished_ids() == {"r1", "r2", "r3"}
    shard.add([result("r0")], {"requests": 1})
    summary = shard.seal(ROWS)
    assert summary == ShardSummary(
        index=0,
        num_inputs=4,
        num_records=4,
        drops={"too_long": 2},
        ledger={"requests": 5, "by_purpose": {"respond": 14}},
    )
    assert texts(f"{folder}/shard-00000.parquet") == WANTED
    dropped = read_records(f"{folder}/dropped/shard-00000.parquet", DroppedRow)
    assert [d.detail for d in dropped] == ["of r1", "of r2"]
    assert not files.exists(f"{folder}/_parts/00000")
    assert writer(folder).summary_if_sealed() == summary


def test_a_row_with_drops_only_counts_as_finished(folder: str) -> None:
    shard = writer(folder)
    shard.add([result("r1")], LEDGER)
    assert shard.finished_ids() == {"r1"}
    summary = shard.seal(["r1"])
    assert (summary.num_inputs, summary.num_records) == (1, 0)
    assert read_records(f"{folder}/shard-00000.parquet", Instruction) == []


def test_a_shard_without_rows_can_be_sealed(folder: str) -> None:
    summary = writer(folder).seal([])
    assert (summary.num_inputs, summary.num_records, summary.drops) == (0, 0, {})
    assert writer(folder).summary_if_sealed() == summary


def test_the_same_rows_written_twice_are_one_part(folder: str) -> None:
    shard = writer(folder)
    shard.add([result("r0"), result("r1")], LEDGER)
    shard.add([result("r0"), result("r1")], LEDGER)
    assert len(parts(folder)) == 1
    assert shard.seal(["r0", "r1"]).ledger == LEDGER


def test_a_row_in_two_parts_is_one_row(folder: str) -> None:
    shard = writer(folder)
    shard.add([result("r0"), result("r1")], LEDGER)
    shard.add([result("r1"), result("r2"), result("r3")], LEDGER)
    summary = shard.seal(ROWS)
    assert texts(f"{folder}/shard-00000.parquet") == WANTED
    assert summary.drops == {"too_long": 2}
    # The tokens were spent twice.
    assert summary.ledger == {"requests": 4, "by_purpose": {"respond": 14}}


def crash_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Makes a function of `files` die like a killed process at its n-th call from now."""
    real, calls = getattr(files, name), []

    def dying(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(files, name, dying)


@pytest.mark.parametrize(("name", "call"), [("write_bytes", 1), ("write_bytes", 2), ("remove", 1)])
def test_a_crash_anywhere_in_sealing_changes_nothing(
    folder: str, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    """Before the drops, between drops and shard, between shard and removing the parts."""
    shard = writer(folder)
    shard.add([result(r) for r in ROWS], LEDGER)
    with monkeypatch.context() as patch:
        crash_at(patch, name, call)
        with pytest.raises(KeyboardInterrupt):
            shard.seal(ROWS)
    assert parts(folder), "nothing is lost"
    is_sealed = name == "remove"
    assert files.exists(f"{folder}/shard-00000.parquet") is is_sealed
    again = writer(folder)
    summary = again.summary_if_sealed()
    assert (summary is not None) is is_sealed
    if summary is None:
        assert again.finished_ids() == set(ROWS)
        summary = again.seal(ROWS)
    assert summary.num_records == 4
    assert texts(f"{folder}/shard-00000.parquet") == WANTED
    assert len(read_records(f"{folder}/dropped/shard-00000.parquet", DroppedRow)) == 2
    assert not files.exists(f"{folder}/_parts/00000"), "leftover parts go"


def test_a_second_attempt_that_comes_late_keeps_the_sealed_shard(folder: str) -> None:
    """A task given up for dead may still be running: it finds its parts gone when it ends."""
    late = writer(folder)
    late.add([result("r0")], LEDGER)
    other = writer(folder)
    other.add([result(r) for r in ROWS[1:]], LEDGER)
    sealed = other.seal(ROWS)
    late.add([result("r1")], LEDGER)
    assert late.seal(ROWS) == sealed
    assert texts(f"{folder}/shard-00000.parquet") == WANTED
    assert not files.exists(f"{folder}/_parts/00000")


def test_sealing_with_a_row_missing_is_refused(folder: str) -> None:
    shard = writer(folder)
    shard.add([result("r0")], LEDGER)
    with pytest.raises(ValueError, match="3 rows without a result, first r1"):
        shard.seal(ROWS)
    assert not files.exists(f"{folder}/shard-00000.parquet")


def test_shards_do_not_see_each_others_parts(folder: str) -> None:
    writer(folder, 0).add([result("r0")], LEDGER)
    writer(folder, 1).add([result("r3")], LEDGER)
    assert writer(folder, 1).finished_ids() == {"r3"}
    writer(folder, 1).seal(["r3"])
    assert writer(folder, 0).finished_ids() == {"r0"}


def test_sealed_shards_are_listed_in_order_and_nothing_else_is(folder: str) -> None:
    assert sealed_shards(folder) == []
    for index in (10, 2, 0):
        writer(folder, index).seal([])
    writer(folder, 5).add([result("r0")], LEDGER)
    files.write_bytes(f"{folder}/manifest.json", b"{}")
    files.write_bytes(f"{folder}/other.parquet", b"")
    names = [url.rpartition("/")[2] for url in sealed_shards(folder)]
    assert names == [f"shard-{i:05d}.parquet" for i in (0, 2, 10)]
    remove_shards_from(folder, 1)
    assert [url.rpartition("/")[2] for url in sealed_shards(folder)] == names[:1]


def test_records_written_as_a_file_come_back(folder: str) -> None:
    rows = [record("a"), record("b")]
    write_records(f"{folder}/x.parquet", rows, Instruction)
    assert read_records(f"{folder}/x.parquet", Instruction) == rows
    with pytest.raises(FileNotFoundError):
        read_records(f"{folder}/none.parquet", Instruction)


def test_a_damaged_file_is_named(folder: str) -> None:
    files.write_bytes(f"{folder}/shard-00000.parquet", b"PAR1 cut off")
    wanted = r"shard-00000\.parquet is not readable as Parquet; remove it and run again"
    with pytest.raises(StorageError, match=wanted):
        read_records(f"{folder}/shard-00000.parquet", Instruction)
    with pytest.raises(StorageError, match=wanted):
        writer(folder).summary_if_sealed()


def test_ledgers_add_up_field_by_field() -> None:
    total = add_ledgers([{"a": 1, "by": {"x": 1}}, {}, {"a": 2.5, "by": {"x": 2, "y": 3}}])
    assert total == {"a": 3.5, "by": {"x": 3, "y": 3}}
    assert add_ledgers([]) == {}
