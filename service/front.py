"""Guard the scoring routes ahead of BentoML's layers, and add headers to every response."""

from __future__ import annotations

from typing import Any

from service.forecasts.routes import PATHS, refuse_socket
from service.origins import PREFIX, Headers
from service.security import GUARDED, HEADERS
from service.state import State

ADMITTED = "volatility_admitted"  # key in the scope's state: the guard has admitted this request
JSON_HEADERS = [(b"content-type", b"application/json"), *HEADERS]


class Front:
    """Wrap an ASGI application.

    Parameters
    ----------
    app
        ASGI application that handles the requests.
    state : State
        State that its routes use.
    """

    def __init__(self, app: Any, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse a request or pass it on."""
        origins, forecasts = self.state.origins, self.state.forecasts
        if scope["type"] == "websocket" and scope["path"] in PATHS and forecasts is not None:
            # Browsers let every page open a WebSocket, and leave it to the server to refuse.
            refusal = self.state.refusal(scope)
            if refusal is not None:
                self.state.on_reject(refusal.reason)
                await refuse_socket(scope, receive, send, refusal)
                return
            await forecasts(scope, receive, send)
            return
        if scope["type"] == "lifespan" and forecasts is not None:
            forecasts.center.start()  # so that the first request finds them
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        added: Headers = []
        if origins is not None:
            permitted = origins.preflight(scope)  # it carries no key
            if permitted is not None:
                await _respond(send, 204, [*HEADERS, *permitted])
                return
            added = origins.headers(scope["headers"])
        if scope["path"] in GUARDED and not scope.get("state", {}).get(ADMITTED):
            refusal = self.state.refusal(scope)
            if refusal is not None:
                self.state.on_reject(refusal.reason)
                content = refusal.body()
                length = (b"content-length", b"%d" % len(content))
                await _respond(send, refusal.status, [*JSON_HEADERS, *added, length], content)
                return
        app = self.app
        if scope["path"] in PATHS and forecasts is not None:
            app = forecasts
        await app(scope, receive, _with_headers(send, added))


async def _respond(send: Any, status: int, headers: Headers, content: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _with_headers(send: Any, added: Headers) -> Any:
    """Add the standard headers to a response unless it already sets them, and those of CORS."""

    async def send_with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            sent = message["headers"]
            if added:  # BentoML's own, if its CORS is on too, would repeat or contradict them
                sent = [header for header in sent if not header[0].lower().startswith(PREFIX)]
            message["headers"] = [
                *sent,
                *(header for header in HEADERS if header[0] not in present),
                *added,
            ]
        await send(message)

    return send_with_headers
