"""Export the service's counts and timings to Prometheus.

Import this module only in a worker: at its first import, prometheus_client decides whether to
share values between processes, based on an environment variable that BentoML sets.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from service.predictor import Served
from service.state import State
from service.wire import Answer

LATENCY_BUCKETS = (
    50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 15e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0,
    2.0, 5.0,
)  # fmt: skip
SCORE_BUCKETS = tuple(k / 20 for k in range(1, 21))
MODEL = ("model_version", "model_variant")

_predictions = Counter("volatility_predictions", "Rows scored.", MODEL)
_spikes = Counter("volatility_spikes", "Rows scored at or above the threshold.", MODEL)
_strange = Counter(
    "volatility_out_of_distribution_rows", "Rows outside the range of the training data.", MODEL
)
_rejected = Counter("volatility_rejected_requests", "Requests refused.", ("reason",))
_latency = Histogram(
    "volatility_prediction_latency_seconds",
    "Time from the request body to the scores.",
    ("route",),
    buckets=LATENCY_BUCKETS,
)
_scores = Histogram(
    "volatility_score", "Score of the newest row of each request.", MODEL, buckets=SCORE_BUCKETS
)
_info = Gauge(
    "volatility_model_info",
    "1 for the serving model.",
    ("model_name", "model_version", "model_variant", "alias"),
    multiprocess_mode="livemax",
)


_refused = Gauge(
    "volatility_refused_models",
    "Versions refused since startup because of damaged files or a failed self-test.",
    multiprocess_mode="livemax",
)
_degraded = Gauge(
    "volatility_degraded",
    "1 while degraded: registry unavailable, version refused, alias missing or model stale.",
    ("cause",),
    multiprocess_mode="livemax",
)
_age = Gauge(
    "volatility_model_age_seconds",
    "Age of the newest row that the model was trained on.",
    multiprocess_mode="livemax",
)
CAUSES = ("registry", "refused", "alias", "stale")


class _Children:
    """Cache the labelled metrics of one model: looking them up by label takes 10 µs."""

    def __init__(self, version: str, variant: str) -> None:
        labels = (version, variant)
        self.predictions = _predictions.labels(*labels)
        self.spikes = _spikes.labels(*labels)
        self.strange = _strange.labels(*labels)
        self.scores = _scores.labels(*labels)


_of_model: dict[tuple[str, str], _Children] = {}
_of_route = {route: _latency.labels(route) for route in ("/predict", "/predict/ticks")}
_shown: list[tuple[str, ...]] = []


def show_model(served: Served) -> None:
    """Set the info metric to the serving model, and clear that of the previous one."""
    model = served.model
    labels = (model.name, model.version, served.variant, model.alias or "")
    for before in _shown:
        _info.labels(*before).set(0)
    _shown[:] = [labels]
    _info.labels(*labels).set(1)


def show_health(state: State) -> None:
    """Set the metrics of the model's age and of degradation by cause."""
    _, body = state.health()
    for cause in CAUSES:
        _degraded.labels(cause).set(cause in body.get("warnings", {}))
    if state.served is not None:
        _age.set(state.age_hours() * 3600.0)


def refused(versions: int) -> None:
    """Set the number of versions refused so far."""
    _refused.set(versions)


def count(answer: Answer, route: str) -> None:
    """Count one response."""
    key = (answer.model_version, answer.model_variant)
    children = _of_model.get(key)
    if children is None:
        children = _of_model[key] = _Children(*key)
    children.predictions.inc(len(answer.scores))
    if True in answer.spike:
        children.spikes.inc(sum(answer.spike))
    if True in answer.out_of_distribution:
        children.strange.inc(sum(answer.out_of_distribution))
    children.scores.observe(answer.volatility_score)
    _of_route[route].observe(answer.latency_ms / 1e3)


def reject(reason: str) -> None:
    """Count one refused request; ``reason`` takes only a few values."""
    _rejected.labels(reason).inc()
