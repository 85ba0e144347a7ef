"""Count and time what the service does, for Prometheus.

Import it in a worker, not before: prometheus_client decides at its first import whether it
shares its values between processes, from an environment variable that BentoML sets.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from service.predictor import Served
from service.wire import Answer

LATENCY_BUCKETS = (
    50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0, 2.0,
    5.0,
)  # fmt: skip
SCORE_BUCKETS = tuple(k / 20 for k in range(1, 21))
MODEL = ("model_version", "model_variant")

_predictions = Counter("volatility_predictions", "Rows scored.", MODEL)
_spikes = Counter("volatility_spikes", "Rows scored at or above the threshold.", MODEL)
_strange = Counter(
    "volatility_out_of_distribution_rows", "Rows outside what the model was trained on.", MODEL
)
_rejected = Counter("volatility_rejected_requests", "Requests refused.", ("reason",))
_latency = Histogram(
    "volatility_prediction_latency_seconds",
    "Time from a request's body to its scores.",
    ("route",),
    buckets=LATENCY_BUCKETS,
)
_scores = Histogram(
    "volatility_score", "Score of the newest row of each request.", MODEL, buckets=SCORE_BUCKETS
)
_info = Gauge(
    "volatility_model_info",
    "1 for the model that serves.",
    ("model_name", "model_version", "model_variant", "alias"),
    multiprocess_mode="livemax",
)


def show_model(served: Served) -> None:
    """Name the model that serves."""
    model = served.model
    _info.labels(model.name, model.version, served.variant, model.alias or "").set(1)


def count(answer: Answer, route: str) -> None:
    """Count one answer."""
    labels = (answer.model_version, answer.model_variant)
    _predictions.labels(*labels).inc(len(answer.scores))
    _spikes.labels(*labels).inc(sum(answer.spike))
    _strange.labels(*labels).inc(sum(answer.out_of_distribution))
    _scores.labels(*labels).observe(answer.volatility_score)
    _latency.labels(route).observe(answer.latency_ms / 1e3)


def reject(reason: str) -> None:
    """Count one refused request; ``reason`` is one of a few words."""
    _rejected.labels(reason).inc()
