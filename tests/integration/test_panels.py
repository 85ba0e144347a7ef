"""Real processes, watched by a real Prometheus: every panel of every dashboard has data."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from pipelines.capture import capture_to_end
from pipelines.deployments import FLOWS
from pipelines.features import build
from pipelines.performance import measure
from pipelines.state import FOLDER, finished
from tests.brokers import RunningBroker, free_ports
from tests.chaos.place import clear
from tests.panels import await_data, run_prometheus
from tests.prefects import process, serve_command
from tests.registries import make_registry, register_small
from tests.serving import asking, serve
from tests.waiting import until
from volatility import registry
from volatility.files import write_json
from volatility.streaming.dead_letter import send_to_dead_letter
from volatility.streaming.log.interface import DEAD_LETTER, PREDICTIONS, TICKS
from volatility.streaming.log.kafka_log import KafkaLog

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
SPEED = 60  # an hour of market a minute
ROWS = {"rows": [{"volatility_ratio_60s": 2.5, "spread_bps": 0.7, "volatility_ratio_5s": 1.1}]}


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: RunningBroker
) -> Iterator[RunningBroker]:
    """Provide an empty log, and a registry with a champion and a challenger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.servers)
    registry.promote(register_small(tmp_path, 0).version, evidence={})
    register_small(tmp_path, 1)
    clear(broker.servers)
    yield broker
    clear(broker.servers)


def test_every_panel_of_every_dashboard_has_data(tmp_path: Path, place: RunningBroker) -> None:
    ports = dict(zip(("ingest", "score", "flows"), free_ports(3), strict=True))
    Path("params.yaml").write_text(f"monitoring: {{port: {ports['flows']}}}\n")
    with ExitStack() as stack, closing(KafkaLog(place.servers)) as log:

        def start(name: str, *command: str, **environment: str) -> None:
            ran = process(list(command), tmp_path / f"{name}.log", tmp_path, environment)
            stack.enter_context(ran)

        start("ingest", *volatility("ingest", ports), "--source", "simulate", "--speed", str(SPEED))
        until(lambda: log.partitions(TICKS), "the topic is there")
        start("score", *volatility("score", ports), "--follow")
        # Without a Prefect server it waits, and serves the gauges all the same.
        start("flows", *serve_command(), PREFECT_API_URL="http://127.0.0.1:1/api")
        service = stack.enter_context(serve(tmp_path, {}))
        ports["service"] = service.client.base_url.port or 0
        prometheus = stack.enter_context(run_prometheus(tmp_path, ports))
        stack.enter_context(asking(service.client, ROWS, pause_seconds=0.1))
        run_flows(log)
        await_data(prometheus)

        # On a busy machine a scrape, or a look at the broker, may have timed out; then the next one
        # brings the series back, and ends the alert.
        for job in (*ports, "prometheus"):
            until(lambda: prometheus.number(f'up{{job="{job}"}}') == 1.0, f"{job} is scraped")  # noqa: B023
        # What is wrong at once would fire by now; the rest waits for minutes.
        until(
            lambda: not prometheus.firing(),
            "no alert fires",
            details=lambda: str(prometheus.firing()),
        )
        # Of the routes that anyone asks for, those are stored that there are.
        stored = 'bentoml_service_request_total{endpoint="/predict"}'
        until(lambda: prometheus.has_data(stored), "the requests are counted")
        assert service.client.get("/metrics").text.count('endpoint="/nowhere"')
        assert not prometheus.has_data('{endpoint="/nowhere"}')
        assert not prometheus.has_data('{__tmp_ours!=""}')


def test_the_dead_letters_are_read_as_the_runbook_says(place: RunningBroker) -> None:
    with closing(KafkaLog(place.servers)) as log:
        log.create(DEAD_LETTER, 1)
        writer = log.writer()
        send_to_dead_letter(writer, None, b"no tick", "bid is above ask")
        writer.flush(30.0)
    blocks = re.findall(r"```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "dead-letter" in block]
    command = textwrap.dedent(block).replace("localhost:9092", place.servers)
    command = command.replace("python", sys.executable, 1)
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False)
    assert done.stdout == "bid is above ask b'no tick'\n", done.stderr


def volatility(name: str, ports: dict[str, int]) -> list[str]:
    return [sys.executable, "-m", "volatility.cli", name, "--metrics-port", str(ports[name])]


def run_flows(log: KafkaLog) -> None:
    """Do what the flows do, by their own functions, until outcomes of predictions are known."""
    until(lambda: sum(log.end_offsets(TICKS).values()) > 900 * 2, "some minutes of ticks")
    until(lambda: log.partitions(PREDICTIONS), "the first prediction")

    def measured() -> bool:
        for topic in (TICKS, PREDICTIONS):
            capture_to_end(topic, "data")
        build("data/ticks", "data", "params.yaml")
        found = measure("data", "reports", "params.yaml")
        models = found.models if found else {}
        # Precision needs a flagged window and recall one that was volatile.
        return (
            len(models) == 3
            and any(model.precision is not None for model in models.values())
            and any(model.recall is not None for model in models.values())
        )

    until(measured, "live figures of champion, challenger and baseline", pause_seconds=2.0)
    now = time.time()
    for flow in FLOWS:
        finished(Path("data") / FOLDER, flow.name, succeeded=True, now=now, duration_seconds=1.0)
    checked = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now))
    drift = {"drift_share": 0.1, "drifted_features": 2, "alert": False, "checked": checked}
    write_json(Path("reports/drift/latest.json"), drift)
