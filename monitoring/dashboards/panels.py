"""Generate Grafana's JSON for panels and dashboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
SCHEMA_VERSION = 41  # Grafana 12
COLUMNS = 24
GREEN, YELLOW, RED, BLUE = "green", "#EAB839", "red", "blue"

Json = dict[str, Any]
Steps = Sequence[tuple[float, str]]  # pairs of lower bound and colour


@dataclass(frozen=True)
class Panel:
    """Represent one panel.

    Parameters
    ----------
    title, description : str
        What the panel shows and how to interpret it.
    unit : str
        Grafana's unit name, such as ``s``, ``percentunit`` or ``cps`` (counts per second).
    queries : mapping of str to str
        PromQL by legend; ``{{label}}`` in a legend is replaced by Grafana.
    kind : str
        ``timeseries``, ``stat``, ``bargauge`` or ``heatmap``.
    steps : sequence of (float, str)
        Lower bounds and their colours; in a time series each is drawn as a line.
    base : str
        Colour below the first step.
    words : mapping of float to (str, str), optional
        Text and colour to show instead of a value.
    width, height : int
        Width in columns (24 in total); height in rows of 30 pixels.
    names : bool
        Show the legend instead of the value.
    """

    title: str
    description: str
    unit: str
    queries: Mapping[str, str]
    kind: str = "timeseries"
    steps: Steps = ()
    base: str = GREEN
    words: Mapping[float, tuple[str, str]] | None = None
    width: int = 8
    height: int = 8
    names: bool = False

    def json(self, number: int, x: int, y: int) -> Json:
        """Return the panel in Grafana's format, at a position."""
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
            "targets": [
                self._target(chr(ord("A") + place), legend, query)
                for place, (legend, query) in enumerate(self.queries.items())
            ],
        }

    def _defaults(self) -> Json:
        steps = [(None, self.base), *self.steps]
        found: Json = {
            "unit": self.unit,
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": value, "color": color} for value, color in steps],
            },
            "mappings": [],
        }
        if self.words:
            options = {
                f"{value:g}": {"text": text, "color": color, "index": place}
                for place, (value, (text, color)) in enumerate(self.words.items())
            }
            found["mappings"] = [{"type": "value", "options": options}]
        if self.kind == "timeseries":
            found["color"] = {"mode": "palette-classic"}
            found["custom"] = {
                "lineWidth": 1,
                "fillOpacity": 8,
                "showPoints": "auto",
                "spanNulls": False,
                "thresholdsStyle": {"mode": "line" if self.steps else "off"},
            }
        elif self.kind != "heatmap":
            found["color"] = {"mode": "thresholds"}
        return found

    def _options(self) -> Json:
        newest = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        if self.kind == "timeseries":
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        if self.kind == "stat":
            return {
                "reduceOptions": newest,
                "colorMode": "value",
                "graphMode": "none",
                "justifyMode": "auto",
                "textMode": "name" if self.names else "auto",
            }
        if self.kind == "bargauge":
            return {"reduceOptions": newest, "orientation": "horizontal", "displayMode": "basic"}
        return {  # heat map of histogram buckets
            "calculate": False,
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
            "yAxis": {"unit": self.unit},
            "cellGap": 1,
            "tooltip": {"mode": "single", "yHistogram": False},
        }

    def _target(self, letter: str, legend: str, query: str) -> Json:
        newest = self.kind in ("stat", "bargauge")
        return {
            "refId": letter,
            "datasource": DATASOURCE,
            "expr": query,
            "legendFormat": legend,
            "instant": newest,
            "range": not newest,
            "format": "heatmap" if self.kind == "heatmap" else "time_series",
        }


@dataclass(frozen=True)
class Dashboard:
    """Represent a dashboard: sections of panels, laid out left to right, then top to bottom."""

    uid: str
    title: str
    description: str
    sections: Mapping[str, Sequence[Panel]]
    symbols: bool = False  # whether users can select symbols

    def json(self) -> Json:
        """Return the dashboard in Grafana's format."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["volatility"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-30m", "to": "now"},
            "timezone": "utc",
            "links": [
                {
                    "type": "dashboards",
                    "title": "Dashboards",
                    "tags": ["volatility"],
                    "asDropdown": False,
                    "includeVars": False,
                    "keepTime": True,
                }
            ],
            "templating": {"list": [SYMBOL] if self.symbols else []},
            "annotations": {"list": [ALERTS]},
            "panels": self._panels(),
        }

    def _panels(self) -> list[Json]:
        laid: list[Json] = []
        y = 0
        for title, panels in self.sections.items():
            place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            laid.append(
                {
                    "id": len(laid) + 1,
                    "type": "row",
                    "title": title,
                    "collapsed": False,
                    "gridPos": place,
                    "panels": [],
                }
            )
            x, y, height = 0, y + 1, 0
            for panel in panels:
                if x + panel.width > COLUMNS:
                    x, y, height = 0, y + height, 0
                laid.append(panel.json(len(laid) + 1, x, y))
                x, height = x + panel.width, max(height, panel.height)
            y += height
        return laid


SYMBOL: Json = {
    "name": "symbol",
    "label": "Symbol",
    "type": "query",
    "datasource": DATASOURCE,
    "definition": "label_values(volatility_ticks_total, symbol)",
    "query": {"query": "label_values(volatility_ticks_total, symbol)", "refId": "symbol"},
    "refresh": 2,
    "sort": 1,
    "multi": True,
    "includeAll": True,
    "current": {"text": ["All"], "value": ["$__all"]},
    "options": [],
}

ALERTS: Json = {
    "name": "Alerts",
    "enable": True,
    "iconColor": RED,
    "datasource": DATASOURCE,
    "expr": 'ALERTS{alertstate="firing"}',
    "titleFormat": "{{alertname}}",
    "textFormat": "{{job}} {{symbol}} {{flow}}",
    "step": "10s",
}


def stat(
    title: str, description: str, unit: str, query: str, legend: str = "", **more: Any
) -> Panel:
    """Return a panel that shows the newest value of each series."""
    return Panel(
        title, description, unit, {legend: query}, "stat", **{"width": 4, "height": 4, **more}
    )
