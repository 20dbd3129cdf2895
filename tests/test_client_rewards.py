"""The reward functions as TRL and verl call them, against a small judge service."""

import ast
import functools
import importlib.util
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from selfreward.client import (
    InvalidRequestError,
    JudgeClient,
    JudgeConnectionError,
    JudgmentFailedError,
    PairwiseJudgment,
)
from selfreward.client.reward_rules import pairwise_reward
from selfreward.client.rewards import trl_reward, verl_compute_score
from selfreward.errors import ConfigError, DataError
from selfreward.serving.judge_wire import VoteCounts
from tests.judge_service import JUDGE, KEY, blocking_transport, make_app


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def client(seen: list[Any]) -> JudgeClient:
    transport = blocking_transport(make_app(seen))
    return JudgeClient("http://judge.test", api_key=KEY, transport=transport, max_batch=2)


def trl_source(file: str) -> ast.Module:
    """TRL's own source, read without importing torch."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("trl is not installed")
    return ast.parse((Path(spec.origin).parent / "trainer" / file).read_text())


def function_in(tree: ast.Module, name: str) -> ast.FunctionDef:
    return next(
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name
    )


def test_trl_calls_with_these_keywords(client: JudgeClient) -> None:
    body = function_in(trl_source("grpo_trainer.py"), "_calculate_rewards")
    calls = [
        node
        for node in ast.walk(body)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("reward_func", "func")
        and any(keyword.arg == "completions" for keyword in node.keywords)
    ]
    # One for plain functions, one for coroutines.
    assert len(calls) == 2
    extra = {
        target.slice.value
        for node in ast.walk(body)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Subscript)
        and isinstance(target.value, ast.Name)
        and target.value.id == "reward_kwargs"
        and isinstance(target.slice, ast.Constant)
    }
    assert {"trainer_state", "log_metric"} <= extra
    reward = trl_reward(client, normalised=False)
    for call in calls:
        assert call.args == []
        given: dict[str, Any] = {str(name): None for name in extra}
        given |= {keyword.arg: [] for keyword in call.keywords if keyword.arg is not None}
        given |= {"prompts": ["p"], "completions": ["abc"], "completion_ids": [[1, 2]]}
        assert reward(**given) == [3.0]


def test_trl_sees_a_plain_function_with_a_name(client: JudgeClient) -> None:
    tree = trl_source("utils.py")
    names = ("get_callable_name", "is_async_callable")
    module = ast.Module([function_in(tree, name) for name in names], [])
    space: dict[str, Any] = {"functools": functools, "inspect": inspect, "Callable": Callable}
    exec(compile(module, "trl", "exec"), space)
    reward = trl_reward(client, name="helpfulness")
    assert space["get_callable_name"](reward) == "helpfulness"
    assert space["get_callable_name"](trl_reward(client)) == "judge_reward"
    assert space["is_async_callable"](reward) is False


def test_scores_of_texts(client: JudgeClient, seen: list[Any]) -> None:
    metrics: list[tuple[str, float]] = []
    given: dict[str, Any] = {
        "prompts": ["p1", "p2", "p3", "p4"],
        "completions": ["abcd", "fail", " \n", "a"],
        "completion_ids": [[1], [2], [3], [4]],
        "trainer_state": None,
        "log_metric": lambda name, value: metrics.append((name, value)),
    }
    # Lengths 4 and 1 on the scale 0 to 5.
    assert trl_reward(client)(**given) == [0.8, None, None, 0.2]
    assert trl_reward(client, normalised=False, blank_reward=-1.0)(**given) == [4, None, -1, 1]
    # The blank one is not sent; three others in chunks of two, one of which failed.
    assert [[r.prompt for r in body.batch] for body in seen[:2]] == [["p1", "p2"], ["p4"]]
    assert metrics == [("judge_reward/failed_share", 1 / 3)] * 2
    assert trl_reward(client)(prompts=["p"], completions=[""]) == [None]


def test_scores_of_messages(client: JudgeClient, seen: list[Any]) -> None:
    prompt = [
        {"role": "system", "content": "Be brief.", "name": None},
        {
            "role": "user",
            "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}],
        },
    ]
    completions = [
        [{"role": "assistant", "content": "four"}],
        [
            {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]},
            {"role": "tool", "content": "4"},
            {"role": "assistant", "content": "It"},
        ],
        [{"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}],
    ]
    reward = trl_reward(client, normalised=False, votes=3, rubric="r")
    assert reward(prompts=[prompt] * 3, completions=completions) == [4.0, 2.0, None]
    (body,) = seen
    assert [(m.role, m.content) for m in body.batch[0].prompt] == [
        ("system", "Be brief."),
        ("user", "2+2?"),
    ]
    assert [r.response for r in body.batch] == ["four", "It"]
    assert (body.batch[0].votes, body.batch[0].rubric) == (3, "r")
    image = [{"role": "user", "content": [{"type": "image"}]}]
    with pytest.raises(DataError, match="text only"):
        reward(prompts=[image], completions=completions[:1])


def test_scores_with_a_reference(client: JudgeClient, seen: list[Any]) -> None:
    reward = trl_reward(client, normalised=False, reference_column="gold")
    gold = ["4", None]
    assert reward(prompts=["p", "p"], completions=["ab", "ab"], gold=gold) == [3.0, 2.0]
    assert [r.reference for r in seen[0].batch] == ["4", None]


def test_pairs_against_a_reference(client: JudgeClient, seen: list[Any]) -> None:
    reward = trl_reward(client, route="pairwise", reference_column="gold")
    rewards = reward(
        prompts=["p"] * 5,
        completions=["long", "s", "same", "fail", "long"],
        gold=["x", "long", "also", "x", None],
    )
    # The judge's P of the completion; a tie without one is half; no reference, no reward.
    assert rewards == [0.9, 0.1, 0.5, None, None]
    assert [(r.first, r.second) for r in seen[0].batch] == [("long", "x"), ("s", "long")]
    with pytest.raises(DataError, match=r"no column 'gold'.*it has: answer"):
        reward(prompts=["p"], completions=["c"], answer=["a"])


def test_the_share_of_votes_stands_in_for_a_missing_probability() -> None:
    def judgment(**fields: Any) -> PairwiseJudgment:
        return PairwiseJudgment(id="i", rubric="r", judge=JUDGE, **fields)

    votes = VoteCounts(first=3, second=1, tie=2, failed=4)
    # (3 + 2 / 2) / 6
    assert pairwise_reward(judgment(outcome="choice", choice="first", votes=votes)) == 4 / 6
    assert pairwise_reward(judgment(outcome="tie")) is None
    assert pairwise_reward(judgment(outcome="timed_out", probability_first=0.7)) is None


def test_rewards_that_cannot_be_made(client: JudgeClient) -> None:
    with pytest.raises(ConfigError, match="reference_column"):
        trl_reward(client, route="pairwise")
    with pytest.raises(ConfigError, match="route='rank'"):
        trl_reward(client, route="rank")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="same for every prompt"):
        trl_reward(client, reference="4")
    with pytest.raises(InvalidRequestError, match="votes"):
        verl_compute_score(client, votes=0)
    with pytest.raises(ConfigError, match="finite"):
        verl_compute_score(client, failed_reward=float("nan"))


def test_no_service_is_an_error_and_no_reward() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    client = JudgeClient("http://judge.test", transport=httpx.MockTransport(refuse), max_tries=1)
    with pytest.raises(JudgeConnectionError):
        trl_reward(client)(prompts=["p"], completions=["c"])
    compute_score = verl_compute_score(client, failed_reward=0.0)
    with pytest.raises(JudgeConnectionError):
        compute_score("d", "s", "g", {"question": "q"})


def test_verl_scores(client: JudgeClient, seen: list[Any]) -> None:
    compute_score = verl_compute_score(client, votes=2)
    # As verl's naive reward manager calls it, with what it may add.
    answer = compute_score(
        data_source="openai/gsm8k",
        solution_str="four",
        ground_truth="4",
        extra_info={"question": "2+2?", "num_turns": None},
        reward_router_address=None,
    )
    assert answer == {"score": 0.8, "judged": 1.0}
    (sent,) = seen[0].batch
    assert (sent.prompt, sent.reference, sent.votes) == ("2+2?", None, 2)
    messages = ({"role": "user", "content": "2+2?"},)
    compute_score = verl_compute_score(
        client, normalised=False, prompt_key="prompt", ground_truth_as_reference=True
    )
    assert compute_score("d", "four", "4", {"prompt": messages})["score"] == 5
    assert seen[1].batch[0].reference == "4"


def test_verl_against_the_ground_truth(client: JudgeClient) -> None:
    compute_score = verl_compute_score(client, route="pairwise")
    assert compute_score("d", "long", "4", {"question": "q"}) == {"score": 0.9, "judged": 1.0}
    with pytest.raises(DataError, match="ground_truth of data source 'd'"):
        compute_score("d", "long", {"answer": 4}, {"question": "q"})


def test_verl_and_a_failed_judgment(client: JudgeClient) -> None:
    strict = verl_compute_score(client)
    with pytest.raises(JudgmentFailedError, match=r"cut off at 8 tokens.*failed_reward") as caught:
        strict("d", "fail", "4", {"question": "q"})
    assert caught.value.code == "truncated"
    with pytest.raises(JudgmentFailedError, match="no text"):
        strict("d", " ", "4", {"question": "q"})
    lenient = verl_compute_score(client, failed_reward=0.25)
    for text in ("fail", ""):
        assert lenient("d", text, "4", {"question": "q"}) == {"score": 0.25, "judged": 0.0}


@pytest.mark.parametrize("extra_info", [None, {}, {"question": None}])
def test_verl_without_a_prompt(client: JudgeClient, extra_info: dict[str, Any] | None) -> None:
    with pytest.raises(DataError, match=r"extra_info\['question'\].*prompt_key"):
        verl_compute_score(client)("d", "s", "g", extra_info)


def test_rewards_survive_pickling() -> None:
    client = JudgeClient("http://judge.test", api_key=KEY)
    copy = pickle.loads(pickle.dumps(trl_reward(client, name="mine", votes=2)))
    assert (copy.__name__, copy.rule.options, copy.client.settings.api_key) == (
        "mine",
        {"votes": 2},
        KEY,
    )
    assert pickle.loads(pickle.dumps(verl_compute_score(client))).__name__ == "compute_score"
