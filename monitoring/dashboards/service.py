"""Service: requests, latency, errors and the serving model."""

from __future__ import annotations

from monitoring.dashboards.panels import BLUE, GREEN, RED, YELLOW, Dashboard, Panel, stat

SLO_SECONDS = 0.015
ERRORS = 'bentoml_service_request_total{job="service", endpoint=~"/predict.*", '


def none(label: str) -> str:
    """Return a query for zero labelled ``none``, for legends when there are no series."""
    return f'label_replace(vector(0), "{label}", "none", "", "")'


DASHBOARD = Dashboard(
    uid="volatility-service",
    title="Service",
    description="Requests, latency compared with the objective, and the serving model.",
    sections={
        "Now": [
            stat(
                "Requests",
                "Requests to /predict and /predict/ticks, over five minutes: answered, refused and "
                "failed.",
                "reqps",
                "volatility:requests:rate5m",
            ),
            stat(
                "/predict, p99",
                "From the request body to the scores. The objective is 15 ms.",
                "s",
                'volatility:prediction_latency_seconds:p99_5m{route="/predict"}',
                steps=[(0.01, YELLOW), (SLO_SECONDS, RED)],
            ),
            stat(
                "Server errors",
                "Share of requests answered with 5xx, over five minutes.",
                "percentunit",
                "volatility:server_errors:rate5m / (volatility:requests:rate5m > 0) or vector(0)",
                steps=[(0.001, YELLOW), (0.01, RED)],
            ),
            stat(
                "Refused",
                "Share of requests answered with 4xx, over five minutes.",
                "percentunit",
                "volatility:refused_requests:rate5m / (volatility:requests:rate5m > 0) "
                "or vector(0)",
                steps=[(0.05, YELLOW), (0.2, RED)],
            ),
            stat(
                "Model",
                "Serving version and variant.",
                "short",
                'volatility_model_info{job="service"} == 1',
                "{{model_version}} as {{model_variant}}",
                names=True,
                base=BLUE,
            ),
            stat(
                "Age of the model",
                "Age of the newest training row. Above serving.max_age_hours the model is reported "
                "as stale.",
                "s",
                'max(volatility_model_age_seconds{job="service"})',
                steps=[(345600, YELLOW), (604800, RED)],
            ),
        ],
        "Requests": [
            Panel(
                "Answered requests by route",
                "/predict/ticks also builds the features.",
                "reqps",
                {
                    "{{route}}": "sum by (route) (rate("
                    'volatility_prediction_latency_seconds_count{job="service"}'
                    "[$__rate_interval]))"
                },
            ),
            Panel(
                "Refused requests by reason",
                "Client errors: see RequestsRefused in docs/runbook.md.",
                "reqps",
                {
                    "{{reason}}": "sum by (reason) (rate(volatility_rejected_requests_total"
                    '{job="service"}[$__rate_interval])) or ' + none("reason")
                },
            ),
            Panel(
                "Server errors by status",
                "503: no model is loaded. 500: a bug in the service, with a traceback in its log.",
                "reqps",
                {
                    "{{http_response_code}}": "sum by (http_response_code) (rate("
                    + ERRORS
                    + 'http_response_code=~"5.."}[$__rate_interval])) or '
                    + none("http_response_code")
                },
            ),
        ],
        "Latency": [
            Panel(
                "/predict: median and p99",
                "From the request body to the scores; the line is the p99 objective, 15 ms.",
                "s",
                {
                    name: f'volatility:prediction_latency_seconds:{name}_5m{{route="/predict"}}'
                    for name in ("p50", "p99")
                },
                steps=[(SLO_SECONDS, RED)],
            ),
            Panel(
                "/predict: distribution",
                "Number of requests by latency.",
                "s",
                {
                    "{{le}}": "sum by (le) (increase(volatility_prediction_latency_seconds_bucket"
                    '{job="service", route="/predict"}[$__rate_interval]))'
                },
                "heatmap",
            ),
            Panel(
                "Requests in progress",
                "Requests in BentoML's layers; plain predictions bypass them.",
                "short",
                {
                    "in progress": 'sum(bentoml_service_request_in_progress{job="service", '
                    'endpoint=~"/predict.*"}) or vector(0)'
                },
            ),
        ],
        "Model": [
            Panel(
                "Rows scored",
                "By model version; when the alias moves, one line follows the other.",
                "cps",
                {
                    "version {{model_version}} as {{model_variant}}": "sum by (model_version, "
                    'model_variant) (rate(volatility_predictions_total{job="service"}'
                    "[$__rate_interval]))"
                },
                width=6,
            ),
            Panel(
                "Rows at or above the threshold",
                "Share of the scored rows, over five minutes.",
                "percentunit",
                {
                    "spikes": 'sum(rate(volatility_spikes_total{job="service"}[5m])) / '
                    '(sum(rate(volatility_predictions_total{job="service"}[5m])) > 0) or '
                    "vector(0)"
                },
                width=6,
            ),
            Panel(
                "Rows unlike the training rows",
                "Share of rows flagged out_of_distribution, over five minutes. Do not rely on "
                "their scores alone.",
                "percentunit",
                {
                    "unlike": "sum(rate("
                    'volatility_out_of_distribution_rows_total{job="service"}[5m])) / '
                    '(sum(rate(volatility_predictions_total{job="service"}[5m])) > 0) or '
                    "vector(0)"
                },
                steps=[(0.2, RED)],
                width=6,
            ),
            Panel(
                "Degraded",
                "The service keeps answering, although the registry is unavailable, a version was "
                "refused, or the model is stale.",
                "short",
                {"{{cause}}": 'max by (cause) (volatility_degraded{job="service"})'},
                "stat",
                words={0: ("no", GREEN), 1: ("yes", RED)},
                width=6,
            ),
        ],
    },
)
