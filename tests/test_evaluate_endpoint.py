"""`selfreward evaluate` with an endpoint that takes a part of OpenAI's form, as a user runs it; a
real port, and no Ray."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfreward import cli
from tests.endpoint_tools import FakeEndpoint, served
from tests.step_tools import evaluating_here

PAIRS = [
    {"id": f"p{n}", "prompt": f"Ask {n}", "chosen": f"good {n}", "rejected": f"poor {n}"}
    for n in range(10)
]
VERDICT_ONLY = "judge.rubric=pairwise_verdict_only"

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def on_ten_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The options of an evaluation of ten pairs that is done in this process."""
    evaluating_here(monkeypatch, tmp_path)
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return ["--data", str(data), "--work", str(tmp_path / "work"), "--format", "json"]


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch, on_ten_pairs: list[str], capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs the command on ten pairs; returns its exit code with its output or its one line."""

    def run(endpoint: FakeEndpoint, *more: str) -> tuple[int, str]:
        argv = ["selfreward", "evaluate", "--judge", endpoint.url, *on_ten_pairs]
        monkeypatch.setattr("sys.argv", [*argv, VERDICT_ONLY, *more])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        return int(stop.value.code or 0), out.out or out.err.strip()

    return run


def openai(message: str, param: str | None) -> str:
    error = {"message": message, "type": "invalid_request_error", "param": param}
    return json.dumps({"error": error})


def unsupported(name: str) -> str:
    return openai(f"Unsupported parameter: '{name}' is not supported with this model.", name)


def test_an_endpoint_without_probabilities_judges_pairs(evaluate: Command) -> None:
    with served(FakeEndpoint(refuses={"logprobs": unsupported("logprobs")})) as endpoint:
        code, out = evaluate(endpoint, "pool.shard_size=5")
        assert code == 0, out
        found = json.loads(out)["data"]["pairs"]
        assert (found["n"], found["accuracy"], found["dropped"]) == (10, 1.0, {})
        assert (found["brier"], found["ece"]) == (None, None)
        assert len(endpoint.answered) == 20
        assert not any({"logprobs", "top_logprobs"} & set(body) for body in endpoint.answered)
        # The five pairs of the first shard are asked about at once; after them it is known.
        assert not any("logprobs" in body for body in endpoint.asked[-10:])


def test_probabilities_from_an_endpoint_that_refuses_them_are_one_line(evaluate: Command) -> None:
    with served(FakeEndpoint(refuses={"logprobs": unsupported("logprobs")})) as endpoint:
        code, line = evaluate(endpoint, "--verdict", "probability")
    assert code == 2
    assert f"endpoint {endpoint.url}/chat/completions takes no logprobs=true" in line
    assert "'logprobs' is not supported with this model" in line
    assert line.endswith("--verdict greedy or sampled, and rating.expected=false")


def test_probabilities_that_were_never_told_are_no_failure_of_the_judge(evaluate: Command) -> None:
    with served(FakeEndpoint(says_logprobs=False)) as endpoint:
        assert evaluate(endpoint)[0] == 0
        # The readings of the greedy verdicts are there already.
        code, line = evaluate(endpoint, "--verdict", "probability")
        assert len(endpoint.asked) == 20
    assert code == 2
    assert line == (
        "selfreward: pairs: the judge told no probabilities of its verdicts, of which --verdict"
        " probability is made: use --verdict greedy or sampled"
    )


def test_a_reasoning_model_is_asked_in_its_own_words(evaluate: Command, tmp_path: Path) -> None:
    only_one = "Unsupported value: 'temperature' does not support 0 with this model. Only the"
    refuses = {
        "max_tokens": openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
            " 'max_completion_tokens' instead.",
            "max_tokens",
        ),
        "logprobs": unsupported("logprobs"),
        "top_p": unsupported("top_p"),
        "temperature": openai(f"{only_one} default (1) value is supported.", "temperature"),
    }
    with served(FakeEndpoint(refuses=refuses)) as endpoint:
        code, line = evaluate(endpoint)
        assert code == 2
        assert "takes no temperature=0.0 (" in line
        assert "reasoning models take only 1: ask with --verdict sampled" in line
        sampled = ["--verdict", "sampled", "judge.sampling.temperature=1", "judge.sampling.top_p=1"]
        # Another recipe, so another folder.
        code, out = evaluate(endpoint, *sampled, "--work", str(tmp_path / "again"))
    assert code == 0, out
    assert json.loads(out)["data"]["pairs"]["accuracy"] == 1.0
    fields = {name for body in endpoint.answered for name in body}
    wanted = "max_completion_tokens messages model n seed structured_outputs"
    assert fields == set(wanted.split())
    assert endpoint.answered[0]["max_completion_tokens"] == 4


def test_guided_decoding_that_is_refused_is_named_with_its_mend(evaluate: Command) -> None:
    said = openai("Unrecognized request argument supplied: structured_outputs", None)
    with served(FakeEndpoint(refuses={"structured_outputs": said})) as endpoint:
        code, line = evaluate(endpoint)
        assert code == 2
        assert 'takes no structured_outputs={"choice": ["A", "B"]}' in line
        assert line.endswith("judge.guided=false rating.guided=false")
        unnamed = FakeEndpoint(refuses={"structured_outputs": "Unknown parameter given"})
    with served(unnamed) as endpoint:
        code, line = evaluate(endpoint)
    assert code == 2
    assert "does not take every field of the request (Unknown parameter given)" in line


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "The content policy forbids this.",
            "all were dropped, 7 of 10 times as engine_failure (The content policy forbids this.);",
        ),
        (
            "maximum context length is 9 tokens, not 12",
            "as prompt_too_long (maximum context length is 9 tokens, not 12); raise"
            " engine.max_model_len;",
        ),
        # Names a field, but does not refuse it.
        (openai("max_tokens is too large: 4", "max_tokens"), "max_tokens is too large: 4"),
    ],
)
def test_pairs_that_are_all_dropped_say_why(
    evaluate: Command, tmp_path: Path, said: str, told: str
) -> None:
    refuses = {f"Ask {n}": said if n < 7 else "Another word." for n in range(10)}
    with served(FakeEndpoint(refuses=refuses)) as endpoint:
        code, line = evaluate(endpoint)
    assert code == 2
    assert line.startswith("selfreward: no pair of pairs was judged: ")
    assert told in line
    assert line.endswith(f"; remove {tmp_path}/work/evaluate/pairs to ask again")


def test_a_refused_pair_leaves_the_others(evaluate: Command) -> None:
    with served(FakeEndpoint(refuses={"Ask 3": "The content policy forbids this."})) as endpoint:
        code, out = evaluate(endpoint)
    assert code == 0
    found: dict[str, Any] = json.loads(out)["data"]["pairs"]
    assert (found["n"], found["dropped"]) == (9, {"engine_failure": 1})


@pytest.mark.parametrize(
    ("endpoint", "asked_for", "from_seeds"),
    [
        (FakeEndpoint(), [3], [0]),
        (FakeEndpoint(max_choices=1), [3, 2, 1], [0, 1, 2]),
        # Refused once, and from then on not sent: one choice an answer.
        (FakeEndpoint(refuses={"n": unsupported("n")}), [None, None, None], [0, 1, 2]),
        # In words of its own: seen by what helps.
        (
            FakeEndpoint(refuses={"n": "Only one choice is allowed"}),
            [None] * 3,
            [0, 1, 2],
        ),
    ],
)
def test_every_vote_is_asked_for(
    evaluate: Command, endpoint: FakeEndpoint, asked_for: list[int | None], from_seeds: list[int]
) -> None:
    one = ("--max-rows", "1", "--votes", "3", "--verdict", "sampled")
    with served(endpoint):
        code, out = evaluate(endpoint, *one)
    assert code == 0, out
    found = json.loads(out)["data"]["pairs"]
    assert (found["n"], found["accuracy"], found["draws"]["choice"]) == (1, 1.0, 6)
    # The two orders are asked at once and have seeds of their own.
    by_order: dict[str, list[dict[str, Any]]] = {}
    for body in endpoint.answered:
        by_order.setdefault(body["messages"][-1]["content"], []).append(body)
    assert len(by_order) == 2
    for bodies in by_order.values():
        assert [body.get("n") for body in bodies] == asked_for
        first = bodies[0]["seed"]
        assert [body["seed"] - first for body in bodies] == from_seeds


def test_a_vote_that_is_refused_leaves_its_pair_out(evaluate: Command) -> None:
    class Strict(FakeEndpoint):
        """Answers the first of three votes, and refuses the others of one pair."""

        def answer(self, body: dict[str, Any]) -> tuple[int, str]:
            if body.get("n") != 3 and "Ask 3" in body["messages"][-1]["content"]:
                self.asked.append(body)
                return 400, "The content policy forbids this."
            return super().answer(body)

    with served(Strict(max_choices=1)) as endpoint:
        code, out = evaluate(endpoint, "--votes", "3", "--verdict", "sampled")
    assert code == 0
    found = json.loads(out)["data"]["pairs"]
    assert (found["n"], found["dropped"]) == (9, {"engine_failure": 1})


def test_a_vote_tells_the_draws_that_failed(evaluate: Command) -> None:
    class Rambling(FakeEndpoint):
        """One of its three choices says nothing that can be read."""

        def answer(self, body: dict[str, Any]) -> tuple[int, str]:
            status, text = super().answer(body)
            said = json.loads(text)
            said["choices"][1]["message"]["content"] = "Both have their merits."
            return status, json.dumps(said)

    with served(Rambling()) as endpoint:
        code, out = evaluate(endpoint, "--votes", "3", "--verdict", "sampled")
    assert code == 0
    found = json.loads(out)["data"]["pairs"]
    # Two votes carry each of the 20 readings, and no reading failed.
    assert (found["accuracy"], found["unparsed_rate"]) == (1.0, 0.0)
    assert found["draws"] == {"choice": 40, "unparsed": 20}


def test_the_job_is_the_command(
    monkeypatch: pytest.MonkeyPatch, on_ten_pairs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["evaluate.py", "--judge", "baseline:longest", *on_ten_pairs]
    monkeypatch.setattr("sys.argv", job)
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("ray_jobs.evaluate", run_name="__main__")
    assert not stop.value.code
    # "good 1" is as long as "poor 1": half of every pair.
    found = json.loads(capsys.readouterr().out)["data"]["pairs"]
    assert (found["n"], found["accuracy"], found["draws"]) == (10, 0.5, None)
