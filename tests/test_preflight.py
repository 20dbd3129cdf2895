"""Counting what a run needs, and packing it onto nodes."""

from typing import Any

import pytest

from selfreward import preflight
from selfreward.config import RunConfig
from selfreward.config_loading import parse_config
from selfreward.errors import ResourceError
from selfreward.preflight import bundles_needed, phases, shortfall


def recipe(*overrides: str, raw: dict[str, Any] | None = None) -> RunConfig:
    devices = ["engine.device=cpu", *overrides]
    return parse_config(raw or {}, devices)


def cpus(bundles: list[dict[str, float]]) -> float:
    return sum(b.get("CPU", 0) for b in bundles)


@pytest.mark.parametrize(
    ("bundles", "nodes", "said"),
    [
        ([], [{"CPU": 1}], None),
        ([{"CPU": 1}] * 4, [{"CPU": 4}], None),
        # Ten times 0.1 is a little more than 1 in floating point.
        ([{"CPU": 0.1}] * 10, [{"CPU": 1}], None),
        ([{"CPU": 2}], [{"CPU": 1}], "the run needs 2 CPUs, the cluster has 1"),
        ([{"CPU": 1}], [], "the run needs 1 CPUs, the cluster has 0"),
        (
            [{"CPU": 1, "GPU": 2}],
            [{"CPU": 8, "GPU": 1}],
            "the run needs 2 GPUs, the cluster has 1",
        ),
        # Enough in all, but 4 GPUs of one process have to lie on one node.
        (
            [{"CPU": 1, "GPU": 4}],
            [{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2}],
            "no node has 1 CPUs and 4 GPUs left for one process of the run",
        ),
        ([{"CPU": 1, "GPU": 4}] * 2, [{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 4}], None),
        # Largest first: 3 + 1 and 2 + 2 fill two nodes of 4; in the order given 2 + 1 would not.
        ([{"CPU": 2}, {"CPU": 1}, {"CPU": 3}, {"CPU": 2}], [{"CPU": 4}, {"CPU": 4}], None),
        # GPUs are packed before CPUs, else the CPU process could take the GPU node's last CPU.
        ([{"CPU": 1}, {"CPU": 1, "GPU": 1}], [{"CPU": 1, "GPU": 1}, {"CPU": 1}], None),
        # The GPU node has no CPU left, the CPU node has no GPU.
        (
            [{"CPU": 2, "GPU": 1}],
            [{"CPU": 1, "GPU": 1}, {"CPU": 8}],
            "no node has 2 CPUs and 1 GPUs left for one process of the run",
        ),
        ([{"CPU": 1}], [{"memory": 5.0}, {"CPU": 1, "memory": 1.0}], None),
    ],
)
def test_what_does_not_fit_is_said(bundles: Any, nodes: Any, said: str | None) -> None:
    assert shortfall(bundles, nodes) == said


def test_packing_leaves_the_nodes_as_they_were() -> None:
    nodes = [{"CPU": 2.0}]
    assert shortfall([{"CPU": 1.5}], nodes) is None
    assert nodes == [{"CPU": 2.0}]


def test_a_run_with_defaults_fits_two_cores() -> None:
    generating, training = phases(recipe())
    # One engine of 1 CPU and two shard tasks of 0.1; beside the engine one trainer of 0.5.
    assert generating == [{"CPU": 1.0}, {"CPU": 0.1}, {"CPU": 0.1}]
    assert training == [{"CPU": 1.0}, {"CPU": 0.5}]
    assert bundles_needed(recipe()) == training
    assert shortfall(training, [{"CPU": 2.0}]) is None


def test_engines_stay_beside_the_trainers_unless_they_are_shared() -> None:
    options = ["engine.replicas=3", "training.num_workers=4", "training.num_cpus_per_worker=1"]
    generating, training = phases(recipe(*options))
    # 3 engines + 6 tasks of 0.1; 3 engines + 4 trainers.
    assert cpus(generating) == pytest.approx(3.6)
    assert cpus(training) == 7
    _, alone = phases(recipe(*options, "engine.placement=shared"))
    assert alone == [{"CPU": 1.0}] * 4
    more, _ = phases(recipe(*options, "ray.shards_in_flight=10"))
    assert cpus(more) == pytest.approx(4)


def test_a_generator_is_kept_or_released_by_its_own_placement() -> None:
    generator: dict[str, Any] = {
        "model": {"name": "g"},
        "engine": {"device": "cpu", "replicas": 2, "num_cpus": 3},
    }
    generating, training = phases(recipe("engine.placement=shared", raw={"generator": generator}))
    assert cpus(generating) == pytest.approx(1 + 6 + 0.2)
    # The judge's pool is released, the generator's is not.
    assert cpus(training) == 6.5
    generator["engine"]["placement"] = "shared"
    _, training = phases(recipe(raw={"generator": generator}))
    assert cpus(training) == 1.5


def test_gpus_of_engines_and_trainers() -> None:
    config = recipe(
        "engine.device=cuda",
        "engine.tensor_parallel_size=4",
        "engine.replicas=2",
        "training.use_gpu=true",
        "training.num_workers=8",
        "engine.placement=shared",
        "ray.shards_in_flight=40",
    )
    generating, training = phases(config)
    assert generating[:2] == [{"CPU": 1.0, "GPU": 4.0}] * 2
    assert training == [{"CPU": 0.5, "GPU": 1.0}] * 8
    # As many GPUs, but generating needs more CPUs: 2 + 40 tasks of 0.1.
    assert cpus(bundles_needed(config)) == pytest.approx(6)


REINFORCE = ("loop.kind=custom_llm", "engine.num_cpus=2", "custom_llm.stages=[reinforce]")


@pytest.mark.parametrize(
    ("options", "last"),
    [
        # Engines of 2 CPUs, the trainer of 0.5; a reward model is one more engine.
        (("custom_llm.online.reward=checks",), 2.5),
        (("custom_llm.online.reward=verdict",), 2.5),
        (("custom_llm.reward_model.path=rm",), 4.5),
        # A judge that is another model has as many engines of its own.
        (("custom_llm.online.reward=judge", "engine.replicas=3"), 12.5),
        (("custom_llm.online.reward=judge", "custom_llm.stages=[prefer,reinforce]"), 6.5),
    ],
)
def test_online_training_holds_what_its_reward_needs(options: tuple[str, ...], last: float) -> None:
    found = phases(recipe(*REINFORCE, *options))
    assert cpus(found[-1]) == pytest.approx(last)


def test_a_reward_model_measures_beside_shared_engines() -> None:
    options = ("custom_llm.stages=[prefer]", "engine.placement=shared")
    generating, *trainings, measuring = phases(recipe(*REINFORCE, *options))
    assert [cpus(training) for training in trainings] == [0.5, 0.5]
    assert measuring == [{"CPU": 2.0}, {"CPU": 2.0}]
    assert cpus(generating) == pytest.approx(2.2)


def test_the_phase_with_fewer_gpus_must_fit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipe(
        "engine.num_cpus=8",
        "engine.placement=shared",
        "training.use_gpu=true",
    )
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}]
    monkeypatch.setattr(preflight.ray, "nodes", lambda: nodes)
    # Training (1 GPU, 0.5 CPU) is the larger phase by GPUs and fits; generating needs 8.2 CPUs.
    with pytest.raises(ResourceError, match=r"needs 8\.2 CPUs, the cluster has 4; lower engine"):
        preflight.check_resources(config)
    nodes.append({"Alive": False, "Resources": {"CPU": 64.0}})
    with pytest.raises(ResourceError):
        preflight.check_resources(config)
    nodes[1]["Alive"] = True
    assert preflight.check_resources(config) is None
    # Nothing is asked of an autoscaler where it is only to be said.
    asked: list[Any] = []
    monkeypatch.setattr(preflight, "request_resources", lambda bundles: asked.append(bundles))
    growing = recipe(
        "engine.num_cpus=8", "engine.replicas=20", "training.use_gpu=true", "ray.autoscaling=true"
    )
    missing = "the run needs 164 CPUs, the cluster has 68"
    assert preflight.check_resources(growing, ask=False) == missing
    assert asked == []
    assert preflight.check_resources(growing) == missing
    # 20 replicas and 40 shard tasks.
    assert [len(bundles) for bundles in asked] == [60]
