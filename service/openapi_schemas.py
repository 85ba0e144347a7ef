"""Describe what the routes take and give: the schemas of the OpenAPI document."""

from __future__ import annotations

from typing import Any

from service.ticks import MAX_TICKS
from volatility.feature_table import FEATURES
from volatility.tick import EARLIEST_NS, HIGHEST_PRICE, LATEST_NS, LOWEST_PRICE, SYMBOL

Schema = dict[str, Any]

NUMBER: Schema = {"type": "number", "format": "double"}
INTEGER: Schema = {"type": "integer", "format": "int64"}
STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {**STRING, "format": "date-time"}
PROBABILITY: Schema = {**NUMBER, "minimum": 0, "maximum": 1}
PRICE: Schema = {**NUMBER, "minimum": LOWEST_PRICE, "maximum": HIGHEST_PRICE}
SIZE: Schema = {**NUMBER, "minimum": 0}
VARIANT: Schema = {**STRING, "enum": ["ml", "baseline"]}


def reference(name: str) -> Schema:
    """Point to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas(max_rows: int) -> dict[str, Schema]:
    """Give every schema by name; a request has at most ``max_rows`` rows."""
    return {
        "Row": _object({f.name: _told(NUMBER, f"{f.meaning} [{f.unit}]") for f in FEATURES}),
        "Rows": _request("rows", "Row", max_rows),
        "Tick": _object(_TICK, ["symbol", "time"]),
        "Ticks": _request("ticks", "Tick", MAX_TICKS),
        "Answer": _object(_ANSWER, [name for name in _ANSWER if name != "reasons"]),
        "Reason": _whole(_REASON),
        "Error": _whole(_ERROR),
        "Timeout": _whole({"error": _told(STRING, "How many seconds were not enough.")}),
        "Health": _whole(_HEALTH),
        "Unavailable": _whole(
            {
                "status": {**STRING, "enum": ["unavailable"]},
                "error": _told(STRING, "Why no model answers, and what to do."),
            }
        ),
        "Version": _whole(_VERSION),
    }


def _told(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def _nullable(schema: Schema, description: str) -> Schema:
    return {**schema, "nullable": True, "description": description}


def _object(fields: dict[str, Schema], required: list[str] | None = None) -> Schema:
    schema: Schema = {"type": "object", "properties": fields, "additionalProperties": False}
    if required:
        schema["required"] = required
    return schema


def _whole(fields: dict[str, Schema]) -> Schema:
    """Describe an object that has all of its fields, always."""
    return _object(fields, list(fields))


def _array(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


def _map(values: Schema, description: str) -> Schema:
    return {"type": "object", "additionalProperties": values, "description": description}


def _request(name: str, item: str, most: int) -> Schema:
    items = {"type": "array", "minItems": 1, "maxItems": most, "items": reference(item)}
    return _object({name: items}, [name])


_TICK = {
    "symbol": {
        **STRING,
        "pattern": f"^{SYMBOL.pattern}$",
        "description": "Such as BTC-USD; the same in all ticks of a request.",
    },
    "time": {
        **INTEGER,
        "minimum": EARLIEST_NS,
        "maximum": LATEST_NS,
        "description": "Exchange time [ns since the epoch, UTC].",
    },
    "price": _nullable(PRICE, "Last trade [quote currency]; absent in a heartbeat."),
    "bid": _nullable(PRICE, "Best bid [quote currency]; absent in a heartbeat."),
    "ask": _nullable(PRICE, "Best ask [quote currency], not below the bid; absent in a heartbeat."),
    "received": _nullable(
        INTEGER, "Arrival [ns since the epoch, UTC], at most 60 s before the exchange time."
    ),
    "bid_size": _nullable(SIZE, "Size at the best bid [base currency]."),
    "ask_size": _nullable(SIZE, "Size at the best ask [base currency]."),
    "size": _nullable(SIZE, "Size of the last trade [base currency]."),
    "side": {
        **STRING,
        "enum": ["buy", "sell", None],
        "nullable": True,
        "description": "Side of the taker of the last trade.",
    },
    "sequence": _nullable(INTEGER, "The venue's counter of messages."),
    "trade_id": _nullable(INTEGER, "The venue's counter of trades."),
}
_ANSWER = {
    "volatility_score": _told(PROBABILITY, "Score of the last row, the newest."),
    "scores": _array(PROBABILITY, "Calibrated probability of a spike for each row, in order."),
    "spike": _array(BOOLEAN, "Whether each score reaches the threshold."),
    "threshold": _told(PROBABILITY, "Score at which the alert budget is met."),
    "out_of_distribution": _array(
        BOOLEAN, "Whether each row lies outside what the model was trained on."
    ),
    "model_name": STRING,
    "model_version": STRING,
    "model_variant": VARIANT,
    "version": _told(STRING, "The same as model_version."),
    "ts": _told(TIME, "Time of the answer, UTC."),
    "latency_ms": {
        **NUMBER,
        "minimum": 0,
        "description": "From the body to the scores [ms], measured.",
    },
    "reasons": _array(
        {"type": "array", "items": reference("Reason"), "maxItems": 3},
        "With explain=true alone: for each row the weightiest inputs, at most three, the "
        "weightiest first. An input that adds nothing is none of them.",
    ),
}
_REASON = {
    "feature": _told({**STRING, "enum": [f.name for f in FEATURES]}, "Name of the input."),
    "value": _nullable(NUMBER, "Its value [unit of the feature]; null where it is missing."),
    "contribution": _told(
        NUMBER,
        "What it adds to the score's log odds [1], exact: with those of all other inputs and the "
        "model's own log odds it adds up to the score's.",
    ),
}
_ERROR = {
    "error": _told(STRING, "What is wrong, in one line."),
    "row": {
        **INTEGER,
        "minimum": 0,
        "nullable": True,
        "description": "Row or tick at fault, counted from 0; null where it is none of them.",
    },
    "field": _nullable(STRING, "Field at fault; null where it is none of them."),
}
_HEALTH = {
    "status": _told(
        {**STRING, "enum": ["ok", "degraded"]},
        "degraded: a model answers, and the warnings say what is wrong all the same.",
    ),
    "model_name": STRING,
    "model_version": STRING,
    "model_variant": VARIANT,
    "model_age_hours": _told(NUMBER, "Time since the model was trained [h]."),
    "warnings": {
        **_object(
            {
                "registry": _told(STRING, "The registry is away; the model serves on."),
                "refused": _told(STRING, "A version was refused; the one before serves on."),
                "stale": _told(STRING, "The model is older than serving.max_age_hours."),
            }
        ),
        "description": "What is wrong, by cause; empty while nothing is.",
    },
}
_FEATURE = {
    "name": STRING,
    "unit": STRING,
    "window_seconds": _told(INTEGER, "How far it looks back [s]."),
    "model_input": _told(BOOLEAN, "Whether the model reads it; the others are for people."),
    "meaning": STRING,
}
_VERSION = {
    "name": STRING,
    "version": STRING,
    "alias": _nullable(STRING, "Alias in the registry."),
    "variant": VARIANT,
    "baseline": _nullable(STRING, "Which baseline answers, where one does."),
    "reason": _nullable(STRING, "Why the baseline answers, where it does."),
    "threshold": _told(PROBABILITY, "Score at and above which a row is a spike."),
    "label": _whole(
        {
            "kind": {**STRING, "enum": ["relative", "absolute"]},
            "tau": _told(NUMBER, "Threshold of the label [1]."),
            "horizon_seconds": _told(INTEGER, "Forward window [s]."),
        }
    ),
    "training": _whole(
        {
            "start": _told(TIME, "First training row, UTC."),
            "stop": _told(TIME, "Last training row, UTC."),
            "rows": INTEGER,
            "symbols": {"type": "array", "items": STRING},
            "base_rate": _told(PROBABILITY, "Share of spikes in the training rows."),
            "data_digest": _told(STRING, "SHA-256 of the training data."),
            "created": _told(TIME, "When the model was trained, UTC."),
        }
    ),
    "metrics": _map(NUMBER, "Of the registry's evaluation, by name."),
    "features": _array(_whole(_FEATURE), "What a row may carry."),
    "digest": _told(STRING, "SHA-256 of all that scores depend on."),
    "run_id": _nullable(STRING, "Run in the registry."),
    "git_commit": _told(STRING, "Of the code that trained the model."),
    "package_versions": _whole(
        {
            "trained_with": _map(STRING, "Package to version."),
            "serving_with": _map({**STRING, "nullable": True}, "Package to version."),
        }
    ),
}
