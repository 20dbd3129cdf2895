"""Training on Ray: resume, publishing, mistakes of the user."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import ConfigError, DataError
from selfreward.preflight import start_local
from selfreward.training.checkpoint import is_complete
from selfreward.training.trainer import TrainingJob, train
from tests.tiny_model import make_tiny_model
from tests.training_data import curve, make_config, make_task, run_here, write_data

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    import ray

    start_local(4)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    make_tiny_model(folder / "model")
    write_data(folder / "data")
    return folder


def make_job(root: Path, name: str, objective: str = "sft", **changes: Any) -> TrainingJob:
    return TrainingJob(
        name=name,
        model=str(root / "model"),
        data=(str(root / "data" / f"{objective}.parquet"),),
        record="Preference" if objective == "dpo" else "TrainingExample",
        config=make_config(objective, num_cpus_per_worker=0.5, **changes),
        output=str(root / name / "checkpoint"),
        storage_path=str(root / "state"),
        validation=(str(root / "data" / "sft.parquet"),),
        seed=1,
    )


def test_two_workers_train_like_one_and_publish_the_best(root: Path, tmp_path: Path) -> None:
    """Killed workers are in the tests of the loops, which compare the weights in the end."""
    job = replace(
        make_job(root, "pair", "dpo", num_workers=2, epochs=2, eval_every_steps=2),
        reference_cache=str(root / "reference"),
    )
    result = train(job)
    assert result.steps == 6
    assert result.num_examples == 12
    assert result.tokens_per_s > 0
    assert len(list((root / "reference").iterdir())) == 1
    config = make_config("dpo", epochs=2, eval_every_steps=2)
    unbroken = run_here(make_task(root / "model", root / "data", config), tmp_path)
    losses = [row["train/loss"] for row in result.history]
    assert losses == pytest.approx(curve(unbroken), abs=1e-4)
    # Published: the model alone, the evaluated step with the best accuracy, then loss.
    evaluated = [row for row in result.history if "eval/loss" in row]
    assert len(evaluated) > 1
    best = max(evaluated, key=lambda row: (row["eval/accuracy"], -row["eval/loss"]))
    assert result.metrics["step"] == best["step"]
    assert is_complete(job.output)
    assert not list(Path(job.output).glob("trainer_*"))
    lines = (root / "state" / "pair" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6
    # The same job again: its output is there, nothing is trained.
    weights = Path(job.output) / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert train(job) == result
    assert weights.stat().st_mtime_ns == written


def test_mistakes_are_told_in_one_line_and_not_retried(root: Path) -> None:
    with pytest.raises(DataError, match=r"^training job empty has no data files$"):
        train(replace(make_job(root, "empty"), data=()))
    with pytest.raises(ConfigError, match="objective=sft reads TrainingExample rows"):
        train(replace(make_job(root, "wrong"), record="Preference"))
    with pytest.raises(DataError, match=r"all longer than training.max_length=16 tokens$"):
        train(make_job(root, "long", max_length=16))
