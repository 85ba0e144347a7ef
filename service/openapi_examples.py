"""Define example requests and responses for the OpenAPI document."""

from __future__ import annotations

import msgspec

from service.bodies import Health, Timeout, Unavailable, Version
from service.openapi_schemas import example
from service.wire import Answer, Error

ROWS = {
    "rows": [
        {"midprice": 68000.5, "spread": 1.2, "trade_intensity": 14, "volatility_30s": 0.00006},
    ],
    "symbol": "BTC-USD",
}
QUOTE = {"price": 67223.5, "bid": 67223.49, "ask": 67223.5}
TICKS = {
    "ticks": [
        {"symbol": "BTC-USD", "time": 1775337223291000000, **QUOTE},
        {"symbol": "BTC-USD", "time": 1775337224000000000},
    ]
}
EXPLAINED_TICKS = example(Answer)
EXPLAINED = {name: value for name, value in EXPLAINED_TICKS.items() if name != "steps"}
ANSWER_TICKS = {name: value for name, value in EXPLAINED_TICKS.items() if name != "reasons"}
ANSWER = {name: value for name, value in EXPLAINED.items() if name != "reasons"}
HEALTH = example(Health)
DEGRADED = {
    **HEALTH,
    "status": "degraded",
    "model_age_hours": 180.5,
    "warnings": {"stale": "the newest training row is 180 h old; the limit is 168 h"},
}
UNAVAILABLE = example(Unavailable)
VERSION = example(Version)
METRICS = (
    "# HELP volatility_predictions_total Rows scored.\n"
    "# TYPE volatility_predictions_total counter\n"
    'volatility_predictions_total{model_variant="ml",model_version="7"} 1024.0\n'
)
NO_MODEL = msgspec.to_builtins(Error(UNAVAILABLE["error"]))
TIMEOUT = example(Timeout)
