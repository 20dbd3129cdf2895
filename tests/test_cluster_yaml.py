"""cluster.yaml against Ray's own checks, so that a mistake shows before a node is paid for."""

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from selfreward.config_loading import load_config
from selfreward.preflight import bundles_needed, shortfall

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
MARKER = "# CHANGE ME"
PLACEHOLDER = re.compile(r"YOUR-[A-Z]+(?:-[A-Z]+)*")


def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TEXT)
    return loaded


def check(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does before it talks to the cloud: fill in defaults, then validate."""
    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_the_file() -> None:
    prepared = check(cluster())

    # Common set-up comes first on every node, the head's own after it.
    assert prepared["head_setup_commands"][:-1] == prepared["worker_setup_commands"]
    assert not prepared["docker"]


def test_ray_accepts_the_file_once_it_is_filled_in() -> None:
    filled = yaml.safe_load(PLACEHOLDER.sub("x1", TEXT))

    assert check(filled)["provider"]["region"] == "x1"


@pytest.mark.parametrize(
    ("where", "key"),
    [
        ((), "max_worker"),
        (("available_node_types", "trainers"), "max_nodes"),
        (("auth",), "ssh_usr"),
    ],
)
def test_ray_refuses_an_unknown_key(where: tuple[str, ...], key: str) -> None:
    config = cluster()
    section = config
    for part in where:
        section = section[part]
    section[key] = 1

    with pytest.raises(jsonschema.ValidationError, match=key):
        check(config)


def test_ray_refuses_a_head_that_is_no_node_type() -> None:
    config = cluster() | {"head_node_type": "heads"}

    with pytest.raises(ValueError, match="must be one of"):
        check(config)


def test_ray_refuses_more_least_workers_than_workers() -> None:
    config = cluster()
    config["available_node_types"]["engines"]["min_workers"] = 5  # max_workers of the whole is 4

    with pytest.raises(ValueError, match="smaller than the sum of `min_workers`"):
        check(config)


def test_lines_to_change_are_marked_and_only_those() -> None:
    marked = [line for line in TEXT.splitlines() if line.endswith(MARKER)]

    for line in TEXT.splitlines():
        if not line.lstrip().startswith("#"):
            assert bool(PLACEHOLDER.search(line)) == (line in marked), line
    # Region, zone, image, two profiles, file system.
    assert len(marked) == 6


def test_groups_scale_from_nothing_to_their_share() -> None:
    config = cluster()
    types = config["available_node_types"]

    assert set(types) == {"head", "engines", "trainers"}
    assert config["head_node_type"] == "head"
    groups = [types["engines"], types["trainers"]]
    assert [g["min_workers"] for g in groups] == [0, 0]
    assert all(g["max_workers"] >= 1 for g in groups)
    assert config["max_workers"] == sum(g["max_workers"] for g in groups)
    assert types["head"]["max_workers"] == 0
    assert config["idle_timeout_minutes"] > 0


def test_the_head_holds_no_engine_and_the_groups_hold_the_70b_recipe() -> None:
    types = cluster()["available_node_types"]
    head, node = types["head"]["resources"], types["engines"]["resources"]
    path = ROOT / "ray_jobs" / "configs" / "self_taught_70b.yaml"
    bundles = bundles_needed(load_config(path))
    dedicated = bundles_needed(
        load_config(path, ["engine.placement=dedicated", "generator.engine.placement=dedicated"])
    )

    assert "GPU" not in head
    # Either kind of process may land in either group.
    assert types["trainers"]["resources"] == node
    assert types["trainers"]["node_config"] == types["engines"]["node_config"]
    most = cluster()["max_workers"]
    assert shortfall(bundles, [head] + [node] * 2) is None
    assert shortfall(dedicated, [head] + [node] * most) is None
    assert shortfall(dedicated, [head] + [node] * (most - 1)) is not None


def test_mounted_files_exist_and_are_all_that_setup_reads() -> None:
    mounts: dict[str, str] = cluster()["file_mounts"]

    assert all(remote == f"~/selfreward/{local}" for remote, local in mounts.items())
    assert all((ROOT / local).exists() for local in mounts.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    readme = project["project"].get("readme")
    needed = {
        "Makefile",
        "pyproject.toml",
        "requirements",
        *project["project"]["license-files"],
        *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
        *([readme] if isinstance(readme, str) else []),
    }
    assert set(mounts.values()) == needed


def test_nodes_are_set_up_from_the_lock_and_start_its_ray() -> None:
    config = cluster()
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]

    assert any("make setup EXTRA=gpu" in c for c in config["setup_commands"])
    lock = (ROOT / "requirements" / "gpu.lock").read_text(encoding="utf-8")
    # boto3 and botocore are released together, under one number; the lock holds botocore.
    (botocore,) = re.findall(r"^botocore==(\S+)", lock, re.M)
    assert any(f"boto3=={botocore}" in c for c in config["head_setup_commands"])
    assert all("venv" in command for command in starts)
    # Both kinds of node keep models in one place, so that a path means the same everywhere.
    caches = [re.findall(r"(?:HF_HOME|SELFREWARD_CACHE)=\S+", c) for c in starts if "start" in c]
    assert caches[0] == caches[1]
    assert len(caches[0]) == 2
    assert "$RAY_HEAD_IP" in config["worker_start_ray_commands"][-1]
    assert "--autoscaling-config" in config["head_start_ray_commands"][-1]
