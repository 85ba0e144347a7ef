"""Authenticate and rate-limit scoring requests, and define the headers of every response."""

from __future__ import annotations

import hmac
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from service.wire import RequestError
from volatility.settings import SettingsError

# Health, version, metrics and docs stay open: probes and scrapers send no key, and these routes
# return no scores. See README, "Serving".
GUARDED = frozenset(
    {
        "/predict",
        "/predict/ticks",
        "/forecast",
        "/forecast/stream",
        "/forecast/ws",
        "/forecast/history",
        "/probability",
    }
)

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
# The documentation page runs its own script and loads nothing from other hosts.
DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)


class Guard:
    """Check the API key and the request rate on the guarded routes.

    Parameters
    ----------
    api_key : str
        Key that clients must send; empty if none is required.
    rate_limit : str
        Requests per client address and worker, such as ``100/second``; empty for no limit.

    Raises
    ------
    SettingsError
        If the rate limit is malformed.
    """

    def __init__(self, api_key: str = "", rate_limit: str = "") -> None:
        self._key = api_key.encode()
        self._rate: RateLimitItem | None = None
        if rate_limit:
            try:
                self._rate = parse(rate_limit)
            except ValueError as error:
                raise SettingsError(
                    f"serving.rate_limit {rate_limit!r}: write it as 100/second"
                ) from error
            self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def refusal(self, scope: Any) -> RequestError | None:
        """Return the error for an ASGI request that must be refused, or None to admit it."""
        known = not self._key or hmac.compare_digest(_given(scope), self._key)
        if self._rate is not None:
            client = (scope.get("client") or ("unknown", 0))[0]
            # Behind one address, strangers must not use up what is left to those with the key.
            if not self._limiter.hit(self._rate, client, str(known)):
                return RequestError(429, "rate_limit", f"too many requests: at most {self._rate}")
        if not known:
            return RequestError(
                401,
                "unauthorised",
                "the API key is missing or wrong: send `Authorization: Bearer KEY`",
            )
        return None


def _given(scope: Any) -> bytes:
    """Return the key that the client sent, as a bearer token or as X-API-Key."""
    given = b""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value)
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            given = bytes(value[7:])
    return given
