"""`training.curriculum: margin`: easiest pairs first, also after a break, and clear refusals."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from selfreward.config import RunConfig, TrainingConfig
from selfreward.config_loading import identity, parse_config
from selfreward.errors import ConfigError, DataError, RecipeChangedError
from selfreward.records import Preference, TrainingExample
from selfreward.schemas import to_table
from selfreward.training.examples import Examples
from selfreward.training.material import Setting
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.preferences import Preferences
from selfreward.training.text_stream import read_plainly
from tests.tiny_model import make_tiny_model
from tests.training_data import (
    curve,
    make_config,
    make_examples,
    make_preferences,
    make_task,
    run_here,
)

# Rows 2k and 2k + 1 are the two orders of pair k.
MARGINS = [0.5, None, 3.0, -2.0, 1.0, 0.0]
EASIEST_FIRST = [[4, 5], [8, 9], [0, 1], [10, 11], [6, 7], [2, 3]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def write_margins(folder: Path, margins: Sequence[float | None]) -> Path:
    def with_margins(rows: Sequence[Any]) -> list[Any]:
        return [replace(row, verdict_margin=margins[i // 2]) for i, row in enumerate(rows)]

    folder.mkdir()
    examples, preferences = make_examples(12), make_preferences(12)
    pq.write_table(to_table(with_margins(examples), TrainingExample), folder / "sft.parquet")
    pq.write_table(to_table(with_margins(preferences), Preference), folder / "dpo.parquet")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_margins(tmp_path / "data", MARGINS)


@pytest.mark.parametrize(("objective", "made"), [("sft", Examples), ("dpo", Preferences)])
def test_pairs_are_trained_from_the_easiest_to_the_hardest(
    objective: str, made: Any, tiny: Path, data: Path
) -> None:
    task = make_task(tiny, data, make_config(objective, curriculum="margin", batch_size=2))
    source = ModelSource(path=str(tiny))
    material = made(
        Setting(
            task=task,
            tokenizer=load_tokenizer(source),
            device=torch.device("cpu"),
            read=read_plainly,
        )
    )
    assert [sorted(step) for step in material._plan] == EASIEST_FIRST


def test_a_broken_off_run_goes_on_in_the_same_order(tiny: Path, data: Path, tmp_path: Path) -> None:
    config = make_config("sft", curriculum="margin", checkpoint_every_steps=1, epochs=2)
    task = make_task(tiny, data, config)
    whole = run_here(task, tmp_path / "s", tmp_path / "kept")
    again = run_here(task, tmp_path / "s", resume_from=tmp_path / "kept" / "step-2")
    assert len(curve(whole)) == 6
    assert curve(again) == pytest.approx(curve(whole), abs=1e-6)
    shuffled = run_here(make_task(tiny, data, make_config("sft", epochs=2)), tmp_path / "s")
    assert curve(shuffled)[0] != pytest.approx(curve(whole)[0], abs=1e-6)
    # Rows that would come in another order are other rows.
    others = write_margins(tmp_path / "other", MARGINS[::-1])
    with pytest.raises(RecipeChangedError, match="another recipe"):
        run_here(
            make_task(tiny, others, config),
            tmp_path / "s",
            resume_from=tmp_path / "kept" / "step-2",
        )


def test_rows_without_any_margin_are_one_clear_line(tiny: Path, tmp_path: Path) -> None:
    none = write_margins(tmp_path / "none", [None] * 6)
    with pytest.raises(DataError) as caught:
        run_here(make_task(tiny, none, make_config("sft", curriculum="margin")), tmp_path / "s")
    assert str(caught.value) == (
        "training.curriculum=margin: none of 12 TrainingExample rows has a verdict_margin, which"
        " rows selected by an earlier version lack; select them again with --force select, or set"
        " training.curriculum=none"
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("self_rewarding", "training"),
        ("self_rewarding", "seed_training"),
        ("custom_llm", "custom_llm.instruction_tuning.training"),
    ],
)
def test_a_loop_whose_rows_carry_none_refuses_it_before_it_starts(kind: str, name: str) -> None:
    given = [f"loop.kind={kind}", f"{name}.curriculum=margin"]
    with pytest.raises(ConfigError, match=f"{name}.curriculum=margin .* set none$"):
        parse_config({}, given)
    assert RunConfig.model_validate({"training": {"curriculum": "margin"}})


def test_the_setting_leaves_recipes_without_it_as_they_were() -> None:
    # Else no run folder from before it would go on.
    assert "curriculum" not in identity(TrainingConfig())
    assert identity(TrainingConfig(curriculum="margin"))["curriculum"] == "margin"
    assert "min_likelihood_margin" not in identity(RunConfig())["select"]
