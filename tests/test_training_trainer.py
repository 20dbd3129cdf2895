"""Training on Ray: resume, publishing, mistakes of the user."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config_training import TrainingConfig
from selfreward.errors import ConfigError, DataError
from selfreward.training import trainer
from selfreward.training.checkpoint import is_complete
from selfreward.training.ray_stream import read_with_ray_data
from selfreward.training.text_plan import EpochOrder, TextPlan, measure_shards
from selfreward.training.text_stream import Chunks, read_plainly
from selfreward.training.trainer import TrainingJob, train
from selfreward.training.worker import run_worker
from tests.tiny_model import make_tiny_model
from tests.training_data import (
    curve,
    make_config,
    make_task,
    play_ray_train,
    run_here,
    write_data,
    write_text,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    make_tiny_model(folder / "model")
    write_data(folder / "data")
    write_text(folder / "data")
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


def test_ray_data_reads_what_plain_reading_reads(root: Path) -> None:
    shards = measure_shards([str(root / "data" / f"text-{i}.parquet") for i in range(3)])
    # Steps of one large batch each: 40 chunks, which are more than one dataset holds.
    plan = TextPlan(EpochOrder(shards, 0), total=40 * 128, batch_size=128)
    chunks = Chunks(plan, start=0, rank=0, world_size=1)
    assert len(chunks) == 40
    for ours, plain in zip(read_with_ray_data(chunks), read_plainly(chunks), strict=True):
        assert [row.tokens.tolist() for row in ours[0]] == [r.tokens.tolist() for r in plain[0]]
        assert [row.lengths.tolist() for row in ours[0]] == [r.lengths.tolist() for r in plain[0]]
    gone = str(root / "gone.parquet")
    with pytest.raises(DataError, match=f"^no training text at {gone}$"):
        list(read_with_ray_data([[[(gone, 0)]]]))


def test_mistakes_are_told_in_one_line_and_not_retried(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"^training job empty has no data files$"):
        train(replace(make_job(root, "empty"), data=()))
    with pytest.raises(ConfigError, match="objective=sft reads TrainingExample rows"):
        train(replace(make_job(root, "wrong"), record="Preference"))
    # What only a worker finds is returned, which Ray Train takes for success and hands on, as it
    # does what the workers of the test above return; its own part is played here.
    play_ray_train(monkeypatch)
    tried = []

    def fit_here(
        worker: Any, job: TrainingJob, config: TrainingConfig, **options: Any
    ) -> SimpleNamespace:
        tried.append(job.name)
        return SimpleNamespace(return_value=run_worker({"job": job, "deadline": None}))

    monkeypatch.setattr(trainer, "fit", fit_here)
    with pytest.raises(DataError, match=r"^[^\n]+ all longer than training.max_length=16 tokens$"):
        train(make_job(root, "long", max_length=16))
    assert tried == ["long"]
