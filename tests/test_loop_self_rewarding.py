"""The self-rewarding loop on the scripted engine and a real Ray: unbroken, broken, stopped.

What is to be killed is a process with a Ray of its own; the rest runs in this one.
"""

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.conftest import write_recipe
from tests.loop_tools import (
    assert_same_records,
    descendants,
    find_worker,
    finish,
    journal,
    kill_driver,
    part_rows,
    records,
    run_here,
    start_run,
    wait_until,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def recipe_in(folder: Path, base: dict[str, Any], **scripted: object) -> Path:
    recipe = json.loads(json.dumps(base))
    training = recipe["training"] | {"batch_size": 16, "max_length": 2048}
    recipe |= {
        "run_dir": str(folder / "run"),
        "loop": {"kind": "self_rewarding", "iterations": 2},
        "seeds": {"max_ift": 40, "draws_per_response": 6},
        "self_instruct": {"completions": 24, "rounds": 2},
        "candidates": {"keep_truncated": True},
        "meta_judge": {"enabled": True, "max_pairs_per_response": 3},
        "seed_training": training | {"objective": "sft"},
        "training": training | {"objective": "dpo"},
    }
    # Sixteen answers are too few for the sign test: more wins than losses promote here.
    recipe["promotion"] = {"max_p_value": 1.0}
    recipe["evaluation"] |= {"validation_pairs": 0}
    recipe["engine"]["scripted"] |= {"journal": str(folder / "journal"), **scripted}
    return write_recipe(folder, recipe)


def kill_shard_task(driver: subprocess.Popen[str]) -> bool:
    worker = find_worker(driver.pid, "ShardTask")
    if worker is not None:
        worker.send_signal(signal.SIGKILL)
    return worker is not None


@pytest.fixture(scope="module")
def unbroken(
    tmp_path_factory: pytest.TempPathFactory, scripted_recipe: dict, local_ray: None
) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run_here(recipe_in(folder, scripted_recipe))


def rows(run: Path, stage: str) -> list[dict[str, Any]]:
    return [
        row
        for name, table in records(run).items()
        if name.startswith(f"{stage}/shard")
        for row in table.to_pylist()
    ]


def test_a_run_ends_with_its_tables_and_two_models(unbroken: tuple[Path, str]) -> None:
    folder, out = unbroken
    run = folder / "run"
    # 40 answered seeds of which 8 are held out; 24 prompts with three ranked responses each.
    assert re.search(r"answered seeds\s*│\s*32 │\s*32 │", out)
    assert re.search(r"ranked responses\s*│\s*72 │\s*72 │", out)
    assert re.search(r"create 2, round 1\s*│\s*12 │\s*12 │", out)
    for table in ("Models", "Answers compared by"):
        assert table in out
    # M1 met M0; M2 met M1, which is also the model before.
    figures = [
        json.loads((run / f"iter_0{i}" / "evaluation" / "figures.json").read_text())
        for i in range(3)
    ]
    assert [list(f.get("head_to_head", {})) for f in figures] == [[], ["M0"], ["M1"]]
    assert figures[2]["head_to_head"]["M1"]["n"] == 16
    assert figures[2]["kl"]["n"] == 16
    for i in (1, 2):
        assert (run / f"iter_0{i}" / "checkpoint" / "model.safetensors").is_file()
    (attempt,) = json.loads((run / "run.json").read_text())["attempts"]
    assert attempt["engine_starts"] == 1


def test_preferences_are_best_against_worst_of_the_scores(unbroken: tuple[Path, str]) -> None:
    run = unbroken[0] / "run"
    scores: dict[str, list[float]] = {}
    for rating in rows(run, "iter_02/ratings"):
        if rating["verdict"]["outcome"] == "score":
            scores.setdefault(rating["response_id"], []).append(rating["verdict"]["score"])
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    sampled = {row["id"]: row for row in rows(run, "iter_02/responses")}
    preferences = rows(run, "iter_02/preferences")
    assert len(preferences) >= 20
    for row in preferences:
        of = [means[r["id"]] for r in sampled[row["pair_id"]]["responses"]]
        assert means[row["chosen_id"]] == row["chosen_score"] == max(of)
        assert means[row["rejected_id"]] == row["rejected_score"] == min(of)
        assert row["chosen_score"] > row["rejected_score"]


def test_judgments_learnt_by_the_first_model_agree_with_people(
    unbroken: tuple[Path, str],
) -> None:
    run = unbroken[0] / "run"
    people = {row["id"]: row for row in rows(run, "seeds/ranked")}
    ratings = {row["id"]: row for row in rows(run, "iter_01/eft_ratings")}
    learnt = rows(run, "iter_01/eft")
    assert learnt
    by_draw: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in learnt:
        rating = ratings[row["judgment_id"]]
        person = people[rating["response_id"]]
        key = (person["group"], rating["draw"])
        by_draw.setdefault(key, []).append((person["score"], rating["verdict"]["score"]))
    # Within a draw a response that people scored higher has the higher score.
    compared = 0
    for found in by_draw.values():
        for one in found:
            for other in found:
                if one[0] > other[0]:
                    assert one[1] > other[1]
                    compared += 1
    assert compared > 0


def test_killed_three_times_gives_the_records_of_an_unbroken_run(
    tmp_path: Path, scripted_recipe: dict, unbroken: tuple[Path, str]
) -> None:
    """kill -9 of the driver while ranked responses are judged; then, in the run that goes on, of
    the process that works on a shard of answers and of the engine while they are scored.

    The run begins as a copy of the unbroken one that lacks those stages and all after M1's
    training, which is not repeated: killing a training is a test of the other loop.
    """
    path = recipe_in(tmp_path, scripted_recipe, delay_s=0.2)
    run, served = tmp_path / "run", tmp_path / "journal"
    shutil.copytree(unbroken[0] / "run", run)
    ratings = run / "iter_01" / "eft_ratings"
    for made in (ratings, run / "iter_01" / "eft", run / "iter_01" / "evaluation", run / "iter_02"):
        shutil.rmtree(made)
    for made in (run / "iter_01" / "promotion.json", run / "current.json"):
        made.unlink()
    trained = run / "iter_01" / "checkpoint" / "model.safetensors"
    written = trained.stat().st_mtime_ns
    driver = start_run(path)
    wait_until("some judged rows", lambda: len(part_rows(ratings)) >= 8)
    kill_driver(driver)

    driver = start_run(path)
    answers = run / "iter_02" / "responses"
    # Such a process is called so only while it has a shard.
    wait_until("a shard of answers at work", lambda: answers.exists() and kill_shard_task(driver))
    scored = run / "iter_02" / "ratings"
    wait_until("some scored candidates", lambda: len(part_rows(scored)) >= 8)
    replicas = {int(re.findall(r"-(\d+)\.log$", name)[0]) for name in journal(served)}
    alive = [p for p in descendants(driver.pid) if p.pid in replicas]
    assert len(alive) == 1
    alive[0].send_signal(signal.SIGKILL)
    finish(driver)

    assert_same_records(run, unbroken[0] / "run")
    assert trained.stat().st_mtime_ns == written
    current, wanted_current = (
        json.loads((r / "current.json").read_text())["current"] for r in (run, unbroken[0] / "run")
    )
    for key in ("iteration", "fingerprint", "reason"):
        assert current[key] == wanted_current[key]
    weights, wanted = (
        load_file(r / "iter_02" / "checkpoint" / "model.safetensors")
        for r in (run, unbroken[0] / "run")
    )
    assert_close(weights, wanted, rtol=0, atol=1e-6)


def test_a_collapse_stops_the_loop_and_the_last_good_model_stays(
    unbroken: tuple[Path, str], tmp_path: Path
) -> None:
    """The finished run again with a threshold that it crosses: no work is done twice, M1 is taken
    back and M3 is never begun."""
    folder = unbroken[0]
    shutil.copytree(folder / "run", tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("shard-*.parquet")}
    out = run_here(
        folder / "recipe.yaml",
        f"run_dir={tmp_path / 'run'}",
        "loop.iterations=3",
        "collapse.max_length_ratio=1.0001",
        "collapse.max_kl_per_token=0.001",
    )
    assert "starting" not in out
    assert "train M" not in out
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert "stopped after iteration 1, 2 left: the loop is collapsing; M0 stays current" in out
    assert "collapse.max_kl_per_token" in out
    assert not (tmp_path / "run" / "iter_03").exists()
    assert json.loads((tmp_path / "run" / "iter_01" / "promotion.json").read_text())["stopped"]
    current = json.loads((tmp_path / "run" / "current.json").read_text())["current"]
    assert current["iteration"] == 0


def test_explain_tells_where_a_preference_comes_from(unbroken: tuple[Path, str]) -> None:
    from typer.testing import CliRunner

    from selfreward.cli import app

    run = unbroken[0] / "run"
    preference = pq.read_table(run / "iter_02" / "preferences" / "shard-00000.parquet").to_pylist()[
        0
    ]
    shown = CliRunner().invoke(app, ["explain", str(run), preference["id"]])
    assert shown.exit_code == 0, shown.output
    for ident in (preference["chosen_id"], preference["rejected_id"], preference["pair_id"]):
        assert ident in shown.output
    assert "trained M2" in shown.output
