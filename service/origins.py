"""Let web pages of chosen origins read the answers (CORS), alike on every path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Headers = list[tuple[bytes, bytes]]

# Sent only in answer to a preflight. Nothing else is exposed: no cookies, no response headers.
PERMISSIONS: Headers = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, last-event-id, x-api-key"),
    (b"access-control-max-age", b"600"),
]
VARY = (b"vary", b"origin")
PREFIX = b"access-control-"


class Origins:
    """Represent the origins whose pages may call the service.

    Parameters
    ----------
    allowed : iterable of str
        Such as ``https://desk.example``; ``*`` allows every page.

    >>> origins = Origins(["https://desk.example"])
    >>> origins.headers([(b"origin", b"https://desk.example")])[0]
    (b'access-control-allow-origin', b'https://desk.example')
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)
        self._every = b"*" in self._allowed

    def headers(self, request: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Return the headers to add to the answer to a request with these headers."""
        if self._every:
            return [(b"access-control-allow-origin", b"*")]
        origin = dict(request).get(b"origin")
        if origin in self._allowed:
            return [(b"access-control-allow-origin", origin), VARY]
        return [VARY]

    def admits(self, scope: Any) -> bool:
        """Check that a WebSocket comes from no page of another origin that is not allowed.

        Browsers let every page open one, and leave it to the server to refuse.
        """
        request = dict(scope["headers"])
        origin = request.get(b"origin")
        own = origin is None or origin.partition(b"://")[2] == request.get(b"host")
        return own or self._every or origin in self._allowed

    def preflight(self, scope: Any) -> Headers | None:
        """Return the headers of the answer to a preflight; None for any other request.

        A browser sends it without the key before a request that another origin's page makes.
        """
        request = dict(scope["headers"])
        if scope["method"] != "OPTIONS" or b"origin" not in request:
            return None
        if b"access-control-request-method" not in request:
            return None
        found = self.headers(scope["headers"])
        return found if found == [VARY] else [*found, *PERMISSIONS]
