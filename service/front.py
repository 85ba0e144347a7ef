"""Stand before BentoML's layers: guard the routes that score, add headers to every answer."""

from __future__ import annotations

from typing import Any

from service.security import GUARDED, HEADERS
from service.state import State

ADMITTED = "volatility_admitted"  # in the scope's state: the guard has seen this request
JSON_HEADERS = [(b"content-type", b"application/json"), *HEADERS]


class Front:
    """Wrap an ASGI application.

    Parameters
    ----------
    app
        What answers the requests.
    state : State
        The one that its routes use.
    """

    def __init__(self, app: Any, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse one request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] in GUARDED and not scope.get("state", {}).get(ADMITTED):
            refusal = self.state.guard.refusal(scope)
            if refusal is not None:
                self.state.on_reject(refusal.reason)
                await _respond(send, refusal.status, refusal.body())
                return
        await self.app(scope, receive, _with_headers(send))


async def _respond(send: Any, status: int, content: bytes) -> None:
    headers = [*JSON_HEADERS, (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _with_headers(send: Any) -> Any:
    """Add the headers that every answer carries, where it has none of its own."""

    async def send_with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(header for header in HEADERS if header[0] not in there),
            ]
        await send(message)

    return send_with_headers
