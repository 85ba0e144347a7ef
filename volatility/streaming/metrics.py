"""Define the metrics of the streaming processes, and serve them on one port per process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from volatility.settings import environment

registry = CollectorRegistry()

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 60.0)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"volatility_{name}", text, labels, registry=registry)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"volatility_{name}", text, labels, registry=registry)


def _histogram(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(f"volatility_{name}", text, labels, registry=registry, buckets=LATENCY_BUCKETS)


ticks = _counter("ticks", "Ticks ingested.", "symbol")
rejected_ticks = _counter("rejected_ticks", "Messages that are not valid ticks.")
misplaced_ticks = _counter(
    "misplaced_ticks", "Ticks on another partition than their symbol's, which are not scored."
)
late_ticks = _counter("late_ticks", "Ticks for a step that was already closed.", "symbol")
duplicate_ticks = _counter("duplicate_ticks", "Ticks received twice.")
gaps = _counter("gaps", "Gaps in the received data.", "reason")
lost_messages = _counter(
    "lost_messages", "Messages known to be lost, on the wire or before capture."
)
deleted_records = _counter(
    "deleted_records", "Records that the log deleted before they were captured.", "topic"
)
deleted_at = _gauge(
    "records_deleted_timestamp_seconds", "When capture last met deleted records.", "topic"
)
reconnects = _counter("reconnects", "Reconnections to the exchange.")
missing_symbols = _gauge(
    "missing_symbols", "1 for a requested symbol that the exchange does not deliver.", "symbol"
)
ingest_latency = _histogram("ingest_latency_seconds", "Time from exchange to arrival.")
buffered_ticks = _gauge("buffered_ticks", "Ticks waiting for the broker.")
buffer_age = _gauge("buffer_age_seconds", "Age of the oldest tick waiting for the broker.")
dropped_ticks = _counter("dropped_ticks", "Ticks lost because the buffer was full.")

capture_lag = _gauge("capture_lag_offsets", "Records not captured yet.", "topic", "partition")
rows_written = _counter("rows_written", "Rows written to the lake.", "topic")
capture_errors = _counter("capture_errors", "Failed writes to the lake.")

score_lag = _gauge("score_lag_offsets", "Records not scored yet.", "partition")
predictions = _counter("predictions", "Predictions made.", "model_version", "model_variant")
held_predictions = _counter(
    "held_predictions", "Predictions held back because the log lacks part of their windows."
)
spikes = _counter("spikes", "Predictions at or above the threshold.", "model_version")
scores = Histogram(
    "volatility_score",
    "Distribution of the scores.",
    ["model_version"],
    registry=registry,
    buckets=[k / 20 for k in range(1, 21)],
)
forecast_volatility = _gauge(
    "forecast_volatility_bps",
    "Newest forecast of the serving model, over its horizon.",
    "symbol",
    "horizon_seconds",
)
feature_age = _gauge("feature_age_seconds", "Stream time since the newest row.", "symbol")
prediction_latency = _histogram(
    "stream_prediction_latency_seconds", "Time from appended tick to queued prediction."
)
model_info = _gauge("model_info", "The models that score.", "model_name", "model_version")


def serve(port: int) -> None:
    """Serve ``/metrics`` on a port of the address in ``METRICS_ADDRESS``; 0 disables it."""
    if port:
        start_http_server(port, addr=environment().metrics_address, registry=registry)
