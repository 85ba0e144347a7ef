from __future__ import annotations

import json
from collections import Counter

import pytest
from starlette.testclient import TestClient

from service.front import Front
from service.http import application
from service.predictor import Served
from service.security import Guard
from service.state import State
from service.wire import Answer, decode_rows
from tests.bundles import small_bundle
from volatility.feature_table import FEATURE_NAMES
from volatility.registry import RegisteredModel
from volatility.settings import Serving, Settings

QUERIES = ("", "?explain=true")
ROW = {"midprice": 68000.5, "spread": 1.2, "trade_intensity": 14, "volatility_30s": 0.02}


@pytest.fixture
def state() -> State:
    bundle = small_bundle()
    model = RegisteredModel(bundle, "crypto-vol-ml", "7", "champion", "run", {}, {"pr_auc": 0.3})
    return State(
        Settings(serving=Serving(max_rows=3, max_age_hours=1e9)), served=Served(bundle, model, None)
    )


@pytest.fixture
def client(state) -> TestClient:
    return TestClient(Front(application(state), state), raise_server_exceptions=False)


def test_rows_are_scored_and_counted(client, state):
    answered: list[tuple[Answer, str]] = []
    state.on_answer = lambda answer, route: answered.append((answer, route))
    response = client.post("/predict", json={"rows": [ROW, ROW]})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert len(content["scores"]) == 2
    assert content["volatility_score"] == content["scores"][-1]
    ((answer, route),) = answered
    assert (answer.scores, route) == (content["scores"], "/predict")


def test_refusals_are_json_and_counted_by_reason(client, state):
    rejected: Counter[str] = Counter()
    state.on_reject = lambda reason: rejected.update([reason])
    for body, status, error in (
        ({"rows": [ROW, {"nope": 1}]}, 422, {"row": 1, "field": "nope"}),
        ({"rows": []}, 422, {"row": None, "field": None}),
        ({"rows": [ROW] * 4}, 413, {"row": None, "field": None}),
    ):
        response = client.post("/predict", json=body)
        assert response.status_code == status
        content = response.json()
        assert content.pop("error")
        assert content == error
    response = client.post("/predict", content=b" " * 100_000)
    assert response.status_code == 413
    assert "at most" in response.json()["error"]
    assert rejected == {"unknown_field": 1, "empty": 1, "too_many": 1, "too_large": 1}


def test_a_wrong_method_is_refused_in_json(client):
    response = client.get("/predict")
    assert response.status_code == 405
    assert response.json() == {"error": "Method Not Allowed", "row": None, "field": None}


def test_health_means_that_a_model_answers(client, state):
    response = client.get("/health")
    assert response.status_code == 200
    content = response.json()
    assert content.pop("model_age_hours") > 0.0
    assert content == {
        "status": "ok",
        "model_name": "crypto-vol-ml",
        "model_version": "7",
        "model_variant": "ml",
        "warnings": {},
    }
    assert state.healthy()


def test_health_is_degraded_while_something_is_wrong(client, state):
    state.warnings = {"registry": "it is away"}
    assert client.get("/health").json()["status"] == "degraded"
    assert client.get("/health").status_code == 200
    state.warnings = {}
    state.settings = Settings(serving=Serving(max_age_hours=1.0))
    content = client.get("/health").json()
    assert content["status"] == "degraded"
    assert "the limit is 1 h" in content["warnings"]["stale"]


def test_without_a_model_every_route_says_what_to_do(client, state):
    state.served, state.problem = None, "no model is loaded: run `volatility train`"
    assert not state.healthy()
    health = client.get("/health")
    assert health.status_code == 503
    assert health.json() == {"status": "unavailable", "error": state.problem}
    for response in (
        client.post("/predict", json={"rows": [ROW]}),
        client.post("/predict/ticks", json={"ticks": []}),
        client.get("/version"),
    ):
        assert response.status_code == 503
        assert response.json() == {"error": state.problem, "row": None, "field": None}


def test_version_tells_where_the_model_comes_from(client):
    content = client.get("/version").json()
    assert (content["name"], content["version"], content["alias"]) == (
        "crypto-vol-ml", "7", "champion",
    )  # fmt: skip
    assert (content["variant"], content["reason"]) == ("ml", None)
    assert content["threshold"] == small_bundle().threshold
    assert content["training"]["start"] == "2026-04-04T21:13:43.000Z"
    assert content["training"]["rows"] == 600
    assert content["metrics"] == {"pr_auc": 0.3}
    assert [feature["name"] for feature in content["features"]] == list(FEATURE_NAMES)
    assert content["features"][1]["unit"] == "quote currency"
    assert content["git_commit"] == "0" * 40
    assert content["package_versions"]["trained_with"]["numpy"]


def test_a_key_is_asked_for_where_one_is_set(client, state):
    state.guard = Guard("key-of-the-house")
    body = {"rows": [ROW]}
    assert client.post("/predict", json=body).status_code == 401
    for headers, status in (
        ({"X-API-Key": "key-of-the-house"}, 200),
        ({"Authorization": "Bearer key-of-the-house"}, 200),
        ({"X-API-Key": "kéy"}, 401),
        ({"X-API-Key": ""}, 401),
    ):
        encoded = {name: value.encode() for name, value in headers.items()}
        assert client.post("/predict", json=body, headers=encoded).status_code == status
    assert client.get("/health").status_code == 200


def test_the_documentation_describes_every_route(client):
    document = client.get("/docs.json").json()
    assert {"/predict", "/predict/ticks", "/health", "/version", "/metrics"} <= set(
        document["paths"]
    )
    row = document["components"]["schemas"]["Row"]
    assert list(row["properties"]) == list(FEATURE_NAMES)
    assert "[basis points]" in row["properties"]["spread_bps"]["description"]
    predict = document["paths"]["/predict"]["post"]
    (example,) = predict["requestBody"]["content"]["application/json"]["examples"].values()
    assert {"200", "400", "401", "413", "422", "429", "503"} <= set(predict["responses"])
    answers = predict["responses"]["200"]["content"]["application/json"]["examples"]
    asked = [client.post(f"/predict{query}", json=example["value"]) for query in QUERIES]
    for answer, shown in zip(asked, answers.values(), strict=True):
        assert answer.status_code == 200
        assert list(answer.json()) == list(shown["value"])
    described = document["components"]["schemas"]["Answer"]["properties"]
    assert list(described) == list(asked[-1].json())
    page = client.get("/docs").text
    assert "docs.json" in page
    assert "https://" not in page  # readable offline, and no tracker


def test_reasons_are_given_where_they_are_asked_for(client, state):
    rows = [{"volatility_ratio_60s": 3.0, "spread_bps": 1.0}, {}]
    content = client.post("/predict?explain=true", json={"rows": rows}).json()
    assert content["scores"] == client.post("/predict", json={"rows": rows}).json()["scores"]
    names, parts = state.served.bundle.contributions(decode_rows(_body(rows), 3))
    for reasons, part in zip(content["reasons"], parts.tolist(), strict=True):
        weights = [abs(reason["contribution"]) for reason in reasons]
        assert weights == sorted(map(abs, part), reverse=True)[: len(weights)]
        assert all(weights)
        assert len(reasons) <= 3
        for reason in reasons:
            assert reason["contribution"] == part[names.index(reason["feature"])]
    assert {r["feature"]: r["value"] for r in content["reasons"][0]}["volatility_ratio_60s"] == 3.0
    assert "reasons" not in client.post("/predict?explain=false", json={"rows": rows}).json()
    assert client.post("/predict?explain=perhaps", json={"rows": rows}).status_code == 422


def test_every_answer_carries_the_security_headers(client):
    for response in (
        client.post("/predict", json={"rows": [ROW]}),
        client.post("/predict", json={"rows": []}),
        client.get("/health"),
        client.get("/nothing"),
        client.get("/docs"),
    ):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["cache-control"] == "no-store"
    assert "default-src 'self'" in client.get("/docs").headers["content-security-policy"]


def _body(rows) -> bytes:
    return json.dumps({"rows": rows}).encode()
