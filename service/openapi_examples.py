"""Define example requests and responses for the OpenAPI document."""

from __future__ import annotations

from typing import Any

ROWS = {
    "rows": [
        {"midprice": 68000.5, "spread": 1.2, "trade_intensity": 14, "volatility_30s": 0.00006},
    ],
    "symbol": "BTC-USD",
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
STEPS = [1775337223000000000]


def _horizon(bps: float, percent: float, spread: tuple[float, ...], spike: float) -> dict[str, Any]:
    names = ("p05", "p25", "p50", "p75", "p95")
    return {
        "volatility_bps": bps,
        "annualised_percent": percent,
        "quantiles_bps": dict(zip(names, spread, strict=True)),
        "spike_level_bps": spike,
    }


ANSWER: dict[str, Any] = {
    "volatility_score": 0.93,
    "scores": [0.93],
    "spike": [True],
    "threshold": 0.41,
    "out_of_distribution": [False],
    "forecasts": [
        {
            "60s": _horizon(4.1, 29.7, (1.2, 2.4, 3.6, 5.3, 9.2), 7.5),
            "300s": _horizon(8.9, 28.9, (3.6, 6.2, 8.3, 10.9, 17.1), 15.8),
            "900s": _horizon(15.2, 28.5, (7.5, 11.3, 14.4, 18.3, 27.4), 26.1),
        }
    ],
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
            {"feature": "realised_volatility_60s", "value": 0.00012, "contribution": 0.31},
            {"feature": "realised_volatility_900s", "value": 0.00006, "contribution": -0.12},
            {"feature": "quote_imbalance", "value": None, "contribution": 0.03},
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
    "warnings": {"stale": "the newest training row is 180 h old; the limit is 168 h"},
}
UNAVAILABLE = {
    "status": "unavailable",
    "error": "no model is loaded: the model registry has not answered yet; look at the log",
}
VERSION = {
    "name": "crypto-vol-ml",
    "version": "7",
    "alias": "champion",
    "variant": "ml",
    "baseline": None,
    "reason": None,
    "threshold": 0.41,
    "forecast": {
        "horizons_seconds": [60, 300, 900],
        "spike_levels_bps": {
            "BTC-USD": {"60s": 7.5, "300s": 15.8, "900s": 26.1},
            "ETH-USD": {"60s": 9.6, "300s": 20.3, "900s": 33.4},
            "unknown": {"60s": 8.6, "300s": 18.1, "900s": 29.8},
        },
        "best_simple": "har",
        "recipe": "7c" * 32,
    },
    "training": {
        "start": "2026-03-01T00:15:00.000Z",
        "stop": "2026-04-03T23:59:00.000Z",
        "rows": 2934000,
        "symbols": ["BTC-USD", "ETH-USD"],
        "base_rate": 0.1,
        "data_digest": "4f" * 32,
        "created": "2026-04-04T02:11:09Z",
    },
    "metrics": {"ml.qlike": -15.21},
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
    """Return the body of an error response."""
    return {"error": text, "row": row, "field": field}
