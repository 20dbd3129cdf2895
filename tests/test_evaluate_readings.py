"""What `selfreward evaluate` says of each row, of whose model wrote it, and of probabilities; as a
user runs it, with an endpoint on a real port and no Ray."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfreward import cli
from selfreward.evaluation.outcomes import read_scored_outcomes
from selfreward.evaluation.readings import PairReadings
from selfreward.records import Message, ModelRef, ResponsePair
from selfreward.records_scores import PairScore
from selfreward.storage.shards import shard_name, write_records
from tests.endpoint_tools import FakeEndpoint, served
from tests.step_tools import evaluating_here

Rows = list[dict[str, Any]]
Command = Callable[..., str]


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs the command on files of rows, by name; returns what it prints."""
    evaluating_here(monkeypatch, tmp_path)

    def run(endpoint: FakeEndpoint, files: dict[str, Rows], *more: str) -> str:
        argv = ["selfreward", "evaluate", "--judge", f"{endpoint.url}#Org/Judge-7B"]
        for name, rows in files.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            argv += ["--data", str(path)]
        argv += ["--work", str(tmp_path / "work"), "judge.rubric=pairwise_verdict_only", *more]
        monkeypatch.setattr("sys.argv", argv)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        assert stop.value.code == 0, out.err
        return out.out

    return run


def test_every_row_has_a_line_with_the_files_own_id(evaluate: Command, tmp_path: Path) -> None:
    pairs = [
        {"id": 17, "prompt": "Ask 1", "chosen": "good one", "rejected": "poor one", "subset": "x"},
        # The judge likes "good" and is wrong in both orders.
        {"prompt": "Ask 2", "chosen": "plain", "rejected": "good but wrong"},
        {"id": "c", "prompt": "Ask 3", "chosen": "plain", "rejected": "good (unsure)"},
        {"id": "d", "prompt": "Ask 4", "chosen": "good", "rejected": "poor"},
    ]
    points = [
        {"id": "r1", "prompt": "Rate 1", "response": "good", "score": 4, "scale": "1-5"},
        {"prompt": "Rate 2", "response": "poor", "score": 1, "scale": "1-5", "subset": "y"},
    ]
    endpoint = FakeEndpoint(
        refuses={"Ask 4": "The content policy forbids this."}, answers={"unsure": "Hard to say."}
    )
    readings = tmp_path / "out" / "readings.jsonl"
    with served(endpoint):
        evaluate(endpoint, {"pairs": pairs, "points": points}, "--readings", str(readings))
    right, wrong, unsure, refused, rated, other = map(json.loads, readings.read_text().splitlines())
    # P(A) = e^-0.1 / (e^-0.1 + e^-2.4) = 0.909.
    sure = pytest.approx(0.9089, abs=1e-4)
    pair_id = right.pop("pair_id")
    assert pair_id.startswith("pair-")
    said = {"verdict": "chosen", "is_right": True, "probability_chosen": sure}
    assert right == {
        **{"kind": "pair", "data": "pairs", "id": "17", "subset": "x", "accuracy": 1.0},
        "chosen_first": {**said, "texts": ["A"]},
        "rejected_first": {**said, "texts": ["B"]},
    }
    assert wrong["id"] == wrong["pair_id"], "a row without an id goes by ours"
    assert (wrong["accuracy"], wrong["subset"]) == (0.0, "labelled")
    assert wrong["rejected_first"] == {
        "verdict": "rejected",
        "is_right": False,
        "probability_chosen": pytest.approx(1 - 0.9089, abs=1e-4),
        "texts": ["A"],
    }
    unread = {"verdict": "unparsed", "is_right": False, "probability_chosen": None}
    assert unsure["chosen_first"] == {**unread, "texts": ["Hard to say."]}
    assert (refused["id"], refused["accuracy"], refused["chosen_first"]) == ("d", None, None)
    assert refused["dropped"] == {
        "reason": "engine_failure",
        "detail": "The content policy forbids this.",
    }
    assert rated.pop("response_id").startswith("sco-")
    assert rated.pop("group").startswith("grp-")
    assert rated == {
        **{"kind": "response", "data": "points", "id": "r1", "subset": ""},
        **{"human": 4.0, "score": 5.0, "outcomes": ["score"], "texts": ["Score: 5"]},
    }
    assert (other["id"], other["subset"], other["score"]) == (other["response_id"], "y", 2.0)


def test_a_judge_that_scores_each_response_has_its_scores_told(tmp_path: Path) -> None:
    pair = ResponsePair.new(
        instruction_id="ins-1",
        messages=(Message(role="user", content="Ask"),),
        chosen="plain",
        rejected="good",
        corruption="labelled",
    )
    score = PairScore(
        id="psc-1",
        pair_id=pair.id,
        judge=ModelRef(name="m", iteration=0, fingerprint="f"),
        chosen=-6.0,
        rejected=-8.0,
        chosen_alone=-9.0,
        rejected_alone=-12.0,
        chosen_tokens=3,
        rejected_tokens=2,
    )
    rows, folder = f"{tmp_path}/pairs", f"{tmp_path}/score"
    write_records(f"{rows}/{shard_name(0)}", [pair], ResponsePair)
    write_records(f"{folder}/{shard_name(0)}", [score], PairScore)
    outcomes = read_scored_outcomes(rows, folder, "mean")
    made = PairReadings(
        data="pairs",
        rows=rows,
        folder=folder,
        outcomes=outcomes,
        scores_alone=True,
        likelihood="mean",
    )
    (row,) = made
    # -6 / 3 and -8 / 2: the chosen one is likelier by token, in both orders.
    assert row["scores"] == {"chosen": -2.0, "rejected": -4.0}
    assert (row["accuracy"], row["rejected_first"]["verdict"]) == (1.0, "chosen")
    assert row["chosen_first"]["texts"] == []


def scored(number: int, text: str, score: float, **more: Any) -> dict[str, Any]:
    row = {"prompt": f"Rate {number}", "response": f"{text} {number}", "score": score}
    return row | {"scale": [1, 5]} | more


def test_a_judge_that_is_kind_to_its_own_scores(evaluate: Command) -> None:
    # The judge gives 5 of 5 to "good" and 2 of 5 to others: 1 and 0.4 of its scale.
    points = [
        # Its own, people say 3 of 1 to 5, which is 0.5: 0.5 too much.
        scored(1, "good", 3, meta={"model": "judge-7b"}),
        # Its own, by a column: people say 5, so 0 too much.
        scored(2, "good", 5, model="Org/Judge-7B"),
        # Another's: people say 4, which is 0.75: 0.25 too much; and 1, which is 0: 0.4 too much.
        scored(3, "good", 4, meta={"model": "other"}),
        scored(4, "poor", 1, meta={"model": "other"}),
        # Nobody knows whose.
        scored(5, "poor", 5),
    ]
    with served(FakeEndpoint()) as endpoint:
        out = evaluate(endpoint, {"points": points}, "--format", "json")
        card = json.loads(out)["card"]
        assert card["own_score_excess"] == pytest.approx((0.5 + 0) / 2)
        assert card["other_score_excess"] == pytest.approx((0.25 + 0.4) / 2)
        assert card["score_self_preference"] == pytest.approx(0.25 - 0.325)
        assert card["n"] == 0
        table = evaluate(endpoint, {"points": points})
    assert "score self preference" in table and "-0.075" in table


def test_rewardbenchs_own_columns_say_who_wrote_a_pair(evaluate: Command) -> None:
    pairs = [
        # Its own is the worse one, and it names it in both orders.
        {
            **{"prompt": "Ask 1", "chosen": "plain", "rejected": "good but wrong"},
            **{"chosen_model": "other", "rejected_model": "judge-7b"},
        },
        # What `meta` says counts.
        {
            **{"prompt": "Ask 2", "chosen": "good", "rejected": "poor"},
            **{"chosen_model": "judge-7b", "rejected_model": "other"},
            "meta": {"chosen_model": "third", "difficulty": 1},
        },
    ]
    with served(FakeEndpoint()) as endpoint:
        out = evaluate(endpoint, {"pairs": pairs}, "--format", "json")
    # In two of two readings its own is named, in none it is the better.
    assert json.loads(out)["card"]["self_preference"] == 1.0


def test_calibration_is_shown_where_it_was_measured(evaluate: Command, tmp_path: Path) -> None:
    good = [{"prompt": f"Ask {n}", "chosen": "good", "rejected": "poor"} for n in range(2)]
    bad = [{"prompt": f"Ask {n}", "chosen": "plain", "rejected": "good"} for n in range(2)]
    with served(FakeEndpoint()) as endpoint:
        out = evaluate(endpoint, {"easy": good, "hard": bad}, "--format", "markdown")
    headings, _, easy, hard, mean, *_ = out[out.index("| data set") :].splitlines()
    columns = [cell.strip() for cell in headings.split("|")]

    def cell(line: str, column: str) -> str:
        return line.split("|")[columns.index(column)].strip()

    # (1 - 0.9089)^2 and 0.9089^2; always sure by 0.9089, and right always or never.
    assert (cell(easy, "Brier"), cell(easy, "ECE")) == ("0.008", "0.091")
    assert (cell(hard, "Brier"), cell(hard, "ECE")) == ("0.826", "0.909")
    assert (cell(mean, "accuracy"), cell(mean, "Brier"), cell(mean, "dropped")) == ("0.500", "", "")
    assert cell(easy, "failed") == "0.000" and cell(easy, "dropped") == "0"
    with served(FakeEndpoint(says_logprobs=False)) as endpoint:
        again = ("--work", str(tmp_path / "again"))
        out = evaluate(endpoint, {"easy": good}, "--format", "markdown", *again)
    assert "| longer | failed |" in out and "Brier" not in out
