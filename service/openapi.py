"""Describe the routes as an OpenAPI document, with features, units, examples and errors."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from service import openapi_examples as examples
from service.openapi_schemas import BOOLEAN, STRING, reference, schemas
from service.ticks import MAX_TICKS

TITLE = "Crypto volatility service"
DESCRIPTION = """\
How volatile will a symbol be over the next minutes, and how likely is a spike?

- A feature that is left out is *missing* to the model, never zero.
- `GET /version` describes the serving model and lists the features with their units.
- If the service runs with `VOLATILITY_API_KEY` set, the two scoring routes require the key: send it
  as `Authorization: Bearer KEY` or as `X-API-Key: KEY`. All other routes stay open.
- Every error is JSON and names the invalid row and field where applicable.
"""
JSON, TEXT, HTML = "application/json", "text/plain", "text/html"

_REFUSALS = {
    "400": (
        "The body is not JSON.",
        examples.error("the body is not JSON: Input data was truncated"),
    ),
    "401": (
        "The API key is missing or wrong (only if VOLATILITY_API_KEY is set).",
        examples.error(
            "the API key is missing or wrong: send `Authorization: Bearer KEY`",
        ),
    ),
    "413": (
        "The request has too many rows, ticks or bytes.",
        examples.error("1001 rows are too many: at most 1000 a request"),
    ),
    "415": (
        "The body is compressed.",
        examples.error("content-encoding gzip is not supported: send the body as it is"),
    ),
    "422": (
        "A row, a field or the query string is invalid; the body names it.",
        examples.error(
            "spread is not a finite number: leave out what is missing", row=1, field="spread"
        ),
    ),
    "429": (
        "Too many requests from this client (only if serving.rate_limit is set).",
        examples.error("too many requests: at most 100 per 1 second"),
    ),
    "431": (
        "The headers are too large.",
        examples.error("the head of the request is too large: at most 65536 bytes"),
    ),
    "503": ("No model is loaded, or too many connections are open.", examples.NO_MODEL),
}


def document(max_rows: int) -> dict[str, Any]:
    """Return the OpenAPI 3.0 document for requests of at most ``max_rows`` rows."""
    return {
        "openapi": "3.0.3",
        "info": {"title": TITLE, "description": DESCRIPTION, "version": _installed()},
        "servers": [{"url": "."}],
        "tags": [
            {"name": "Scores", "description": "Request forecasts."},
            {"name": "Service", "description": "Serving model, health and documentation."},
            {"name": "Infrastructure", "description": "Endpoints for probes and scrapers."},
        ],
        "paths": {**_scores(max_rows), **_service(), **_infrastructure()},
        "components": {
            "schemas": schemas(max_rows),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _scores(max_rows: int) -> dict[str, Any]:
    return {
        "/predict": _scoring(
            "Forecast from feature rows",
            f"Send up to {max_rows} rows of one symbol; a row may contain any subset of features.",
            _content(reference("Rows"), rows=examples.ROWS),
        ),
        "/predict/ticks": _scoring(
            "Forecast from raw ticks",
            f"Send up to {MAX_TICKS} ticks and heartbeats of one symbol in order of arrival; a "
            "heartbeat has no price, bid or ask. The response has one row, with its time, for each "
            f"warm step among the newest {max_rows} one-second steps that the ticks close. A step "
            "is warm after 300 s of ticks; features look back up to 1,800 s. With a shorter "
            "history, as in the example, the response is 422.",
            _content(reference("Ticks"), ticks=examples.TICKS),
        ),
    }


def _service() -> dict[str, Any]:
    return {
        "/health": _reading(
            "Service",
            "Return 200 only if a model is loaded and works",
            _answer(
                "A model is loaded and works.",
                _content(reference("Health"), ok=examples.HEALTH, degraded=examples.DEGRADED),
            ),
            _answer(
                "No working model is loaded.",
                _content(reference("Unavailable"), none=examples.UNAVAILABLE),
            ),
        ),
        "/version": _reading(
            "Service",
            "Describe the serving model: forecast, training, threshold, features, packages",
            _answer(
                "The serving model.", _content(reference("Version"), champion=examples.VERSION)
            ),
            _answer("No model is loaded.", _content(reference("Error"), none=examples.NO_MODEL)),
        ),
        "/docs": _reading(
            "Service",
            "Show the interactive documentation",
            _answer("The documentation page.", {HTML: {"schema": STRING}}),
        ),
        "/docs.json": _reading(
            "Service",
            "Return this document",
            _answer(
                "The OpenAPI 3.0 document.", _content({"type": "object"}, head={"openapi": "3.0.3"})
            ),
        ),
    }


def _infrastructure() -> dict[str, Any]:
    """Describe BentoML's own routes, whose errors are plain text."""
    nothing = _answer("Yes; the body is empty.", _text("\n"))
    return {
        "/metrics": _reading(
            "Infrastructure",
            "Return metrics for Prometheus",
            _answer("Metrics in the Prometheus text format.", _text(examples.METRICS)),
            plain=True,
        ),
        "/livez": _reading(
            "Infrastructure", "Check whether the process is alive", nothing, plain=True
        ),
        "/readyz": _reading(
            "Infrastructure",
            "Check that the service is ready for requests",
            nothing,
            _answer(
                "No working model is loaded.",
                _text("Service is not ready because .__is_ready__() returns False."),
            ),
            plain=True,
        ),
    }


def _content(schema: dict[str, Any], **shown: Any) -> dict[str, Any]:
    """Describe JSON content with named examples."""
    values = {name: {"value": value} for name, value in shown.items()}
    return {JSON: {"schema": schema, "examples": values}}


def _text(example: str) -> dict[str, Any]:
    return {TEXT: {"schema": STRING, "example": example}}


def _answer(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": content}


def _method_refused(allowed: str, *, plain: bool = False) -> dict[str, Any]:
    text = "Method Not Allowed"
    content = _text(text) if plain else _content(reference("Error"), refused=examples.error(text))
    allow = {"schema": {**STRING, "example": allowed}, "description": "Supported methods."}
    return {**_answer("The method is not supported.", content), "headers": {"Allow": allow}}


def _scoring(summary: str, description: str, body: dict[str, Any]) -> dict[str, Any]:
    shown = {"scores": examples.ANSWER, "explained": examples.EXPLAINED}
    if "ticks" in summary:
        shown = {name: {**value, "steps": examples.STEPS} for name, value in shown.items()}
    answers = _content(reference("Answer"), **shown)
    return {
        "post": {
            "tags": ["Scores"],
            "summary": summary,
            "description": description,
            "security": [{}, {"bearer": []}, {"key": []}],
            "parameters": [
                {
                    "name": "explain",
                    "in": "query",
                    "required": False,
                    "schema": {**BOOLEAN, "default": False},
                    "description": "Add reasons for each row, which takes at most 1 ms per row.",
                }
            ],
            "requestBody": {"required": True, "content": body},
            "responses": {
                "200": _answer("Scores.", answers),
                **{
                    status: _answer(text, _content(reference("Error"), refused=example))
                    for status, (text, example) in _REFUSALS.items()
                },
                "405": _method_refused("POST"),
                "504": _answer(
                    "The request took longer than serving.timeout_seconds.",
                    _content(reference("Timeout"), late=examples.TIMEOUT),
                ),
            },
        }
    }


def _reading(
    tag: str,
    summary: str,
    good: dict[str, Any],
    unavailable: dict[str, Any] | None = None,
    *,
    plain: bool = False,
) -> dict[str, Any]:
    responses = {"200": good, "405": _method_refused("GET, HEAD", plain=plain)}
    if unavailable is not None:
        responses["503"] = unavailable
    return {"get": {"tags": [tag], "summary": summary, "responses": responses}}


def _installed() -> str:
    try:
        return importlib.metadata.version("volatility-service")
    except importlib.metadata.PackageNotFoundError:  # a Bento contains the sources, not the package
        return "unknown"
