"""Fixtures shared by the tiers: a tiny model, and recipes that run in seconds."""

import os
import sys
from pathlib import Path

# Before anything loads torch, and inherited by what tests start. Two tests run at once, and the
# models of the fast tier are so small that a second thread only waits; engines and trainers of
# real models set their own numbers. Hub look-ups would only wait for a network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import yaml
from hypothesis import settings

# The files that take minutes, longest first: two workers share whole files out in this order, and a
# long one taken last would leave the other worker without work.
SLOW_FILES = (
    "test_loop_self_rewarding",
    "test_loop_rewarding_options",
    "test_loop_scripted",
    "test_loop_custom_llm",
    "test_serving_ray",
    "test_training_trainer",
    "test_evaluate",
    "test_evaluate_benchmarks",
    "test_training_parallel",
    "test_training_online_job",
    "test_training_online_loop",
    "test_training_reward_model",
    "test_engines_scripted",
    "test_cli_errors",
    "test_loop_real",
    "test_serving_real",
)
RAY_CPUS = 4

# How long an example takes says how busy the machine is.
settings.register_profile("selfreward", deadline=None)
settings.load_profile("selfreward")

_files_on_ray: set[Path] = set()
_shares_ray: list[bool] = []
"""Not empty: `local_ray` has started one and it is still there."""


def pytest_configure(config: pytest.Config) -> None:
    # Two engines that both compute on every core wait for one another's threads at each layer.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if config.option.markexpr == "real" and worker and sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        stem = item.path.stem
        return SLOW_FILES.index(stem) if stem in SLOW_FILES else len(SLOW_FILES)

    items.sort(key=place)
    _files_on_ray.update(item.path for item in items if item.get_closest_marker("ray"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # Idle it would go on costing, and the tests of real models start one of their own.
    if _shares_ray and item.path not in _files_on_ray:
        import ray

        ray.shutdown()
        _shares_ray.clear()


@pytest.fixture(scope="module")
def local_ray() -> None:
    """A local Ray in this process. Its start costs as much as the tests of a small file, so it
    stays for the next file that wants one: until a file comes that has no test marked `ray`."""
    import ray

    from selfreward.preflight import start_local

    if not ray.is_initialized():
        start_local(RAY_CPUS)
        _shares_ray.append(True)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Here: it imports transformers, which those who only collect tests need not wait for.
    from tests.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def scripted_recipe(tiny_model: Path) -> dict:
    """The whole loop on the scripted engine and the tiny model; tests change what they test."""
    return {
        "model": {"name": str(tiny_model)},
        "engine": {
            "kind": "scripted",
            "num_cpus": 0.5,
            "max_model_len": 4096,
            "scripted": {"skill": 0.7},
        },
        "pool": {"max_instructions": 80, "shard_size": 16, "near_duplicate_threshold": None},
        "judge": {"rubric": "pairwise_verdict_only", "num_draws": 6},
        "evaluation": {
            "heldout_pairs": 16,
            "validation_pairs": 8,
            "sampling": {"temperature": 0.0, "max_tokens": 8},
        },
        "training": {
            "batch_size": 8,
            "max_steps": 3,
            "checkpoint_every_steps": 1,
            "learning_rate": 1e-3,
            "precision": "fp32",
        },
        "ray": {"num_cpus": 3, "shards_in_flight": 2},
    }


def write_recipe(folder: Path, recipe: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path
