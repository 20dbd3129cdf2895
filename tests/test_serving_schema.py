"""Requests made from the OpenAPI document: no 5xx, and no answer that it does not describe."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from selfreward.config_serving import ReviewConfig
from tests.serving_tools import local_service, serving_config

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[TestClient]:
    config = serving_config(review=ReviewConfig())
    with local_service(tiny_model, tmp_path_factory.mktemp("schema"), config) as (client, _, _):
        yield client


@pytest.fixture(scope="module")
def api(client: TestClient) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_dict(client.get("/openapi.json").json())


def test_every_route_answers_as_its_document_says(
    api: schemathesis.BaseSchema, client: TestClient
) -> None:
    tried: Counter[str] = Counter()
    succeeded: set[str] = set()
    for found in api.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: schemathesis.Case) -> None:
            tried[case.operation.label] += 1
            arguments = case.as_transport_kwargs(base_url="http://localhost")
            arguments.pop("cookies", None)
            answer = client.request(**arguments)
            case.validate_response(answer, checks=CHECKS)
            if answer.status_code < 300:
                succeeded.add(case.operation.label)

        ask()
    assert len(tried) >= 18
    assert succeeded >= {
        "POST /v1/judge/pairwise",
        "POST /v1/judge/score",
        "POST /v1/judge/rank",
        "GET /v1/review/next",
        "GET /v1/review/agreement",
        "GET /v1/review/export",
        "GET /v1/version",
    }
    assert sum(tried.values()) > 150
