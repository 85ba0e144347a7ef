"""Export the flows' state files as gauges, at each scrape.

Events that never happened have no series, nor do missing or damaged files; damaged files are
counted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipelines.lag import Watch
from pipelines.state import FOLDER, FlowState, flow_state, records_deleted, rows_written

LIVE = {
    "qlike": ("volatility_live_qlike", "QLIKE of live forecasts over the first horizon."),
    "pr_auc": ("volatility_live_pr_auc", "PR-AUC of live predictions with a known outcome."),
    "brier": ("volatility_live_brier_score", "Mean squared error of live predictions."),
    "precision": ("volatility_live_precision", "Share of live alerts followed by a spike."),
    "recall": ("volatility_live_recall", "Share of spikes with a preceding alert."),
    "alerts_per_hour": ("volatility_live_alerts_per_hour", "Live alerts per symbol and hour."),
}
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, msgspec.DecodeError)


class Monitor(Collector):
    """Read the state files of the flows, and the newest measurement of the lag.

    Parameters
    ----------
    data, reports : Path
        Folders that the flows write to.
    flows : sequence of str
    lag : Watch
    """

    def __init__(self, data: Path, reports: Path, flows: Sequence[str], lag: Watch) -> None:
        self._data, self._reports, self._flows, self._lag = data, reports, flows, lag

    def describe(self) -> Iterable[Metric]:
        """Declare no names, because the series of what never happened are absent."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every gauge; an unreadable file only affects its own series."""
        unreadable = 0
        parts = (
            self._of_flows,
            self._of_drift,
            self._of_performance,
            self._of_rows,
            self._of_deleted,
        )
        for part in parts:
            metrics, failures = part()
            unreadable += failures
            yield from (metric for metric in metrics if metric.samples)
        yield from self._of_lag()
        yield from self._of_disk()
        yield _gauge(
            "volatility_monitor_unreadable_files", "State files that are damaged.", unreadable
        )

    def _of_flows(self) -> tuple[list[Metric], int]:
        success = _labelled("volatility_flow_last_success_timestamp_seconds", "Last success.")
        failure = _labelled("volatility_flow_last_failure_timestamp_seconds", "Last failure.")
        failed = _labelled("volatility_flow_failed", "Whether the newest run failed.")
        duration = _labelled("volatility_flow_duration_seconds", "Duration of the newest run.")
        failures = 0
        for name in self._flows:
            try:
                found = flow_state(self._data / FOLDER, name)
            except UNREADABLE:
                failures += 1
                continue
            if isinstance(found, FlowState):
                _add(success, [name], found.last_success)
                _add(failure, [name], found.last_failure)
                _add(failed, [name], float(found.state == "failed"))
                _add(duration, [name], found.duration_seconds)
        return [success, failure, failed, duration], failures

    def _of_drift(self) -> tuple[list[Metric], int]:
        share = _gauge("volatility_drift_share", "Share of the model inputs that have drifted.")
        inputs = _gauge("volatility_drifted_features", "Model inputs that have drifted.")
        alert = _gauge("volatility_drift_alert", "Whether the drift alert is raised.")
        checked = _gauge(
            "volatility_drift_checked_timestamp_seconds", "When drift was last measured."
        )
        metrics: list[Metric] = [share, inputs, alert, checked]
        try:
            found = _newest(self._reports / "drift" / "latest.json")
            if found is not None:
                values = (
                    float(found["drift_share"]),
                    float(found["drifted_features"]),
                    float(found["alert"]),
                    _time(found["checked"]),
                )
                for metric, value in zip((share, inputs, alert, checked), values, strict=True):
                    _add(metric, [], value)
        except UNREADABLE:
            return [], 1
        return metrics, 0

    def _of_performance(self) -> tuple[list[Metric], int]:
        labels = ["model", "model_version"]
        live = {key: GaugeMetricFamily(*LIVE[key], labels=labels) for key in LIVE}
        base = _gauge(
            "volatility_live_base_rate", "Share of the measured rows followed by a spike."
        )
        rows = _gauge("volatility_rows_labelled", "Live predictions with a known outcome.")
        checked = _gauge(
            "volatility_performance_checked_timestamp_seconds", "When live skill was last measured."
        )
        demoted = _gauge("volatility_model_demoted", "Whether live evidence demoted the champion.")
        against = GaugeMetricFamily(
            "volatility_live_e_value_against",
            "E-value that the champion's best simple forecast is better; at 20 it is demoted.",
            labels=["model_version"],
        )
        try:
            found = _newest(self._reports / "performance" / "latest.json")
            if found is not None:
                for name, figures in found["models"].items():
                    for key, metric in live.items():
                        _add(metric, [name, str(figures["model_version"])], figures.get(key))
                _add(base, [], found["base_rate"])
                _add(rows, [], found["rows_labelled"])
                _add(checked, [], _time(found["checked"]))
                _add(demoted, [], float(found.get("demotion") is not None))
                evidence = found.get("live_evidence")
                if evidence is not None:
                    version = str(evidence["version"])
                    _add(against, [version], evidence["e_value_against"])
        except UNREADABLE:
            return [], 1
        return [*live.values(), base, rows, checked, demoted, against], 0

    def _of_rows(self) -> tuple[list[Metric], int]:
        rows = CounterMetricFamily(
            "volatility_rows_written", "Rows that the capture flow wrote.", labels=["topic"]
        )
        try:
            for topic, count in rows_written(self._data / FOLDER).items():
                rows.add_metric([topic], count)
        except UNREADABLE:
            return [], 1
        return [rows], 0

    def _of_deleted(self) -> tuple[list[Metric], int]:
        deleted = CounterMetricFamily(
            "volatility_deleted_records",
            "Records that Kafka deleted before the capture flow had read them.",
            labels=["topic"],
        )
        try:
            for topic, count in records_deleted(self._data / FOLDER).items():
                deleted.add_metric([topic], count)
        except UNREADABLE:
            return [], 1
        return [deleted], 0

    def _of_lag(self) -> Iterator[Metric]:
        newest = self._lag.newest
        lag = GaugeMetricFamily(
            "volatility_capture_lag_offsets",
            "Records not captured yet.",
            labels=["topic", "partition"],
        )
        for (topic, partition), offsets in newest.offsets.items():
            lag.add_metric([topic, str(partition)], offsets)
        if lag.samples:
            yield lag
        if newest.broker_up is not None:
            yield _gauge(
                "volatility_monitor_broker_up", "Whether the broker responds.", newest.broker_up
            )

    def _of_disk(self) -> Iterator[Metric]:
        try:
            usage = shutil.disk_usage(self._data)
        except OSError:
            return
        path = [str(self._data)]
        for name, text, size in (
            ("volatility_disk_free_bytes", "Free space on the data disk.", usage.free),
            ("volatility_disk_size_bytes", "Size of the data disk.", usage.total),
        ):
            metric = GaugeMetricFamily(name, text, labels=["path"])
            metric.add_metric(path, size)
            yield metric


def registry_of(monitor: Monitor) -> CollectorRegistry:
    """Return a registry that queries the monitor at each scrape."""
    registry = CollectorRegistry()
    registry.register(monitor)
    return registry


def _newest(path: Path) -> Mapping[str, Any] | None:
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise TypeError(f"{path} is not a JSON object")
    return found


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _gauge(name: str, text: str, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)


def _labelled(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["flow"])


def _add(metric: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    if value is not None:
        metric.add_metric(labels, float(value))
