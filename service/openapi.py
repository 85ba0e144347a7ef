"""Describe the routes as an OpenAPI document, with features, units, examples and errors."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import msgspec

from service import openapi_examples as examples
from service import openapi_forecasts as forecasts
from service.bodies import Health, Timeout, Unavailable, Version
from service.openapi_objects import (
    Content,
    Header,
    Media,
    Operation,
    Parameter,
    Path,
    RequestBody,
    Response,
    json_content,
)
from service.openapi_refusals import COMMON, refusal
from service.openapi_schemas import Schema, schemas
from service.ticks import MAX_TICKS, Ticks
from service.wire import Answer, Error, Rows

TITLE = "Crypto volatility service"
DESCRIPTION = """\
How volatile will a symbol be over the next minutes, and how likely is a spike?

- A feature that is left out is *missing* to the model, never zero.
- `GET /version` describes the serving model and lists the features with their units.
- If the service runs with `VOLATILITY_API_KEY` set, all routes that return forecasts require the
  key: send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`. All other routes stay open.
- Every error is JSON and names the invalid row and field where applicable.
"""
OPENAPI = "3.1.0"
STRING: Schema = {"type": "string"}


def _text(example: str) -> Content:
    return {"text/plain": Media(STRING, example=example)}


_REFUSALS = {
    **COMMON,
    "400": refusal(
        "The body is not JSON, or the request is malformed.",
        "the body is not JSON: Input data was truncated",
    ),
    "413": refusal(
        "The request has too many rows, ticks or bytes.",
        "1001 rows are too many: at most 1000 a request",
    ),
    "415": refusal(
        "The body is compressed.",
        "content-encoding gzip is not supported: send the body as it is",
    ),
    "422": refusal(
        "A row, a field or the query string is invalid; the body names it.",
        "spread is not a finite number: leave out what is missing",
        row=1,
        field="spread",
    ),
    "503": refusal(
        "No model is loaded, or there are too many connections or large bodies.",
        examples.UNAVAILABLE["error"],
    ),
    "504": Response(
        "The request took longer than serving.timeout_seconds.",
        json_content(Timeout, late=examples.TIMEOUT),
    ),
}
_EXPLAIN = Parameter(
    "explain",
    "query",
    required=False,
    schema={"type": "boolean", "default": False},
    description="Add reasons for each row, which takes at most 1 ms per row.",
)


def document(max_rows: int) -> dict[str, Any]:
    """Return the OpenAPI document for requests of at most ``max_rows`` rows."""
    described = {
        "openapi": OPENAPI,
        "info": {"title": TITLE, "description": DESCRIPTION, "version": _installed()},
        "servers": [{"url": "."}],
        "tags": [
            {"name": "Scores", "description": "Request forecasts."},
            {"name": "Forecasts", "description": "Read the forecasts of the live stream."},
            {"name": "Service", "description": "Serving model, health and documentation."},
            {"name": "Infrastructure", "description": "Endpoints for probes and scrapers."},
        ],
        "paths": {
            **_scores(max_rows),
            **forecasts.paths(),
            **_service(),
            **_infrastructure(),
        },
        "components": {
            "schemas": schemas(max_rows),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }
    return msgspec.to_builtins(described)


def _scores(max_rows: int) -> dict[str, Path]:
    return {
        "/predict": _scoring(
            "Forecast from feature rows",
            f"Send up to {max_rows} rows of one symbol; a row may contain any subset of features.",
            json_content(Rows, rows=examples.ROWS),
            json_content(Answer, scores=examples.ANSWER, explained=examples.EXPLAINED),
        ),
        "/predict/ticks": _scoring(
            "Forecast from raw ticks",
            f"Send up to {MAX_TICKS} ticks and heartbeats of one symbol in order of arrival; a "
            "heartbeat has no price, bid or ask. The response has one row, with its time, for each "
            f"warm step among the newest {max_rows} one-second steps that the ticks close. A step "
            "is warm after 300 s of ticks; features look back up to 1,800 s. With a shorter "
            "history, as in the example, the response is 422.",
            json_content(Ticks, ticks=examples.TICKS),
            json_content(Answer, scores=examples.ANSWER_TICKS, explained=examples.EXPLAINED_TICKS),
        ),
    }


def _service() -> dict[str, Path]:
    whole = Media({"type": "object"}, {"head": {"value": {"openapi": OPENAPI}}})
    return {
        "/health": _reading(
            "Return 200 only if a model is loaded and works",
            "A model is loaded and works.",
            json_content(Health, ok=examples.HEALTH, degraded=examples.DEGRADED),
            Response(
                "No working model is loaded.", json_content(Unavailable, none=examples.UNAVAILABLE)
            ),
        ),
        "/version": _reading(
            "Describe the serving model: forecast, training, threshold, features, packages",
            "The serving model.",
            json_content(Version, champion=examples.VERSION),
            refusal("No model is loaded.", examples.UNAVAILABLE["error"]),
        ),
        "/docs": _reading(
            "Show the interactive documentation",
            "The documentation page.",
            {"text/html": Media(STRING)},
        ),
        "/docs.json": _reading(
            "Return this document", "The OpenAPI 3.1 document.", {"application/json": whole}
        ),
    }


def _infrastructure() -> dict[str, Path]:
    """Describe BentoML's own routes, whose errors are plain text."""
    down = _text("Service is not ready because .__is_ready__() returns False.")
    empty = "Yes; the body is empty."
    return {
        "/metrics": _reading(
            "Return metrics for Prometheus",
            "Metrics in the Prometheus text format.",
            _text(examples.METRICS),
            ours=False,
        ),
        "/livez": _reading("Check whether the process is alive", empty, _text("\n"), ours=False),
        "/readyz": _reading(
            "Check that the service is ready for requests",
            empty,
            _text("\n"),
            Response("No working model is loaded.", down),
            ours=False,
        ),
    }


def _method_refused(allowed: str, *, ours: bool = True) -> Response:
    text = "Method Not Allowed"
    content = json_content(Error, refused=Error(text)) if ours else _text(text)
    allow = Header({**STRING, "examples": [allowed]}, "Supported methods.")
    return Response("The method is not supported.", content, {"Allow": allow})


def _scoring(summary: str, description: str, body: Content, answers: Content) -> Path:
    responses = {"200": Response("Scores.", answers), **_REFUSALS, "405": _method_refused("POST")}
    return Path(
        post=Operation(
            ["Scores"],
            summary,
            responses,
            description=description,
            security=[{}, {"bearer": []}, {"key": []}],
            parameters=[_EXPLAIN],
            request_body=RequestBody(body),
        )
    )


def _reading(
    summary: str,
    description: str,
    content: Content,
    unavailable: Response | None = None,
    *,
    ours: bool = True,
) -> Path:
    responses = {
        "200": Response(description, content),
        "405": _method_refused("GET, HEAD", ours=ours),
    }
    if unavailable is not None:
        responses["503"] = unavailable
    return Path(get=Operation(["Service" if ours else "Infrastructure"], summary, responses))


def _installed() -> str:
    try:
        return importlib.metadata.version("volatility-service")
    except importlib.metadata.PackageNotFoundError:  # a Bento contains the sources, not the package
        return "unknown"
