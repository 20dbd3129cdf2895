"""RewardBench 2 asked as one choice, as a user runs it: a judge written by hand, and no Ray."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from selfreward import cli
from selfreward.engines.protocol import GenerationRequest
from selfreward.errors import ConfigError
from selfreward.evaluation import benchmarks
from selfreward.loops import asked_judge
from selfreward.loops.evaluate_options import asked_by
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.intervals import DEFAULT_RESAMPLING
from selfreward.records import Outcome
from selfreward.records_scores import SlotVerdict
from tests.stage_tools import MODEL, Fake
from tests.step_tools import evaluating_here

URL = "http://localhost:1/v1/chat/completions#judge"


def asks(ident: str, chosen: list[str], rejected: list[str], subset: str) -> dict[str, Any]:
    return {
        "id": ident,
        "prompt": f"Ask {ident}",
        "chosen": chosen,
        "rejected": rejected,
        "subset": subset,
    }


ROWS = [
    asks("1", ["right"], ["no", "never", "not so"], "Math"),
    asks("2", ["right, hard to read"], ["no", "never", "not so"], "Math"),
    asks("3", ["good"], ["right to the eye", "never", "not so"], "Math"),
    asks("ref:7", ["right"], ["no", "never"], "Ties"),
    asks("tied:7", ["right", "right too"], ["no", "never"], "Ties"),
]


def judge(request: GenerationRequest, draw: int) -> str:
    """Names what begins with "right" and rates it 4, other responses 1."""
    text = request.messages[-1].content
    if request.purpose == "rate":
        return f"As it is.\nScore: {4 if re.search(r'^right', text, re.MULTILINE) else 1}"
    if "hard to read" in text:
        return "All have their merits."
    shown = re.findall(r"<response-([A-D])-\w+>\n(.*)\n", text)
    return next(letter for letter, response in shown if response.startswith("right"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """What the judge was asked by `selfreward evaluate` in this process."""
    fake = Fake(judge)

    class Endpoint:
        model = MODEL
        generate = staticmethod(fake)

        def __init__(self, **_: Any) -> None: ...

    evaluating_here(monkeypatch, tmp_path, fake)
    monkeypatch.setattr(asked_judge, "EndpointClient", Endpoint)
    return fake


def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *more: str) -> int:
    data = tmp_path / "rb2.jsonl"
    if not data.exists():
        data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    argv = ["selfreward", "evaluate", "--judge", URL, "--data", str(data)]
    argv += ["--work", str(tmp_path / "work"), "--benchmark", "rewardbench2"]
    # Five responses a shard: those of a question stand in two.
    argv += ["judge.rubric=pairwise_verdict_only", "pool.shard_size=5", *more]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_a_judge_that_writes_is_asked_for_the_best_of_four(
    asked: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, tmp_path, "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["settings"]["by"] == "choice (best_of_verdict_only)"
    found = report["choices"]["rb2"]
    # One right, one unreadable, one wrong.
    assert (found["n"], found["accuracy"]) == (3, pytest.approx(1 / 3))
    assert found["unparsed_rate"] == pytest.approx(1 / 3)
    ours, published = found["protocol"]["ours"], found["protocol"]["published"]
    assert ours["domains"]["Math"] == pytest.approx(1 / 3)
    # (1 + 0.25 + 0) / 3
    assert published["domains"]["Math"] == pytest.approx(1.25 / 3)
    # All rates 1, and tanh of a gap of 3 over no spread: .30 + .30 + .20 + .20 + .01.
    assert ours["domains"]["Ties"] == published["domains"]["Ties"] == pytest.approx(1.01)
    assert found["protocol"]["num_questions"]["Ties"] == 2
    # Of the ratings there are those of Ties alone.
    assert (report["scores"]["rb2"]["n"], report["scores"]["rb2"]["num_failed"]) == (7, 0)
    purposes = [r.purpose for r in asked.asked]
    assert (purposes.count("best_of"), purposes.count("rate"), len(purposes)) == (3, 7, 10)
    # Again, as a table: nothing is asked twice.
    readings = tmp_path / "readings.jsonl"
    assert command(monkeypatch, tmp_path, "--readings", str(readings)) == 0
    assert "published / domains / Math" in capsys.readouterr().out and len(asked.asked) == 10
    rows = [json.loads(line) for line in readings.read_text().splitlines()]
    assert [(row["id"], row["is_right"], row["outcome"]) for row in rows[:3]] == [
        ("1", True, "choice"),
        ("2", False, "unparsed"),
        ("3", False, "choice"),
    ]
    assert (rows[0]["slot"], rows[1]["slot"]) == (rows[0]["right_slot"], None)
    assert rows[1]["texts"] == ["All have their merits."]
    # Of Ties every response has a line.
    assert [row["id"] for row in rows[3:]] == ["ref:7"] * 3 + ["tied:7"] * 4
    assert [row["score"] for row in rows[3:]] == [4, 1, 1, 4, 4, 1, 1]


def test_many_questions_wait_in_shards_at_the_engines_and_each_is_asked_once(
    asked: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [asks(str(i), ["right"], ["no", "never", "not so"], "Math") for i in range(7)]
    (tmp_path / "rb2.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command(monkeypatch, tmp_path, "pool.shard_size=3", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["choices"]["rb2"]["sections"]["Math"] == 1.0
    folder = tmp_path / "work" / "best_of" / "rb2"
    # An open shard is what waits at the engines at once.
    sizes = [pq.read_metadata(path).num_rows for path in sorted(folder.glob("shard-*.parquet"))]
    assert sizes == [3, 3, 1]
    assert len({request.id for request in asked.asked}) == len(asked.asked) == 7


def test_by_ratings_every_response_is_rated(
    asked: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # In the same folder as the choices, whose ratings are those of Ties alone.
    assert command(monkeypatch, tmp_path) == 0
    asked.asked.clear()
    capsys.readouterr()
    assert command(monkeypatch, tmp_path, "--by", "ratings", "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [r.purpose for r in asked.asked] == ["rate"] * 19
    assert report["choices"] == {}
    # The first two are rated right, the third is not.
    domains = report["scores"]["rb2"]["protocol"]["ours"]["domains"]
    assert domains["Math"] == pytest.approx(2 / 3) and domains["Ties"] == pytest.approx(1.01)


def test_a_question_that_cannot_be_asked_is_one_line_before_any_engine(
    asked: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = asks("9", ["right", "right too"], ["no", "never"], "Math")
    (tmp_path / "rb2.jsonl").write_text(json.dumps(row) + "\n")
    assert command(monkeypatch, tmp_path) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "rb2: question '9' has 2 right and 2 other responses" in line
    assert asked.asked == []


def test_a_file_without_ties_has_choices_alone(
    asked: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rb2.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    assert command(monkeypatch, tmp_path, "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scores"] == {} and report["choices"]["rb2"]["overall"] is None
    assert report["choices"]["rb2"]["sections"]["Math"] == 1.0


def test_how_a_benchmark_is_put_to_a_judge() -> None:
    assert asked_by("some/model", "rewardbench2", None) == "choice"
    assert asked_by(URL, "rewardbench2", None) == "choice"
    assert asked_by(URL, "rewardbench2", "ratings") == "ratings"
    assert asked_by("classifier:some/model", "rewardbench2", None) == "ratings"
    assert asked_by("some/model", "reward_modelling", None) == "ratings"
    assert asked_by("some/model", None, None) == "ratings"


@pytest.mark.parametrize(
    ("judge", "benchmark", "by", "told"),
    [
        (URL, "rewardbench2", "four", "--by 'four': it is choice or ratings"),
        (URL, "rewardbench", "choice", "--by belongs to --benchmark rewardbench2"),
        (URL, None, "ratings", "--by belongs to --benchmark rewardbench2"),
        ("classifier:m", "rewardbench2", "choice", "classifier:m writes no verdicts"),
        ("baseline:longest", "rewardbench2", "choice", "baseline:longest writes no verdicts"),
    ],
)
def test_an_option_that_does_not_fit(judge: str, benchmark: str | None, by: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        asked_by(judge, benchmark, by)


def test_only_rewardbench2_has_a_choice() -> None:
    assert [n for n, b in benchmarks.BENCHMARKS.items() if b.of_choices] == ["rewardbench2"]
    of_choices = benchmarks.BENCHMARKS["rewardbench2"].of_choices
    assert of_choices is not None
    right = SlotVerdict(outcome=Outcome.CHOICE, slot=3)
    outcome = BestOfOutcome(question_id="q", subset="Focus", gold=3, num_shown=4, verdict=right)
    assert of_choices([outcome], None, DEFAULT_RESAMPLING).section_values()["Focus"] == 1.0
