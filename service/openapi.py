"""Describe the routes as an OpenAPI document, with features, units, examples and errors."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from service import openapi_examples as examples
from service.openapi_schemas import BOOLEAN, STRING, reference, schemas
from service.ticks import MAX_TICKS

TITLE = "Crypto volatility service"
DESCRIPTION = """\
How likely is it that the volatility of a symbol spikes within the next minute?

- A feature that is left out is *missing* to the model, never zero.
- `GET /version` says which model answers, and lists the features with their units.
- Whoever sets `VOLATILITY_API_KEY` for the service closes the two routes that score: send the key
  as `Authorization: Bearer KEY` or as `X-API-Key: KEY`. All other routes stay open.
- Every refusal is JSON and names the row and the field at fault, where there are such.
"""
JSON, TEXT, HTML = "application/json", "text/plain", "text/html"

_REFUSALS = {
    "400": (
        "The body is not JSON.",
        examples.error("the body is not JSON: Input data was truncated"),
    ),
    "401": (
        "The API key is missing or wrong, where VOLATILITY_API_KEY is set.",
        examples.error(
            "the API key is missing or wrong: send `Authorization: Bearer KEY`",
        ),
    ),
    "413": (
        "Too many rows or ticks, or too many bytes.",
        examples.error("1001 rows are too many: at most 1000 a request"),
    ),
    "422": (
        "A row, a field or the query is at fault; the body names it.",
        examples.error(
            "spread is not a finite number: leave out what is missing", row=1, field="spread"
        ),
    ),
    "429": (
        "Too many requests of this client, where serving.rate_limit is set.",
        examples.error("too many requests: at most 100 per 1 second"),
    ),
    "503": ("No model is loaded.", examples.NO_MODEL),
}


def document(max_rows: int) -> dict[str, Any]:
    """Give the OpenAPI 3.0 document of the service; a request has at most ``max_rows`` rows."""
    return {
        "openapi": "3.0.3",
        "info": {"title": TITLE, "description": DESCRIPTION, "version": _installed()},
        "servers": [{"url": "."}],
        "tags": [
            {"name": "Scores", "description": "What the service is for."},
            {"name": "Service", "description": "What serves, how healthy it is, what it offers."},
            {"name": "Infrastructure", "description": "For probes and scrapers."},
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
            "Score feature rows",
            f"At most {max_rows} rows a request; a row may carry any of the features.",
            _content(reference("Rows"), rows=examples.ROWS),
        ),
        "/predict/ticks": _scoring(
            "Score raw ticks",
            f"Ticks and heartbeats of one symbol, in order of arrival, at most {MAX_TICKS}; a "
            "heartbeat has no price, bid or ask. The answer covers the newest steps of one second "
            f"that they close, at most {max_rows}, from the first one on whose baseline is warm. "
            "Features need up to 1,800 s of ticks, and at least 300 s: with fewer, such as in the "
            "example, the answer is 422.",
            _content(reference("Ticks"), ticks=examples.TICKS),
        ),
    }


def _service() -> dict[str, Any]:
    return {
        "/health": _reading(
            "Service",
            "Answer 200 only if a model is loaded and answers",
            _answer(
                "A model answers.",
                _content(reference("Health"), ok=examples.HEALTH, degraded=examples.DEGRADED),
            ),
            _answer(
                "No model answers.", _content(reference("Unavailable"), none=examples.UNAVAILABLE)
            ),
        ),
        "/version": _reading(
            "Service",
            "Describe the model that serves: training, threshold, features, packages",
            _answer("The model.", _content(reference("Version"), champion=examples.VERSION)),
            _answer(_REFUSALS["503"][0], _content(reference("Error"), none=examples.NO_MODEL)),
        ),
        "/docs": _reading(
            "Service", "Show this page", _answer("The page.", {HTML: {"schema": STRING}})
        ),
        "/docs.json": _reading(
            "Service",
            "Give this document",
            _answer("OpenAPI 3.0.", _content({"type": "object"}, head={"openapi": "3.0.3"})),
        ),
    }


def _infrastructure() -> dict[str, Any]:
    """Describe BentoML's own routes, whose refusals are plain text."""
    nothing = _answer("Yes.", _text("\n"))
    return {
        "/metrics": _reading(
            "Infrastructure",
            "Metrics for Prometheus",
            _answer("Prometheus text format.", _text(examples.METRICS)),
            plain=True,
        ),
        "/livez": _reading("Infrastructure", "Whether the process lives", nothing, plain=True),
        "/readyz": _reading(
            "Infrastructure",
            "Whether requests can be sent",
            nothing,
            _answer(
                "No model answers.",
                _text("Service is not ready because .__is_ready__() returns False."),
            ),
            plain=True,
        ),
    }


def _content(schema: dict[str, Any], **shown: Any) -> dict[str, Any]:
    """Describe JSON content, with examples by name."""
    values = {name: {"value": value} for name, value in shown.items()}
    return {JSON: {"schema": schema, "examples": values}}


def _text(example: str) -> dict[str, Any]:
    return {TEXT: {"schema": STRING, "example": example}}


def _answer(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": content}


def _method_refused(allowed: str, *, plain: bool = False) -> dict[str, Any]:
    text = "Method Not Allowed"
    content = _text(text) if plain else _content(reference("Error"), refused=examples.error(text))
    allow = {"schema": {**STRING, "example": allowed}, "description": "The methods there are."}
    return {**_answer("Another method.", content), "headers": {"Allow": allow}}


def _scoring(summary: str, description: str, body: dict[str, Any]) -> dict[str, Any]:
    answers = _content(reference("Answer"), scores=examples.ANSWER, explained=examples.EXPLAINED)
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
                    "description": "Give each row's reasons too: at most 1 ms a row.",
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
                    "The work took longer than serving.timeout_seconds.",
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
    except importlib.metadata.PackageNotFoundError:  # in a Bento the sources are not installed
        return "unknown"
