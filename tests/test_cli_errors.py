"""Mistakes a user can make: each gives one line that names the thing and the mend, and exit code 2.

The lines are printed by the command line itself, run in this process on a shared local Ray.
"""

import json
from pathlib import Path

import pytest
import yaml

from selfreward import cli
from selfreward.errors import UserError
from tests.conftest import write_recipe

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("local_ray"),
]


def line_of(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Runs the command line and returns its one line on standard error."""
    monkeypatch.setattr("sys.argv", ["selfreward", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def recipe(tmp_path: Path, scripted_recipe: dict) -> Path:
    return write_recipe(tmp_path, scripted_recipe | {"run_dir": str(tmp_path / "run")})


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


CONFIG_MISTAKES = {
    "loop.iteration=2": "unknown key loop.iteration; did you mean loop.iterations?",
    "itertions=2": "unknown key itertions; did you mean loop.iterations?",
    "judge.num_draws=0": "judge.num_draws=0: input should be greater than or equal to 1",
    "training.objective=ppo": "training.objective='ppo': input should be 'sft', 'dpo', ",
    "judge.num_draws=many": "judge.num_draws='many': input should be a valid integer",
    "judge.num_draws": "write it as section.key=value",
    "judge.rubric=pairwise": "pairwise_",
}


@pytest.mark.parametrize("override", CONFIG_MISTAKES)
def test_config_mistakes(
    override: str,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = line_of(["run", str(recipe), override], capsys, monkeypatch)
    assert CONFIG_MISTAKES[override] in line


def test_missing_and_broken_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(["run", str(tmp_path / "none.yaml")], capsys, monkeypatch)
    assert f"no config file at {tmp_path / 'none.yaml'}" in line
    broken = tmp_path / "broken.yaml"
    broken.write_text("loop: {iterations: 1\nmodel: x")
    line = line_of(["run", str(broken)], capsys, monkeypatch)
    assert "line 2" in line
    assert "not readable as YAML" in line


def test_pool_mistakes(
    tmp_path: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def line_for(path: object, name: str, *more: str) -> str:
        run_dir = f"run_dir={tmp_path / name}"
        arguments = ["run", str(recipe), f"pool.path={path}", run_dir, *more]
        return line_of(arguments, capsys, monkeypatch)

    assert "no file at " in line_for(tmp_path / "absent.jsonl", "a")

    wrong = jsonl(tmp_path / "wrong.jsonl", [{"title": "x", "body": "y"}])
    line = line_for(wrong, "b")
    assert "no column holds instructions; it has ['body', 'title']" in line
    assert "pool.columns" in line
    assert "no column 'ask'" in line_for(wrong, "c", "pool.columns.instruction=ask")

    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert "no usable instruction" in line_for(empty, "d")

    blank = jsonl(tmp_path / "blank.jsonl", [{"instruction": "  "}, {"instruction": ""}])
    line = line_for(blank, "e")
    assert "no usable instruction; 2 rows were dropped (empty_instruction)" in line

    few = jsonl(tmp_path / "few.jsonl", [{"instruction": f"Ask {i}"} for i in range(5)])
    assert "5 usable instructions are too few for 16 held-out" in line_for(few, "f")

    garbled = tmp_path / "garbled.jsonl"
    garbled.write_text('{"instruction": \n{"instruction": \n')
    line = line_for(garbled, "g")
    assert "2 rows were dropped (unreadable); garbled.jsonl, line 1: not JSON" in line

    not_parquet = tmp_path / "text.parquet"
    not_parquet.write_text("no parquet")
    assert "as Parquet" in line_for(not_parquet, "h")


def test_a_submitted_job_refuses_a_folder_of_its_temporary_copy(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {}}')
    line = line_of(["run", str(recipe), "run_dir=runs/a"], capsys, monkeypatch)
    assert "run_dir=runs/a is relative to the temporary folder of a submitted job" in line
    assert "an absolute path that every node reaches" in line
    asked = ["evaluate", "--judge", "baseline:first", "--data", "pairs.jsonl"]
    line = line_of([*asked, "--work", "out"], capsys, monkeypatch)
    assert "--work=out is relative" in line
    assert "--work=runs/evaluations/" in line_of(asked, capsys, monkeypatch)
    # What every node reaches is taken: the next mistake is told.
    for place in ("/nowhere/shared/run", "nosuch://bucket/run"):
        monkeypatch.setattr("selfreward.loops.self_taught.open_run", refuse)
        line = line_of(["run", str(recipe), f"run_dir={place}"], capsys, monkeypatch)
        assert "far enough" in line


def refuse(*_: object, **__: object) -> None:
    raise UserError("far enough")


def test_model_not_found(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(["run", str(recipe), "model.name=/nowhere/model"], capsys, monkeypatch)
    assert "/nowhere/model" in line
    line = line_of(
        ["run", str(recipe), "model.name=no-such-org/no-such-model"], capsys, monkeypatch
    )
    assert "no-such-org/no-such-model" in line


def test_more_resources_than_the_cluster_has(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(["run", str(recipe), "engine.replicas=40"], capsys, monkeypatch)
    # 40 replicas of 0.5 CPUs and 2 shard tasks of 0.1.
    assert "the run needs 20.2 CPUs, the cluster has 4" in line
    overrides = ["training.use_gpu=true", "training.num_workers=4"]
    line = line_of(["run", str(recipe), *overrides], capsys, monkeypatch)
    assert "the run needs 4 GPUs, the cluster has 0" in line


def test_storage_that_cannot_be_written(
    tmp_path: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    line = line_of(["run", str(recipe), f"run_dir={occupied}/run"], capsys, monkeypatch)
    assert f"cannot read {occupied}/run/run.json: Not a directory" in line
    line = line_of(["run", str(recipe), "run_dir=nosuch://bucket/run"], capsys, monkeypatch)
    assert "cannot use nosuch://bucket/run" in line


def test_status_without_a_run_and_unknown_stage(
    tmp_path: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "no run at" in line_of(["status", str(tmp_path / "no")], capsys, monkeypatch)
    line = line_of(["run", str(recipe), "--force", "juge"], capsys, monkeypatch)
    assert "no such stage" in line
    assert "judge" in line


def test_doctor_names_what_fails(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["selfreward", "doctor", str(recipe), "engine.replicas=40"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    out = capsys.readouterr().out
    assert "ok   model" in out
    assert "FAIL resources: the run needs 20.2 CPUs" in out
    assert yaml.safe_load(recipe.read_text())["run_dir"] in out
