"""Define the request and response schemas of the OpenAPI document."""

from __future__ import annotations

from typing import Any

from service.ticks import MAX_TICKS
from service.wire import Quantiles
from volatility.features import FEATURES
from volatility.records import EARLIEST_NS, HIGHEST_PRICE, LATEST_NS, LOWEST_PRICE, SYMBOL

Schema = dict[str, Any]

NUMBER: Schema = {"type": "number", "format": "double"}
INTEGER: Schema = {"type": "integer", "format": "int64"}
STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {**STRING, "format": "date-time"}
PROBABILITY: Schema = {**NUMBER, "minimum": 0, "maximum": 1}
POSITIVE: Schema = {**NUMBER, "minimum": 0}
PRICE: Schema = {**NUMBER, "minimum": LOWEST_PRICE, "maximum": HIGHEST_PRICE}
VARIANT: Schema = {**STRING, "enum": ["ml", "prior", "baseline"]}


def reference(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas(max_rows: int) -> dict[str, Schema]:
    """Return all schemas by name, for requests of at most ``max_rows`` rows."""
    return {
        "Row": _object({f.name: _described(NUMBER, f"{f.meaning} [{f.unit}]") for f in FEATURES}),
        "Rows": _request("rows", "Row", max_rows, _SYMBOL),
        "Tick": _object(_TICK, ["symbol", "time"]),
        "Ticks": _request("ticks", "Tick", MAX_TICKS),
        "Answer": _object(_ANSWER, [name for name in _ANSWER if name not in _ASKED_FOR]),
        "Forecasts": _map(
            reference("Horizon"), "Forecasts keyed by horizon in seconds, for example 60s."
        ),
        "Horizon": _whole(_HORIZON),
        "Quantiles": _whole(_QUANTILES),
        "Reason": _whole(_REASON),
        "Error": _whole(_ERROR),
        "Timeout": _whole({"error": _described(STRING, "The time limit that was exceeded.")}),
        "Health": _whole(_HEALTH),
        "Unavailable": _whole(
            {
                "status": {**STRING, "enum": ["unavailable"]},
                "error": _described(STRING, "Why no model is available, and how to fix it."),
            }
        ),
        "Version": _whole(_VERSION),
    }


def _described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def _nullable(schema: Schema, description: str) -> Schema:
    return {**schema, "nullable": True, "description": description}


def _object(fields: dict[str, Schema], required: list[str] | None = None) -> Schema:
    schema: Schema = {"type": "object", "properties": fields, "additionalProperties": False}
    if required:
        schema["required"] = required
    return schema


def _whole(fields: dict[str, Schema]) -> Schema:
    """Describe an object whose fields are all required."""
    return _object(fields, list(fields))


def _array(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


def _map(values: Schema, description: str) -> Schema:
    return {"type": "object", "additionalProperties": values, "description": description}


def _request(name: str, item: str, most: int, others: dict[str, Schema] | None = None) -> Schema:
    items = {"type": "array", "minItems": 1, "maxItems": most, "items": reference(item)}
    return _object({name: items, **(others or {})}, [name])


_BPS = "[basis points over the horizon]"
_SYMBOL = {
    "symbol": _nullable(
        STRING,
        "Symbol of the rows, for example BTC-USD; selects the symbol's own fit and spike level. "
        "If omitted, the model's training symbol is used, provided it was trained on only one. "
        "An unknown symbol is forecast with the parameters that all symbols share.",
    )
}
_TICK = {
    "symbol": {
        **STRING,
        "pattern": f"^{SYMBOL.pattern}$",
        "description": "Symbol, for example BTC-USD; the same in all ticks of a request.",
    },
    "time": {
        **INTEGER,
        "minimum": EARLIEST_NS,
        "maximum": LATEST_NS,
        "description": "Exchange time [ns since the epoch, UTC].",
    },
    "price": _nullable(PRICE, "Last trade price [quote currency]; absent in a heartbeat."),
    "bid": _nullable(PRICE, "Best bid [quote currency]; absent in a heartbeat."),
    "ask": _nullable(PRICE, "Best ask [quote currency], at least the bid; absent in a heartbeat."),
    "received": _nullable(
        INTEGER, "Arrival time [ns since the epoch, UTC], at most 60 s before the exchange time."
    ),
    "bid_size": _nullable(POSITIVE, "Size at the best bid [base currency]."),
    "ask_size": _nullable(POSITIVE, "Size at the best ask [base currency]."),
    "size": _nullable(POSITIVE, "Size of the last trade [base currency]."),
    "side": {
        **STRING,
        "enum": ["buy", "sell", None],
        "nullable": True,
        "description": "Taker side of the last trade.",
    },
    "sequence": _nullable(INTEGER, "Message sequence number assigned by the venue."),
    "trade_id": _nullable(INTEGER, "Trade id assigned by the venue."),
}
_ANSWER = {
    "volatility_score": _described(PROBABILITY, "Score of the last (newest) row."),
    "scores": _array(
        PROBABILITY,
        "For each row, in order: probability that volatility over the first horizon reaches the "
        "spike level.",
    ),
    "spike": _array(BOOLEAN, "Whether each score reaches the threshold."),
    "threshold": _described(
        PROBABILITY, "Score from which a row counts as a spike; chosen to meet the alert budget."
    ),
    "out_of_distribution": _array(
        BOOLEAN, "Whether each row lies outside the range of the training data."
    ),
    "forecasts": _array(reference("Forecasts"), "One object per row, in order."),
    "model_name": STRING,
    "model_version": STRING,
    "model_variant": VARIANT,
    "version": _described(STRING, "Same as model_version."),
    "ts": _described(TIME, "Time of the response, UTC."),
    "latency_ms": {
        **NUMBER,
        "minimum": 0,
        "description": "Measured time from the request body to the scores [ms].",
    },
    "steps": _array(
        INTEGER, "Only for ticks: time of each row [ns since the epoch, UTC], ascending."
    ),
    "reasons": _array(
        {"type": "array", "items": reference("Reason"), "maxItems": 3},
        "Only with explain=true: up to three features with the largest contributions to each row, "
        "largest first. Features that contribute nothing are omitted.",
    ),
}
_ASKED_FOR = {"steps", "reasons"}
_QUANTILES = {
    name: _described(POSITIVE, f"Quantile {int(name[1:]) / 100} of forward volatility {_BPS}.")
    for name in Quantiles.__struct_fields__
}
_HORIZON = {
    "volatility_bps": _described(POSITIVE, f"Expected volatility {_BPS}."),
    "annualised_percent": _described(POSITIVE, "Expected volatility, annualised [per cent]."),
    "quantiles_bps": reference("Quantiles"),
    "spike_level_bps": _described(
        POSITIVE, f"Volatility from which a move counts as a spike {_BPS}."
    ),
}
_REASON = {
    "feature": _described({**STRING, "enum": [f.name for f in FEATURES]}, "Name of the feature."),
    "value": _nullable(NUMBER, "Value [unit of the feature]; null if missing."),
    "contribution": _described(
        NUMBER,
        "Contribution to the logarithm of the expected volatility over the first horizon [log of "
        "volatility: 0.1 is about 10 % more].",
    ),
}
_ERROR = {
    "error": _described(STRING, "One-line description of the problem."),
    "row": {
        **INTEGER,
        "minimum": 0,
        "nullable": True,
        "description": "Index of the invalid row or tick, counted from 0; null if not applicable.",
    },
    "field": _nullable(STRING, "Name of the invalid field; null if not applicable."),
}
_HEALTH = {
    "status": _described(
        {**STRING, "enum": ["ok", "degraded"]},
        "degraded: a model is serving, but the warnings list problems.",
    ),
    "model_name": STRING,
    "model_version": STRING,
    "model_variant": VARIANT,
    "model_age_hours": _described(
        NUMBER, "Age of the newest row that the model was trained on [h]."
    ),
    "warnings": {
        **_object(
            {
                "registry": _described(
                    STRING, "The registry is unavailable; the current model keeps serving."
                ),
                "refused": _described(
                    STRING, "A version was refused; the previous version keeps serving."
                ),
                "stale": _described(
                    STRING, "The newest training row is older than serving.max_age_hours."
                ),
            }
        ),
        "description": "Problems by cause; empty if there are none.",
    },
}
_FEATURE = {
    "name": STRING,
    "unit": STRING,
    "window_seconds": _described(INTEGER, "Look-back window [s]."),
    "model_input": _described(
        BOOLEAN, "Whether the model uses it; the others are informative only."
    ),
    "meaning": STRING,
}
_VERSION = {
    "name": STRING,
    "version": STRING,
    "alias": _nullable(STRING, "Alias in the registry."),
    "variant": VARIANT,
    "baseline": _nullable(STRING, "Name of the simple forecast that is serving, if any."),
    "reason": _nullable(STRING, "Why a variant other than ml is serving, if so."),
    "threshold": _described(PROBABILITY, "Score from which a row counts as a spike."),
    "forecast": _whole(
        {
            "horizons_seconds": {"type": "array", "items": INTEGER},
            "spike_levels_bps": _map(
                _map(POSITIVE, f"By horizon {_BPS}."),
                "Spike levels by symbol; `unknown` applies to any other symbol.",
            ),
            "best_simple": _nullable(STRING, "Best simple forecast at training time."),
            "recipe": _nullable(
                STRING, "Digest of how the model is built: code version, features, parameters."
            ),
        }
    ),
    "training": _whole(
        {
            "start": _described(TIME, "First training row, UTC."),
            "stop": _described(TIME, "Last training row, UTC."),
            "rows": INTEGER,
            "symbols": {"type": "array", "items": STRING},
            "base_rate": _described(PROBABILITY, "Share of spikes in the training rows."),
            "data_digest": _described(STRING, "SHA-256 of the training data."),
            "created": _described(TIME, "When the model was trained, UTC."),
        }
    ),
    "metrics": _map(NUMBER, "Evaluation metrics from the registry, by name."),
    "features": _array(_whole(_FEATURE), "Features that a row may contain."),
    "digest": _described(STRING, "SHA-256 of everything that the forecasts depend on."),
    "run_id": _nullable(STRING, "Id of the training run in the registry."),
    "git_commit": _described(STRING, "Git commit of the training code."),
    "package_versions": _whole(
        {
            "trained_with": _map(STRING, "Package to version."),
            "serving_with": _map({**STRING, "nullable": True}, "Package to version."),
        }
    ),
}
