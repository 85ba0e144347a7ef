"""The HTTP contract, on a real ``bentoml serve``."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.bundles import random_rows, small_bundle
from tests.registries import make_registry, register_small
from tests.serving import ROOT, Running, serve
from tests.waiting import until
from volatility import registry
from volatility.features.engine import FeatureEngine
from volatility.features.table import FEATURE_NAMES, INDEX, MODEL_INPUTS
from volatility.models.prior import shipped
from volatility.records.tick import Tick, encode
from volatility.registry import packaging
from volatility.units import SECOND

START = 1_775_337_223 * SECOND
ROW = {"midprice": 68000.5, "spread": 1.2, "trade_intensity": 14, "volatility_30s": 0.02}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Make a registry with a champion and a newer challenger."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", make_registry(folder))
        patch.setenv("BENTOML_HOME", str(folder / "bentoml"))
        register_small(folder, seed=0)
        register_small(folder, seed=1)
        registry.promote("1", evidence={})
        yield folder


@pytest.fixture(scope="module")
def service(store, tmp_path_factory):
    with serve(tmp_path_factory.mktemp("serve"), {}) as running:
        yield running


def test_the_four_features_of_the_contract_are_scored(service: Running):
    response = service.client.post("/predict", json={"rows": [ROW]})
    assert response.status_code == 200
    content = response.json()
    assert list(content) == [
        "volatility_score", "scores", "spike", "threshold", "out_of_distribution", "forecasts",
        "model_name", "model_version", "model_variant", "version", "ts", "latency_ms",
    ]  # fmt: skip
    assert (content["model_name"], content["model_version"]) == ("crypto-vol-ml", "1")
    assert (content["model_variant"], content["version"]) == ("ml", "1")


def test_http_gives_the_scores_of_the_bundle_to_the_last_bit(service: Running):
    rows = random_rows(1000)
    # What the features sent determine would be filled in: the model's inputs alone do not.
    rows[:, ~np.isin(FEATURE_NAMES, MODEL_INPUTS)] = np.nan
    rows[:, INDEX["microprice_distance_bps"]] = 0.5
    body = [
        {name: value for name, value in zip(FEATURE_NAMES, row, strict=True) if value == value}
        for row in rows.tolist()
    ]
    content = service.client.post("/predict", json={"rows": body}).json()
    expected = small_bundle().forecast(rows, np.zeros(len(rows), np.int64))
    assert content["scores"] == expected.exceedance[:, 0].tolist()
    for place, name in enumerate(("60s", "300s", "900s")):
        mine = [row[name]["volatility_bps"] for row in content["forecasts"]]
        assert mine == expected.volatility_bps[:, place].tolist()
    assert len(set(content["scores"])) > 10


def test_ticks_give_the_scores_of_the_live_engine(service: Running):
    random = np.random.default_rng(0)
    times = START + np.cumsum(random.exponential(0.5 * SECOND, 1500).astype(np.int64))
    mids = (68_000.0 * np.exp(np.cumsum(random.normal(0.0, 1e-5, 1500)))).tolist()
    ticks = [
        Tick("BTC-USD", int(time), mid, mid - 0.1, mid + 0.1)
        for time, mid in zip(times, mids, strict=True)
    ]
    engine = FeatureEngine()
    made = [row for tick in ticks for row in engine.update(tick)]
    rows = np.array([row.values for row in made])
    body = b'{"ticks":[' + b",".join(encode(tick) for tick in ticks) + b"]}"
    content = service.client.post("/predict/ticks", content=body).json()
    live = small_bundle().score(rows, np.zeros(len(rows), np.int64)).tolist()
    assert content["scores"] == live[-len(content["scores"]) :]
    assert 300 < len(content["scores"]) < len(live)
    assert content["steps"] == [row.time for row in made][-len(content["steps"]) :]
    assert len(content["steps"]) == len(content["scores"])
    refused = service.client.post(
        "/predict/ticks", content=b'{"ticks":[' + encode(ticks[0]) + b"]}"
    )
    assert refused.status_code == 422
    assert "too few ticks" in refused.json()["error"]


@pytest.mark.parametrize(
    ("body", "row", "field"),
    [
        ('{"rows": [{"spread": 1}, {"spread": NaN}]}', 1, "spread"),
        ('{"rows": [{"spread": -Infinity}]}', 0, "spread"),
        ('{"rows": [{"spread": true}]}', 0, "spread"),
        ('{"rows": [{"price": 1}]}', 0, "price"),
        ('{"rows": []}', None, None),
        ('{"rows": [' + ",".join(["{}"] * 1001) + "]}", None, None),
        ("rows", None, None),
    ],
)
def test_bad_input_is_refused_in_json_and_floods_no_log(service: Running, body, row, field):
    response = service.client.post("/predict", content=body)
    assert 400 <= response.status_code < 500
    content = response.json()
    assert (content["row"], content["field"]) == (row, field)
    assert "\n" not in content["error"]
    assert "Traceback" not in service.log.read_text()


def test_the_other_routes_answer(service: Running):
    health = service.client.get("/health").json()
    # The rows of the bundle of the tests are old.
    assert (health["status"], set(health["warnings"])) == ("degraded", {"stale"})
    version = service.client.get("/version").json()
    assert (version["version"], version["alias"], version["variant"]) == ("1", "champion", "ml")
    assert version["reason"] is None
    assert version["metrics"] == {"pr_auc": 0.3}
    for route in ("/livez", "/readyz", "/docs", "/static_content/swagger-ui-bundle.js"):
        assert service.client.get(route).status_code == 200
    assert "/predict/ticks" in service.client.get("/docs.json").json()["paths"]


def test_metrics_count_what_was_done(service: Running):
    def read() -> dict[str, float]:
        lines = service.client.get("/metrics").text.splitlines()
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("volatility_")
        }

    model = '{model_variant="ml",model_version="1"}'
    service.client.post("/predict", json={"rows": [ROW]})
    before = read()
    service.client.post("/predict", json={"rows": [ROW] * 5})
    service.client.post("/predict", json={"rows": []})
    after = read()
    assert after[f"volatility_predictions_total{model}"] == (
        before[f"volatility_predictions_total{model}"] + 5
    )
    empty = 'volatility_rejected_requests_total{reason="empty"}'
    assert after[empty] == before.get(empty, 0) + 1
    count = 'volatility_prediction_latency_seconds_count{route="/predict"}'
    assert after[count] == before[count] + 1
    smallest = 'volatility_prediction_latency_seconds_bucket{le="5e-05",route="/predict"}'
    assert smallest in after
    assert f"volatility_spikes_total{model}" in after
    assert f"volatility_out_of_distribution_rows_total{model}" in after
    (info,) = (line for line in after if line.startswith("volatility_model_info"))
    assert 'model_version="1"' in info
    assert 'alias="champion"' in info


def test_a_bento_brings_its_model_along(store, tmp_path):
    tag = packaging.package(ROOT)
    nowhere = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/none/mlflow.db"}
    with serve(tmp_path, nowhere, tag) as running:
        version = running.client.get("/version").json()
        assert (version["version"], version["variant"]) == ("1", "ml")
        assert version["digest"] == small_bundle().digest
        assert running.client.post("/predict", json={"rows": [ROW]}).status_code == 200
    assert not (tmp_path / "none").exists()
    assert not (ROOT / "service" / packaging.MODEL_FOLDER).exists()


def test_on_a_fresh_installation_the_prior_serves_until_a_model_is_registered(
    tmp_path, monkeypatch
):
    place = tmp_path / "registry"
    place.mkdir()
    uri = f"sqlite:///{place}/mlflow.db"
    with serve(tmp_path, {"MLFLOW_TRACKING_URI": uri}) as running:
        health = running.client.get("/health").json()
        assert (health["status"], health["model_variant"]) == ("ok", "prior")
        version = running.client.get("/version").json()
        assert version["version"] == f"prior-{shipped().digest[:12]}"
        assert "no model is registered" in version["reason"]
        answer = running.client.post("/predict", json={"rows": [ROW]}).json()
        assert answer["forecasts"][0]["60s"]["volatility_bps"] > 0.0
        assert running.client.get("/readyz").status_code == 200
        assert list(place.iterdir()) == []
        monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(place))
        register_small(place)
        registry.promote("1", evidence={})

        def taken() -> bool:
            assert running.client.post("/predict", json={"rows": [ROW]}).status_code == 200
            return running.client.get("/version").json()["variant"] == "ml"

        until(taken, "the new champion serves", pause_seconds=0.1)


CORS = """\
services:
  crypto_volatility:
    http:
      cors:
        enabled: true
        access_control_allow_origins: ["http://localhost:5173"]
        access_control_allow_methods: ["GET", "POST", "OPTIONS"]
        access_control_allow_headers: ["content-type", "authorization"]
"""


def test_the_origins_that_bentoml_is_given_may_read_every_answer(store, tmp_path):
    origin, allow = "http://localhost:5173", "access-control-allow-origin"
    (tmp_path / "cors.yaml").write_text(CORS)
    given = {"BENTOML_CONFIG": str(tmp_path / "cors.yaml"), "VOLATILITY_API_KEY": "secret"}
    with serve(tmp_path, given) as running:
        asked = {"origin": origin, "access-control-request-method": "POST"}
        preflight = running.client.options("/predict", headers=asked)
        assert (preflight.status_code, preflight.headers[allow]) == (204, origin)
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        named = {"origin": origin, "authorization": "Bearer secret"}
        for path, headers, status in (
            ("/predict", named, 200),
            ("/predict?explain=true", named, 200),
            ("/predict", {"origin": origin}, 401),
        ):
            answer = running.client.post(path, json={"rows": [ROW]}, headers=headers)
            assert answer.status_code == status
            assert answer.headers.get_list(allow) == [origin]
        for path in ("/health", "/metrics", "/livez"):
            answer = running.client.get(path, headers={"origin": origin})
            assert answer.headers.get_list(allow) == [origin]
        foreign = running.client.get("/health", headers={"origin": "https://other.example"})
        assert allow not in foreign.headers


def test_a_setting_that_cannot_be_used_is_an_error_of_one_line():
    result = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", ".", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "BENTOML_DO_NOT_TRACK": "True", "SERVICE_WORKERS": "many"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: environment: ")
    assert "Traceback" not in result.stderr
