"""`selfreward evaluate` and `compare`, as a user runs them, on a real local Ray without a model."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from tests.endpoint_tools import FakeEndpoint, served
from tests.evaluate_tools import SCRIPTED, Command, jsonl, make_classifier, pair

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("local_ray"),
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """120 pairs whose better response the scripted judge can tell, in two subsets."""
    rng = random.Random(3)
    rows = [
        pair(
            i,
            f"(quality 9) {'good ' * rng.randint(1, 9)}",
            f"(quality 2) {'poor ' * rng.randint(1, 9)}",
            subset="even" if i % 2 == 0 else "odd",
        )
        for i in range(120)
    ]
    return jsonl(tmp_path_factory.mktemp("data") / "pairs.jsonl", rows)


@pytest.fixture
def command(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(tmp_path, capsys, monkeypatch)


def test_length_baselines_count_equal_lengths_half(command: Command, tmp_path: Path) -> None:
    rows = [
        pair(1, "the longer answer", "short", subset="a"),
        pair(2, "short", "the longer answer", subset="a"),
        pair(3, "four", "more", subset="b"),  # as long as each other
        pair(4, "a long answer too", "tiny", subset="b"),
    ]
    data = jsonl(tmp_path / "lengths.jsonl", rows)
    report = command.evaluate("baseline:longest", "--data", data)
    found = report["data"]["lengths"]
    # Longer in two pairs, shorter in one, equal in one: (2 + 0.5) / 4.
    assert found["accuracy"] == 0.625
    assert found["subsets"] == {
        "a": {"n": 2, "accuracy": 0.5},
        "b": {"n": 2, "accuracy": 0.75},
    }
    assert found["longer_chosen_rate"] == 1.0
    assert found["position_consistent_accuracy"] == 0.5
    assert command.evaluate("baseline:shortest", "--data", data)["macro"]["accuracy"] == 0.375
    wanted = (
        "n accuracy accuracy_ci position_consistent_accuracy first_position_rate swap_flip_rate"
        " longer_chosen_rate unparsed_rate truncated_rate subsets sections overall"
    )
    assert set(wanted.split()) <= set(found)


def test_first_and_random_are_at_half(command: Command, pairs: str) -> None:
    # A baseline has no probability; it is asked as it is, whatever kind of verdict is wanted.
    first = command.evaluate("baseline:first", "--data", pairs, "--verdict", "probability")
    first = first["data"]["pairs"]
    assert (first["accuracy"], first["first_position_rate"], first["swap_flip_rate"]) == (0.5, 1, 1)
    report = command.evaluate("baseline:random", "--data", pairs)["data"]["pairs"]
    low, high = report["accuracy_ci"]
    assert low <= 0.5 <= high
    assert 0.3 < report["first_position_rate"] < 0.7


def test_a_model_in_both_orders_with_votes_and_probabilities(
    command: Command, pairs: str, tiny_model: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    base = [
        *("--data", pairs, *SCRIPTED),
        "engine.scripted.skill=0.8",
        f"engine.scripted.journal={journal}",
    ]
    judge = str(tiny_model)
    greedy = command.evaluate(judge, *base)["data"]["pairs"]
    # Drawn with P(right) = 0.8 from 240 readings: four standard errors are 0.1.
    assert greedy["accuracy"] == pytest.approx(0.8, abs=0.1)
    assert greedy["unparsed_rate"] == 0
    voted = command.evaluate(judge, *base, "--votes", "9", "--verdict", "sampled")
    # Nine votes of which each is right with 0.8: the majority is with 0.98.
    assert voted["data"]["pairs"]["accuracy"] > 0.93
    assert greedy["draws"] == {"choice": 240}
    assert voted["data"]["pairs"]["draws"] == {"choice": 240 * 9}
    sure = command.evaluate(judge, *base, "--verdict", "probability")["data"]["pairs"]
    assert sure["order_averaged_accuracy"] is not None
    assert sure["ece"] is not None
    told = (sure["readings_with_probability"], sure["readings_without_probability"])
    assert told == (240, 0)
    one = command.evaluate(judge, *base, "--orders", "random")["data"]["pairs"]
    assert one["n"] == 120
    assert one["swap_flip_rate"] is None
    assert one["position_consistent_accuracy"] is None
    asked = sum(len(p.read_text().splitlines()) for p in journal.glob("*.log"))
    # Greedy verdicts and their probabilities come from the same readings.
    assert asked == 240 * 2 + 120
    # What is judged is not judged again.
    assert command.evaluate(judge, *base)["data"]["pairs"] == greedy
    assert sum(len(p.read_text().splitlines()) for p in journal.glob("*.log")) == asked


def test_likelihoods_of_the_seed_model(command: Command, pairs: str, tiny_model: Path) -> None:
    base = ["--data", pairs, *SCRIPTED, f"model.name={tiny_model}"]
    for variant in ("", "-relative-sum", "-mean"):
        report = command.evaluate(f"baseline:likelihood{variant}", *base)
        # The scripted engine finds words of the better answers likelier, and each is as likely
        # as the next without a prompt.
        assert report["data"]["pairs"]["accuracy"] == 1.0, variant
    # The sum of log-probabilities favours the shorter answer even where it is the worse one.
    assert command.evaluate("baseline:likelihood-sum", *base)["macro"]["accuracy"] < 1.0


def rewards_of(folder: Path, answers: list[tuple[list[dict[str, str]], str]]) -> list[float]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    model.config.pad_token_id = tokenizer.eos_token_id
    rewards = []
    for messages, response in answers:
        turns = [*messages, {"role": "assistant", "content": response}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            rewards.append(float(model(input_ids=ids).logits[0, 0]))
    return rewards


def test_a_classifier_scores_responses_and_judges_pairs(
    command: Command, tiny_model: Path, tmp_path: Path, pairs: str
) -> None:
    points: list[dict[str, Any]] = [
        {
            "messages": [{"role": "user", "content": f"Ask {i}"}],
            "response": "word " * (3 * i + 1),
            "score": 1 + i % 5,
            "scale": "1-5 people",
        }
        for i in range(20)
    ]
    data = jsonl(tmp_path / "points.jsonl", points)
    rows = [json.loads(line) for line in Path(pairs).read_text().splitlines()[:20]]
    pairs = jsonl(tmp_path / "pairs.jsonl", rows)
    classifier = make_classifier(tiny_model, tmp_path / "reward")
    report = command.evaluate(
        f"classifier:{classifier}",
        *("--data", data, "--data", pairs, "engine.num_cpus=0.5", "engine.dtype=float32"),
    )
    found = report["scores"]["points"]
    assert (found["n"], found["num_failed"]) == (20, 0)
    rewards = rewards_of(classifier, [(row["messages"], row["response"]) for row in points])
    assert found["spearman"] == pytest.approx(
        spearmanr([row["score"] for row in points], rewards).statistic, abs=1e-4
    )
    low, high = found["spearman_ci"]
    assert low < found["spearman"] < high
    assert (found["draws"], report["data"]["pairs"]["draws"]) == (None, None)
    better, worse = (
        rewards_of(classifier, [(row["prompt"], row[side].strip()) for row in rows])
        for side in ("chosen", "rejected")
    )
    right = sum(a > b for a, b in zip(better, worse, strict=True))
    assert report["data"]["pairs"]["accuracy"] == pytest.approx(right / 20)
    assert report["data"]["pairs"]["swap_flip_rate"] == 0


def test_an_endpoint_is_a_judge(command: Command, pairs: str) -> None:
    with served(FakeEndpoint(is_busy_first=True)) as endpoint:
        report = command.evaluate(
            *(endpoint.url, "--data", pairs, "--max-rows", "10"),
            "judge.rubric=pairwise_verdict_only",
        )
    found = report["data"]["pairs"]
    assert (found["n"], found["accuracy"]) == (10, 1.0)
    # P(chosen) = e^-0.1 / (e^-0.1 + e^-2.4) = 0.909 in both orders: Brier (1 - 0.909)^2.
    assert found["brier"] == pytest.approx((1 - 0.9089) ** 2, abs=1e-4)
    assert endpoint.asked[1]["model"] == "some-judge"
    assert endpoint.asked[1]["structured_outputs"] == {"choice": ["A", "B"]}
    assert len(endpoint.asked) == 21  # 20 readings, and the one that failed


def test_compare_two_judges(command: Command, pairs: str, tmp_path: Path) -> None:
    out = tmp_path / "comparison.json"
    said = tmp_path / "said.jsonl"
    arguments = ["baseline:first", "baseline:longest", "--data", pairs, "--out", str(out)]
    text = command.run("compare", *arguments, "--readings", str(said))
    assert "B - A" in text
    report = json.loads(out.read_text())
    rows = [json.loads(line) for line in Path(pairs).read_text().splitlines()]
    lengths = [(len(r["chosen"].strip()), len(r["rejected"].strip())) for r in rows]
    longer = sum((a > b) + 0.5 * (a == b) for a, b in lengths) / len(rows)
    assert report["data"]["pairs"]["accuracy_after"] == pytest.approx(longer)
    assert report["macro"]["difference"] == pytest.approx(longer - 0.5)
    assert report["cards"]["a"]["first_position_rate"] == 1.0
    # Row by row, A's first: the figures again, from what each said.
    readings = [json.loads(line) for line in said.read_text().splitlines()]
    a, b = readings[: len(rows)], readings[len(rows) :]
    assert {(r["side"], r["judge"]) for r in a} == {("a", "baseline:first")}
    assert {(r["side"], r["judge"]) for r in b} == {("b", "baseline:longest")}
    assert [r["accuracy"] for r in a] == [0.5] * len(rows)
    assert [r["accuracy"] for r in b] == [(c > j) + 0.5 * (c == j) for c, j in lengths]


def test_benchmarks_by_name(command: Command, tmp_path: Path, pairs: str) -> None:
    listed = command.run("evaluate", "--benchmark", "list").splitlines()
    assert {line.partition(":")[0] for line in listed} == {
        *("rewardbench", "rewardbench2", "judgebench", "llmbar", "mt_bench", "rm_bench"),
        *("reward_modelling", "head_to_head", "alpaca_eval"),
    }
    rows = [
        pair(1, "right and long", "wrong", subset="alpacaeval-easy"),
        pair(2, "right", "wrong and long", subset="donotanswer"),
    ]
    data = jsonl(tmp_path / "rb.jsonl", rows)
    report = command.evaluate("baseline:longest", "--data", data, "--benchmark", "rewardbench")
    found = report["data"]["rb"]
    # Of 23 subsets there are two: no overall score, and no other figure in its place.
    assert found["overall"] is None
    assert found["sections"]["Chat"] == 1.0
    assert found["sections"]["Safety"] == 0.0
    assert found["protocol"]["name"] == "rewardbench"
    won = command.evaluate("baseline:longest", "--data", data, "--benchmark", "head_to_head")
    assert won["data"]["rb"]["protocol"]["win_rate"] == 0.5


@pytest.mark.parametrize("benchmark", ["head_to_head", "alpaca_eval"])
def test_a_model_against_itself_is_a_draw(command: Command, tmp_path: Path, benchmark: str) -> None:
    data = jsonl(tmp_path / "same.jsonl", [pair(n, "the same", "the same") for n in range(3)])
    # A judge that always names the first position says one thing of each order: a draw.
    for judge in ("baseline:first", "baseline:longest"):
        found = command.evaluate(judge, "--data", data, "--benchmark", benchmark)["data"]["same"]
        assert found["n"] == 3
        assert found["overall"] == 0.5
    # Asked which of two is better, none of them is.
    told = command.line("evaluate", "--judge", judge, "--data", data)
    assert "no usable pair; dropped rows: same_response 3" in told


def test_rewardbench2_by_rewards(command: Command, tiny_model: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Ask"}]
    wrong = ["no", "never at all", "not so"]
    row = {"id": "q1", "subset": "Math", "prompt": turns, "chosen": ["yes"], "rejected": wrong}
    data = jsonl(tmp_path / "rb2.jsonl", [row])
    classifier = make_classifier(tiny_model, tmp_path / "reward")
    report = command.evaluate(
        f"classifier:{classifier}",
        *("--data", data, "--benchmark", "rewardbench2"),
        *("engine.num_cpus=0.5", "engine.dtype=float32"),
    )
    answers = ["yes", *wrong]
    rewards = rewards_of(classifier, [(turns, text) for text in answers])
    best = answers[rewards.index(max(rewards))]
    score = report["scores"]["rb2"]["protocol"]["ours"]["domains"]["Math"]
    assert score == (1.0 if best == "yes" else 0.0)


def test_markdown_and_table(command: Command, pairs: str) -> None:
    base = ["evaluate", "--judge", "baseline:first", "--data", pairs]
    markdown = command.run(*base, "--format", "markdown", "--benchmark", "judgebench")
    assert "| pairs | 120 | 120 | 0.500 | 0.500-0.500 | 0.000 | 0.000-0.000 |" in markdown
    assert "| overall / strict | 0.000 |" in markdown
    # In the published scoring one right and one wrong reading make no right pair.
    assert "| headline figure | 0.000 |" in markdown
    assert "| its interval | 0.000-0.000 |" in markdown
    assert "bias card" in command.run(*base)


def test_an_edited_file_is_measured_anew_and_drops_are_told(
    command: Command, tmp_path: Path
) -> None:
    rows = [pair(1, "longer one", "short"), pair(2, "longer two", "short"), pair(3, "x", "x")]
    data = jsonl(tmp_path / "edited.jsonl", rows)
    found = command.evaluate("baseline:longest", "--data", data)["data"]["edited"]
    assert (found["n"], found["accuracy"]) == (2, 1.0)
    assert found["dropped"] == {"same_response": 1}
    jsonl(tmp_path / "edited.jsonl", [pair(1, "short", "longer one"), *rows[1:]])
    found = command.evaluate("baseline:longest", "--data", data)["data"]["edited"]
    assert found["accuracy"] == 0.5


def test_a_mapped_column_wins_over_the_usual_names(command: Command, tmp_path: Path) -> None:
    rows = [
        {"instruction": "not this", "ask": f"Ask {i}", "good": "longer one", "bad": "short"}
        for i in range(3)
    ]
    data = jsonl(tmp_path / "named.jsonl", rows)
    columns = ["prompt=ask", "chosen=good", "rejected=bad"]
    arguments = [part for column in columns for part in ("--column", column)]
    # Three different prompts: read from `instruction` they would be one pair and two duplicates.
    found = command.evaluate("baseline:longest", "--data", data, *arguments)["data"]["named"]
    assert (found["n"], found["accuracy"]) == (3, 1.0)


def test_mistakes(command: Command, pairs: str, tmp_path: Path) -> None:
    def line(*arguments: str) -> str:
        return command.line("evaluate", *arguments)

    first = ("--judge", "baseline:first", "--data", pairs)
    assert "no baseline 'longst'; there are longest" in line(
        "--judge", "baseline:longst", "--data", pairs
    )
    assert "--data names no file" in line("--judge", "baseline:first")
    assert "--judge is empty" in line("--data", pairs)
    assert "--format 'xml': it is one of table, json, markdown" in line(*first, "--format", "xml")
    assert "--orders 'one'" in line(*first, "--orders", "one")
    assert "--verdict 'sure'" in line(*first, "--verdict", "sure")
    assert "needs --verdict sampled" in line(*first, "--votes", "3")
    assert "--max-rows 0: at least one" in line(*first, "--max-rows", "0")
    assert "there is no 'chozen'" in line(*first, "--column", "chozen=x")
    assert "reads no order" in line(
        *("--judge", "baseline:likelihood", "--data", pairs, "--orders", "random")
    )
    assert "unknown rubric" in line(*first, "judge.rubric=pairwise")
    assert "rewardbench: pair file with" in line("--benchmark", "rewardbench")
    assert "no benchmark 'rewardbank'" in line(*first, "--benchmark", "rewardbank")
    assert "no file at" in line("--judge", "baseline:first", "--data", str(tmp_path / "none.jsonl"))
    wrong = jsonl(tmp_path / "wrong.jsonl", [{"prompt": "x", "better": "y"}])
    at_wrong = ("--judge", "baseline:first", "--data", wrong)
    assert "labelled pairs need the columns chosen and rejected" in line(*at_wrong)
    assert "no column 'best' (for chosen)" in line(*at_wrong, "--column", "chosen=best")
    scores = [{"prompt": "x", "response": "y", "score": 3, "scale": "1-5"}]
    rated = jsonl(tmp_path / "rated.jsonl", scores)
    assert "compares responses and rates none" in line("--judge", "baseline:first", "--data", rated)
