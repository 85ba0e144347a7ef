"""Answer the routes: an ASGI application that BentoML mounts.

It is separate from ``@bentoml.api`` for the reasons in ``docs/adr/0002-routes-in-asgi.md``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from service.openapi import document
from service.security import DOCS_POLICY
from service.state import State
from service.ticks import MAX_BYTES, decode_ticks, feature_rows
from service.wire import BYTES_PER_ROW, Answer, RequestError, decode_rows

DOCS = Path(__file__).parent / "docs.html"
TICK_THREADS = 2  # requests of many ticks that are worked on at once

encode = msgspec.json.Encoder().encode


async def predict(request: Request) -> Response:
    """Score the rows of a request."""
    state = _state(request)
    served = state.require()
    max_rows = state.settings.serving.max_rows
    explain = _explain(request)
    body = await _body(request, (max_rows + 1) * BYTES_PER_ROW)
    started = perf_counter()
    answer = served.predict(decode_rows(body, max_rows), started, explain=explain)
    state.on_answer(answer, "/predict")
    return _json(answer)


async def predict_ticks(request: Request) -> Response:
    """Build feature rows from the ticks of a request, and score them."""
    state = _state(request)
    served = state.require()
    explain = _explain(request)
    body = await _body(request, MAX_BYTES)

    def work() -> Answer:
        started = perf_counter()
        settings = state.settings
        rows = feature_rows(decode_ticks(body), settings.features, settings.serving.max_rows)
        return served.predict(rows, started, explain=explain)

    # Seconds of work for a long request: the event loop must not wait for it.
    answer = await anyio.to_thread.run_sync(work, limiter=_tick_limiter(request))
    state.on_answer(answer, "/predict/ticks")
    return _json(answer)


async def health(request: Request) -> Response:
    """Answer 200 only when a model is loaded and answers."""
    status, body = _state(request).health()
    return _json(body, status)


async def version(request: Request) -> Response:
    """Describe the model that serves."""
    return _json(_state(request).require().describe())


async def docs(_: Request) -> Response:
    """Show the interactive documentation; nothing of it comes from elsewhere."""
    return FileResponse(DOCS, headers={"content-security-policy": DOCS_POLICY})


async def openapi(request: Request) -> Response:
    """Give the OpenAPI document."""
    return _json(document(_state(request).settings.serving.max_rows))


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a refused request with its JSON body."""
    assert isinstance(error, RequestError)
    _state(request).on_reject(error.reason)
    return Response(error.body(), error.status, media_type="application/json")


async def refuse_method(_: Request, error: Exception) -> Response:
    """Answer a wrong method in JSON too."""
    assert isinstance(error, HTTPException)
    body = {"error": error.detail, "row": None, "field": None}
    return _json(body, error.status_code, error.headers)


def application(state: State) -> Starlette:
    """Make the ASGI application around a state."""
    routes: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
        ("POST", "/predict"): predict,
        ("POST", "/predict/ticks"): predict_ticks,
        ("GET", "/health"): health,
        ("GET", "/version"): version,
        ("GET", "/docs"): docs,
        ("GET", "/docs.json"): openapi,
        ("GET", "/"): docs,  # BentoML's own page loads a tracker
    }
    app = Starlette(
        routes=[Route(path, route, methods=[method]) for (method, path), route in routes.items()],
        exception_handlers={RequestError: refuse, HTTPException: refuse_method},
    )
    app.state.service = state
    return app


def _state(request: Request) -> State:
    state: State = request.app.state.service
    return state


def _tick_limiter(request: Request) -> anyio.CapacityLimiter:
    """Give the limiter of this event loop."""
    state = request.app.state
    if not hasattr(state, "tick_limiter"):
        state.tick_limiter = anyio.CapacityLimiter(TICK_THREADS)
    limiter: anyio.CapacityLimiter = state.tick_limiter
    return limiter


def _explain(request: Request) -> bool:
    """Tell whether reasons are asked for."""
    text = request.query_params.get("explain", "false").lower()
    if text not in ("true", "false"):
        raise RequestError(422, "not_a_request", "explain is neither true nor false")
    return text == "true"


async def _body(request: Request, limit: int) -> bytes:
    """Read the body, and stop reading above ``limit`` bytes."""
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                message = f"the body is too large: at most {limit} bytes"
                raise RequestError(413, "too_large", message)
            chunks.append(chunk)
    except ClientDisconnect:
        raise RequestError(400, "disconnected", "the client left before the body's end") from None
    return b"".join(chunks)


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(encode(content), status, headers, media_type="application/json")
