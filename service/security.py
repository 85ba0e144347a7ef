"""Decide who may ask for a score, and how often; name the headers that every answer carries."""

from __future__ import annotations

import hmac
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from service.wire import RequestError
from volatility.settings import SettingsError

# Health, version, metrics and docs stay open: probes and scrapers carry no key, and nothing there
# is a score. See README, "Serving".
GUARDED = frozenset({"/predict", "/predict/ticks"})

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
# The page of the documentation runs its own script, and nothing from elsewhere.
DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)


class Guard:
    """Check the key and the rate of the guarded routes.

    Parameters
    ----------
    api_key : str
        Key that clients must send; empty: none.
    rate_limit : str
        Requests of one client address to one worker, such as ``100/second``; empty: any number.

    Raises
    ------
    SettingsError
        When the rate limit cannot be read.
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
        """Say why an ASGI request is refused; None where it is not."""
        if self._rate is not None:
            client = (scope.get("client") or ("unknown", 0))[0]
            if not self._limiter.hit(self._rate, client):
                return RequestError(429, "rate_limit", f"too many requests: at most {self._rate}")
        if self._key and not hmac.compare_digest(_given(scope), self._key):
            return RequestError(
                401,
                "unauthorised",
                "the API key is missing or wrong: send `Authorization: Bearer KEY`",
            )
        return None


def _given(scope: Any) -> bytes:
    """Give the key that the client sent, as a bearer token or as X-API-Key."""
    given = b""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value)
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            given = bytes(value[7:])
    return given
