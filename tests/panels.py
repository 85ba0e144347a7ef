"""Run a real Prometheus with the project's configuration, and ask it what the dashboards ask."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.brokers import free_ports
from tests.waiting import until

MONITORING = Path(__file__).parents[1] / "monitoring"
CONFIGURATION = MONITORING / "prometheus" / "prometheus.local.yml"
DASHBOARDS = MONITORING / "grafana" / "dashboards"
MAKEFILE = Path(__file__).parents[1] / "Makefile"
CORS = re.compile(r"--web\.cors\S+")  # as in `make prometheus`
# What Grafana puts in place of its variables: all symbols, and four scrapes at least.
VARIABLES = {"$__rate_interval": "20s", "$symbol": ".*"}


def program(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``."""
    found = shutil.which(name)
    if found is None:
        # .ci/run installs it: there, nothing may be left out for lack of a program.
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"{name} is missing: apt-get install prometheus")
    assert found is not None
    return found


@dataclass(frozen=True)
class Prometheus:
    """Represent a running Prometheus."""

    url: str
    log: Path

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Evaluate a query now; give its series, each with ``metric`` and ``value``."""
        answer = httpx.post(f"{self.url}/api/v1/query", data={"query": query}, timeout=60).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def number(self, query: str) -> float:
        """Return the value of a query that has one series."""
        (series,) = self.ask(query)
        return float(series["value"][1])

    def has_data(self, query: str) -> bool:
        """Return whether any series of a query has a value; NaN does not count."""
        return any(not math.isnan(float(series["value"][1])) for series in self.ask(query))

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {s["metric"]["alertname"] for s in self.ask('ALERTS{alertstate="firing"}')}


@contextmanager
def run_prometheus(
    folder: Path, ports: Mapping[str, int], interval: str = "1s"
) -> Iterator[Prometheus]:
    """Run Prometheus with the local configuration until the block ends.

    Parameters
    ----------
    folder : Path
        For its data and its log.
    ports : mapping of str to int
        Port of each process, by job; a job without one is left out.
    interval : str
        Of scrapes and of rules.
    """
    (port,) = free_ports(1)
    log = folder / "prometheus.log"
    (folder / "prometheus.yml").write_text(configuration({**ports, "prometheus": port}, interval))
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *CORS.findall(MAKEFILE.read_text()),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        running = Prometheus(f"http://127.0.0.1:{port}", log)
        _await_ready(running, process)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def configuration(ports: Mapping[str, int], interval: str) -> str:
    """Return the local configuration with other ports and another interval."""
    found = yaml.safe_load(CONFIGURATION.read_text())
    found["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    found["rule_files"] = [str(CONFIGURATION.parent / files) for files in found["rule_files"]]
    jobs = {job["job_name"]: job for job in found["scrape_configs"]}
    found["scrape_configs"] = [
        {**jobs[name], "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for name, port in ports.items()
    ]
    return yaml.safe_dump(found)


def queries() -> dict[str, str]:
    """Return every query of every dashboard, with its variables filled in, by panel."""
    found = {}
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"]
                for name, value in VARIABLES.items():
                    query = query.replace(name, value)
                place = f"{dashboard['title']} / {panel['title']} / {target['refId']}"
                assert place not in found, f"two panels are called {place}"
                found[place] = query
    return found


def without_data(prometheus: Prometheus) -> dict[str, str]:
    """Return the queries that return no data, by panel."""
    return {place: query for place, query in queries().items() if not prometheus.has_data(query)}


def await_data(prometheus: Prometheus) -> None:
    """Wait until every query of every dashboard returns data."""

    def empty() -> str:
        return "\n".join(f"{place}: {query}" for place, query in without_data(prometheus).items())

    until(
        lambda: not without_data(prometheus),
        "every query has data",
        pause_seconds=1.0,
        details=empty,
    )


def _await_ready(running: Prometheus, process: subprocess.Popen[bytes]) -> None:
    def ready() -> bool:
        assert process.poll() is None, running.log.read_text()[-2000:]
        return httpx.get(f"{running.url}/-/ready").status_code == 200

    until(ready, "Prometheus starts", details=running.log.read_text)
