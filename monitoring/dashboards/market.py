"""Market and score: what comes in, and what is said of it."""

from __future__ import annotations

from monitoring.dashboards.panels import RED, YELLOW, Dashboard, Panel, stat

DASHBOARD = Dashboard(
    uid="volatility-market",
    title="Market and score",
    description="Ticks as they come, and the scores that the stream makes of them.",
    symbols=True,
    sections={
        "Now": [
            stat(
                "Ticks",
                "Of the chosen symbols, in the last minute. None is the alert NoTicks.",
                "cps",
                'sum(volatility:ticks:rate1m{symbol=~"$symbol"})',
                steps=[(0.01, "green")],
                base=RED,
            ),
            stat(
                "Predictions",
                "Of all models that score the stream: champion and challenger. Each makes one a "
                "symbol and second.",
                "cps",
                "volatility:stream_predictions:rate5m",
                steps=[(0.01, "green")],
                base=RED,
            ),
            stat(
                "Spikes announced",
                "Predictions at or above the threshold in the last ten minutes. One spike is "
                "announced many times.",
                "short",
                'sum(increase(volatility_spikes_total{job="score"}[10m])) or vector(0)',
            ),
            stat(
                "Newest step is old",
                "Clock time less the newest scored step: about a second where the market is live; "
                "a replay has times of its own.",
                "s",
                'max(volatility_feature_age_seconds{job="score", symbol=~"$symbol"})',
                steps=[(5, YELLOW), (30, RED)],
            ),
            stat(
                "Tick to prediction, p99",
                "From the tick's arrival in Kafka to its prediction's, over five minutes.",
                "s",
                "volatility:stream_prediction_latency_seconds:p99_5m",
                steps=[(0.1, YELLOW), (1, RED)],
            ),
            stat(
                "Alerts firing",
                "Of all rules; Prometheus lists them under Alerts, docs/runbook.md says what to "
                "do.",
                "short",
                'count(ALERTS{alertstate="firing"}) or vector(0)',
                steps=[(1, RED)],
            ),
        ],
        "Ticks": [
            Panel(
                "Ticks by symbol",
                "A line at zero is a symbol that is silent: a halt, or a lost subscription.",
                "cps",
                {
                    "{{symbol}}": 'sum by (symbol) (rate(volatility_ticks_total{job="ingest", '
                    'symbol=~"$symbol"}[$__rate_interval]))'
                },
                width=12,
            ),
            Panel(
                "Exchange to arrival",
                "Clocks differ by up to a second, and the exchange's may run ahead: a rise counts "
                "here, not the level.",
                "s",
                {
                    name: f"histogram_quantile({share}, sum by (le) (rate("
                    'volatility_ingest_latency_seconds_bucket{job="ingest"}[$__rate_interval])))'
                    for name, share in (("median", 0.5), ("p99", 0.99))
                },
                width=12,
            ),
        ],
        "Score": [
            Panel(
                "Distribution of the scores",
                "How many predictions had which score.",
                "short",
                {
                    "{{le}}": "sum by (le) (increase("
                    'volatility_score_bucket{job="score"}[$__rate_interval]))'
                },
                "heatmap",
            ),
            Panel(
                "Mean score",
                "A calibrated model's mean is the share of spikes to come: about the base rate.",
                "percentunit",
                {
                    "version {{model_version}}": "sum by (model_version) "
                    '(rate(volatility_score_sum{job="score"}[$__rate_interval])) / '
                    "sum by (model_version) "
                    '(rate(volatility_score_count{job="score"}[$__rate_interval]))'
                },
            ),
            Panel(
                "Predictions at or above the threshold",
                "As a share of all, over five minutes.",
                "percentunit",
                {
                    "version {{model_version}}": "(sum by (model_version) "
                    '(rate(volatility_spikes_total{job="score"}[5m])) or 0 * sum by '
                    '(model_version) (rate(volatility_predictions_total{job="score"}[5m]))) / '
                    "sum by (model_version) "
                    '(rate(volatility_predictions_total{job="score"}[5m]))'
                },
            ),
            Panel(
                "Predictions by model",
                "The challenger scores in the champion's shadow, on the same rows.",
                "cps",
                {
                    "version {{model_version}} as {{model_variant}}": "sum by (model_version, "
                    'model_variant) (rate(volatility_predictions_total{job="score"}'
                    "[$__rate_interval]))"
                },
            ),
            Panel(
                "Tick to prediction",
                "From the tick's arrival in Kafka to its prediction's.",
                "s",
                {
                    name: f"histogram_quantile({share}, sum by (le) (rate("
                    'volatility_stream_prediction_latency_seconds_bucket{job="score"}'
                    "[$__rate_interval])))"
                    for name, share in (("median", 0.5), ("p99", 0.99))
                },
            ),
            Panel(
                "Age of the newest step",
                "Grows while nothing is scored.",
                "s",
                {
                    "{{symbol}}": "max by (symbol) "
                    '(volatility_feature_age_seconds{job="score", symbol=~"$symbol"})'
                },
            ),
        ],
    },
)
