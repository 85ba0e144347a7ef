"""Collect the metrics that each process declares, and those that a query names."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from volatility.streaming import metrics

ROOT = Path(__file__).parents[1]
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
KINDS = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Histogram": "histogram",
}
# Of BentoML 1.4, bentoml/_internal/server/http/instruments.py.
BENTOML = {
    "bentoml_service_request_total",
    "bentoml_service_request_in_progress",
    "bentoml_service_request_duration_seconds_bucket",
}
OF_PROMETHEUS = {"up", "ALERTS"}
# A name with labels, or one that could be nothing but a metric's.
SELECTOR = re.compile(r"\b([a-zA-Z_][\w:]*(?=\{)|(?:volatility|bentoml)[\w:]*)(\{[^}]*\})?")


@cache
def declared() -> dict[str, set[str]]:
    """Return the names of the series that each job can have."""
    streaming = {
        family.name + suffix
        for family in metrics.registry.collect()
        for suffix in SUFFIXES[family.type]
    }
    return {
        "ingest": streaming,
        "score": streaming,
        "capture": streaming,
        "service": _in_source("service/metrics.py") | BENTOML,
        "flows": _in_source("pipelines/monitor.py"),
    }


def strangers(query: str, recorded: Mapping[str, str]) -> set[str]:
    """Return what a query names and neither its job, a recording rule nor Prometheus declares."""
    found = set()
    for name, labels in SELECTOR.findall(query):
        job = re.search(r'\bjob="(\w+)"', labels)
        if name in OF_PROMETHEUS or name in recorded:
            continue
        if ":" in name:
            found.add(name)
        elif job is None:
            found.add(f"{name} of no job")
        elif name not in declared()[job[1]]:
            found.add(f"{name} of {job[1]}")
    return found


def _in_source(path: str) -> set[str]:
    """Read the names in a file: of calls that declare a metric, and of any other text a gauge's.

    ``service.metrics`` must not be imported in a test: see its docstring.
    """
    tree = ast.parse((ROOT / path).read_text())
    kinds: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and str(node.value).startswith("volatility_"):
            kinds.setdefault(str(node.value), "gauge")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and node.func.id in KINDS:
                kinds[str(first.value)] = KINDS[node.func.id]
    return {name + suffix for name, kind in kinds.items() for suffix in SUFFIXES[kind]}
