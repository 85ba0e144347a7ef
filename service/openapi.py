"""Describe the routes as an OpenAPI document, with features, units, examples and errors."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from service.ticks import MAX_TICKS
from volatility.feature_table import FEATURES

TITLE = "Crypto volatility service"
DESCRIPTION = (
    "How likely is it that the volatility of a symbol spikes within the next minute? "
    "A feature that is left out is missing to the model, never zero. "
    "`GET /version` says which model answers."
)
EXAMPLE_ROWS = {
    "rows": [
        {"midprice": 68000.5, "spread": 1.2, "trade_intensity": 14, "volatility_30s": 0.02},
    ]
}
EXAMPLE_TICKS = {
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
EXAMPLE_ANSWER = {
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
NUMBER, INTEGER, STRING = {"type": "number"}, {"type": "integer"}, {"type": "string"}
TICK_FIELDS = {
    "symbol": {**STRING, "description": "Such as BTC-USD; the same in all ticks."},
    "time": {**INTEGER, "description": "Exchange time [ns since the epoch, UTC]."},
    "price": {**NUMBER, "description": "Last trade [quote currency]; absent in a heartbeat."},
    "bid": {**NUMBER, "description": "Best bid [quote currency]; absent in a heartbeat."},
    "ask": {**NUMBER, "description": "Best ask [quote currency]; absent in a heartbeat."},
    "received": {**INTEGER, "description": "Arrival time [ns since the epoch, UTC]."},
    "bid_size": {**NUMBER, "description": "[base currency]"},
    "ask_size": {**NUMBER, "description": "[base currency]"},
    "size": {**NUMBER, "description": "Size of the last trade [base currency]."},
    "side": {**STRING, "enum": ["buy", "sell"]},
    "sequence": {**INTEGER, "description": "The venue's counter of messages."},
    "trade_id": {**INTEGER, "description": "The venue's counter of trades."},
}
ANSWER_FIELDS = {
    "volatility_score": {**NUMBER, "description": "Score of the last row, the newest."},
    "scores": {
        "type": "array",
        "items": NUMBER,
        "description": "Calibrated probability of a spike for each row, in order.",
    },
    "spike": {
        "type": "array",
        "items": {"type": "boolean"},
        "description": "Whether each score reaches the threshold.",
    },
    "threshold": {**NUMBER, "description": "Score at which the alert budget is met."},
    "out_of_distribution": {
        "type": "array",
        "items": {"type": "boolean"},
        "description": "Whether each row lies outside what the model was trained on.",
    },
    "model_name": STRING,
    "model_version": STRING,
    "model_variant": {**STRING, "enum": ["ml", "baseline"]},
    "version": {**STRING, "description": "The same as model_version."},
    "ts": {**STRING, "format": "date-time", "description": "Time of the answer, UTC."},
    "latency_ms": {**NUMBER, "description": "From the body to the scores [ms], measured."},
}
SCORING_ERRORS = {
    "400": "The body is not JSON.",
    "401": "The API key is missing or wrong (where VOLATILITY_API_KEY is set).",
    "413": "Too many rows or ticks, or too many bytes.",
    "422": "A row or field is at fault; the body names it.",
    "503": "No model is loaded.",
}


def document(max_rows: int) -> dict[str, Any]:
    """Give the OpenAPI 3.0 document of the service."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": TITLE,
            "description": DESCRIPTION,
            "version": _installed(),
        },
        "servers": [{"url": "."}],
        "paths": {
            "/predict": _scoring(
                "Score feature rows", f"At most {max_rows} rows a request.", "Rows", EXAMPLE_ROWS
            ),
            "/predict/ticks": _scoring(
                "Score raw ticks",
                f"Ticks and heartbeats of one symbol, in order of arrival, at most {MAX_TICKS}; "
                f"the answer covers the last {max_rows} steps of one second that they close. "
                "Features need up to 1,800 s of ticks, and at least 300 s.",
                "Ticks",
                EXAMPLE_TICKS,
            ),
            "/health": _reading("Answer 200 only if a model is loaded and answers", "Service"),
            "/version": _reading("Describe the model that serves", "Service"),
            "/metrics": _reading("Metrics for Prometheus", "Infrastructure", "text/plain"),
            "/livez": _reading("Whether the process lives", "Infrastructure", "text/plain"),
            "/readyz": _reading("Whether requests can be sent", "Infrastructure", "text/plain"),
        },
        "components": {
            "schemas": {
                "Row": _object({f.name: _feature(f) for f in FEATURES}, closed=True),
                "Rows": _list("rows", "Row", max_rows),
                "Tick": _object(TICK_FIELDS, ["symbol", "time"], closed=True),
                "Ticks": _list("ticks", "Tick", MAX_TICKS),
                "Answer": _object(ANSWER_FIELDS, list(ANSWER_FIELDS)),
                "Error": _object(
                    {
                        "error": {**STRING, "description": "What is wrong, in one line."},
                        "row": {**INTEGER, "nullable": True, "description": "Counted from 0."},
                        "field": {**STRING, "nullable": True},
                    },
                    ["error", "row", "field"],
                ),
            },
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _feature(feature: Any) -> dict[str, Any]:
    return {**NUMBER, "description": f"{feature.meaning} [{feature.unit}]"}


def _object(
    fields: dict[str, Any], required: list[str] | None = None, *, closed: bool = False
) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": fields}
    if required:
        schema["required"] = required
    if closed:
        schema["additionalProperties"] = False
    return schema


def _list(name: str, item: str, most: int) -> dict[str, Any]:
    items = {"type": "array", "minItems": 1, "maxItems": most, "items": _schema(item)}
    return _object({name: items}, [name], closed=True)


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(name: str, example: Any = None) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": _schema(name)}
    if example is not None:
        media["example"] = example
    return {"application/json": media}


def _scoring(summary: str, description: str, body: str, example: dict[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "tags": ["Scores"],
            "summary": summary,
            "description": description,
            "security": [{}, {"key": []}],
            "requestBody": {"required": True, "content": _content(body, example)},
            "responses": {
                "200": {"description": "Scores.", "content": _content("Answer", EXAMPLE_ANSWER)},
                **{
                    status: {"description": text, "content": _content("Error")}
                    for status, text in SCORING_ERRORS.items()
                },
            },
        }
    }


def _reading(summary: str, tag: str, kind: str = "application/json") -> dict[str, Any]:
    return {
        "get": {
            "tags": [tag],
            "summary": summary,
            "responses": {
                "200": {"description": "Good.", "content": {kind: {}}},
                "503": {"description": "No model is loaded."},
            },
        }
    }


def _installed() -> str:
    try:
        return importlib.metadata.version("volatility-service")
    except importlib.metadata.PackageNotFoundError:  # in a Bento the sources are not installed
        return "unknown"
