"""The dashboards: what their description gives, laid out without overlap, every query valid."""

from __future__ import annotations

import json
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboards.__main__ import files
from monitoring.dashboards.panels import COLUMNS, DATASOURCE
from tests.panels import DASHBOARDS, MONITORING, program, queries

TITLES = {"Market and score", "Service", "Pipeline", "Model"}
PATHS = sorted(DASHBOARDS.glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_files_are_what_the_description_gives() -> None:
    given = files()
    assert sorted(given) == PATHS
    for path, content in given.items():
        assert path.read_text() == content, "run python -m monitoring.dashboards"


def test_there_are_four_each_with_an_address_of_its_own() -> None:
    assert {load(path)["title"] for path in PATHS} == TITLES
    assert len({load(path)["uid"] for path in PATHS}) == len(TITLES)


def test_grafana_is_provisioned_with_the_data_source_that_they_name() -> None:
    (source,) = yaml.safe_load(
        (MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == DATASOURCE
    (provider,) = yaml.safe_load(
        (MONITORING / "grafana/provisioning/dashboards/files.yml").read_text()
    )["providers"]
    assert provider["type"] == "file"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_panel_is_whole(path: Path) -> None:
    dashboard = load(path)
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["type"] in {"timeseries", "stat", "bargauge", "heatmap"}
        assert panel["description"].endswith((".", "?")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == DATASOURCE
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["datasource"] == DATASOURCE
            assert "$symbol" not in target["expr"] or dashboard["templating"]["list"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_panels_fill_the_grid_and_do_not_overlap(path: Path) -> None:
    places = [panel["gridPos"] for panel in load(path)["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    height = max(place["y"] + place["h"] for place in places)
    assert sum(place["w"] * place["h"] for place in places) == COLUMNS * height  # no hole


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query}
        for number, query in enumerate(queries().values())
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
