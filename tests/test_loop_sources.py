"""Filling a stage folder once: by one task, or from the shards of another one."""

from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import RecipeChangedError
from selfreward.layout import join
from selfreward.loops.sources import Source, build_folder, fill, output_of
from selfreward.records import AnsweredInstruction, ModelRef, TrainingExample
from selfreward.stages.seeds import IftExamples
from selfreward.storage.manifest import Manifest, read_manifest
from selfreward.storage.shards import ShardSummary, shard_name, write_records
from tests.run_folders import answer, answered, ask
from tests.stage_tools import records_in
from tests.step_tools import run_in, without_ray


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def test_a_folder_is_built_once_and_what_was_built_is_said_once(tmp_path: Path) -> None:
    run, folder, asked = run_in(tmp_path, {}), str(tmp_path / "made"), []

    def build(name: str) -> list[ShardSummary]:
        asked.append(name)
        return [ShardSummary(index=0, num_inputs=3, num_records=2, drops={"long": 1}, ledger={})]

    def told(manifest: Manifest) -> str:
        return f"{manifest.num_records} of {manifest.num_inputs}"

    def made(recipe: dict[str, Any]) -> Manifest:
        return build_folder(run, folder, "seeds", recipe, build, "a", told=told)

    done = made({"max": 3})
    assert done.is_complete and (done.num_records, done.drops) == (2, {"long": 1})
    assert made({"max": 3}) == done == read_manifest(folder)
    with pytest.raises(RecipeChangedError, match="max"):
        made({"max": 4})
    lines: Any = run.display
    assert (asked, lines.lines) == (["a"], ["2 of 3"])


def test_a_folder_made_of_another_has_its_shards_and_depends_on_it(tmp_path: Path) -> None:
    run, folder = run_in(tmp_path, {}), str(tmp_path / "seeds")
    model = ModelRef(name="m", iteration=0, fingerprint="f")
    for index in range(2):
        rows = [ask(f"Ask {index}{number}.") for number in range(3)]
        made = [answered(row, answer(row, "So.", model)) for row in rows]
        write_records(join(folder, shard_name(index)), made, AnsweredInstruction)
    source = Source(folder=folder, fingerprint="seeds-1", num_records=6)
    output = output_of(str(tmp_path / "examples"), source, {"seed": 7})
    done = fill(run, "examples", IftExamples(), output)
    assert done.num_records == len(records_in(done.folder, TrainingExample)) == 6
    manifest = read_manifest(done.folder)
    assert manifest is not None and manifest.num_shards == 2
    assert manifest.recipe == {"seed": 7, "input": "seeds-1"}
    assert done == Source.of(done.folder, manifest)
