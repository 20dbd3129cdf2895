"""What the doctor says of a machine, without starting anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward import doctor, preflight
from selfreward.config import RunConfig
from selfreward.config_loading import parse_config
from selfreward.engines import outside_judge
from selfreward.errors import UserError
from selfreward.loops.kinds import run_loop
from tests.run_folders import new_run

GIB = 1024**3


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 GiB free; the model m of 4 GiB and g of 10 GiB."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, size in (("m", 4), ("g", 10)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.truncate(size * GIB)  # a sparse file: no disk is used
    monkeypatch.setattr(doctor, "resolve_model", lambda name, revision: str(tmp_path / name))
    memory = SimpleNamespace(available=16 * GIB)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: memory)


def recipe(*overrides: str, generator: dict[str, Any] | None = None) -> RunConfig:
    raw: dict[str, Any] = {"model": {"name": "m"}, "training": {"use_gpu": True}}
    if generator is not None:
        raw["generator"] = {"model": {"name": "g"}, "engine": generator}
    return parse_config(raw, ["engine.device=cpu", *overrides])


def test_engines_on_cpu_hold_weights_and_cache() -> None:
    assert doctor._memory(recipe()).startswith("6.0 GiB wanted on one machine, 16.0 GiB")
    assert doctor._memory(recipe("engine.replicas=2")).startswith("12.0 GiB wanted")
    with pytest.raises(UserError, match=r"^18\.0 GiB wanted"):
        doctor._memory(recipe(generator={"device": "cpu"}))
    # Trainers hold 16 bytes for each of 2 G parameters.
    with pytest.raises(UserError, match=r"^38\.0 GiB wanted"):
        doctor._memory(recipe("training.use_gpu=false"))


def test_engines_on_a_gpu_hold_nothing_in_main_memory() -> None:
    assert doctor._memory(recipe("engine.device=cuda", "engine.replicas=8")).startswith("0.0 GiB")
    line = doctor._memory(recipe("engine.replicas=2", generator={"device": "cuda"}))
    assert line.startswith("12.0 GiB wanted")


def test_memory_of_the_largest_training_counts() -> None:
    # 2 G parameters at 16 bytes are 32 GiB a worker, beside an engine of 6.
    rewarding = recipe("loop.kind=self_rewarding", "seed_training.use_gpu=true")
    assert doctor._memory(rewarding).startswith("6.0 GiB wanted")
    with pytest.raises(UserError, match=r"^38\.0 GiB wanted"):
        doctor._memory(recipe("loop.kind=self_rewarding"))
    both = ("training.use_gpu=false", "seed_training.num_workers=2")
    with pytest.raises(UserError, match=r"^70\.0 GiB wanted"):
        doctor._memory(recipe("loop.kind=self_rewarding", *both))
    # The self-taught loop has no seeds to train on.
    assert doctor._memory(recipe("seed_training.num_workers=2")).startswith("6.0 GiB wanted")
    online = ("loop.kind=custom_llm", "custom_llm.stages=[instruct,reinforce]")
    devices = ("custom_llm.instruction_tuning.training.use_gpu=true",)
    with pytest.raises(UserError, match=r"^38\.0 GiB wanted"):
        doctor._memory(recipe(*online, *devices))


def test_a_judge_of_head_to_heads_is_looked_up_and_has_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = {"m": str(tmp_path / "m"), "g": str(tmp_path / "g")}.__getitem__
    monkeypatch.setattr(outside_judge, "resolve_model", resolve)
    common = ("loop.kind=self_rewarding", "seed_training.use_gpu=true")
    seed = recipe(*common, "evaluation.head_to_head_judge=m")
    assert doctor._memory(seed).startswith("6.0 GiB wanted")
    other = recipe(*common, "evaluation.head_to_head_judge=g")
    # Weights of 10 and 2 of cache beside the 6 of the run's own engine.
    with pytest.raises(UserError, match=r"^18\.0 GiB wanted"):
        doctor._memory(other)
    assert f"g in {tmp_path / 'g'}, fingerprint " in doctor._model(other)
    named = recipe(*common, "evaluation.head_to_head_judge=https://host/v1#strong")
    assert doctor._model(named).endswith("; head-to-heads by strong at https://host/v1")
    nothing = recipe(*common, "evaluation.head_to_head_judge=http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match=r"no model behind http://127\.0\.0\.1:9/v1/models"):
        doctor._model(nothing)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("training.objective=dpo",), None),
        ((), "training.objective=sft cannot learn from preferences.kind=pairs"),
        (("training.objective=dpo", "rating.rubric=none"), "unknown pointwise rubric 'none'"),
        (("training.objective=dpo", "select.balance=false"), "select: loop.kind=self_rewarding"),
        (("training.objective=dpo", "loop.judge_with=promoted"), "loop.judge_with: loop.kind="),
        (("loop.kind=self_taught", "judge.rubric=none"), "unknown rubric 'none'"),
        (("loop.kind=self_taught", "meta_judge.enabled=true"), "meta_judge: loop.kind=self_taught"),
        (("loop.kind=custom_llm",), "loop.iterations: loop.kind=custom_llm does not read this"),
        (
            ("loop.kind=custom_llm", "loop.iterations=1", "engine.kind=classifier"),
            "engine.kind=classifier",
        ),
    ],
)
def test_what_a_run_refuses_of_a_recipe_the_doctor_tells(
    overrides: tuple[str, ...], told: str | None
) -> None:
    config = parse_config({"loop": {"kind": "self_rewarding", "iterations": 2}}, overrides)
    found = doctor._check("recipe", lambda: doctor._recipe(config))
    assert found.ok == (told is None)
    assert (told or "loop.kind=self_rewarding, and its parts fit") in found.detail
    if told is not None:
        with pytest.raises(UserError) as caught:
            run_loop(config)
        assert str(caught.value) == found.detail


def test_a_folder_with_another_loops_run_is_told(tmp_path: Path) -> None:
    new_run(str(tmp_path / "run"), "self_taught", 1)
    config = parse_config({"run_dir": str(tmp_path / "run"), "loop": {"kind": "custom_llm"}})
    with pytest.raises(UserError, match=r"holds a run of loop\.kind=self_taught, this recipe"):
        doctor._run_folder(config)


def test_a_missing_package_is_a_failed_check_and_no_traceback() -> None:
    def look() -> str:
        raise ModuleNotFoundError("No module named 'nosuch'", name="nosuch")

    found = doctor._check("recipe", look)
    assert (found.ok, found.detail) == (False, "nosuch not installed; run make setup")


def test_a_cluster_has_memory_that_is_not_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = recipe("engine.replicas=40")
    with pytest.raises(UserError):
        doctor._memory(wanted)
    assert "head:6379" in doctor._memory(recipe("engine.replicas=40", "ray.address=head:6379"))
    monkeypatch.setenv("RAY_ADDRESS", "ray://other:10001")
    assert "ray://other:10001" in doctor._memory(wanted)


def test_nodes_that_are_missing_are_said_and_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    @contextmanager
    def joined(config: Any) -> Iterator[None]:
        yield

    nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}]
    monkeypatch.setattr(doctor, "ray_session", joined)
    monkeypatch.setattr(preflight.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(preflight, "request_resources", lambda bundles: asked.append(bundles))
    assert doctor._resources(recipe("training.use_gpu=false")).endswith("the cluster has them")
    line = doctor._resources(recipe("ray.autoscaling=true"))
    assert "the run needs 1 GPUs, the cluster has 0: the rest will be asked of the autoscaler" in (
        line
    )
    assert asked == []
