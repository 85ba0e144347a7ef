"""Market and score: incoming ticks and the forecasts made from them."""

from __future__ import annotations

from monitoring.dashboards.panels import RED, YELLOW, Dashboard, Panel, stat

DASHBOARD = Dashboard(
    uid="volatility-market",
    title="Market and score",
    description="Incoming ticks and the streaming forecasts made from them.",
    symbols=True,
    sections={
        "Now": [
            stat(
                "Ticks",
                "Rate of the selected symbols over the last minute. Zero raises NoTicks.",
                "cps",
                'sum(volatility:ticks:rate1m{symbol=~"$symbol"})',
                steps=[(0.01, "green")],
                base=RED,
            ),
            stat(
                "Predictions",
                "Rate over all models that score the stream: champion and challenger. Each makes "
                "one prediction per symbol and second.",
                "cps",
                "volatility:stream_predictions:rate5m",
                steps=[(0.01, "green")],
                base=RED,
            ),
            stat(
                "Spikes announced",
                "Predictions at or above the threshold in the last ten minutes. A single spike "
                "causes many of them.",
                "short",
                'sum(increase(volatility_spikes_total{job="score"}[10m])) or vector(0)',
            ),
            stat(
                "Age of newest step",
                "Clock time minus the newest scored step: about a second in a live market; in a "
                "replay it is meaningless.",
                "s",
                'max(volatility_feature_age_seconds{job="score", symbol=~"$symbol"})',
                steps=[(5, YELLOW), (30, RED)],
            ),
            stat(
                "Tick to prediction, p99",
                "From the arrival of a tick in Kafka to that of its prediction, over five minutes.",
                "s",
                "volatility:stream_prediction_latency_seconds:p99_5m",
                steps=[(0.1, YELLOW), (1, RED)],
            ),
            stat(
                "Alerts firing",
                "Number of firing alerts. Prometheus lists them under Alerts; docs/runbook.md says "
                "how to respond.",
                "short",
                'count(ALERTS{alertstate="firing"}) or vector(0)',
                steps=[(1, RED)],
            ),
        ],
        "Ticks": [
            Panel(
                "Ticks by symbol",
                "A symbol at zero is silent: trading is halted, or its subscription is lost.",
                "cps",
                {
                    "{{symbol}}": 'sum by (symbol) (rate(volatility_ticks_total{job="ingest", '
                    'symbol=~"$symbol"}[$__rate_interval]))'
                },
                width=12,
            ),
            Panel(
                "Exchange to arrival",
                "Clocks differ by up to a second, and the exchange's may run ahead: watch for a "
                "rise, not the level.",
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
                "Forecast volatility",
                "Newest forecast of the serving model, in basis points over each horizon.",
                "none",
                {
                    "{{symbol}}, {{horizon_seconds}} s": "max by (symbol, horizon_seconds) "
                    '(volatility_forecast_volatility_bps{job="score", symbol=~"$symbol"})'
                },
                width=24,
            ),
            Panel(
                "Distribution of the scores",
                "Number of predictions by score.",
                "short",
                {
                    "{{le}}": "sum by (le) (increase("
                    'volatility_score_bucket{job="score"}[$__rate_interval]))'
                },
                "heatmap",
            ),
            Panel(
                "Mean score",
                "Mean probability of a spike. For a calibrated model it equals the share of spikes "
                "that follow: about the base rate.",
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
                "Share of all predictions, over five minutes.",
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
                "The challenger scores the same rows in the champion's shadow.",
                "cps",
                {
                    "version {{model_version}} as {{model_variant}}": "sum by (model_version, "
                    'model_variant) (rate(volatility_predictions_total{job="score"}'
                    "[$__rate_interval]))"
                },
            ),
            Panel(
                "Tick to prediction",
                "From the arrival of a tick in Kafka to that of its prediction.",
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
                "Rises while nothing is scored.",
                "s",
                {
                    "{{symbol}}": "max by (symbol) "
                    '(volatility_feature_age_seconds{job="score", symbol=~"$symbol"})'
                },
            ),
        ],
    },
)
