"""The seeds of a run, from a user's files to what M1 learns, and what is said if that is less."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.errors import DataError
from selfreward.layout import Layout
from selfreward.loops import seeds, sources
from selfreward.loops.seeds import build_seeds
from selfreward.loops.sources import Source
from selfreward.records import AnsweredInstruction
from selfreward.records_scores import ScoredResponse
from selfreward.stages.held_out import NOTHING
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary
from tests.stage_tools import records_in


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As much of a run as reading seeds needs; `run.told` are the lines that were shown."""
    for module in (seeds, sources):
        monkeypatch.setattr(module, "on_cluster", lambda _run, function, *args: function(*args))
    told: list[str] = []
    return SimpleNamespace(
        config=RunConfig(),
        layout=Layout(str(tmp_path / "run")),
        display=SimpleNamespace(line=told.append),
        told=told,
    )


def ranked_file(tmp_path: Path) -> str:
    rows = [
        {"prompt": f"Task {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(10)
    ]
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def given(run: Any, **settings: Any) -> None:
    loop = {"kind": "self_rewarding"}
    run.config = RunConfig.model_validate({"loop": loop, "seeds": {"ift_heldout": 1} | settings})


def test_one_ranked_file_is_both_kinds_of_seeds(tmp_path: Path, run: Any) -> None:
    given(run, ift=[], ranked=[ranked_file(tmp_path)], ift_from_ranked=0.4)
    made = build_seeds(run, NOTHING, None)
    assert made.ranked is not None
    train, aside = (
        {row.instruction.messages[0].content: row.response.text for row in records_in(f, kind)}
        for f, kind in (
            (made.ift.folder, AnsweredInstruction),
            (made.heldout.folder, AnsweredInstruction),
        )
    )
    judged = {r.messages[0].content for r in records_in(made.ranked.folder, ScoredResponse)}
    # Four of ten prompts are answered, one of them held out; six are judged.
    assert (len(train), len(aside), len(judged)) == (3, 1, 6)
    assert len(judged | set(train) | set(aside)) == 10
    assert {text[:4] for text in (train | aside).values()} == {"good"}
    assert run.told[0] == "answered seeds: 3 to train on, 1 held out; dropped none"
    assert run.told[1].startswith("ranked responses: 12; dropped {")
    assert "'exact_duplicate': 6" in run.told[1] and "'held_out': 2" in run.told[1]
    assert build_seeds(run, NOTHING, None) == made
    assert len(run.told) == 2, "what is complete is not made again"


def test_without_the_setting_the_same_file_for_both_names_it(tmp_path: Path, run: Any) -> None:
    path = ranked_file(tmp_path)
    given(run, ift=[path], ranked=[path])
    with pytest.raises(DataError, match=r"9 are answered seeds .*1 are held out .*from_ranked=0.5"):
        build_seeds(run, NOTHING, None)
    given(run, ift=[], ranked=[path])
    with pytest.raises(DataError, match=r"seeds\.ift names no file.*set seeds\.ift_from_ranked$"):
        build_seeds(run, NOTHING, None)


@pytest.mark.parametrize(
    ("drops", "told"),
    [
        (
            {"unread_judgments": 20, "disagrees_with_people": 4},
            "of 20 of 24 ranked prompts no draw could be read for every response: M1 learns from"
            " the answers alone; set rating.guided=true, or raise rating.sampling.max_tokens",
        ),
        (
            {"unread_judgments": 4, "disagrees_with_people": 20},
            "no judgment agrees with people's rankings of 20 prompts: M1 learns from the answers"
            " alone; raise seeds.draws_per_response or lower seeds.min_agreement",
        ),
    ],
)
def test_a_model_that_learns_no_judging_is_told_why(
    tmp_path: Path,
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    drops: dict[str, int],
    told: str,
) -> None:
    def nothing(_run: Any, _title: str, _logic: Any, output: Any, *_: Any) -> Source:
        summary = ShardSummary(index=0, num_inputs=24, num_records=0, drops=drops, ledger={})
        manifest = open_stage(output.folder, "eft", output.recipe)
        return Source.of(output.folder, complete(output.folder, manifest, [summary], 1.0))

    rated = Source(folder=str(tmp_path / "rated"), fingerprint="r", num_records=72)
    monkeypatch.setattr(seeds, "fill", nothing)
    monkeypatch.setattr(seeds, "_ratings", lambda *_: rated)
    monkeypatch.setattr(seeds, "shards_of", lambda *_: [])
    rubric: Any = None
    assert seeds.eft_examples(run, rated, SimpleNamespace(), rubric) is None  # type: ignore[arg-type]
    assert run.told[-1] == told
