"""Describe the forecast routes in the OpenAPI document, with examples."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from service.forecasts.messages import Event, Newest, Odds, Page, Said, Several, Warming
from service.forecasts.queries import MOST_ROWS, PAGE_ROWS
from service.openapi_objects import (
    Content,
    Header,
    Media,
    Operation,
    Parameter,
    Path,
    Response,
    json_content,
)
from service.openapi_refusals import COMMON, refusal
from service.openapi_schemas import Schema, example, reference
from volatility.records import SYMBOL as SYMBOL_RULE

STRING: Schema = {"type": "string"}
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


def paths() -> dict[str, Path]:
    """Return the forecast routes."""
    return {
        "/forecast": _route(
            "Return the newest forecast of one or several symbols",
            "One symbol: its forecast, or `state: warming` with the seconds to its first. Several, "
            "separated by commas, or all if none is named: `forecasts`, in that order.",
            [_query("symbol", SYMBOLS, "BTC-USD"), _query("horizon", HORIZONS, "60s,300s")],
            {
                "application/json": Media(
                    {"anyOf": [reference(Newest), reference(Warming), reference(Several)]},
                    {
                        "newest": {"value": NEWEST},
                        "warming": {"value": WARMING},
                        "several": {"value": SEVERAL},
                    },
                )
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
                Parameter("Last-Event-ID", "header", False, PLACE, EVENT["id"]),
            ],
            {"text/event-stream": Media(STRING, example=STREAM)},
        ),
        "/forecast/ws": _operation(
            "Stream each new forecast over a WebSocket",
            "The messages are the `data` of `GET /forecast/stream`; resume with `last_event_id`. "
            "Pages of other origins are refused unless `serving.allowed_origins` has theirs.",
            {
                "101": Response("The connection is a WebSocket."),
                "426": refusal(
                    "The request is no WebSocket handshake.",
                    "this route takes WebSocket connections only",
                ),
            },
        ),
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
                **json_content(Page, page=PAGE),
                "text/csv": Media(STRING, example=CSV),
                "application/vnd.apache.arrow.stream": Media({}),
                "application/vnd.apache.parquet": Media({}),
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
            json_content(Odds, odds=ODDS),
            missing="no forecast for 61s; available: 60s, 300s, 900s",
            warming="BTC-USD is warming: at most 212 s to its first forecast",
        ),
    }  # fmt: skip


def _query(name: str, schema: Schema, shown: str | float, *, required: bool = False) -> Parameter:
    return Parameter(name, "query", required, schema, shown)


_REFUSALS = {
    **COMMON,
    "405": msgspec.structs.replace(
        refusal("The method is not supported.", "Method Not Allowed"),
        headers={"Allow": Header({**STRING, "examples": ["GET, HEAD"]}, "Supported methods.")},
    ),
    "422": refusal(
        "A parameter is invalid; the body names it.",
        "horizon: 1m is not a horizon; for example 60s,300s",
    ),
    "503": refusal(
        "There is no stream of predictions, or the lake cannot be read.",
        "there are no predictions yet: start `volatility score --follow`",
    ),
}


def _operation(
    summary: str,
    description: str,
    responses: dict[str, Response],
    parameters: list[Parameter] | UnsetType = UNSET,
) -> Path:
    return Path(
        get=Operation(
            ["Forecasts"],
            summary,
            {**responses, **_REFUSALS},
            description=description,
            security=[{}, {"bearer": []}, {"key": []}],
            parameters=parameters,
        )
    )


def _route(
    summary: str,
    description: str,
    parameters: list[Parameter],
    content: Content,
    missing: str = "",
    warming: str = "",
) -> Path:
    responses = {"200": Response("Forecasts.", content)}
    if missing:
        responses["404"] = refusal("The symbol or the horizon is not known.", missing)
    if warming:
        responses["409"] = refusal("The symbol has no forecast yet.", warming)
    return _operation(summary, description, responses, parameters)
