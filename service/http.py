"""Implement the routes as an ASGI application that BentoML mounts.

``docs/adr/0002-routes-in-asgi.md`` explains why it does not use ``@bentoml.api``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
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
from service.ticks import MAX_BYTES
from service.ticks import rows as ticks_rows
from service.wire import BYTES_PER_ROW, Answer, Error, RequestError, decode_request, shorten

DOCS = Path(__file__).parent / "docs.html"
THREADS = 2  # requests of each route that are processed in threads at the same time
# More than this takes milliseconds, which must not block the event loop. Less is answered sooner
# without a thread.
SHORT_BYTES, SHORT_ROWS = 64 * 1024, 50
HELD_BYTES = 256 * 1024 * 1024  # of bodies at once in a worker, above which large ones are refused
HELD = (503, "held_bytes", "too many large requests at once; try again later")

encode = msgspec.json.Encoder().encode


async def predict(request: Request) -> Response:
    """Score the rows of a request."""
    state = _state(request)
    served = state.require()
    max_rows = state.settings.serving.max_rows
    explain = _explain(request)
    async with _body(request, (max_rows + 1) * BYTES_PER_ROW) as parts:
        body = b"".join(parts)

        def work() -> tuple[Answer, bytes]:
            started = perf_counter()
            rows, symbol = decode_request(body, max_rows)
            answer = served.predict(rows, symbol, started, explain=explain)
            return answer, encode(answer)

        long = len(body) > SHORT_BYTES or body.count(b"{") > SHORT_ROWS
        answer, content = await _in_thread(request, "/predict", work) if long else work()
    state.on_answer(answer, "/predict")
    return Response(content, media_type="application/json")


async def predict_ticks(request: Request) -> Response:
    """Build feature rows from the ticks of a request, and score them."""
    state = _state(request)
    served = state.require()
    explain = _explain(request)
    # Use the feature settings of the model's training, not those of the local params.yaml.
    features, max_rows = served.bundle.specification.features, state.settings.serving.max_rows
    async with _body(request, MAX_BYTES) as parts:
        long = sum(map(len, parts)) > SHORT_BYTES

        def work() -> tuple[Answer, bytes]:
            started = perf_counter()
            build = state.long_ticks.rows if long else ticks_rows
            symbol, steps, rows = build(parts, features, max_rows)
            answer = served.predict(rows, symbol, started, explain=explain, steps=steps.tolist())
            return answer, encode(answer)

        # Long requests wait for each other, and short ones never for them.
        queue = "long ticks" if long else "/predict/ticks"
        answer, content = await _in_thread(request, queue, work)
    state.on_answer(answer, "/predict/ticks")
    return Response(content, media_type="application/json")


async def health(request: Request) -> Response:
    """Return 200 only if a model is loaded and works."""
    status, body = _state(request).health()
    return _json(body, status)


async def version(request: Request) -> Response:
    """Describe the serving model."""
    return _json(_state(request).require().describe())


async def docs(_: Request) -> Response:
    """Show the interactive documentation, which loads nothing from other hosts."""
    return FileResponse(DOCS, headers={"content-security-policy": DOCS_POLICY})


async def openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    return _json(document(_state(request).settings.serving.max_rows))


async def refuse(request: Request, error: Exception) -> Response:
    """Return the JSON error of a refused request."""
    assert isinstance(error, RequestError)
    _state(request).on_reject(error.reason)
    return Response(error.body(), error.status, media_type="application/json")


async def refuse_method(_: Request, error: Exception) -> Response:
    """Return a JSON error for an unsupported method."""
    assert isinstance(error, HTTPException)
    return _json(Error(error.detail), error.status_code, error.headers)


def application(state: State) -> Starlette:
    """Build the ASGI application around a state."""
    routes: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
        ("POST", "/predict"): predict,
        ("POST", "/predict/ticks"): predict_ticks,
        ("GET", "/health"): health,
        ("GET", "/version"): version,
        ("GET", "/docs"): docs,
        ("GET", "/docs.json"): openapi,
        ("GET", "/"): docs,  # instead of BentoML's own page, which loads a tracker
    }
    app = Starlette(
        routes=[Route(path, route, methods=[method]) for (method, path), route in routes.items()],
        exception_handlers={RequestError: refuse, HTTPException: refuse_method},
    )
    app.state.service = state
    app.state.limiters = {}
    # Behind a proxy a redirect would name this server's own address, and by http.
    app.router.redirect_slashes = False
    return app


def _state(request: Request) -> State:
    state: State = request.app.state.service
    return state


async def _in_thread(
    request: Request, route: str, work: Callable[[], tuple[Answer, bytes]]
) -> tuple[Answer, bytes]:
    """Do the work of a request in a thread; those of one route wait for each other only."""
    limiters: dict[str, anyio.CapacityLimiter] = request.app.state.limiters
    if route not in limiters:  # made here, because a limiter belongs to the running event loop
        limiters[route] = anyio.CapacityLimiter(THREADS)
    return await anyio.to_thread.run_sync(work, limiter=limiters[route])


def _explain(request: Request) -> bool:
    """Read the query parameter ``explain``."""
    text = request.query_params.get("explain", "false").lower()
    if text not in ("true", "false"):
        raise RequestError(422, "not_a_request", "explain must be true or false")
    return text == "true"


@asynccontextmanager
async def _body(request: Request, limit: int) -> AsyncIterator[list[bytes]]:
    """Read the body; stop and refuse it above ``limit`` bytes, or if it is compressed.

    Yields
    ------
    list of bytes
        Its parts. They count as held until the block ends.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        message = f"content-encoding {shorten(encoding)} is not supported: send the body as it is"
        raise RequestError(415, "encoding", message)
    state = _state(request)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            state.held_bytes += len(chunk)
            if size > limit:
                message = f"the body is too large: at most {limit} bytes"
                raise RequestError(413, "too_large", message)
            if size > SHORT_BYTES and state.held_bytes > HELD_BYTES:
                raise RequestError(*HELD)
            chunks.append(chunk)
        yield chunks
    except ClientDisconnect:
        raise RequestError(
            400, "disconnected", "the client disconnected before the end of the body"
        ) from None
    finally:
        state.held_bytes -= size


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(encode(content), status, headers, media_type="application/json")
