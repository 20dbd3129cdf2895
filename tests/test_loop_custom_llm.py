"""The stages of one's own LLM on a real Ray: random weights to rewards, on the scripted engine."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import write_recipe
from tests.loop_tools import run_here

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

PLAIN = "the cat sat on a mat and a dog ran over green hills to find old bones by night"
DOMAIN = "function returns value of object class method argument when key is not found"
# Each is a training of half a minute of processor time; the other two are like these.
STAGES = {"pretrain": 1, "instruct": 4, "prefer": 5, "reinforce": 6}


def write_texts(path: Path, vocabulary: str, count: int, seed: int) -> str:
    """A JSONL file of documents of one vocabulary, no two alike."""
    draw, words = random.Random(seed), vocabulary.split()
    lines = []
    for _ in range(count):
        sentences = [" ".join(draw.choices(words, k=9)) for _ in range(draw.randint(6, 12))]
        lines.append(json.dumps({"text": ". ".join(sentences).capitalize()}))
    path.write_text("\n".join(lines))
    return str(path)


def recipe_in(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    training = {
        "batch_size": 8,
        "max_steps": 3,
        "learning_rate": 1e-3,
        "precision": "fp32",
        "max_length": 128,
        "tokens_per_micro_batch": 1024,
    }
    recipe: dict[str, Any] = {
        "run_dir": str(folder / "run"),
        "loop": {"kind": "custom_llm"},
        "engine": {"kind": "scripted", "num_cpus": 0.5, "max_model_len": 128},
        "pool": {"shard_size": 32},
        "ray": {"num_cpus": 3, "shards_in_flight": 2},
        "custom_llm": {
            "stages": list(STAGES),
            "tokenizer": {"vocab_size": 420},
            "architecture": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_layers": 2,
                "num_heads": 2,
                "num_kv_heads": 2,
                "context_length": 128,
            },
            "general": {
                "sources": [write_texts(folder / "plain.jsonl", PLAIN, 80, 1)],
                "near_duplicate_threshold": None,
                "validation_share": 0.15,
                "shard_size": 40,
            },
            "domain": {
                "sources": [write_texts(folder / "domain.jsonl", DOMAIN, 60, 2)],
                "near_duplicate_threshold": None,
                "validation_share": 0.15,
            },
            "pretraining": {"sequence_length": 64, "training": training | {"max_steps": 12}},
            "instruction_tuning": {"max_items": 80, "heldout": 16, "training": training},
            "rankings": {
                "max_rankings": 40,
                "heldout": 10,
                "training": training,
            },
            "reward_model": {"training": training},
            "online": {
                "steps": 2,
                "prompts_per_step": 4,
                "group_size": 3,
                "eval_prompts": 6,
                "eval_every": 2,
                "training": training,
            },
        },
    }
    return write_recipe(folder, recipe)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("llm")
    return folder, run_here(recipe_in(folder))


def figures(folder: Path, number: int) -> dict[str, Any]:
    url = folder / "run" / f"iter_{number:02d}" / "evaluation" / "stage.json"
    report: dict[str, Any] = json.loads(url.read_text())
    return report


def test_every_stage_leaves_a_model_and_its_figures(finished: tuple[Path, str]) -> None:
    folder, out = finished
    run = folder / "run"
    for stage, number in STAGES.items():
        assert f"{number} {stage}" in out
        assert (run / f"iter_0{number}" / "checkpoint" / "model.safetensors").is_file()
        found = figures(folder, number)["figures"]
        assert found["general_perplexity"]["value"] > 1
        assert 0 <= found["instruction_following"]["value"] <= 1
        assert found["change"]["what"]
    assert json.loads((run / "current.json").read_text())["current"]["iteration"] == 6
    (attempt,) = json.loads((run / "run.json").read_text())["attempts"]
    # The engines that write and the reward model, once each for all stages.
    assert attempt["engine_starts"] == 2


def test_text_is_learnt_from_random_weights_on(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    start, first = (figures(folder, n)["figures"] for n in (0, 1))
    assert first["change"]["ci"][1] < 0, "pretraining did not lower bits per byte"
    # A random model is near the vocabulary's size, 420 and what padding adds.
    assert 300 < start["general_perplexity"]["value"] < 600
    assert first["general_perplexity"]["value"] < start["general_perplexity"]["value"]
    assert first["domain_perplexity"]["value"] > first["general_perplexity"]["value"]


def test_rewards_are_measured_of_the_model_before_preferences_too(
    finished: tuple[Path, str],
) -> None:
    folder, _ = finished
    instruct, prefer, reinforce = (figures(folder, n)["figures"] for n in (4, 5, 6))
    for row in (instruct, prefer, reinforce):
        assert row["mean_reward"]["ci"][0] <= row["mean_reward"]["value"]
    assert 0 <= prefer["reward_model_accuracy"]["value"] <= 1
    assert prefer["kl"] is not None and reinforce["kl"] is not None
    assert instruct["kl"] is None, "the reference has no distance from itself"


def test_preferences_follow_the_ranks(finished: tuple[Path, str]) -> None:
    run = finished[0] / "run"
    rankings = {
        row["id"]: row
        for path in sorted((run / "rankings" / "train").glob("shard-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }
    rows = [
        row
        for path in sorted((run / "iter_05" / "preferences").glob("shard-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert len(rows) >= len(rankings)
    for row in rows:
        ranking = rankings[row["pair_id"]]
        rank = dict(zip(ranking["responses"], ranking["ranks"], strict=True))
        assert rank[row["chosen"]] < rank[row["rejected"]]


def test_the_same_command_again_does_nothing_twice(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("*.safetensors")}
    out = run_here(folder / "recipe.yaml")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert "starting" not in out
    assert not re.search(r"train stage \d", out)


def test_a_stage_speaks_on_the_command_line(finished: tuple[Path, str]) -> None:
    from typer.testing import CliRunner

    from selfreward.cli import app

    run = finished[0] / "run"
    shown = CliRunner().invoke(app, ["predict", f"{run}@0", f"{run}@1", "The cat sat on the"])
    assert shown.exit_code == 0, shown.output
    assert "The cat sat on the" in shown.output
    status = CliRunner().invoke(app, ["status", str(run)])
    assert status.exit_code == 0, status.output
    assert "complete" in status.output.splitlines()[-1]
    assert "not complete" not in status.output
