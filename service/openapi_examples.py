"""Give examples of what the routes take and answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

ROWS = {
    "rows": [
        {"midprice": 68000.5, "spread": 1.2, "trade_intensity": 14, "volatility_30s": 0.02},
    ]
}
TICKS = {
    "ticks": [
        {
            "symbol": "BTC-USD",
            "time": 1775337223291000000,
            "price": 67223.5,
            "bid": 67223.49,
            "ask": 67223.5,
        },
        {"symbol": "BTC-USD", "time": 1775337224000000000},
    ]
}
ANSWER: dict[str, Any] = {
    "volatility_score": 0.93,
    "scores": [0.93],
    "spike": [True],
    "threshold": 0.41,
    "out_of_distribution": [False],
    "model_name": "crypto-vol-ml",
    "model_version": "7",
    "model_variant": "ml",
    "version": "7",
    "ts": "2026-04-04T21:13:43.291Z",
    "latency_ms": 0.2,
}
EXPLAINED = {
    **ANSWER,
    "reasons": [
        [
            {"feature": "volatility_ratio_60s", "value": 2.7, "contribution": 1.31},
            {"feature": "spread_bps", "value": 0.18, "contribution": -0.42},
            {"feature": "quote_imbalance", "value": None, "contribution": 0.07},
        ]
    ],
}
HEALTH = {
    "status": "ok",
    "model_name": "crypto-vol-ml",
    "model_version": "7",
    "model_variant": "ml",
    "model_age_hours": 31.25,
    "warnings": {},
}
DEGRADED = {
    **HEALTH,
    "status": "degraded",
    "model_age_hours": 180.5,
    "warnings": {"stale": "trained 180 h ago; the limit is 168 h"},
}
UNAVAILABLE = {
    "status": "unavailable",
    "error": "no model is loaded: there is no version; run `volatility train`",
}
VERSION = {
    "name": "crypto-vol-ml",
    "version": "7",
    "alias": "champion",
    "variant": "ml",
    "baseline": None,
    "reason": None,
    "threshold": 0.41,
    "label": {"kind": "relative", "tau": 1.62, "horizon_seconds": 60},
    "training": {
        "start": "2026-03-01T00:15:00.000Z",
        "stop": "2026-04-03T23:59:00.000Z",
        "rows": 2934000,
        "symbols": ["BTC-USD", "ETH-USD"],
        "base_rate": 0.1,
        "data_digest": "4f" * 32,
        "created": "2026-04-04T02:11:09Z",
    },
    "metrics": {"pr_auc": 0.31},
    "features": [
        {
            "name": "spread_bps",
            "unit": "basis points",
            "window_seconds": 0,
            "model_input": True,
            "meaning": "Spread over midprice.",
        }
    ],
    "digest": "a1" * 32,
    "run_id": "0f8fad5bd9cb469fa165",
    "git_commit": "9c" * 20,
    "package_versions": {
        "trained_with": {"numpy": "2.4.6"},
        "serving_with": {"numpy": "2.4.6"},
    },
}
METRICS = (
    "# HELP volatility_predictions_total Rows scored.\n"
    "# TYPE volatility_predictions_total counter\n"
    'volatility_predictions_total{model_variant="ml",model_version="7"} 1024.0\n'
)
NO_MODEL = {"error": UNAVAILABLE["error"], "row": None, "field": None}
TIMEOUT = {"error": "Not able to process the request in 30 seconds"}


def error(text: str, row: int | None = None, field: str | None = None) -> dict[str, Any]:
    """Give the body of a refusal."""
    return {"error": text, "row": row, "field": field}
