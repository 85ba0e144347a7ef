"""Start the whole stack, replay a market at 60 times its speed, and hold it to its promises.

``make stack-test``: real Kafka, MLflow, Prefect, Prometheus and service, on loopback and free
ports. Each line of the report is one promise, with the figures it was held by.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import numpy as np

from tests.brokers import free_ports, run_broker
from tests.panels import Prometheus, await_data, queries, run_prometheus
from tests.prefects import Prefect, Process, process, run_prefect, serve_command, until
from tests.serving import asking, serve
from tests.stack import market, offline
from tests.webhooks import Webhook, run_webhook
from volatility import registry
from volatility.dataset import assemble
from volatility.features.engine import read_features
from volatility.models.fit import fit_bundle
from volatility.models.prior import shipped
from volatility.settings import load

SPEED = 60
LIMIT_SECONDS = 600
FLOWS = ("capture", "features", "performance", "drift", "compact")
ROW = {"rows": [{"volatility_ratio_60s": 2.5, "spread_bps": 0.7, "volatility_ratio_5s": 1.1}]}
# Windows are in stream time: three quarters of an hour are 45 s here.
PARAMS = """\
train: {{folds: 2}}
evaluate: {{resamples: 100, placebo_hours: 6}}
drift: {{hours: 0.75, drift_share: 0.3}}
monitoring: {{port: {port}}}
schedules: {{capture: 20, features: 30, train: 0, drift: 30, performance: 30, compact: 60}}
"""


@dataclass
class Stack:
    """Represent what runs, and what was found."""

    folder: Path
    prefect: Prefect
    webhook: Webhook
    ports: dict[str, int]
    flows: Process
    began: float = field(default_factory=time.monotonic)

    def say(self, promise: str, figures: str) -> None:
        print(f"{time.monotonic() - self.began:5.0f} s  {promise}: {figures}", flush=True)

    def drift_messages(self) -> list[str]:
        return [str(m["text"]) for m in self.webhook.messages if m["kind"] == "drift"]

    def volatility(self, command: str, *arguments: str) -> list[str]:
        port = str(self.ports[command])
        module = (sys.executable, "-m", "volatility.cli")
        return [*module, command, "--metrics-port", port, *arguments]


def main() -> int:
    """Run the test; give the exit code."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stack-") as scratch, ExitStack() as stack:
        run(Path(scratch), stack)
    seconds = time.monotonic() - began
    assert seconds < LIMIT_SECONDS, f"it took {seconds:.0f} s"
    print(f"all held, in {seconds:.0f} s")
    return 0


def run(folder: Path, stack: ExitStack) -> None:
    """Start everything, and check one promise after the other."""
    running = start(folder, stack)
    train(running)
    add_challenger(running)
    service = stack.enter_context(serve(folder, {}))
    running.ports["service"] = service.client.base_url.port or 0
    stack.enter_context(asking(service.client, ROW, pause_seconds=0.5))
    prometheus = stack.enter_context(run_prometheus(folder, running.ports))
    replay = running.volatility("ingest", "--source", "replay", "--path", "recorded")
    ingest = stack.enter_context(
        process([*replay, "--speed", str(SPEED)], folder / "ingest.log", folder)
    )
    until(lambda: prometheus.has_data("volatility_ticks_total"), "ticks arrive", ingest)
    score = running.volatility("score", "--follow")
    stack.enter_context(process(score, folder / "score.log", folder))
    running.say("replay", f"ticks and scores at {SPEED} times their speed")

    check_calm(running, prometheus)
    check_alert(running, prometheus)
    await_data(prometheus)
    running.say("dashboards", f"all {len(queries())} queries have data")
    assert ingest.running is not None
    ingest.running.wait(300)
    check_skill(running, prometheus)
    check_schedules(running)
    check_once(running)
    check_restart(running)


def start(folder: Path, stack: ExitStack) -> Stack:
    """Start the servers, and the flows on a lake that has the training market."""
    rows = market.write_training(folder / "data" / "ticks")
    recorded = market.write_recording(folder / "recorded")
    ports = dict(zip(("ingest", "score", "flows", "mlflow"), free_ports(4), strict=True))
    mlflow = ports.pop("mlflow")
    (folder / "params.yaml").write_text(PARAMS.format(port=ports["flows"]))
    broker = stack.enter_context(run_broker(folder / "kafka"))
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow)),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    server = stack.enter_context(process(command, folder / "mlflow.log", folder))
    os.environ["KAFKA_BOOTSTRAP_SERVERS"] = broker.servers
    os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{mlflow}"
    prefect = stack.enter_context(run_prefect(folder / "prefect"))
    until(lambda: answers(f"http://127.0.0.1:{mlflow}/health"), "MLflow answers", server)
    webhook = stack.enter_context(run_webhook())
    environment = {**prefect.environment, "ALERT_WEBHOOK_URL": webhook.url}
    environment["PREFECT_RUNNER_POLL_FREQUENCY"] = "3"
    flows = stack.enter_context(process(serve_command(), folder / "flows.log", folder, environment))
    running = Stack(folder, prefect, webhook, ports, flows)
    until(lambda: prefect.ended("features"), "the flows are served", flows)
    running.say("servers", f"up; {rows:,} records to train on, {recorded:,} to replay")
    return running


def train(running: Stack) -> None:
    """Train by hand, as the README says, and let the model serve whatever the gate says."""
    command = [sys.executable, "-m", "prefect", "deployment", "run", "train/scheduled"]
    environment = {**os.environ, **running.prefect.environment}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    until(lambda: running.prefect.ended("train"), "the training ends", running.flows)
    earned = registry.champion() is not None
    version = registry.latest()
    assert version is not None
    if not earned:
        registry.promote(version, evidence={"why": "the stack test needs a champion"})
    running.say("train/scheduled by hand", f"version {version}, earned promotion: {earned}")


def add_challenger(running: Stack) -> None:
    """Register a second model, of the first half of the rows."""
    settings = load(running.folder / "params.yaml")
    data = assemble(read_features(running.folder / "data" / "features"), settings)
    bundle = fit_bundle(data.take(np.arange(len(data) // 2)), settings, shipped())
    bundle.save(running.folder / "challenger")
    registry.register(running.folder / "challenger", parameters={}, metrics={})


def check_calm(running: Stack, prometheus: Prometheus) -> None:
    """Before the regime changes, predictions meet their outcomes and nothing is told."""
    until(
        lambda: offline.live(running.folder).get("rows_labelled", 0) > 100,
        "predictions meet their outcomes",
        running.flows,
    )
    found = offline.live(running.folder)
    until(lambda: prometheus.has_data("volatility_drift_alert"), "drift is looked at")
    assert prometheus.number("volatility_drift_alert") == 0.0
    assert running.webhook.messages == []
    assert "Drift" not in prometheus.firing()
    running.say("predictions joined", f"{found['rows_labelled']:,} rows, parity {found['parity']}")


def check_alert(running: Stack, prometheus: Prometheus) -> None:
    """The change of regime raises the alert."""
    until(lambda: "Drift" in prometheus.firing(), "Prometheus alerts", running.flows, seconds=300)
    until(running.drift_messages, "the webhook is told", running.flows)
    share = prometheus.number("volatility_drift_share")
    running.say("drift alert", f"in Prometheus at a share of {share:.2f}; webhook told")


def check_skill(running: Stack, prometheus: Prometheus) -> None:
    """When everything has been captured, live and offline figures are the same numbers."""
    lag = "sum(volatility_capture_lag_offsets) + sum(volatility_score_lag_offsets)"
    until(lambda: prometheus.number(lag) == 0.0, "everything is scored and captured")
    scratch = running.folder / "offline"
    expected = offline.evaluate(running.folder, scratch)

    def settled() -> bool:
        nonlocal expected
        found = offline.live(running.folder)
        if found["rows_labelled"] == expected.rows:
            return True
        expected = offline.evaluate(running.folder, scratch)
        return False

    until(settled, "the performance flow has seen everything", running.flows)
    found = offline.live(running.folder)
    assert found["parity"]["differ"] == found["parity"]["without_a_row"] == 0, found["parity"]
    assert found["base_rate"] == expected.base_rate
    for name, figures in expected.models.items():
        for measure in offline.MEASURES:
            live, again = found["models"][name][measure], figures[measure]
            assert live == again, f"{name} {measure}: live {live!r}, offline {again!r}"
        gauge = f'volatility_live_qlike{{model="{name}"}}'
        until(partial(shows, prometheus, gauge, figures["qlike"]), gauge)
    areas = ", ".join(f"{name} {found['qlike']!r}" for name, found in expected.models.items())
    running.say(
        "live QLIKE equals offline",
        f"exactly, on {expected.rows:,} rows at a base rate of {expected.base_rate:.3f}: {areas}",
    )


def check_schedules(running: Stack) -> None:
    """Every flow ran by itself, again and again, and none failed."""
    counts = {}
    for name in FLOWS:
        ended = [run for run in running.prefect.ended(name) if run["auto_scheduled"]]
        counts[name] = len(ended)
        assert len(ended) >= 3, f"{name} ran {len(ended)} times"
        for state in ("FAILED", "CRASHED"):
            failed = running.prefect.ended(name, state)
            assert not failed, f"{name}: {failed}\n{running.flows.text()[-5000:]}"
    running.say("schedules fired by themselves", ", ".join(f"{k} {v}" for k, v in counts.items()))


def check_once(running: Stack) -> None:
    """However many runs saw the drift, it was told once, and nothing else was."""
    seen = len(list((running.folder / "reports" / "drift").glob("*Z.json")))
    told = [(m["kind"], m["subject"]) for m in running.webhook.messages]
    assert told == [("drift", "drift")], told
    running.say("webhook", f"told once, in {seen} drift runs: {running.drift_messages()[0]}")


def check_restart(running: Stack) -> None:
    """The gauges survive: a new process shows them before any flow has run."""
    url = f"http://127.0.0.1:{running.ports['flows']}/metrics"
    kept = ("volatility_live_", "volatility_drift_", "volatility_flow_last_success")

    def gauges() -> list[str]:
        lines = httpx.get(url, timeout=10.0).text.splitlines()
        return sorted(line for line in lines if line.startswith(kept))

    assert running.flows.stop() == 0
    running.flows.environment["PREFECT_API_URL"] = "http://127.0.0.1:1/api"  # no flow can run
    before = {line.split("{")[0].split(" ")[0] for line in gauges_of_files(running)}
    running.flows.start()
    until(lambda: answers(url), "the gauges are there again", running.flows)
    found = gauges()
    assert before <= {line.split("{")[0].split(" ")[0] for line in found}
    running.say("gauges survive a restart", f"{len(found)} series at once")


def gauges_of_files(running: Stack) -> list[str]:
    """Return the content of the state files as lines of the Prometheus text format."""
    from prometheus_client import generate_latest

    from pipelines.lag import Watch
    from pipelines.monitor import Monitor, registry_of

    data, reports = running.folder / "data", running.folder / "reports"
    monitor = Monitor(data, reports, FLOWS, Watch(data))
    lines = generate_latest(registry_of(monitor)).decode().splitlines()
    kept = ("volatility_live_", "volatility_drift_", "volatility_flow_last_success")
    return [line for line in lines if line.startswith(kept)]


def shows(prometheus: Prometheus, gauge: str, value: float) -> bool:
    return prometheus.number(gauge) == value


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main())
