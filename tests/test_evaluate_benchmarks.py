"""`selfreward evaluate --benchmark`, as a user runs it: what it reads, what it refuses before
anything is judged, and how much of a benchmark it says was measured."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.evaluate_tools import SCRIPTED, Command, jsonl, make_classifier, pair

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("local_ray"),
]

VOTES = {
    "question_id": 81,
    "turn": 1,
    "chosen_model": "x",
    "rejected_model": "y",
    "votes_chosen": 3,
    "votes_rejected": 1,
}


@pytest.fixture
def command(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(tmp_path, capsys, monkeypatch)


def refused(command: Command, *arguments: str) -> str:
    """The one line of `evaluate`, which has judged nothing by then."""
    work = command.folder / f"work-{len(list(command.folder.glob('work-*')))}"
    line = command.line("evaluate", *arguments, "--work", str(work))
    # What was read lies in `data`; a judge writes beside it.
    work.mkdir(exist_ok=True)
    judged = {folder.name for folder in work.iterdir()}
    assert judged.isdisjoint({"evaluate", "rate", "rate_ties", "score", "best_of"})
    return line


def longest(data: str, benchmark: str) -> list[str]:
    return ["--judge", "baseline:longest", "--data", data, "--benchmark", benchmark]


def test_the_kind_of_a_file_is_seen_before_judging(command: Command, tmp_path: Path) -> None:
    score = {"prompt": "x", "response": "y", "score": 3, "scale": "1-5"}
    scores = jsonl(tmp_path / "scores.jsonl", [score])
    pairs = jsonl(tmp_path / "pairs.jsonl", [pair(1, "good", "bad")])
    line = refused(command, *longest(scores, "rewardbench"))
    assert "scores: scored responses, and --benchmark rewardbench reads pairs" in line
    line = refused(command, *longest(pairs, "reward_modelling"))
    assert "pairs: pairs, and --benchmark reward_modelling reads scored responses" in line
    line = refused(command, *longest(pairs, "head_to_head"), "--orders", "random")
    assert "head_to_head reads both orders: leave out --orders random" in line
    # One pair file is fine, and the scores beside it are what this judge cannot give.
    line = refused(command, *longest(pairs, "rewardbench"), "--data", scores)
    assert "baseline:longest compares responses and rates none; leave out scores" in line


def test_coefficients_are_read_before_judging(command: Command, tmp_path: Path) -> None:
    pairs = jsonl(tmp_path / "pairs.jsonl", [pair(1, "good", "bad")])
    asked = [*longest(pairs, "alpaca_eval"), "--coefficients"]
    assert "--coefficients: no file at nowhere.json" in refused(command, *asked, "nowhere.json")
    (tmp_path / "glm.json").write_text('{"model": 1.0, "difficulty": 0.5}')
    line = refused(command, *asked, str(tmp_path / "glm.json"))
    assert "pairs: these coefficients need the difficulty of each instruction" in line


def test_a_row_whose_meta_does_not_fit_is_named(command: Command, tmp_path: Path) -> None:
    def line(benchmark: str, *metas: Any) -> str:
        rows = [pair(n, "good", "bad", meta=meta) for n, meta in enumerate(metas, 1)]
        data = jsonl(tmp_path / "votes.jsonl", rows)
        return refused(command, *longest(data, benchmark))

    null = VOTES | {"votes_chosen": None}
    assert (
        "votes: meta.votes_chosen is null and should be a whole number of at least 0, in row 2"
        " (id 'p2'); mt_bench: pair file with"
    ) in line("mt_bench", VOTES, null)
    assert "meta.turn is 'first' and should be 1 or 2, in row 1 (id 'p1')" in line(
        "mt_bench", VOTES | {"turn": "first"}
    )
    assert "meta lacks question_id, turn" in line("mt_bench", "no object")
    assert "meta.difficulty is [1.0] and should be a number, in row 1" in line(
        "alpaca_eval", {"difficulty": [1.0]}
    )
    assert "1 of 2 pairs have no meta.difficulty" in line("alpaca_eval", {"difficulty": 1}, {})
    # The same models twice on one question: the scoring itself would refuse it at the end.
    assert "two judge votes on ('81', 1, 'x', 'y')" in line("mt_bench", VOTES, VOTES)


def test_meta_may_be_the_text_of_an_object(command: Command, tmp_path: Path) -> None:
    rows = [pair(n, "the longer one", "bad") for n in (1, 2)]
    for number, row in enumerate(rows):
        row["meta"] = json.dumps(VOTES | {"question_id": number, "turn": str(number + 1)})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "votes.parquet")
    arguments = longest(str(tmp_path / "votes.parquet"), "mt_bench")
    found = command.evaluate(*arguments[1:])["data"]["votes"]
    # Three of four people of each turn agree with the judge.
    assert found["overall"] == 0.75
    assert found["sections"] == {"first turn": 0.75, "second turn": 0.75}


def test_scores_are_not_compared(command: Command, tmp_path: Path, tiny_model: Path) -> None:
    score = {"prompt": "x", "response": "y", "score": 3, "scale": "1-5"}
    scores = jsonl(tmp_path / "scores.jsonl", [score])
    work = tmp_path / "work"
    judges = ["compare", str(tiny_model), f"classifier:{tiny_model}"]
    line = command.line(*judges, "--data", scores, "--work", str(work), *SCRIPTED)
    assert "scores: scored responses; a comparison needs at least one pair file" in line
    # Judge B could not rate what judge A can: told before A is asked.
    pairs = jsonl(tmp_path / "pairs.jsonl", [pair(1, "good", "bad")])
    judges = ["compare", str(tiny_model), "baseline:first"]
    line = command.line(*judges, "--data", pairs, "--data", scores, "--work", str(work), *SCRIPTED)
    assert "baseline:first compares responses and rates none; leave out scores" in line
    assert [folder.name for folder in (work / "a").iterdir() if folder.name == "evaluate"] == []


def test_an_incomplete_benchmark_is_told(
    command: Command, tmp_path: Path, tiny_model: Path
) -> None:
    rows = [
        pair(n, "(quality 9) good", "(quality 2) bad", subset="alpacaeval-easy") for n in range(3)
    ]
    # Longer than the judge's context: no reading, and no part of any rate.
    rows[2]["chosen"] += " word" * 2000
    data = jsonl(tmp_path / "rb.jsonl", rows)
    arguments = ["--judge", str(tiny_model), "--data", data, "--benchmark", "rewardbench"]
    arguments += [*SCRIPTED, "engine.max_model_len=1024"]
    told = command.run("evaluate", *arguments)
    line = next(line for line in told.splitlines() if "2,985" in line)
    assert "RewardBench: 2 of 2,985 pairs measured; the overall is not comparable" in line
    assert "(dropped: prompt_too_long 1)" in line
    found = command.evaluate(*arguments[1:])["data"]["rb"]
    protocol = found["protocol"]
    assert (protocol["measured"], protocol["expected"], protocol["is_complete"]) == (2, 2985, False)
    assert protocol["incomplete"]["alpacaeval-easy"] == [2, 100]
    assert found["dropped"] == {"prompt_too_long": 1}


def published(domains: list[str]) -> list[dict[str, Any]]:
    """Rows as RM-Bench is published, in which a fancier response is a longer one."""
    return [
        {
            "id": f"row-{number}",
            "prompt": f"Ask {number}",
            "chosen": ["a", "aaa", "aaaaa"],
            "rejected": ["bb", "bbbb", "bbbbbb"],
            "domain": domain,
        }
        for number, domain in enumerate(domains)
    ]


def test_rm_bench_is_read_as_it_is_published(
    command: Command, tmp_path: Path, tiny_model: Path
) -> None:
    rows = published(["chat", "math", "code", "safety-refuse", "safety-response"])
    data = tmp_path / "total_dataset.json"
    data.write_text(json.dumps(rows, indent=4))
    report = command.evaluate("baseline:longest", "--data", str(data), "--benchmark", "rm_bench")
    found = report["data"]["total_dataset"]
    assert found["n"] == 45
    # Lengths 1, 3, 5 against 2, 4, 6: longer only where the chosen one is fancier.
    assert found["protocol"]["domains"]["chat"]["matrix"] == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert {k: found["sections"][k] for k in ("easy", "normal", "hard")} == {
        "easy": 1.0,
        "normal": 0.0,
        "hard": 0.0,
    }
    assert found["overall"] == pytest.approx(1 / 3)
    assert found["protocol"]["domains"]["safety"]["num_comparisons"] == 18
    assert (found["protocol"]["measured"], found["protocol"]["expected"]) == (45, 11_943)
    # At most so many rows, and not so many pairs.
    few = command.evaluate(
        *("baseline:longest", "--data", str(data), "--benchmark", "rm_bench", "--max-rows", "2")
    )
    assert few["data"]["total_dataset"]["n"] == 18

    # A reward model that gives every response the same reward is not right anywhere.
    equal = make_classifier(tiny_model, tmp_path / "equal", weight=0.0)
    found = command.evaluate(
        *(f"classifier:{equal}", "--data", str(data), "--benchmark", "rm_bench"),
        *("engine.num_cpus=0.5", "engine.dtype=float32"),
    )["data"]["total_dataset"]
    assert (found["overall"], found["accuracy"], found["tie_rate"]) == (0.0, 0.0, 1.0)


def test_lists_that_are_not_of_three_styles_are_refused(command: Command, tmp_path: Path) -> None:
    rows = published(["chat", "chat"])
    rows[1]["chosen"] = rows[1]["chosen"][:2]
    line = refused(command, *longest(jsonl(tmp_path / "rm.jsonl", rows), "rm_bench"))
    assert "row 2 (id 'row-1') has 2 chosen and 3 rejected responses; RM-Bench has three" in line


def test_messages_name_the_options_of_this_command(command: Command, tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = [pair(n, "the longer one", "bad") for n in range(4)]
    saved = tmp_path / "saved"
    halves = {"raw": Dataset.from_list(rows[:1]), "filtered": Dataset.from_list(rows[1:])}
    DatasetDict(halves).save_to_disk(str(saved))
    asked = ["--judge", "baseline:longest", "--data"]
    line = refused(command, *asked, str(saved))
    assert f"{saved} has no split 'train'; set --split to one of ['raw', 'filtered']" in line
    found = command.evaluate(*asked[1:], str(saved), "--split", "filtered")["data"]["saved"]
    assert (found["n"], found["accuracy"]) == (3, 1.0)
    # Another split is another evaluation, not the one that is there.
    assert command.evaluate(*asked[1:], str(saved), "--split", "raw")["data"]["saved"]["n"] == 1

    line = refused(command, *asked, str(tmp_path / "none.jsonl"))
    assert "set --data to a file, a glob or a dataset" in line
    (tmp_path / "rows.txt").write_text("{}")
    line = refused(command, *asked, str(tmp_path / "rows.txt"))
    assert "its ending names no format; set --data to a .jsonl or .parquet file" in line
    other = jsonl(tmp_path / "other.jsonl", [{"prompt": "x", "better": "y", "worse": "z"}])
    line = refused(command, *asked, other)
    assert "labelled pairs need the columns chosen and rejected" in line
    assert "name another with --column chosen=COLUMN" in line
    line = refused(command, *asked, other, "--column", "chosen=best")
    assert "no column 'best' (for chosen)" in line and "--column chosen=COLUMN" in line
    assert "pool." not in line
