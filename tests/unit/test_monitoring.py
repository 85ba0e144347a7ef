"""The rules of Prometheus: valid, each alert tried both ways, every name one that exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from monitoring.dashboards import service
from tests.metric_names import declared, strangers
from tests.panels import CONFIGURATION, program, queries
from volatility.settings import Schedules, load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitoring" / "prometheus"
COMPOSE = FOLDER / "prometheus.yml"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
CASES = sorted((FOLDER / "tests").glob("*.yml"))
ONLY_IN_COMPOSE = {"grafana"}


def groups() -> list[dict[str, Any]]:
    return [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]


def alerts() -> dict[str, dict[str, Any]]:
    rules = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    return {rule["alert"]: rule for rule in rules}


def recorded() -> dict[str, str]:
    rules = [rule for group in groups() for rule in group["rules"] if "record" in rule]
    return {rule["record"]: rule["expr"] for rule in rules}


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", [COMPOSE, CONFIGURATION], ids=lambda path: path.name)
def test_prometheus_takes_the_configuration_and_its_rules(path: Path) -> None:
    assert promtool("check", "config", str(path)).count("rules found") == len(RULES)


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_are_silent_as_their_cases_say(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(path))


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    found: dict[str, set[str]] = {name: set() for name in alerts()}
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            alert, _, what = case["name"].partition(": ")
            kind = what.split()[0].rstrip(",")
            fired = [one["exp_alerts"] for one in case.get("alert_rule_test", [])]
            for one in case.get("promql_expr_test", []):
                if "ALERTS" in one["expr"]:
                    assert f'alertname="{alert}"' in one["expr"], case["name"]
                    fired.append(one["exp_samples"])
            assert fired, case["name"]
            assert all(bool(samples) == (kind == "fires") for samples in fired), case["name"]
            found[alert].add(kind)
    assert found == {name: {"fires", "silent"} for name in alerts()}


@pytest.mark.slow
def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    sections = re.findall(r"^#+ (\w+)$", runbook, re.MULTILINE)
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
    assert [name for name in sections if name in alerts()] == list(alerts())


def test_the_two_configurations_differ_in_their_targets_alone() -> None:
    ours, local = (yaml.safe_load(path.read_text()) for path in (COMPOSE, CONFIGURATION))
    jobs = []
    for found in (ours, local):
        targets = {
            job["job_name"]: job.pop("static_configs")[0]["targets"]
            for job in found["scrape_configs"]
        }
        jobs.append({name: target[0].split(":") for name, target in targets.items()})
    ours["scrape_configs"] = [
        job for job in ours["scrape_configs"] if job["job_name"] not in ONLY_IN_COMPOSE
    ]
    assert ours == local
    for name, (host, port) in jobs[0].items():
        assert host == ("localhost" if name == "prometheus" else name)  # the compose service
        if name not in ONLY_IN_COMPOSE:
            assert jobs[1][name] == ["127.0.0.1", port]
    assert jobs[0]["flows"][1] == str(load(ROOT / "params.yaml").monitoring.port)


@pytest.mark.parametrize(
    ("query", "strange"),
    [
        ('sum(rate(volatility_ticks_total{job="ingest"}[1m]))', set()),
        ('volatility_tocks_total{job="ingest"}', {"volatility_tocks_total of ingest"}),
        ('volatility_ticks_total{job="service"}', {"volatility_ticks_total of service"}),
        ("volatility_ticks_total > 1", {"volatility_ticks_total of no job"}),
        ("volatility:no_such:rule", {"volatility:no_such:rule"}),
        ("up == 0 or volatility:here:sum", set()),
    ],
)
def test_a_name_that_nothing_declares_is_found(query: str, strange: set[str]) -> None:
    assert strangers(query, {"volatility:here:sum": ""}) == strange


@pytest.mark.slow
def test_rules_and_dashboards_name_metrics_that_their_processes_declare() -> None:
    everything = {
        **{f"rule {name}": query for name, query in recorded().items()},
        **{f"alert {name}": rule["expr"] for name, rule in alerts().items()},
        **queries(),
    }
    found = {place: strangers(query, recorded()) for place, query in everything.items()}
    assert {place: names for place, names in found.items() if names} == {}
    used = {name for query in everything.values() for name in recorded() if name in query}
    assert used == set(recorded()), "a recording rule that nobody reads"


def test_the_declared_names_are_found_where_they_are_declared() -> None:
    assert "volatility_ticks_total" in declared()["ingest"]
    assert "volatility_score_lag_offsets" in declared()["score"]
    assert "volatility_prediction_latency_seconds_bucket" in declared()["service"]
    assert {"volatility_drift_share", "volatility_rows_written_total"} <= declared()["flows"]


def test_a_flow_is_overdue_after_three_of_its_intervals_at_the_earliest() -> None:
    limits: dict[str, int] = {}
    pattern = r'volatility:flow_age_seconds:time\{flow=~?"([\w|]+)"\} > (\d+)'
    for flows, seconds in re.findall(pattern, alerts()["FlowOverdue"]["expr"]):
        limits |= dict.fromkeys(flows.split("|"), int(seconds))
    schedules = load(ROOT / "params.yaml").schedules
    assert set(limits) == {field.name for field in msgspec.structs.fields(Schedules)}
    for flow, seconds in limits.items():
        assert seconds >= 3 * getattr(schedules, flow), flow


def test_alert_and_dashboard_share_the_objective() -> None:
    assert alerts()["PredictionLatency"]["expr"].endswith(f" > {service.SLO_SECONDS}")
