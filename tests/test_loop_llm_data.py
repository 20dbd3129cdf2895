"""What the stages of one's own LLM read: one section's held-out exercises beside the other's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.layout import Layout
from selfreward.loops import llm_data
from selfreward.records_custom_llm import TaskItem
from selfreward.storage.shards import read_records, sealed_shards


def run_in(folder: Path, **section: Any) -> Any:
    """As much of a run as reading needs."""
    config = RunConfig.model_validate(
        {"loop": {"kind": "custom_llm"}, "custom_llm": section, "pool": {"shard_size": 64}}
    )
    display = SimpleNamespace(waiting=lambda *_: _Nothing(), line=lambda _: None)
    return SimpleNamespace(config=config, layout=Layout(str(folder / "run")), display=display)


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_data, "on_cluster", lambda _run, function, *args: function(*args))


def asked(folder: str) -> set[str]:
    """The exercises of a split, whatever their prompt form: the task and the target."""
    rows = [row for url in sealed_shards(folder) for row in read_records(url, TaskItem)]
    return {f"{row.task}: {row.target}" for row in rows}


def read(run: Any, *names: str) -> dict[str, llm_data.Splits]:
    section = run.config.custom_llm
    return llm_data.read_tasks(run, {name: getattr(section, name) for name in names})


def test_no_section_trains_on_what_the_other_is_measured_on(tmp_path: Path) -> None:
    # Of this task no two exercises have one target.
    one: dict[str, Any] = {"data": ["sample:tasks"], "tasks": ["words_to_snake"]}
    sections = {
        "finetuning": one | {"max_items": 200, "heldout": 40},
        "instruction_tuning": one | {"max_items": 120, "heldout": 30},
    }
    run = run_in(tmp_path, **sections)
    found = read(run, *sections)
    aside = set().union(*(asked(splits.heldout.folder) for splits in found.values()))
    for splits in found.values():
        assert not asked(splits.train.folder) & aside


def test_the_other_section_is_part_of_the_recipe(tmp_path: Path) -> None:
    def fingerprint(name: str, heldout: int, *others: str) -> str:
        one = {"data": ["sample:tasks"], "max_items": 60, "heldout": 10}
        sections = {"finetuning": one | {"heldout": heldout}, "instruction_tuning": one}
        run = run_in(tmp_path / name, **sections)
        return read(run, "instruction_tuning", *others)["instruction_tuning"].train.fingerprint

    first = fingerprint("first", 10, "finetuning")
    assert fingerprint("more held out there", 12, "finetuning") != first
    # A section that no stage reads has no say.
    assert fingerprint("alone", 10) == fingerprint("alone again", 12)
