"""Run the Prefect server for this machine's own pages and programs: ``python -m pipelines.server``.

A page of any site, open in a browser, can send requests to a server on the same machine. Prefect
by itself answers all of them, and its API takes shell commands: the pull steps of a deployment.
This module accepts a request only if its Host header names this server, which defeats DNS
rebinding, and, if a browser page sent it, only if that page was served from here.
"""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings
from starlette.responses import PlainTextResponse

from volatility.settings import environment


class OwnPagesOnly:
    """Refuse requests to a foreign host name or from a foreign page.

    Parameters
    ----------
    app : ASGI application
    hosts : frozenset of str
        Names of this server, without port.
    """

    def __init__(self, app: Any, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts
        names = ", ".join(sorted(hosts))
        self._refusal = f"refused: PREFECT_ALLOWED_HOSTS lets pages and names of {names} in\n"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 403 to a request that is not for, or not from, this server."""
        if scope["type"] in {"http", "websocket"} and not self._own(dict(scope["headers"])):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await PlainTextResponse(self._refusal, 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _own(self, headers: dict[bytes, bytes]) -> bool:
        host = _split(b"//" + headers.get(b"host", b""))
        if host is None or host[0] not in self._hosts:
            return False
        if b"origin" not in headers:  # a program, or a page that was asked for by hand
            return True
        origin = _split(headers[b"origin"])
        return origin is not None and origin[0] in self._hosts and origin[1] == host[1]


def application() -> Any:
    """Return Prefect's application behind ``OwnPagesOnly``."""
    app = create_app(final=True)
    hosts = frozenset(environment().prefect_allowed_hosts.split(","))
    app.add_middleware(OwnPagesOnly, hosts=hosts)
    return app


def main() -> None:
    """Serve until the process is stopped."""
    configured = get_current_settings().server.api
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default=configured.host, help="address (%(default)s)")
    parser.add_argument("--port", type=int, default=configured.port, help="port (%(default)s)")
    options = parser.parse_args()
    uvicorn.run(
        application(),
        host=options.host,
        port=options.port,
        timeout_keep_alive=configured.keepalive_timeout,
        log_level="warning",
    )


def _split(address: bytes) -> tuple[str | None, int | None] | None:
    """Return host name and port of an address; None if it is malformed."""
    try:
        parts = urlsplit(address.decode("latin-1"))
        return parts.hostname, parts.port
    except ValueError:
        return None


if __name__ == "__main__":
    main()
