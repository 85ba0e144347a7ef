from __future__ import annotations

import gzip
import json
import threading
from collections import Counter

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.front import Front
from service.http import application
from service.predictor import Served
from service.security import Guard
from service.state import State
from service.wire import Answer, decode_request, decode_rows
from tests.bundles import START_NS, small_bundle
from volatility import registry
from volatility.features.engine import FeatureEngine
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.models.prior import shipped
from volatility.models.reasons import contributions
from volatility.records.columns import to_records
from volatility.records.tick import encode
from volatility.registry import RegisteredModel
from volatility.settings import Features, Serving, Settings
from volatility.simulation.simulator import simulate

QUERIES = ("", "?explain=true")
ROW = {"midprice": 68000.5, "spread": 1.2, "trade_intensity": 14, "volatility_30s": 0.00006}


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


@pytest.mark.parametrize("path", ["/predict", "/predict/ticks", "/predict?explain=true"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_a_compressed_body_is_refused_by_its_encoding(client, path, encoding):
    body = gzip.compress(json.dumps({"rows": [ROW]}).encode())
    response = client.post(path, content=body, headers={"content-encoding": encoding})
    assert response.status_code == 415
    assert encoding in response.json()["error"]
    same = {"content-encoding": "identity"}
    assert client.post("/predict", json={"rows": [ROW]}, headers=same).status_code == 200


@pytest.mark.parametrize("path", ["/predict/", "/predict/ticks/", "/health/", "/nowhere"])
def test_an_address_that_is_not_there_redirects_nowhere(client, path):
    for response in (client.get(path, follow_redirects=False), client.post(path, json={})):
        assert response.status_code == 404
        assert "location" not in response.headers
        assert response.json()["error"] == "Not Found"


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
    assert content["training"]["start"] == "2026-04-04T21:13:45.000Z"
    assert content["training"]["rows"] == small_bundle().specification.train_rows
    assert content["forecast"]["horizons_seconds"] == [60, 300, 900]
    assert "label" not in content
    assert content["metrics"] == {"pr_auc": 0.3}
    assert [feature["name"] for feature in content["features"]] == list(FEATURE_NAMES)
    assert content["features"][1]["unit"] == "quote currency"
    assert content["git_commit"] == small_bundle().specification.provenance.git_commit
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
    assert [name for name in described if name != "steps"] == list(asked[-1].json())
    page = client.get("/docs").text
    assert "docs.json" in page
    assert "https://" not in page  # readable offline, and no tracker


def test_reasons_are_given_where_they_are_asked_for(client, state):
    row = {"realised_volatility_60s": 3e-4, "realised_volatility_900s": 1e-4, "spread_bps": 1.0}
    rows = [row, {}]
    content = client.post("/predict?explain=true", json={"rows": rows}).json()
    assert content["scores"] == client.post("/predict", json={"rows": rows}).json()["scores"]
    decoded = decode_rows(json.dumps({"rows": rows}).encode(), 3)
    parts = contributions(state.served.bundle, decoded, np.zeros(2, np.int64)).parts
    for reasons, part in zip(content["reasons"], parts.tolist(), strict=True):
        weights = [abs(reason["contribution"]) for reason in reasons]
        assert weights == sorted(map(abs, part), reverse=True)[: len(weights)]
        assert all(weights)
        assert len(reasons) <= 3
        for reason in reasons:
            assert reason["contribution"] == part[INDEX[reason["feature"]]]
    first = {r["feature"]: r["value"] for r in content["reasons"][0]}
    assert first["realised_volatility_900s"] == 1e-4
    assert "reasons" not in client.post("/predict?explain=false", json={"rows": rows}).json()
    assert client.post("/predict?explain=perhaps", json={"rows": rows}).status_code == 422


@pytest.mark.parametrize(
    ("query", "body", "threaded"),
    [
        ("", {"rows": [{}] * 1000}, True),
        ("?explain=true", {"rows": [{}] * 1000}, True),
        ("?explain=true", {"rows": [{}] * 40}, False),
        ("", {"rows": [ROW]}, False),
        ("", '{"rows": [{"spread": NaN}]' + " " * 100_000 + "}", True),
        ("?explain=true", "[" * 100_000, True),
    ],
)
def test_what_takes_long_does_not_hold_the_event_loop(
    client, state, monkeypatch, query, body, threaded
):
    state.settings = Settings(serving=Serving(max_rows=1000))
    used: list[str] = []

    def noted(*given):
        used.append(threading.current_thread().name)
        return decode_request(*given)

    monkeypatch.setattr("service.http.decode_request", noted)
    content = body if isinstance(body, str) else json.dumps(body)
    response = client.post(f"/predict{query}", content=content)
    assert response.status_code == (422 if "NaN" in content or content[0] == "[" else 200)
    assert [name.startswith("AnyIO worker") for name in used] == [threaded]


def test_a_symbol_chooses_the_fit_and_another_is_answered_as_unknown(state, client):
    bundle = small_bundle(0, ("BTC-USD", "ETH-USD"))
    state.served = Served(bundle, state.served.model, None)
    levels = bundle.specification.spike_levels_bps
    for symbol, place in (("BTC-USD", 0), ("ETH-USD", 1), ("DOGE-USD", -1), (None, -1)):
        content = client.post("/predict", json={"rows": [ROW], "symbol": symbol}).json()
        rows = decode_rows(json.dumps({"rows": [ROW]}).encode(), 1)
        assert content["scores"] == bundle.score(rows, np.array([place])).tolist()
        assert content["forecasts"][0]["60s"]["spike_level_bps"] == levels[place][0]


def test_ticks_are_answered_with_their_steps_by_the_rules_of_the_model(state, client):
    state.settings = Settings(features=Features(min_baseline_seconds=900))
    records = [
        record for batch in simulate("BTC-USD", START_NS, 0.1, 1) for record in to_records(batch)
    ]
    body = b'{"ticks":[' + b",".join(encode(record) for record in records) + b"]}"
    content = client.post("/predict/ticks", content=body).json()
    engine = FeatureEngine()
    live = [row for record in records for row in engine.update(record)]
    warm = [row for row in live if row.value("realised_volatility_900s") > 0.0]
    assert content["steps"] == [row.time for row in warm]
    assert 50 < len(warm) < len(live)
    rows = np.array([row.values for row in warm])
    assert content["scores"] == small_bundle().score(rows, np.zeros(len(rows), np.int64)).tolist()


def test_the_shipped_prior_is_never_stale(client, state):
    state.served = Served(shipped().bundle, registry.shipped_model(), "no model is registered")
    state.settings = Settings(serving=Serving(max_age_hours=1.0))
    content = client.get("/health").json()
    assert (content["status"], content["model_variant"]) == ("ok", "prior")
    assert content["warnings"] == {}


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
