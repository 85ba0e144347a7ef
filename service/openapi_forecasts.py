"""Describe the forecast routes in the OpenAPI document, with examples."""

from __future__ import annotations

from typing import Any

import msgspec

from service.forecasts.messages import Event, Newest, Odds, Page, Said, Several, Warming
from service.forecasts.queries import MOST_ROWS, PAGE_ROWS
from service.openapi_schemas import example, reference
from service.wire import Error
from volatility.records import SYMBOL as SYMBOL_RULE

STRING = {"type": "string"}
SYMBOL = {**STRING, "pattern": f"^{SYMBOL_RULE.pattern}$"}
SYMBOLS = {**STRING, "pattern": f"^{SYMBOL_RULE.pattern}(,{SYMBOL_RULE.pattern}){{0,99}}$"}
HORIZON = {**STRING, "pattern": "^[1-9][0-9]{0,6}s$"}
HORIZONS = {**STRING, "pattern": "^[1-9][0-9]{0,6}s(,[1-9][0-9]{0,6}s){0,99}$"}
PLACE = {**STRING, "maxLength": 256}
TIME = {
    "anyOf": [
        {**STRING, "format": "date-time"},
        {"type": "integer", "format": "int64", "minimum": 1230940800000000000,
         "maximum": 4102444800000000000},
    ]
}  # fmt: skip
LEVEL = {"type": "number", "format": "double", "minimum": 0, "exclusiveMaximum": 1e9}

NEWEST, WARMING, EVENT, ODDS, SAID = (
    msgspec.to_builtins(example(kind)) for kind in (Newest, Warming, Event, Odds, Said)
)
SEVERAL = {"forecasts": [NEWEST, {**WARMING, "symbol": "ETH-USD"}]}
PAGE = {
    "rows": [SAID],
    "next": "symbol=BTC-USD&from=1775337224000000000&to=2026-04-04T22%3A00%3A00Z",
}
STREAM = f"id: {EVENT['id']}\ndata: {msgspec.json.encode(EVENT).decode()}\n\n"
CSV = (
    '"symbol","as_of","horizon_seconds","volatility_bps"\n'
    '"BTC-USD",2026-04-04 21:13:43.000000000Z,60,4.1\n'
)


def paths() -> dict[str, Any]:
    """Return the forecast routes."""
    return {
        "/forecast": _route(
            "Return the newest forecast of one or several symbols",
            "One symbol: its forecast, or `state: warming` with the seconds to its first. Several, "
            "separated by commas, or all if none is named: `forecasts`, in that order.",
            [_query("symbol", SYMBOLS, "BTC-USD"), _query("horizon", HORIZONS, "60s,300s")],
            {
                "application/json": {
                    "schema": {
                        "anyOf": [reference(Newest), reference(Warming), reference(Several)]
                    },
                    "examples": {
                        "newest": {"value": NEWEST},
                        "warming": {"value": WARMING},
                        "several": {"value": SEVERAL},
                    },
                }
            },
            missing="no ticks of NO-USD arrive; there are forecasts of: BTC-USD, ETH-USD",
        ),
        "/forecast/stream": _route(
            "Stream each new forecast as a server-sent event",
            "First the newest of each symbol, then one event a second and symbol. Each has an id, "
            "and `Last-Event-ID` continues after it, without a hole. Where not everything since is "
            "kept, an event `reset` comes first: `GET /forecast/history` has the rest. A reader "
            "that is too slow is dropped, after an event `dropped` that says so.",
            [
                _query("symbol", SYMBOLS, "BTC-USD"),
                _query("last_event_id", PLACE, EVENT["id"]),
                {**_query("Last-Event-ID", PLACE, EVENT["id"]), "in": "header"},
            ],
            {"text/event-stream": {"schema": STRING, "example": STREAM}},
        ),
        "/forecast/ws": {
            "get": {
                "tags": ["Forecasts"],
                "summary": "Stream each new forecast over a WebSocket",
                "description": "The messages are the `data` of `GET /forecast/stream`; resume with "
                "`last_event_id`. Pages of other origins are refused unless "
                "`serving.allowed_origins` has theirs.",
                "security": [{}, {"bearer": []}, {"key": []}],
                "responses": {
                    "101": {"description": "The connection is a WebSocket."},
                    **_refusals("426", "this route takes WebSocket connections only"),
                },
            }
        },
        "/forecast/history": _route(
            "Return forecasts of the past as they were said",
            "In the order of their steps, by default those of the last hour. `as_of` leaves out "
            "what was said later. JSON comes in pages: append `next` for the following one. The "
            "other formats are streamed whole, with a row for each step and horizon.",
            [
                _query("symbol", SYMBOL, "BTC-USD", required=True),
                _query("from", TIME, "2026-04-04T21:00:00Z"),
                _query("to", TIME, "2026-04-04T22:00:00Z"),
                _query("as_of", TIME, "2026-04-04T21:30:00Z"),
                _query("horizon", HORIZONS, "60s"),
                _query("format", {**STRING, "enum": ["json", "csv", "arrow", "parquet"]}, "json"),
                _query(
                    "limit",
                    {"type": "integer", "format": "int64", "minimum": 1, "maximum": MOST_ROWS,
                     "default": PAGE_ROWS},
                    PAGE_ROWS,
                ),
            ],
            {
                "application/json": {
                    "schema": reference(Page), "examples": {"page": {"value": PAGE}},
                },
                "text/csv": {"schema": STRING, "example": CSV},
                "application/vnd.apache.arrow.stream": {"schema": {}},
                "application/vnd.apache.parquet": {"schema": {}},
            },
        ),
        "/probability": _route(
            "Return the probability that volatility lies above or below a level",
            "By the newest forecast, of its first horizon unless another is named. With both "
            "levels: the probability of a volatility between them.",
            [
                _query("symbol", SYMBOL, "BTC-USD", required=True),
                _query("horizon", HORIZON, "60s"),
                _query("above_bps", LEVEL, 12.0),
                _query("below_bps", LEVEL, 20.0),
            ],
            {
                "application/json": {
                    "schema": reference(Odds),
                    "examples": {"odds": {"value": ODDS}},
                }
            },
            missing="no forecast for 61s; available: 60s, 300s, 900s",
            warming="BTC-USD is warming: at most 212 s to its first forecast",
        ),
    }  # fmt: skip


def _query(name: str, schema: Any, shown: Any, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema, "example": shown}


def _error(description: str, text: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {
            "application/json": {
                "schema": reference(Error),
                "examples": {"refused": {"value": Error(text)}},
            }
        },
    }


def _refusals(*more: str) -> dict[str, Any]:
    found = {
        "401": _error(
            "The API key is missing or wrong (only if VOLATILITY_API_KEY is set).",
            "the API key is missing or wrong: send `Authorization: Bearer KEY`",
        ),
        "405": {
            **_error("The method is not supported.", "Method Not Allowed"),
            "headers": {
                "Allow": {
                    "schema": {**STRING, "examples": ["GET, HEAD"]},
                    "description": "Supported methods.",
                }
            },
        },
        "422": _error(
            "A parameter is invalid; the body names it.",
            "horizon: 1m is not a horizon; for example 60s,300s",
        ),
        "429": _error(
            "Too many requests from this client (only if serving.rate_limit is set).",
            "too many requests: at most 100 per 1 second",
        ),
        "431": _error(
            "The headers are too large.",
            "the head of the request is too large: at most 65536 bytes",
        ),
        "503": _error(
            "There is no stream of predictions, or the lake cannot be read.",
            "there are no predictions yet: start `volatility score --follow`",
        ),
    }
    if more:
        status, text = more
        found[status] = _error("The request is no WebSocket handshake.", text)
    return found


def _route(
    summary: str,
    description: str,
    parameters: list[dict[str, Any]],
    content: dict[str, Any],
    missing: str = "",
    warming: str = "",
) -> dict[str, Any]:
    responses = {"200": {"description": "Forecasts.", "content": content}, **_refusals()}
    if missing:
        responses["404"] = _error("The symbol or the horizon is not known.", missing)
    if warming:
        responses["409"] = _error("The symbol has no forecast yet.", warming)
    return {
        "get": {
            "tags": ["Forecasts"],
            "summary": summary,
            "description": description,
            "security": [{}, {"bearer": []}, {"key": []}],
            "parameters": parameters,
            "responses": responses,
        }
    }
