"""DPO against a reference that training does not start from, and labels that are not sure."""

import gc
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from selfreward.errors import ConfigError, RecipeChangedError
from selfreward.training import loop
from selfreward.training.encoding import encode_preferences
from selfreward.training.model import ModelSource, load_causal_lm, load_tokenizer
from selfreward.training.task import TrainingTask
from selfreward.training.trainer import TrainingJob, train
from selfreward.training.worker import run_worker
from tests.tiny_model import make_tiny_model
from tests.training_data import (
    curve,
    make_config,
    make_preferences,
    make_task,
    play_ray_train,
    run_here,
    write_data,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model` to start from, `first` to stay close to, `data`, and `unsure` data."""
    folder = tmp_path_factory.mktemp("reference")
    make_tiny_model(folder / "model")
    make_tiny_model(folder / "first", seed=1)
    write_data(folder / "data")
    write_data(folder / "unsure", confidences=(0.9, 0.4, 1.0))
    return folder


def make_first_task(root: Path, data: str = "data", **changes: Any) -> TrainingTask:
    return make_task(
        root / "model",
        root / data,
        make_config("dpo", dpo_reference="first", **changes),
        reference_source=ModelSource(path=str(root / "first")),
    )


def summed_logps(folder: Path, prompt: list[int], completion: list[int]) -> float:
    source = ModelSource(path=str(folder))
    model = load_causal_lm(source, dtype=torch.float32, attention="sdpa").eval()
    ids = torch.tensor([prompt + completion])
    with torch.no_grad():
        logps = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), -1)
    return float(logps.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum())


def test_rewards_are_measured_from_the_first_model(root: Path, tmp_path: Path) -> None:
    result = run_here(make_first_task(root, batch_size=12), tmp_path)
    rows, _ = encode_preferences(
        load_tokenizer(ModelSource(path=str(root / "model"))), make_preferences(12), 2048
    )
    # Before the first update: beta * mean over the step's 12 rows of log p_model - log p_first.
    for column, name in enumerate(("train/reward_chosen", "train/reward_rejected")):
        wanted = [
            summed_logps(root / "model", r.prompt.tolist(), r.completions[column].tolist())
            - summed_logps(root / "first", r.prompt.tolist(), r.completions[column].tolist())
            for r in rows
        ]
        assert result.history[0][name] == pytest.approx(0.1 * sum(wanted) / 12, abs=1e-4)
        assert abs(result.history[0][name]) > 1e-2


def test_a_first_model_that_is_the_start_gives_the_same_run(root: Path, tmp_path: Path) -> None:
    start = run_here(make_task(root / "model", root / "data", make_config("dpo")), tmp_path)
    task = make_first_task(root)
    same = ModelSource(path=str(root / "model"))
    # By its path it is known to be the same model; under another name it is loaded and compared.
    known = replace(task, reference_source=same)
    loaded = replace(task, reference_source=same, reference_fingerprint="another name")
    assert known.other_reference is None and loaded.other_reference == same
    assert curve(run_here(known, tmp_path)) == curve(start)
    assert curve(run_here(loaded, tmp_path)) == pytest.approx(curve(start), abs=1e-6)
    assert start.history[0]["train/loss"] == pytest.approx(
        math.log(2) + start.history[0]["train/nll"], abs=1e-5
    )


@pytest.mark.parametrize(("cached", "precision"), [(True, "fp32"), (False, "bf16")])
def test_a_resumed_run_keeps_the_first_model_as_its_reference(
    cached: bool, precision: str, root: Path, tmp_path: Path
) -> None:
    lora = {"rank": 4, "alpha": 8, "dropout": 0.1} if cached else None
    task = make_first_task(
        root, "unsure", checkpoint_every_steps=1, epochs=2, precision=precision, lora=lora
    )
    task = replace(task, reference_cache=str(tmp_path / "cache") if cached else None)
    whole = run_here(task, tmp_path / "s", tmp_path / "kept")
    again = run_here(task, tmp_path / "s", resume_from=tmp_path / "kept" / "step-2")
    assert len(curve(whole)) == 6
    assert curve(again) == pytest.approx(curve(whole), abs=1e-6)
    assert curve(again, "train/reward_chosen") == pytest.approx(
        curve(whole, "train/reward_chosen"), abs=1e-5
    )


def test_another_reference_or_other_confidences_are_another_recipe(
    root: Path, tmp_path: Path
) -> None:
    task = replace(make_first_task(root), reference_fingerprint="first")
    run_here(task, tmp_path / "s", tmp_path / "kept")
    unsure = (str(root / "unsure" / "dpo.parquet"),)
    for changed in (
        replace(task, reference_fingerprint="second"),
        replace(task, data=unsure),
        replace(task, config=make_config("dpo")),
    ):
        with pytest.raises(RecipeChangedError, match="another recipe"):
            run_here(changed, tmp_path / "s", resume_from=tmp_path / "kept" / "step-3")
    run_here(task, tmp_path / "s", resume_from=tmp_path / "kept" / "step-3")


def test_the_cache_is_of_the_reference_and_knows_no_labels(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    task = replace(make_first_task(root), reference_cache=str(cache))
    sure = run_here(task, tmp_path / "s")
    assert len(list(cache.iterdir())) == 1
    # The model to start from has another file, ...
    run_here(replace(task, config=make_config("dpo")), tmp_path / "s")
    assert len(list(cache.iterdir())) == 2
    # ... while other labels on the same tokens read this one: the first model is not loaded again.
    original = loop.build

    def only_the_trained(source: ModelSource, *args: Any, **kwargs: Any) -> Any:
        assert source == task.source
        return original(source, *args, **kwargs)

    monkeypatch.setattr(loop, "build", only_the_trained)
    unsure = run_here(replace(task, data=(str(root / "unsure" / "dpo.parquet"),)), tmp_path / "s")
    assert len(list(cache.iterdir())) == 2
    assert unsure.history[0]["train/reward_chosen"] == pytest.approx(
        sure.history[0]["train/reward_chosen"], abs=1e-6
    )
    assert unsure.history[0]["train/preference_loss"] != pytest.approx(
        sure.history[0]["train/preference_loss"], abs=1e-3
    )


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rank", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(("strategy", "precision"), [("ddp", "bf16"), ("fsdp2", "fp32")])
def test_the_reference_is_gone_before_the_trained_model_is_loaded(
    strategy: str, precision: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.build
    loaded: list[tuple[str, weakref.ref[Any], weakref.ref[Any]]] = []

    def watching(source: ModelSource, *args: Any, **kwargs: Any) -> Any:
        assert all(model() is None and weight() is None for _, model, weight in loaded)
        trainee = original(source, *args, **kwargs)
        policy = trainee.parallel.policy
        weight = next(policy.parameters())
        loaded.append((source.path, weakref.ref(policy), weakref.ref(weight)))
        return trainee

    monkeypatch.setattr(loop, "build", watching)
    gc.disable()  # it must not be gone by chance
    try:
        run_here(make_first_task(root, strategy=strategy, precision=precision), tmp_path)
    finally:
        gc.enable()
    assert [path for path, _, _ in loaded] == [str(root / "first"), str(root / "model")]


def make_job(root: Path, tmp_path: Path, **changes: Any) -> TrainingJob:
    settings: dict[str, Any] = {
        "name": "round",
        "model": str(root / "model"),
        "data": (str(root / "data" / "dpo.parquet"),),
        "record": "Preference",
        "config": make_config("dpo", dpo_reference="first"),
        "output": str(tmp_path / "checkpoint"),
        "storage_path": str(tmp_path / "state"),
        "seed": 1,
    }
    return TrainingJob(**(settings | changes))


def test_a_missing_reference_model_is_told_in_one_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs a reference_model, which training job round"):
        train(make_job(root, tmp_path))
    task = replace(make_first_task(root), reference_source=None)
    with pytest.raises(
        ConfigError, match=r"^training\.dpo_reference=first needs .* none is given$"
    ):
        run_here(task, tmp_path)


def test_training_without_pairs_asks_for_no_reference(root: Path, tmp_path: Path) -> None:
    config = make_config("sft", dpo_reference="first")
    assert run_here(make_task(root / "model", root / "data", config), tmp_path).steps == 3


def test_a_worker_loads_the_reference_its_job_names(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's function, with Ray Train's side of it played by the test."""
    play_ray_train(monkeypatch)
    job = make_job(
        root, tmp_path, reference_model=str(root / "first"), reference_fingerprint="9f3c"
    )
    result = run_worker({"job": job, "deadline": None})
    expected = run_here(replace(make_first_task(root), validation=()), tmp_path)
    assert curve(result) == pytest.approx(curve(expected), abs=1e-6)
    missing = run_worker(
        {"job": replace(job, reference_model=str(root / "gone")), "deadline": None}
    )
    assert missing["error"] == "ModelNotFoundError"
    assert str(root / "gone") in missing["message"]
    # The fingerprints arrive too: where they are equal, so are the models.
    equal = run_worker({"job": replace(job, model_fingerprint="9f3c"), "deadline": None})
    assert curve(equal, "train/reward_margin")[0] == pytest.approx(0.0, abs=1e-5)
    # With the model it starts from as its reference, a job's other model is not even looked for.
    start = make_config("dpo")
    unread = run_worker(
        {
            "job": replace(job, config=start, reference_model=str(root / "gone")),
            "deadline": None,
        }
    )
    assert unread["steps"] == 3
