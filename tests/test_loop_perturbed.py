"""The loop on pairs damaged by rules, on the scripted engine and a real local Ray."""

import json
from collections import Counter
from pathlib import Path

import pytest

from selfreward.records import ResponsePair
from selfreward.storage.shards import read_records, sealed_shards
from tests.conftest import write_recipe
from tests.loop_tools import run_here

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

UNSEEN = {"other_answer", "garble_words"}


def pairs_in(folder: Path) -> list[ResponsePair]:
    return [row for url in sealed_shards(str(folder)) for row in read_records(url, ResponsePair)]


def test_kinds_kept_out_of_training_are_measured(
    tmp_path: Path, scripted_recipe: dict, local_ray: None
) -> None:
    recipe = json.loads(json.dumps(scripted_recipe))
    recipe["run_dir"] = str(tmp_path / "run")
    recipe["perturb"] = {"pairs_per_instruction": 4, "without": sorted(UNSEEN)}
    recipe["length_balance"] = {"enabled": True}
    run_here(write_recipe(tmp_path, recipe))

    run = tmp_path / "run"
    trained = Counter(pair.corruption for pair in pairs_in(run / "iter_01" / "pairs"))
    measured = Counter(pair.corruption for pair in pairs_in(run / "heldout" / "pairs"))
    assert len(trained) > 4
    assert not UNSEEN & set(trained)
    assert UNSEEN & set(measured)
    chooses = {pair.corruption for pair in pairs_in(run / "validation" / "pairs")}
    assert not UNSEEN & chooses

    # Of every kind as many with the longer answer chosen as with the shorter one.
    for kind in trained:
        pairs = [pair for pair in pairs_in(run / "iter_01" / "pairs") if pair.corruption == kind]
        longer = sum(len(p.chosen) > len(p.rejected) for p in pairs)
        assert longer == sum(len(p.chosen) < len(p.rejected) for p in pairs)
    assert (run / "iter_01" / "checkpoint" / "model.safetensors").is_file()
