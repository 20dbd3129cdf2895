"""What an attempt does to the run in its folder before it is known to fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.errors import ConfigError, RecipeChangedError, ResourceError, UserError
from selfreward.layout import Layout
from selfreward.loops import session
from selfreward.loops.pools import PlacedModel
from selfreward.loops.session import open_cluster, open_run
from selfreward.records import ModelRef
from selfreward.reports.progress import Display
from selfreward.storage import files

SEEDS = {name: ModelRef(name=name, iteration=0, fingerprint=f"f-{name}") for name in "ab"}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """In place of Ray: `missing` refuses a run, `events` are what would have been asked of it."""
    made = SimpleNamespace(missing="", events=[])

    @contextmanager
    def joined(config: Any) -> Iterator[None]:
        made.events.append("join")
        yield

    def check(config: Any, wanted: Any) -> None:
        made.events.append("ask")
        if made.missing:
            raise ResourceError(made.missing)

    pools = SimpleNamespace(stop=lambda: None, engine_starts=1, swap_seconds=[0.5])
    monkeypatch.setattr(session, "ray_session", joined)
    monkeypatch.setattr(session, "check_resources", check)
    monkeypatch.setattr(session, "release_resources", lambda _: made.events.append("release"))
    monkeypatch.setattr(session, "BoardHandle", lambda: SimpleNamespace(stop=lambda: None))
    monkeypatch.setattr(session, "Pools", lambda *_: pools)
    monkeypatch.setattr(
        session, "place", lambda model: PlacedModel(ref=SEEDS[model.name], location=model.name)
    )
    return made


def config(tmp_path: Path, model: str = "a", **more: Any) -> RunConfig:
    return RunConfig.model_validate(
        {"run_dir": str(tmp_path / "run"), "model": {"name": model}, **more}
    )


def content(tmp_path: Path) -> dict[str, bytes]:
    found = sorted(p for p in (tmp_path / "run").rglob("*") if p.is_file())
    return {str(p.relative_to(tmp_path / "run")): p.read_bytes() for p in found}


@pytest.fixture
def begun(tmp_path: Path, cluster: SimpleNamespace) -> dict[str, bytes]:
    """A run with a trained model; returns what its folder holds."""
    with open_run(config(tmp_path)) as (run, _):
        for folder in (run.layout.evaluation(0), run.layout.checkpoint(1)):
            files.write_bytes(f"{folder}/manifest.json", b"{}")
    cluster.events.clear()
    return content(tmp_path)


def test_the_record_says_what_a_run_is_made_with(tmp_path: Path, begun: dict[str, bytes]) -> None:
    record = files.read_json(str(tmp_path / "run" / "run.json"))
    assert (record["loop"], record["seed_model"]) == ("self_taught", "a")
    assert record["seed_fingerprint"] == "f-a"
    assert [attempt["engine_starts"] for attempt in record["attempts"]] == [1]
    assert b"name: a" in begun["config.yaml"]


def refused(kind: type[UserError], told: str, *arguments: Any) -> None:
    with pytest.raises(kind) as wrong, open_run(*arguments):
        pass
    assert told in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_run_of_another_loop_or_seed_is_refused_and_left_as_it_is(
    tmp_path: Path, begun: dict[str, bytes], cluster: SimpleNamespace
) -> None:
    other = config(tmp_path, loop={"kind": "self_rewarding"})
    told = "holds a run of loop.kind=self_taught, this recipe is of self_rewarding; set another"
    refused(ConfigError, told, other)
    # Whatever is to be redone, the stages are those of another loop.
    refused(ConfigError, told, other, None, "train")
    told = "began with a (fingerprint f-a), model.name=b has the fingerprint f-b; use another"
    refused(RecipeChangedError, told, config(tmp_path, "b"))
    assert content(tmp_path) == begun
    assert cluster.events == [], "nothing was started"


def test_a_run_that_made_nothing_may_begin_with_another_seed(
    tmp_path: Path, cluster: SimpleNamespace
) -> None:
    for model in "ab":
        with open_run(config(tmp_path, model)):
            pass
    assert files.read_json(str(tmp_path / "run" / "run.json"))["seed_fingerprint"] == "f-b"


def test_what_does_not_fit_the_cluster_is_not_recorded_and_removes_nothing(
    tmp_path: Path, begun: dict[str, bytes], cluster: SimpleNamespace
) -> None:
    cluster.missing = "the run needs 9 GPUs"
    refused(ResourceError, "9 GPUs", config(tmp_path, judge={"num_draws": 3}), None, "train@1")
    assert content(tmp_path) == begun
    assert cluster.events == ["join", "ask", "release"], "what was asked for is given back"


@pytest.mark.parametrize("force", ["juge", "train@2", "pool@1"])
def test_a_mistyped_stage_is_told_before_anything_is_started(
    tmp_path: Path, begun: dict[str, bytes], cluster: SimpleNamespace, force: str
) -> None:
    refused(UserError, f"--force {force}: ", config(tmp_path, judge={"num_draws": 3}), None, force)
    assert content(tmp_path) == begun
    assert cluster.events == []


def test_a_stage_is_removed_once_everything_else_was_checked(
    tmp_path: Path, begun: dict[str, bytes], cluster: SimpleNamespace
) -> None:
    with open_run(config(tmp_path), None, "train") as (run, _):
        assert not files.exists(run.layout.checkpoint(1))
        assert files.exists(run.layout.evaluation(0))


def test_a_recipe_that_a_stage_refuses_leaves_the_record(
    tmp_path: Path, begun: dict[str, bytes]
) -> None:
    with (
        pytest.raises(RecipeChangedError),
        open_run(config(tmp_path, judge={"num_draws": 3}, loop={"iterations": 2})),
    ):
        raise RecipeChangedError("judge.num_draws: 6 -> 3")
    now = content(tmp_path)
    assert now["config.yaml"] == begun["config.yaml"]
    record = files.read_json(str(tmp_path / "run" / "run.json"))
    assert record["iterations"] == 1
    assert len(record["attempts"]) == 2, "what it cost is added all the same"


def test_nodes_are_given_back_where_the_check_itself_fails(
    tmp_path: Path, cluster: SimpleNamespace
) -> None:
    def held() -> Any:
        raise ResourceError("no such device")

    run = config(tmp_path)
    with (
        pytest.raises(ResourceError),
        open_cluster(run, Layout(run.run_dir), Display(), held),
    ):
        pass
    assert cluster.events == ["join", "release"]
