"""Provide the probes and the metrics that BentoML provides, where the service runs without it."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service.state import State


def routes(state: State) -> list[Route]:
    """Return the routes ``/livez``, ``/readyz`` and ``/metrics``."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("\n")

    async def readyz(_: Request) -> Response:
        if state.healthy():
            return PlainTextResponse("\n")
        return PlainTextResponse("no working model is loaded", 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    named = {"/livez": livez, "/readyz": readyz, "/metrics": metrics}
    return [Route(path, route, methods=["GET"]) for path, route in named.items()]
