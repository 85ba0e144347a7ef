"""``pipelines.serve`` with a real Prefect server: schedules, runs by hand, outages, its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.brokers import free_ports
from tests.prefects import (
    ROOT,
    Prefect,
    Process,
    descendants,
    process,
    run_prefect,
    serve_command,
    until,
)
from tests.webhooks import Webhook, run_webhook

PARAMS = """\
monitoring: {{port: {port}}}
schedules: {{capture: 0, features: 3600, train: 0, drift: 0, performance: 0, compact: 5}}
"""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    with run_prefect(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    with run_webhook() as hook:
        yield hook


@pytest.fixture(scope="module")
def served(
    prefect: Prefect, webhook: Webhook, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """Serve in a folder of its own, with nothing captured and one schedule of five seconds."""
    folder = tmp_path_factory.mktemp("served")
    (port,) = free_ports(1)
    (folder / "params.yaml").write_text(PARAMS.format(port=port))
    environment = {
        **prefect.environment,
        "ALERT_WEBHOOK_URL": webhook.url,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }
    with process(serve_command(), folder / "serve.log", folder, environment) as running:
        yield running


def gauges(served: Process) -> dict[str, float]:
    port = (served.cwd / "params.yaml").read_text().split("port: ")[1].split("}")[0]
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60.0).text
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def run_by_hand(prefect: Prefect, flow: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "prefect", "deployment", "run", f"{flow}/scheduled"],
        env={**os.environ, **prefect.environment},
        check=True,
        capture_output=True,
    )


def more_failed(prefect: Prefect, before: int) -> bool:
    return prefect.count("train", "FAILED") > before


def test_a_schedule_fires_by_itself(prefect: Prefect, served: Process) -> None:
    until(lambda: prefect.count("compact") >= 2, "two compactions", served, prefect.process)
    found = gauges(served)
    assert found['volatility_flow_failed{flow="compact"}'] == 0.0
    assert found['volatility_flow_duration_seconds{flow="compact"}'] > 0.0
    assert (
        time.time() - found['volatility_flow_last_success_timestamp_seconds{flow="compact"}'] < 60
    )
    assert 'volatility_flow_failed{flow="train"}' not in found
    assert found['volatility_disk_free_bytes{path="data"}'] > 0.0


def test_two_runs_of_a_flow_never_overlap(prefect: Prefect, served: Process) -> None:
    ended = prefect.ended("compact")
    runs = sorted((str(run["start_time"]), str(run["end_time"])) for run in ended)
    assert all(end <= start for (_, end), (start, _) in pairwise(runs))


def test_a_flow_runs_by_hand_and_its_failure_is_told_once(
    prefect: Prefect, served: Process, webhook: Webhook
) -> None:
    for _ in range(2):
        before = prefect.count("train", "FAILED")
        run_by_hand(prefect, "train")
        until(partial(more_failed, prefect, before), "it fails", served)
    assert gauges(served)['volatility_flow_failed{flow="train"}'] == 1.0
    assert [m["subject"] for m in webhook.messages] == ["train"]
    assert "flow train failed" in str(webhook.messages[0]["text"])


def test_a_run_that_is_killed_counts_as_failed(
    prefect: Prefect, served: Process, webhook: Webhook
) -> None:
    before = prefect.count("compact", "CRASHED")

    def kill_one() -> bool:
        for pid in descendants(served.pid):
            os.kill(pid, signal.SIGKILL)
        return prefect.count("compact", "CRASHED") > before

    until(kill_one, "a run crashes", served)
    until(lambda: any(m["subject"] == "compact" for m in webhook.messages), "it is told", served)
    until(lambda: gauges(served)['volatility_flow_failed{flow="compact"}'] == 0.0, "it is over")


def test_serving_goes_on_after_the_server_was_away(prefect: Prefect, served: Process) -> None:
    prefect.process.kill()
    until(lambda: "waiting for the Prefect server" in served.text(), "it notices", served)
    gauges(served)  # answers all the while
    prefect.process.start()
    prefect.wait()
    before = prefect.count("compact")
    until(lambda: prefect.count("compact") > before, "another run", served, prefect.process)


def test_a_process_that_was_killed_leaves_no_run_in_the_way(
    prefect: Prefect, served: Process
) -> None:
    until(lambda: descendants(served.pid), "a run begins", served)
    served.kill()
    prefect.process.kill()  # with what it knew of who holds which place
    prefect.process.start()
    prefect.wait()
    before = prefect.count("compact")
    served.start()
    until(lambda: prefect.count("compact") > before, "another run", served, prefect.process)
    assert prefect.count("compact", "RUNNING") <= 1


def test_a_second_process_on_the_same_data_is_refused(prefect: Prefect, served: Process) -> None:
    second = subprocess.run(
        serve_command(),
        cwd=served.cwd,
        env={**os.environ, **served.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.strip().splitlines()[-1].startswith("another pipelines.serve")


def test_sigterm_ends_it_and_its_runs(prefect: Prefect, served: Process) -> None:
    until(lambda: descendants(served.pid), "a run begins", served)
    children = descendants(served.pid)
    assert served.stop() == 0, served.text()[-3000:]
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    state = json.loads((served.cwd / "data" / "monitor" / "compact.json").read_text())
    assert state["last_success"] > 0


def test_a_worker_of_the_pool_runs_what_prefect_yaml_deploys(
    prefect: Prefect, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    environment = {**prefect.environment, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("work-pool", "create", "volatility", "--type", "process")
    run("deploy", "--all")
    before = prefect.count("compact")
    run("deployment", "run", "compact/scheduled")
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "volatility"]
    with process(command, tmp_path / "worker.log", tmp_path, environment) as worker:
        until(lambda: prefect.count("compact") > before, "the worker runs it", worker)
    assert (tmp_path / "data" / "monitor" / "compact.json").exists()
