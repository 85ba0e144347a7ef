"""Stand before BentoML's own layers: guard the routes, and answer plain predictions at once.

Tracing, access log, timeout and routing cost BentoML some 600 µs a request; decoding, scoring
and answering take 40. What is answered here is a ``POST /predict`` whose body is there whole and
valid; anything else goes the normal way, with its body unread. See
``docs/adr/0008-plain-predictions-first.md``.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from service.http import encode
from service.security import GUARDED, HEADERS
from service.state import State
from service.wire import RequestError, decode_rows

_JSON = [(b"content-type", b"application/json"), *HEADERS]


class Front:
    """Wrap an ASGI application.

    Parameters
    ----------
    app
        What answers all that is not plain.
    state : State
        The one that its routes use.
    """

    def __init__(self, app: Any, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path in GUARDED:
            refusal = self.state.guard.refusal(scope)
            if refusal is not None:
                self.state.on_reject(refusal.reason)
                await _respond(send, refusal.status, refusal.body())
                return
            if path == "/predict" and scope["method"] == "POST" and not scope["query_string"]:
                message = await receive()
                content = self._answer(message)
                if content is not None:
                    await _respond(send, 200, content)
                    return
                receive = _again(message, receive)
        await self.app(scope, receive, _with_headers(send))

    def _answer(self, message: Any) -> bytes | None:
        """Score the request; None where it is not plain."""
        state = self.state
        served = state.served
        if served is None or message["type"] != "http.request" or message.get("more_body"):
            return None
        started = perf_counter()
        try:
            rows = decode_rows(message["body"], state.settings.serving.max_rows)
        except RequestError:
            return None  # the normal way says what is wrong
        answer = served.predict(rows, started)
        state.on_answer(answer, "/predict")
        return encode(answer)


async def _respond(send: Any, status: int, content: bytes) -> None:
    headers = [*_JSON, (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _again(message: Any, receive: Any) -> Any:
    """Give the message that was taken, then what follows it."""
    taken = [message]

    async def next_message() -> Any:
        return taken.pop() if taken else await receive()

    return next_message


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
