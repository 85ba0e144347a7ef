"""A page of another site, open in a browser on this machine, changes nothing in the stack.

Grafana cannot be run here: tests/unit/test_compose.py checks its settings.
"""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.brokers import free_ports
from tests.browser import EVIL, Attempt, Target, recorder, visit
from tests.documents import ROOT
from tests.panels import run_prometheus
from tests.prefects import process, run_prefect
from tests.registries import make_registry, register_small
from tests.serving import serve
from tests.waiting import until
from volatility import registry

# Of another site, and of another port of this machine, where anything may run.
HOSTS = (EVIL, "localhost")
State = Callable[[], object]


def attempts_change_nothing(folder: Path, target: Target, state: State) -> None:
    """Let pages try, and check that the target is as before and nothing could be read."""
    before = state()
    for host in HOSTS:
        (folder / host).mkdir()
        attempts = visit(folder / host, host, target)
        assert len(attempts) > 12
        assert readable(attempts) == set()
        assert state() == before


def readable(attempts: list[Attempt]) -> set[tuple[str, str]]:
    return {(attempt.way, attempt.url) for attempt in attempts if attempt.readable}


def ask(url: str, path: str, **body: object) -> Any:
    """Read something: by POST if there is a body."""
    answer = httpx.request("POST" if body else "GET", url + path, json=body or None, timeout=60.0)
    return answer.raise_for_status().json()


def test_the_page_reaches_a_server_that_lets_it(tmp_path: Path) -> None:
    """Without this, the tests below would also pass if the browser sent nothing."""
    with recorder() as (url, notes):
        visit(tmp_path, EVIL, Target(url, {"/do": {"text": "a=b"}}, ("/read",), ("/socket",)))
    whole = b'{"text":"a=b"}'
    seen = {(note.method, note.content_type) for note in notes}
    assert seen >= {
        ("POST", "text/plain"),
        ("POST", "application/x-www-form-urlencoded"),
        ("POST", "multipart/form-data"),
        ("POST", ""),
        ("OPTIONS", ""),  # a preflight, which it does not pass
        ("GET", ""),
    }
    assert any(note.socket and note.path == "/socket" for note in notes)
    texts = [note.body.strip() for note in notes if note.content_type == "text/plain"]
    assert texts == [whole] * 4  # form, fetch twice, beacon
    posted = {note.origin for note in notes if note.method == "POST"}
    assert len(posted) == 1
    assert str(posted.pop()).startswith(f"http://{EVIL}:")


@pytest.fixture
def champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a registry with a champion; give its address."""
    uri = make_registry(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    registry.promote(register_small(tmp_path).version, evidence={})
    register_small(tmp_path, 1)
    return uri


def test_the_service(tmp_path: Path, champion: str) -> None:
    body = {"rows": [{}], "symbol": "A=B"}
    posts: dict[str, object] = {
        "/predict": body,
        "/predict?explain=true": body,
        "/predict/ticks": {"ticks": [{"symbol": "A=B", "time": 1}]},
    }
    gets = ("/", "/predict", "/health", "/version", "/metrics", "/docs.json")
    with serve(tmp_path, {}) as service:
        url = str(service.client.base_url).rstrip("/")

        def scored() -> object:
            lines = service.client.get("/metrics").text.splitlines()
            names = ("volatility_predictions", "volatility_spikes", "volatility_scores")
            return [line for line in lines if line.startswith(names)], ask(url, "/version")

        assert service.client.post("/predict", json=body).status_code == 200
        attempts_change_nothing(tmp_path, Target(url, posts, gets, ("/predict", "/")), scored)


def test_the_prefect_server(tmp_path: Path) -> None:
    posts: dict[str, object] = {
        "/api/variables/": {"name": "foreign", "value": "a=b"},
        "/api/flows/": {"name": "a=b"},
        "/api/work_pools/": {"name": "a=b", "type": "process"},
        "/api/admin/database/clear": {"confirm": True},
        "/api/events": [],
    }
    gets = ("/api/health", "/api/admin/settings", "/api/flows/filter", "/docs")
    with run_prefect(tmp_path) as server:
        server.post("variables/", name="own", value="a=b")

        def state() -> object:
            kinds = ("variables", "flows", "deployments", "work_pools", "block_documents")
            return {kind: server.post(f"{kind}/filter") for kind in kinds}

        url = server.url.removesuffix("/api")
        sockets = ("/api/events/in", "/api/events/out", "/api/logs/out")
        attempts_change_nothing(tmp_path, Target(url, posts, gets, sockets), state)


@pytest.fixture
def mlflow(tmp_path: Path, champion: str) -> Iterator[str]:
    """Run MLflow's server as the stack does; give its address."""
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    own = {"--host": "127.0.0.1", "--backend-store-uri": champion}
    own |= {"--artifacts-destination": str(tmp_path / "artifacts")}
    (port,) = free_ports(1)
    own["--port"] = str(port)
    given = [option for option in services["mlflow"]["command"][2:] if "=" in option]
    options = [f"{name}={own.get(name, value)}" for name, value in (o.split("=", 1) for o in given)]
    command = [sys.executable, "-m", "mlflow", "server", *options]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    url = f"http://127.0.0.1:{port}"
    with process(command, tmp_path / "mlflow.log", tmp_path, quiet) as server:
        until(
            lambda: httpx.get(f"{url}/health").status_code == 200,
            "MLflow answers",
            details=server.text,
        )
        yield url


def registered(url: str) -> object:
    """Return what a registry holds."""
    api = "/api/2.0/mlflow"
    experiments = ask(url, f"{api}/experiments/search", max_results=100)["experiments"]
    runs = ask(
        url, f"{api}/runs/search", experiment_ids=[one["experiment_id"] for one in experiments]
    )
    files = [
        ask(url, f"{api}/artifacts/list?run_id={run['info']['run_id']}") for run in runs["runs"]
    ]
    models = ask(url, f"{api}/registered-models/search?max_results=100")
    versions = ask(url, f"{api}/model-versions/search?max_results=100")
    return experiments, runs, files, models, versions


def test_the_registry(tmp_path: Path, mlflow: str) -> None:
    api = "/api/2.0/mlflow"
    (experiment,) = [
        one["experiment_id"]
        for one in ask(mlflow, f"{api}/experiments/search", max_results=100)["experiments"]
        if one["name"] != "Default"
    ]
    run = ask(mlflow, f"{api}/runs/search", experiment_ids=[experiment])["runs"][0]["info"][
        "run_id"
    ]
    name = ask(mlflow, f"{api}/registered-models/search")["registered_models"][0]["name"]
    posts: dict[str, object] = {
        f"{api}/experiments/create": {"name": "a=b"},
        f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=foreign.txt": {"a": "a=b"},
        f"{api}/registered-models/alias": {"name": name, "alias": "champion", "version": "2"},
        f"{api}/runs/set-tag": {"run_id": run, "key": "a=b", "value": "x"},
        "/graphql": {"query": "a=b"},
        "/v1/traces": {"resourceSpans": []},
    }
    gets = ("/", f"{api}/registered-models/search", "/version")
    attempts_change_nothing(tmp_path, Target(mlflow, posts, gets), lambda: registered(mlflow))


@pytest.mark.parametrize("host", [EVIL, f"{EVIL}:5000", f"localhost.{EVIL}"])
def test_the_registry_refuses_a_foreign_name_that_points_here(mlflow: str, host: str) -> None:
    before = registered(mlflow)
    line = http.client.HTTPConnection(mlflow.removeprefix("http://"), timeout=60)
    headers = {"host": host, "origin": f"http://{host}", "content-type": "application/json"}
    line.request("POST", "/api/2.0/mlflow/experiments/create", b'{"name": "rebound"}', headers)
    assert line.getresponse().status == 403
    line.close()
    assert registered(mlflow) == before


def test_the_registry_serves_its_own_pages_and_programs(mlflow: str) -> None:
    for number, headers in enumerate(({}, {"origin": mlflow})):
        answer = httpx.post(
            f"{mlflow}/api/2.0/mlflow/experiments/create",
            json={"name": f"own {number}"},
            headers=headers,
        )
        assert answer.status_code == 200


def test_prometheus(tmp_path: Path) -> None:
    posts: dict[str, object] = {
        "/-/reload": {"a": "a=b"},
        "/-/quit": {"a": "a=b"},
        "/api/v1/admin/tsdb/delete_series?match[]=up": {"a": "a=b"},
        "/api/v1/admin/tsdb/snapshot": {"a": "a=b"},
        "/api/v1/write": {"a": "a=b"},
    }
    gets = ("/-/reload", "/-/quit", "/api/v1/query?query=up", "/metrics", "/api/v1/status/config")
    with run_prometheus(tmp_path, {}) as prometheus:

        def state() -> object:
            runtime = ask(prometheus.url, "/api/v1/status/runtimeinfo")["data"]
            lasting = ("startTime", "reloadConfigSuccess", "lastConfigTime", "storageRetention")
            names = ("config", "flags")
            return [ask(prometheus.url, f"/api/v1/status/{name}") for name in names] + [
                {name: runtime[name] for name in lasting}
            ]

        attempts_change_nothing(tmp_path, Target(prometheus.url, posts, gets), state)
