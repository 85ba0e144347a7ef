"""Tell requests of a server's own pages and of programs from those of other sites' pages.

A page of any site, open in a browser, can send requests to a server on the same machine: forms, and
whatever needs no permission to be sent. Only browsers send an Origin header, and no page can change
it. A name that resolves to this machine (DNS rebinding) makes a foreign page look like the server's
own, which only the Host header betrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def is_own(headers: Mapping[bytes, bytes], hosts: frozenset[str] | None = None) -> bool:
    """Return whether a program or one of the server's own pages sent a request.

    Parameters
    ----------
    headers : mapping of bytes
        Names in lower case, as in ASGI.
    hosts : frozenset of str, optional
        Names of this server, without port: a request for another is refused, and a page may have
        been opened by any of them. None accepts every name.

    >>> is_own({b"host": b"localhost:3000"})
    True
    >>> is_own({b"host": b"localhost:3000", b"origin": b"http://localhost:5173"})
    False
    """
    host = _split(b"//" + headers.get(b"host", b""))
    if hosts is not None and (host is None or host[0] not in hosts):
        return False
    # Behind a proxy that changes Host, a browser still knows that the page is from there.
    if b"origin" not in headers or headers.get(b"sec-fetch-site") == b"same-origin":
        return True
    page = _split(headers[b"origin"])
    if host is None or page is None or page[0] is None:
        return False
    return page == host or (hosts is not None and page[0] in hosts and page[1] == host[1])


class OwnPagesOnly:
    """Refuse requests to a foreign host name or from a foreign page.

    Parameters
    ----------
    app : ASGI application
    hosts : frozenset of str, optional
        As in ``is_own``.
    remedy : str
        How to allow what was refused, for the answer.
    """

    def __init__(self, app: Any, hosts: frozenset[str] | None = None, remedy: str = "") -> None:
        self._app, self._hosts = app, hosts
        self._refusal = f"refused: the request is of another site's page or name{remedy}\n".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 403 to a request that is not for, or not from, this server."""
        kind = scope["type"]
        if kind not in {"http", "websocket"} or is_own(dict(scope["headers"]), self._hosts):
            await self._app(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": self._refusal})


def _split(address: bytes) -> tuple[str | None, int | None] | None:
    """Return host name and port of an address; None if it is malformed."""
    try:
        parts = urlsplit(address.decode("latin-1"))
        return parts.hostname, parts.port
    except ValueError:
        return None
