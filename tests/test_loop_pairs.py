"""The instructions of a run: known by their content, selected alike, enough for each iteration."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import ConfigError, RecipeChangedError
from selfreward.loops import pairs, sources
from selfreward.loops.construct import check_slices
from selfreward.loops.file_content import content_of, file_content
from selfreward.loops.pairs import build_instructions, build_labelled_pairs
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.records import Instruction, ModelRef
from selfreward.storage.manifest import read_manifest
from tests.stage_tools import Fake, drops_in, no_engine, records_in
from tests.step_tools import run_in, without_ray

MODEL = PlacedModel(ref=ModelRef(name="m", iteration=0, fingerprint="f"), location="m")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_ray(monkeypatch)
    monkeypatch.chdir(tmp_path)
    write_pool(tmp_path, 24)


def write_pool(tmp_path: Path, count: int, name: str = "pool.jsonl") -> None:
    rows = [{"instruction": f"Ask {i}."} for i in range(count)]
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_of(tmp_path: Path, path: str = "pool.jsonl", generate: Any = None, **more: Any) -> Run:
    config: dict[str, Any] = {
        "pool": {"path": path, "shard_size": 8, "near_duplicate_threshold": None},
        "evaluation": {"heldout_pairs": 8, "validation_pairs": 4},
    }
    return run_in(tmp_path, config | more, generate)


def test_the_same_file_by_another_path_is_the_same_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build_instructions(run_of(tmp_path), MODEL)
    monkeypatch.setattr(pairs, "build_pool", None)  # not asked again
    assert build_instructions(run_of(tmp_path, str(tmp_path / "pool.jsonl")), MODEL) == made


def test_the_limit_of_the_pool_is_not_that_of_labelled_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": "Why? " * n, "chosen": "So.", "rejected": "No."} for n in (1, 20, 40)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = {"labelled_pairs": ["mine.jsonl"], "heldout_pairs": 8, "validation_pairs": 4}
    pool = {"path": "pool.jsonl", "shard_size": 8, "max_instruction_chars": 10}
    run = run_of(tmp_path, pool=pool, evaluation=labelled)
    assert build_labelled_pairs(run)["mine"].num_records == 3
    (tmp_path / "other").mkdir()
    run = run_of(tmp_path / "other", pool=pool, evaluation=labelled | {"max_prompt_chars": 150})
    assert build_labelled_pairs(run)["mine"].num_records == 2


def test_labelled_pairs_by_another_path_are_the_same_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    there = tmp_path / "there" / "mine.jsonl"
    there.parent.mkdir()
    for path in (tmp_path / "mine.jsonl", there):
        path.write_text(json.dumps(row) + "\n")
    made = build_labelled_pairs(run_of(tmp_path, evaluation={"labelled_pairs": ["mine.jsonl"]}))
    monkeypatch.setattr(pairs, "build_labelled", None)  # not asked again
    moved = run_of(tmp_path, evaluation={"labelled_pairs": [str(there)]})
    assert build_labelled_pairs(moved) == made


def test_a_pool_that_was_edited_is_another_pool(tmp_path: Path) -> None:
    build_instructions(run_of(tmp_path), MODEL)
    write_pool(tmp_path, 25)
    with pytest.raises(RecipeChangedError, match=r"content: .*--force pool"):
        build_instructions(run_of(tmp_path), MODEL)


def test_files_are_known_by_their_content(tmp_path: Path) -> None:
    one = content_of("pool.jsonl")
    assert file_content(str(tmp_path / "pool.jsonl")) == ["pool.jsonl", one]
    glob = content_of("*.jsonl")
    write_pool(tmp_path, 1, "second.jsonl")
    assert content_of("*.jsonl") not in {"", glob}
    assert file_content(f"{tmp_path}/*.jsonl") == file_content("*.jsonl")
    name, shipped = file_content("sample:instructions")
    assert name == "sample:instructions" and len(shipped) == 16
    # What is on a hub is known by its name alone.
    assert file_content("some-org/some-set") == ["some-org/some-set", ""]
    assert content_of("none/*.jsonl") == ""


def test_reading_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(run: Run, function: Any, *args: Any) -> Any:
        time.sleep(0.09)
        return function(*args)

    for module in (pairs, sources):
        monkeypatch.setattr(module, "on_cluster", slow)
    row = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n")
    sets = {"heldout_pairs": 8, "labelled_pairs": ["mine.jsonl"]}
    run = run_of(tmp_path, evaluation=sets | {"validation_pairs": 4})
    read = {**build_instructions(run, MODEL), **build_labelled_pairs(run)}
    seconds = {}
    for name, source in read.items():
        manifest = read_manifest(source.folder)
        assert manifest is not None
        seconds[name] = manifest.seconds
    assert seconds["mine"] >= 0.09
    # The three splits are read in one go and share its time.
    assert sum(seconds[split] for split in pairs.SPLITS) >= 0.09
    assert min(seconds.values()) > 0


def category(request: Any, draw: int) -> str:
    """Every third instruction is about coding; the sampled JSON is what a model writes."""
    number = int(request.messages[-1].content.split("Ask ")[-1].split(".")[0])
    kind = "coding" if number % 3 == 0 else "other"
    return json.dumps({"category": kind, "complexity": 5, "expected_length": "sentence"})


def test_what_is_measured_passes_the_selection_of_what_is_trained_on(tmp_path: Path) -> None:
    wanted = {"enabled": True, "categories": ["coding"]}
    run = run_of(tmp_path, generate=Fake(category), select_instructions=wanted)
    sources = build_instructions(run, MODEL)
    counts = {}
    for split, source in sources.items():
        kept = records_in(source.folder, Instruction)
        assert {row.category for row in kept} == {"coding"}
        dropped = drops_in(source.folder)
        assert {drop.reason.value for drop in dropped} == {"not_selected"}
        counts[split] = len(kept)
    assert sum(counts.values()) == 8, "every third of 24"
    assert all(counts.values()), counts
    # Again: nothing is asked.
    run = run_of(tmp_path, generate=Fake(no_engine), select_instructions=wanted)
    assert build_instructions(run, MODEL) == sources


def test_a_split_can_be_left_as_the_pool_has_it(tmp_path: Path) -> None:
    wanted = {"enabled": True, "categories": ["coding"]}
    run = run_of(tmp_path, generate=Fake(category), select_instructions=wanted)
    sources = build_instructions(run, MODEL, selected=("train",))
    assert sources["heldout"].num_records == 8
    assert sources["train"].num_records < 12


@pytest.mark.parametrize(("iterations", "fits"), [(2, True), (3, False)])
def test_each_iteration_needs_a_shard_where_it_has_pairs_of_its_own(
    tmp_path: Path, iterations: int, fits: bool
) -> None:
    loop = {"iterations": iterations, "new_pairs_each_iteration": True}
    run = run_of(tmp_path, loop=loop)
    train = build_instructions(run, MODEL)["train"]
    if fits:
        check_slices(run, train)
        return
    with pytest.raises(ConfigError) as wrong:
        check_slices(run, train)
    assert str(wrong.value) == (
        "loop.new_pairs_each_iteration: 12 instructions are 2 shards of pool.shard_size=8, too few"
        " for loop.iterations=3; lower pool.shard_size, or give a larger pool"
    )


def test_pairs_that_are_built_once_need_no_shards_of_their_own(tmp_path: Path) -> None:
    run = run_of(tmp_path, loop={"iterations": 3})
    check_slices(run, Source(folder=str(tmp_path / "none"), fingerprint="x", num_records=0))
