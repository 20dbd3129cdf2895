"""The whole HTTP application on the scripted engine: every route, as a caller sees it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from selfreward.config_serving import LimitsConfig
from selfreward.engines.models import model_fingerprint
from selfreward.serving.admin_wire import VersionHistory
from selfreward.serving.judge_wire import PairwiseJudgment, RankJudgment, ScoreJudgment
from tests.serving_tools import (
    BAD,
    GOOD,
    PAIR,
    events_of,
    local_service,
    serving_config,
    shadow_of,
)
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[TestClient]:
    with local_service(tiny_model, tmp_path_factory.mktemp("service")) as (client, _, _):
        yield client


def test_a_pair_is_judged_in_both_orders(client: TestClient) -> None:
    answer = client.post("/v1/judge/pairwise", json=PAIR | {"votes": 3})
    assert answer.status_code == 200
    judgment = PairwiseJudgment.model_validate(answer.json())
    # The scripted judge with skill 1 always knows the better one.
    assert (judgment.outcome, judgment.choice, judgment.consistent) == ("choice", "first", True)
    assert judgment.votes.first == 6
    assert [order.shown for order in judgment.orders] == ["first_second", "second_first"]
    assert judgment.judge.version == 1
    assert judgment.usage.prompt_tokens > 0
    turned = {"prompt": PAIR["prompt"], "first": BAD, "second": GOOD}
    assert client.post("/v1/judge/pairwise", json=turned).json()["choice"] == "second"


def test_a_batch_keeps_its_order_and_one_version(client: TestClient) -> None:
    turned = PAIR | {"first": BAD, "second": GOOD}
    answer = client.post("/v1/judge/pairwise", json={"batch": [PAIR, turned, PAIR]})
    batch = answer.json()["batch"]
    assert [judgment["choice"] for judgment in batch] == ["first", "second", "first"]
    assert {judgment["judge"]["version"] for judgment in batch} == {1}
    assert len({judgment["id"] for judgment in batch}) == 3


def test_scores_and_rankings(client: TestClient) -> None:
    scored = client.post("/v1/judge/score", json={"prompt": "Ask", "response": GOOD, "votes": 2})
    score = ScoreJudgment.model_validate(scored.json())
    assert score.outcome == "score"
    assert score.num_scores == 2
    assert list(score.scale) == [0, 5]
    responses = ["(quality 5) fair", BAD, GOOD]
    ranked = client.post("/v1/judge/rank", json={"prompt": "Ask", "responses": responses})
    ranking = RankJudgment.model_validate(ranked.json())
    assert ranking.outcome == "ranking"
    assert ranking.ranking == [[2], [0], [1]]
    assert ranking.num_comparisons == 3


def test_a_stream_has_the_explanation_and_ends_with_the_judgment(client: TestClient) -> None:
    answer = client.post("/v1/judge/pairwise/stream", json=PAIR | {"rationale": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert {name for name, _ in events[:-1]} == {"rationale"}
    name, data = events[-1]
    assert name == "judgment"
    judgment = PairwiseJudgment.model_validate(data)
    assert judgment.choice == "first"
    # What was streamed of an order is its rationale.
    for order in judgment.orders:
        text = "".join(d["text"] for n, d in events[:-1] if d["shown"] == order.shown)
        assert text.strip() == order.rationales[0].strip() != ""
    assert "[[" not in answer.text.rpartition("event: judgment")[0]


def test_the_openai_routes(client: TestClient) -> None:
    listed = [card["id"] for card in client.get("/v1/models").json()["data"]]
    assert listed[0] == "judge"
    turns = [{"role": "user", "content": "Hello?"}]
    asked = {"model": "judge", "messages": turns, "max_tokens": 8, "seed": 7}
    whole = client.post("/v1/chat/completions", json=asked).json()
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["content"]
    usage = whole["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    streamed = client.post(
        "/v1/chat/completions",
        json=asked | {"stream": True, "stream_options": {"include_usage": True}},
    )
    lines = [line.removeprefix("data: ") for line in streamed.text.strip().split("\n\n")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == usage


def test_rewards_as_openrlhf_asks_for_them(client: TestClient) -> None:
    prompt = "Ask number 1\n"
    body = {
        "query": [prompt + GOOD, prompt + BAD],
        "prompts": [prompt, prompt],
        "labels": [None, {"answer": 4}],
    }
    answer = client.post("/get_reward", json=body).json()
    assert answer["rewards"] == answer["scores"]
    assert answer["rewards"][0] > answer["rewards"][1]
    assert answer["extra_logs"] == {"judge_failed": [0.0, 0.0]}
    # Of several addresses all but the first get nothing to score.
    nothing = client.post("/get_reward", json={"query": [], "prompts": [], "labels": []})
    assert nothing.status_code == 200
    assert nothing.json() == {"rewards": [], "scores": [], "extra_logs": {"judge_failed": []}}


def test_a_text_that_cannot_be_scored_costs_the_batch_nothing(client: TestClient) -> None:
    prompt = "Ask number 1\n"
    body = {
        "query": [prompt + GOOD, prompt + " ", "x" * 200_001, prompt + BAD],
        "prompts": [prompt] * 4,
    }
    sent = client.post("/get_reward", json=body)
    answer = sent.json()
    assert answer["rewards"][1:3] == [None, None]
    assert answer["rewards"][0] > answer["rewards"][3]
    assert answer["extra_logs"] == {"judge_failed": [0.0, 1.0, 1.0, 0.0]}
    assert sent.headers["x-judge-version"] == "1"
    assert sent.headers["x-rubric"] == "pointwise_additive_short"
    asked = client.post("/get_reward?failed_reward=-1.5", json=body).json()
    assert asked["rewards"][1:3] == [-1.5, -1.5]
    assert asked["extra_logs"] == answer["extra_logs"]
    nothing = client.post("/get_reward", json={"query": [" "]})
    assert (nothing.status_code, nothing.json()["rewards"]) == (200, [None])


def test_a_chat_names_who_answered_and_takes_the_name_it_has_just_listed(
    tmp_path: Path, tiny_model: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)
    with local_service(tiny_model, tmp_path) as (client, _, _):
        name = client.get("/v1/models").json()["data"][1]["id"]
        client.post("/admin/promote", json={"model": str(other)})
        asked = {"model": name, "messages": [{"role": "user", "content": "Hello?"}]}
        for stream in (False, True):
            sent = client.post("/v1/chat/completions", json=asked | {"stream": stream})
            assert sent.status_code == 200
            assert sent.headers["x-judge-version"] == "2"
            assert sent.headers["x-judge-fingerprint"] == model_fingerprint(str(other))
            first = sent.text.partition("\n")[0].removeprefix("data: ")
            assert json.loads(first)["model"] == str(other)
        assert name not in [card["id"] for card in client.get("/v1/models").json()["data"]]


MISTAKES: list[tuple[str, dict[str, Any], int, str]] = [
    ("pairwise", PAIR | {"votes": 17}, 422, "too_many_votes"),
    ("pairwise", PAIR | {"rubric": "pairwise_verdict"}, 422, "unknown_rubric"),
    ("pairwise", PAIR | {"rubric": "pointwise_additive"}, 422, "wrong_rubric_kind"),
    ("pairwise", PAIR | {"rubric": "x" * 101}, 422, "invalid_request"),
    ("pairwise", PAIR | {"rubric": {"criteria": "x" * 4001}}, 422, "invalid_request"),
    ("pairwise", PAIR | {"first": ""}, 422, "invalid_request"),
    ("pairwise", PAIR | {"first": "  \n"}, 422, "blank_text"),
    ("pairwise", PAIR | {"first": "x" * 200_001}, 422, "text_too_long"),
    ("pairwise", PAIR | {"colour": "red"}, 422, "invalid_request"),
    ("pairwise", {"batch": [PAIR] * 65}, 422, "batch_too_large"),
    ("rank", {"prompt": "Ask", "responses": [GOOD]}, 422, "invalid_request"),
    ("rank", {"prompt": "Ask", "responses": [GOOD] * 17}, 422, "too_many_responses"),
]


@pytest.mark.parametrize(("route", "body", "status", "code"), MISTAKES)
def test_mistakes_are_told(
    client: TestClient, route: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = client.post(f"/v1/judge/{route}", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert "\n" not in error["message"]
    assert len(error["message"]) < 600


def test_a_prompt_beyond_the_context_is_an_outcome(client: TestClient) -> None:
    answer = client.post("/v1/judge/pairwise", json=PAIR | {"first": "word " * 10_000})
    assert answer.status_code == 200
    judgment = answer.json()
    assert judgment["outcome"] == "prompt_too_long"
    assert judgment["choice"] is None
    assert "4096" in judgment["detail"]


def test_unknown_models_and_unspoken_fields(client: TestClient) -> None:
    asked = {"model": "gpt-9", "messages": [{"role": "user", "content": "Hello?"}]}
    unknown = client.post("/v1/chat/completions", json=asked)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    unspoken = client.post(
        "/v1/chat/completions", json=asked | {"model": "judge", "logprobs": True}
    )
    assert unspoken.status_code == 422
    assert "logprobs" in unspoken.json()["error"]["message"]


def test_a_chats_schema_has_bounds_that_the_document_tells(client: TestClient) -> None:
    def guided(schema: dict[str, Any]) -> Any:
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        turns = [{"role": "user", "content": "Hello?"}]
        body = {"model": "judge", "messages": turns, "max_tokens": 8, "response_format": form}
        return client.post("/v1/chat/completions", json=body)

    assert guided({"type": "object", "properties": {}}).status_code == 200
    refused = guided({"properties": {"a": {"$ref": "https://example.org/a.json"}}})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (422, "invalid_request")
    assert error["param"] == "response_format.json_schema.schema"
    assert error["message"].endswith("leads out of the schema; put what it names into $defs")
    document = client.get("/openapi.json").json()["components"]["schemas"]
    told = document["JsonSchemaFormat"]["properties"]["schema"]["description"]
    assert told.startswith("At most 16384 characters of JSON and 32 levels deep")
    assert document["ReviewAnswer"]["properties"]["task_id"]["maxLength"] == 200


def test_promotion_and_rollback_change_what_answers(tmp_path: Path, tiny_model: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)
    with local_service(tiny_model, tmp_path) as (client, _, _):
        promoted = client.post("/admin/promote", json={"model": str(other)})
        assert promoted.json()["judge"]["version"] == 2
        judged = client.post("/v1/judge/pairwise", json=PAIR).json()["judge"]
        assert (judged["version"], judged["model"]) == (2, str(other))
        back = client.post("/admin/rollback").json()
        assert (back["judge"]["version"], back["by"]) == (3, "rollback")
        assert client.post("/v1/judge/pairwise", json=PAIR).json()["judge"]["version"] == 3
        history = VersionHistory.model_validate(client.get("/v1/version").json())
        assert [entry.judge.version for entry in history.history] == [1, 2]
        # What does not fit is refused before anything changes.
        wide = make_tiny_model(tmp_path / "wide", hidden=128)
        refused = client.post("/admin/promote", json={"model": str(wide)})
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            409,
            "cannot_change_judge",
        )
        assert "does not fit the served model" in refused.json()["error"]["message"]
        assert client.get("/v1/version").json()["current"]["judge"]["version"] == 3
    with local_service(tiny_model, tmp_path) as (client, _, _):
        # A restart goes on with what was served.
        assert client.get("/v1/version").json()["current"]["judge"]["version"] == 3


def test_metrics_count_outcomes_and_routes(tmp_path: Path, tiny_model: Path) -> None:
    with local_service(tiny_model, tmp_path, unparsed_share=1.0) as (client, _, _):
        judgment = client.post("/v1/judge/pairwise", json=PAIR).json()
        assert judgment["outcome"] == "unparsed"
        assert judgment["probability_first"] is None
        assert judgment["detail"]
        metrics = client.get("/metrics").text
    assert 'selfreward_judgments_total{kind="pairwise",outcome="unparsed"} 1.0' in metrics
    assert 'selfreward_requests_total{route="/v1/judge/pairwise",status="200"} 1.0' in metrics
    assert "selfreward_judge_version 1.0" in metrics


def test_a_time_limit_is_an_outcome(tmp_path: Path, tiny_model: Path) -> None:
    with local_service(tiny_model, tmp_path, delay_s=5.0) as (client, _, _):
        judgment = client.post("/v1/judge/pairwise", json=PAIR | {"timeout_s": 0.05}).json()
    assert judgment["outcome"] == "timed_out"
    assert judgment["choice"] is None


def test_an_answer_that_does_not_come_504_names_what_was_waited_for(
    tmp_path: Path, tiny_model: Path
) -> None:
    config = serving_config(limits=LimitsConfig(request_timeout_s=0.1))
    turns = [{"role": "user", "content": "Hello?"}]
    with local_service(tiny_model, tmp_path, config, delay_s=5.0) as (client, _, _):
        answer = client.post("/v1/chat/completions", json={"model": "judge", "messages": turns})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (504, "timed_out")
    assert error["message"] == "no answer from the judge within 0.1 s"
    assert int(answer.headers["retry-after"]) >= 2


def test_health_needs_no_key_and_the_rest_does(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfreward.config_serving import AuthConfig
    from selfreward.serving.keys import add_key

    file = str(tmp_path / "keys.jsonl")
    key = add_key(file, "ada", "user")
    config = serving_config(auth=AuthConfig(keys_file=file))
    with local_service(tiny_model, tmp_path, config) as (client, _, _):
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/judge/pairwise", json=PAIR).status_code == 401
        bearer = {"Authorization": f"Bearer {key}"}
        assert client.post("/v1/judge/pairwise", json=PAIR, headers=bearer).status_code == 200
        assert client.post("/admin/rollback", headers=bearer).status_code == 403


def test_without_keys_another_host_name_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/judge/pairwise", json=PAIR, headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "other_host")


def test_a_shadow_reads_a_share_and_its_agreement_is_told(tmp_path: Path, tiny_model: Path) -> None:
    with local_service(tiny_model, tmp_path) as (client, service, _):
        assert client.get("/admin/shadow").status_code == 404
        shadow = shadow_of(service, tmp_path, skill=0.0)
        service.shadow = shadow
        for number in range(6):
            pair = PAIR | {"prompt": f"Ask number {number}"}
            assert client.post("/v1/judge/pairwise", json=pair).json()["choice"] == "first"
        client.portal.call(shadow.wait)  # type: ignore[union-attr]
        report = client.get("/admin/shadow").json()
        metrics = client.get("/metrics").text
    # With skill 0 the scripted judge is always wrong.
    assert (report["judged"], report["both_have_choice"], report["agreed"]) == (6, 6, 0)
    assert report["agreement"] == 0.0
    assert report["judge"]["version"] == 0
    assert 'selfreward_shadow_judgments_total{agreement="differs"} 6.0' in metrics


def test_a_shadow_that_fails_costs_nobody_anything(tmp_path: Path, tiny_model: Path) -> None:
    with local_service(tiny_model, tmp_path) as (client, service, _):
        shadow = shadow_of(service, tmp_path, fail_every=1)
        service.shadow = shadow
        judgment = client.post("/v1/judge/pairwise", json=PAIR).json()
        client.portal.call(shadow.wait)  # type: ignore[union-attr]
        report = client.get("/admin/shadow").json()
    assert judgment["choice"] == "first"
    assert (report["judged"], report["agreement"]) == (0, None)


def test_the_serve_config_file_names_what_exists() -> None:
    import importlib

    import yaml
    from ray.serve.schema import ServeDeploySchema

    from ray_jobs.serve_judge import Arguments
    from selfreward.config_loading import parse_as
    from selfreward.config_serving import ServiceConfig

    file = Path(__file__).parents[1] / "ray_jobs" / "serve_judge.yaml"
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(file.read_text())).applications
    module, _, builder = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), builder))
    arguments = Arguments.model_validate(application.args)
    service = parse_as(ServiceConfig, {}, arguments.overrides, "serve_judge.yaml").serving
    assert service.auth.enabled
    assert service.autoscaling.max_replicas == 8


def test_what_is_no_text_is_refused_and_a_request_cannot_ask_for_everything(
    client: TestClient,
) -> None:
    half = json.dumps("\ud800")
    asked = f'{{"model": "judge", "messages": [{{"role": "user", "content": {half}}}]}}'
    headers = {"content-type": "application/json"}
    for route, body in (
        ("/v1/chat/completions", asked),
        ("/get_reward", f'{{"query": [{half}]}}'),
        ("/v1/judge/score", f'{{"prompt": "Ask", "response": {half}}}'),
    ):
        answer = client.post(route, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (
            422,
            "invalid_request_error",
        )
    # 64 rankings of 16 responses: 120 pairs in 2 orders with 16 votes each.
    whole = {"prompt": "Ask", "responses": [f"answer {i}" for i in range(16)], "votes": 16}
    answer = client.post("/v1/judge/rank", json={"batch": [whole] * 64})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "too_many_draws")
    assert error["message"].startswith("245760 draws")


def test_a_chat_beyond_the_context_has_its_status_streamed_or_not(client: TestClient) -> None:
    turns = [{"role": "user", "content": "word " * 10_000}]
    for stream in (False, True):
        body = {"model": "judge", "messages": turns, "stream": stream}
        answer = client.post("/v1/chat/completions", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
