"""Answer plain predictions in the HTTP parser's callbacks, before a task is created for them.

For each request an ASGI server creates a scope, a task, an event and messages, and BentoML adds
more layers, while decoding, scoring and counting a row take only 20 µs. This module answers a
``POST /predict`` whose body arrives complete and is valid; any other request takes the normal
path, unchanged. See ``docs/adr/0008-plain-predictions-first.md``.
"""

from __future__ import annotations

import logging
from asyncio import TimerHandle
from time import perf_counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.front import ADMITTED, JSON_HEADERS
from service.http import encode
from service.state import State
from service.wire import RequestError, decode_request

LONGEST = 1024 * 1024  # bytes of a body that is held until it is complete
HELD_SECONDS = 1.0  # after which the normal path, with its timeout, waits for the rest
# Behind a proxy the client's address differs, and "Expect" requires an interim response.
# Balancers reuse connections that were idle for up to a minute; one closed here meanwhile would
# answer their client with 502.
KEEP_ALIVE_SECONDS = 75
# A head is kept in memory before anybody looks at the key.
HEAD_BYTES, HEAD_SECONDS = 64 * 1024, 10.0
HEAD_LINES = 100  # each costs a microsecond, and 64 KiB have room for 11,000
HEAD_REFUSAL = RequestError(
    431,
    "head_too_large",
    f"the head of the request is too large: at most {HEAD_BYTES} bytes and {HEAD_LINES} headers",
)
MALFORMED_REFUSAL = RequestError(400, "not_http", "the request is not HTTP/1.1")
CROWD_REFUSAL = RequestError(503, "connections", "too many connections; try again later")
CLOSED_SHARE = 64  # of the connections are closed at once, so that the search is rare
UNREAD_SECONDS = 60.0  # that a client may take to read what has been written
NOT_PLAIN = frozenset({b"x-forwarded-for", b"expect", b"upgrade", b"transfer-encoding"})
HEAD = b"".join(b"%s: %s\r\n" % header for header in JSON_HEADERS)

logger = logging.getLogger("bentoml.volatility")
# uvicorn warns of each malformed request, which is counted and logged as a refusal instead.
clients = logging.getLogger("uvicorn.error.clients")
clients.setLevel(logging.ERROR)


def answer(state: State, body: bytes) -> bytes | None:
    """Score a request; return None if the normal path must report an error."""
    served = state.served
    if served is None:
        return None
    started = perf_counter()
    try:
        rows, symbol = decode_request(body, state.settings.serving.max_rows)
        found = served.predict(rows, symbol, started)
        state.on_answer(found, "/predict")
        return encode(found)
    except RequestError:
        return None
    except Exception:  # the parser would report it as an error of the client
        logger.exception("plain prediction failed; passing the request to the normal path")
        return None


class PlainFirst(HttpToolsProtocol):
    """Extend uvicorn's protocol with the shortcut; ``state`` is that of the application.

    It overrides the callbacks of the HTTP parser. While a request is held, the base class has
    only seen its headers.
    """

    state: State
    _held: list[bytes] | None = None  # the body so far
    _timer: TimerHandle | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.timeout_keep_alive = KEEP_ALIVE_SECONDS  # BentoML has no setting for it
        self.logger = clients
        self._heading = True  # the head of a request is not complete
        self._heads = 0  # that were
        self._head_bytes = 0
        self._head_timer: TimerHandle | None = None
        self._unread_timer: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.state.max_connections and not self._make_room():
            self.connections.discard(self)
            self._refuse(CROWD_REFUSAL)
            return
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """Wait briefly for the rest of a request that has not arrived completely."""
        heads = self._heads
        super().data_received(data)
        if self._heading:
            # Data that also ended another head is not counted: how much of it is unknown.
            self._head_bytes = self._head_bytes + len(data) if heads == self._heads else 0
            if self._head_bytes > HEAD_BYTES:
                self._refuse(HEAD_REFUSAL)
                return
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        if self._held is not None and self._timer is None:
            self._timer = self.loop.call_later(HELD_SECONDS, self._release)

    def connection_lost(self, exc: Exception | None) -> None:
        """Discard the held request."""
        self._take()
        self._stop_head_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read, but not forever."""
        super().pause_writing()
        self._stop_unread_timer()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue to write."""
        self._stop_unread_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, also if the client has not read the last answer."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Answer a held request before closing the connection, and end the streams."""
        if self.state.forecasts is not None:
            self.state.forecasts.center.stop()
        if self._held is not None:
            self._release()
        super().shutdown()

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        self._heading, self._head_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; too many end the parser's work on what has arrived."""
        super().on_header(name, value)
        if len(self.headers) > HEAD_LINES:
            raise ValueError("too many headers")

    def send_400_response(self, _: str) -> None:
        """Refuse what the parser could not read."""
        many = len(self.headers or ()) > HEAD_LINES
        self._refuse(HEAD_REFUSAL if many else MALFORMED_REFUSAL)

    def on_headers_complete(self) -> None:
        """Keep a request that may be a plain prediction."""
        self._heading = False
        self._heads += 1
        self._stop_head_timer()
        self._unset_keepalive_if_required()  # a request in the same packet may have set it
        if self._may_be_plain():
            self._held = []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        """Answer the request or pass it on."""
        if self._held is not None:
            admitted = self._admitted()
            content = answer(self.state, b"".join(self._held)) if admitted else None
            if content is not None:
                self._take()
                self._respond(content)
                return
            self.scope["state"][ADMITTED] = admitted
            self._release()
        super().on_message_complete()

    def _may_be_plain(self) -> bool:
        if self.url != b"/predict" or self.parser.get_method() != b"POST":
            return False
        # Responses must keep the order of the requests and wait for a client that does not read.
        cycle: Any = self.cycle  # None before the first request
        busy = cycle is not None and not cycle.response_complete
        if busy or self.flow.write_paused or self.transport.is_closing():
            return False
        if self.parser.get_http_version() != "1.1":
            return False
        length = 0
        for name, value in self.headers:
            if name in NOT_PLAIN:
                return False
            if name == b"content-length":
                length = int(value)
        return 0 < length <= LONGEST

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _make_room(self) -> bool:
        """Close connections that wait for a request; return False if there are none.

        First those that never sent one, then those that have been idle longest.
        """
        idle = [
            (one._heads > 0, since, id(one), one)
            for one in self.connections
            if isinstance(one, PlainFirst) and one is not self
            if (since := one._idle_since()) is not None
        ]
        idle.sort()
        for *_, one in idle[: max(1, self.state.max_connections // CLOSED_SHARE)]:
            self.connections.discard(one)  # it is lost only after this turn of the loop
            one.transport.abort()
        return bool(idle)

    def _idle_since(self) -> float | None:
        """Return since when the connection has waited for a complete head; None if it does not."""
        if self._head_timer is not None:
            return self._head_timer.when() - HEAD_SECONDS
        if self.timeout_keep_alive_task is not None:
            return self.timeout_keep_alive_task.when() - KEEP_ALIVE_SECONDS
        return None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _refuse(self, error: RequestError) -> None:
        """Answer with an error and close the connection."""
        if self.transport.is_closing():
            return
        self.state.on_reject(error.reason)
        body = error.body()
        head = STATUS_LINE[error.status] + b"connection: close\r\n" + HEAD
        lines = [head, *self._of_origin(), b"content-length: %d\r\n\r\n" % len(body), body]
        self.transport.write(b"".join(lines))
        self.transport.close()

    def _of_origin(self) -> list[bytes]:
        """Return the header lines that let another origin's page read the answer."""
        origins = self.state.origins
        if origins is None:
            return []
        return [b"%s: %s\r\n" % header for header in origins.headers(self.headers or ())]

    def _admitted(self) -> bool:
        scope = {"headers": self.headers, "client": self.client}
        return self.state.refusal(scope) is None

    def _take(self) -> list[bytes]:
        if self._timer is not None:
            self._timer.cancel()
        held, self._held, self._timer = self._held, None, None
        return held or []

    def _release(self) -> None:
        """Pass what has arrived of the request to the normal path."""
        held = self._take()
        super().on_headers_complete()
        for body in held:
            super().on_body(body)

    def _respond(self, content: bytes) -> None:
        """Write the response in one piece."""
        lines = [b"HTTP/1.1 200 OK\r\n"]
        for name, value in self.server_state.default_headers:
            lines += [name, b": ", value, b"\r\n"]
        keep = self.parser.should_keep_alive()
        last = b"\r\n" if keep else b"connection: close\r\n\r\n"
        if self.state.origins is not None:
            lines += self._of_origin()
        lines += [HEAD, b"content-length: %d\r\n" % len(content), last, content]
        self.transport.write(b"".join(lines))
        if not keep:
            self.transport.close()
        self.on_response_complete()


def protocol(state: State) -> type[Any]:
    """Return the protocol class of an application."""
    return type("PlainFirst", (PlainFirst,), {"state": state})
