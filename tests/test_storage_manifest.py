"""The manifest: the same recipe goes on or is skipped, another one stops with a diff."""

from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pydantic import BaseModel

from selfreward.config import RunConfig
from selfreward.config_loading import identity
from selfreward.errors import RecipeChangedError, StorageError
from selfreward.layout import join
from selfreward.storage import files
from selfreward.storage.manifest import (
    complete,
    fingerprint,
    flatten,
    open_stage,
    read_manifest,
    versions,
)
from selfreward.storage.shards import ShardSummary

RECIPE = {"respond": {"sampling": {"temperature": 0.7}, "n": 1}, "model": "9f3c", "extra": None}


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        MemoryFileSystem.store.clear()
        return "memory://run/stage"
    return str(tmp_path / "stage")


def summary(index: int, drops: dict[str, int], tokens: int) -> ShardSummary:
    return ShardSummary(
        index=index, num_inputs=10, num_records=8, drops=drops, ledger={"completion_tokens": tokens}
    )


def test_a_stage_is_opened_then_gone_on_with_then_complete(folder: str) -> None:
    assert read_manifest(folder) is None
    opened = open_stage(folder, "respond", RECIPE)
    assert (opened.status, opened.is_complete, opened.stage) == ("running", False, "respond")
    assert opened.recipe["respond.sampling.temperature"] == 0.7
    assert open_stage(folder, "respond", RECIPE) == opened
    summaries = [
        summary(1, {"too_long": 1, "empty_response": 1}, 50),
        summary(0, {"too_long": 2}, 70),
    ]
    done = complete(folder, opened, iter(summaries), 1.236, {"note": "x"})
    again = open_stage(folder, "respond", RECIPE)
    assert again == done == read_manifest(folder)
    assert again.is_complete
    assert (again.num_shards, again.num_inputs, again.num_records) == (2, 20, 16)
    assert again.drops == {"empty_response": 1, "too_long": 3}
    assert again.ledger == {"completion_tokens": 120}
    assert (again.seconds, again.extra) == (1.24, {"note": "x"})
    assert again.finished_at >= again.started_at > "2024"


def changed(folder: str, recipe: dict[str, Any]) -> str:
    # A stage that made nothing yet would take the new recipe.
    files.write_bytes(join(folder, "_parts", "00000", "part.parquet"), b"rows")
    with pytest.raises(RecipeChangedError) as caught:
        open_stage(folder, "respond", recipe)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_recipe_stops_with_what_changed(folder: str) -> None:
    open_stage(folder, "respond", RECIPE)
    text = changed(folder, RECIPE | {"respond": {"sampling": {"temperature": 1.0}, "n": 1}})
    assert text == (
        f"{folder} was made by another recipe: respond.sampling.temperature: 0.7 -> 1.0;"
        " use another run_dir, change it back, or redo it with --force respond"
    )
    # Nothing was written over.
    assert open_stage(folder, "respond", RECIPE).recipe["respond.sampling.temperature"] == 0.7


@pytest.mark.parametrize(
    ("recipe", "shown"),
    [
        (RECIPE | {"new": None}, "new: absent -> null"),
        ({k: v for k, v in RECIPE.items() if k != "extra"}, "extra: null -> absent"),
        (RECIPE | {"respond": {**RECIPE["respond"], "n": 1.0}}, "respond.n: 1 -> 1.0"),  # type: ignore[dict-item]
        (RECIPE | {"model": "other"}, 'model: "9f3c" -> "other"'),
    ],
)
def test_the_diff_shows_exactly_what_the_fingerprint_sees(
    folder: str, recipe: dict[str, Any], shown: str
) -> None:
    open_stage(folder, "respond", RECIPE)
    assert f"recipe: {shown}; use another" in changed(folder, recipe)


def test_a_tuple_is_a_list_to_the_diff(folder: str) -> None:
    open_stage(folder, "s", {"betas": (0.9, 0.95), "x": 1})
    assert open_stage(folder, "s", {"betas": [0.9, 0.95], "x": 1}).recipe["betas"] == [0.9, 0.95]
    assert "recipe: x: 1 -> 2; use" in changed(folder, {"betas": (0.9, 0.95), "x": 2})


def test_a_long_diff_is_cut(folder: str) -> None:
    open_stage(folder, "s", {f"k{i}": 0 for i in range(9)})
    text = changed(folder, {f"k{i}": 1 for i in range(9)})
    assert text.count("->") == 6
    assert "k5: 0 -> 1, 3 more;" in text


def test_the_order_of_keys_does_not_count_and_values_do() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    assert fingerprint({"a": None}) != fingerprint({})


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan"), float("inf"), b"x", [{3}]])
def test_a_value_without_a_stable_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        fingerprint({"a": value})


def test_nested_mappings_become_dotted_keys() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [2]}, "e": 3, "f": {4: 5}}) == {
        "a.b.c": 1,
        "a.d": [2],
        "e": 3,
        "f.4": 5,
    }


def test_every_section_of_a_config_has_a_fingerprint() -> None:
    config = RunConfig()
    for name in type(config).model_fields:
        section = getattr(config, name)
        if isinstance(section, BaseModel):
            assert len(fingerprint(flatten(identity(section)))) == 24


@pytest.mark.parametrize("content", [{"stage": "s"}, [], {"unknown": 1}])
def test_a_manifest_of_another_version_is_one_line(folder: str, content: Any) -> None:
    files.write_json(f"{folder}/manifest.json", content)
    with pytest.raises(StorageError, match=r"manifest\.json is no manifest of this version"):
        read_manifest(folder)


def test_versions_name_what_decides_the_output() -> None:
    found = versions()
    assert {"ray", "torch", "git"} <= set(found)
    assert all(found.values())


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_stage_that_made_nothing_yet_takes_a_mended_recipe(where: str, tmp_path: Path) -> None:
    folder = f"{tmp_path}/pool" if where == "local" else f"memory://{tmp_path.name}/pool"
    open_stage(folder, "pool", {"path": "mistyped.jsonl"})
    mended = open_stage(folder, "pool", {"path": "right.jsonl"})
    assert mended.recipe == {"path": "right.jsonl"}
    files.write_bytes(join(folder, "_parts", "00000", "part.parquet"), b"rows")
    with pytest.raises(RecipeChangedError, match="path: "):
        open_stage(folder, "pool", {"path": "another.jsonl"})
    # Nor is a complete stage without rows begun anew.
    empty = f"{folder}-empty"
    complete(empty, open_stage(empty, "pool", {"path": "a.jsonl"}), [], 0.0)
    with pytest.raises(RecipeChangedError, match="path: "):
        open_stage(empty, "pool", {"path": "b.jsonl"})
