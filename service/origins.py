"""Let web pages of chosen origins read the answers (CORS), alike on every path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.wire import RequestError
from volatility.own_pages import is_own

Headers = list[tuple[bytes, bytes]]

# Sent only in answer to a preflight. Nothing else is exposed: no cookies, no response headers.
PERMISSIONS: Headers = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, last-event-id, x-api-key"),
    (b"access-control-max-age", b"600"),
]
VARY = (b"vary", b"origin")
PREFIX = b"access-control-"
REFUSAL = RequestError(
    403, "origin", "pages of this origin may not call the service; see serving.allowed_origins"
)


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

    def allows(self, origin: bytes) -> bool:
        """Return whether pages of an origin may call the service."""
        return self._every or origin in self._allowed

    def headers(self, request: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Return the headers to add to the answer to a request with these headers."""
        if self._every:
            return [(b"access-control-allow-origin", b"*")]
        origin = dict(request).get(b"origin")
        if origin is not None and self.allows(origin):
            return [(b"access-control-allow-origin", origin), VARY]
        return [VARY]

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


def foreign(scope: Any, origins: Origins | None) -> RequestError | None:
    """Return the error for a request that a page of an origin that is not allowed sent.

    A page can send a simple request without asking first, and needs no answer to use up a limit.
    """
    origin = None
    for name, value in scope["headers"]:  # no dict: programs send no Origin, and want to be fast
        if name == b"origin":
            origin = value
    if origin is None or (origins is not None and origins.allows(origin)):
        return None
    if is_own(dict(scope["headers"])):
        return None
    return REFUSAL
