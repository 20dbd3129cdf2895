"""The whole loop on the scripted engine: verdicts that come first, pairs the generator finds
unlikely left out, and training from the easiest pairs on."""

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

from selfreward.judging.prompts import get_pairwise_rubric
from tests.conftest import write_recipe
from tests.loop_tools import records, run_here

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def test_a_run_with_verdicts_first_and_a_curriculum(
    tmp_path: Path, scripted_recipe: dict, local_ray: None
) -> None:
    recipe = json.loads(json.dumps(scripted_recipe))
    run = tmp_path / "run"
    recipe["run_dir"] = str(run)
    recipe["judge"]["rubric"] = "pairwise_verdict_first"
    recipe["training"]["curriculum"] = "margin"
    # The scripted engine finds better answers likelier: all pairs are scored and none is dropped.
    recipe["select"] = {"min_likelihood_margin": 0.0}
    # A judge that errs more often in one order than in the other.
    recipe["engine"]["scripted"]["first_position_bias"] = 0.2
    out = run_here(write_recipe(tmp_path, recipe))
    assert re.search(r"score 1\s*│\s*56 │\s*56 │", out)
    tables = records(run)
    rows = [
        row
        for name, table in tables.items()
        if name.startswith("iter_01/examples/shard")
        for row in table.to_pylist()
    ]
    assert len(rows) > 8
    regex = get_pairwise_rubric("pairwise_verdict_first").guided_regex
    assert regex is not None
    assert all(re.fullmatch(regex, row["target"]) for row in rows)
    margins = defaultdict(set)
    for row in rows:
        margins[row["pair_id"]].add(row["verdict_margin"])
    assert all(len(found) == 1 and None not in found for found in margins.values())
    # Scripted: P(first) = .2 + .8 * .7 = .76 with the better response first, .2 + .8 * .3 = .44
    # with it second: (log(.76 / .24) + log(.56 / .44)) / 2.
    for found in margins.values():
        assert found.pop() == pytest.approx(0.6969, abs=1e-4)
    manifest = json.loads((run / "iter_01" / "training" / "manifest.json").read_text())
    assert manifest["recipe"]["training.curriculum"] == "margin"
    assert (run / "iter_01" / "checkpoint" / "model.safetensors").is_file()
    # What is measured while training is the verdict alone.
    (targets,) = {
        tuple(sorted(set(table["target"].to_pylist())))
        for name, table in tables.items()
        if name.startswith("iter_01/validation_examples/shard")
    }
    assert targets == ("[[A]]", "[[B]]")
