"""Answer plain predictions where the HTTP parser hands them over, before a task is made of them.

An ASGI server makes of each request a scope, a task, an event and messages, BentoML some layers
more; decoding, scoring and counting a row take 20 µs. What is answered here is a
``POST /predict`` whose body comes whole and is valid; anything else goes the normal way, as it
came. See ``docs/adr/0008-plain-predictions-first.md``.
"""

from __future__ import annotations

import logging
from asyncio import TimerHandle
from time import perf_counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.front import ADMITTED, JSON_HEADERS
from service.http import encode
from service.state import State
from service.wire import RequestError, decode_rows

LONGEST = 1024 * 1024  # bytes of a body that is held until it is whole
HELD_SECONDS = 1.0  # after which the normal way, with its timeout, waits for the rest
# Behind a proxy the client's address is another, and who expects a word first must get it.
NOT_PLAIN = frozenset({b"x-forwarded-for", b"expect", b"upgrade", b"transfer-encoding"})
HEAD = b"".join(b"%s: %s\r\n" % header for header in JSON_HEADERS)

logger = logging.getLogger("bentoml.volatility")


def answer(state: State, body: bytes) -> bytes | None:
    """Score a request; None where the normal way must say what is wrong with it."""
    served = state.served
    if served is None:
        return None
    started = perf_counter()
    try:
        rows = decode_rows(body, state.settings.serving.max_rows)
        found = served.predict(rows, started)
        state.on_answer(found, "/predict")
        return encode(found)
    except RequestError:
        return None
    except Exception:  # the parser would take it for a fault of the client's
        logger.exception("a plain prediction failed; it goes the normal way")
        return None


class PlainFirst(HttpToolsProtocol):
    """Uvicorn's protocol, with the shorter way; ``state`` is that of the application.

    It overrides the callbacks of the HTTP parser. While a request is held, the base class knows
    its headers alone.
    """

    state: State
    _held: list[bytes] | None = None  # the body so far
    _timer: TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a request that has not come whole, but not for long."""
        super().data_received(data)
        if self._held is not None and self._timer is None:
            self._timer = self.loop.call_later(HELD_SECONDS, self._release)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is held."""
        self._take()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Let a request that is held be answered before the connection ends."""
        if self._held is not None:
            self._release()
        super().shutdown()

    def on_headers_complete(self) -> None:
        """Hold a request that may be plain."""
        self._unset_keepalive_if_required()  # one in the same packet may have set it
        if self._may_be_plain():
            self._held = []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hold a piece of its body."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        """Answer it, or pass it on."""
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
        # Answers leave in the order of the requests, and none while the client does not read.
        cycle: Any = self.cycle  # None before the first
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

    def _admitted(self) -> bool:
        scope = {"headers": self.headers, "client": self.client}
        return self.state.guard.refusal(scope) is None

    def _take(self) -> list[bytes]:
        if self._timer is not None:
            self._timer.cancel()
        held, self._held, self._timer = self._held, None, None
        return held or []

    def _release(self) -> None:
        """Give the request to the normal way, as far as it has come."""
        held = self._take()
        super().on_headers_complete()
        for body in held:
            super().on_body(body)

    def _respond(self, content: bytes) -> None:
        """Write the answer in one piece."""
        lines = [b"HTTP/1.1 200 OK\r\n"]
        for name, value in self.server_state.default_headers:
            lines += [name, b": ", value, b"\r\n"]
        keep = self.parser.should_keep_alive()
        last = b"\r\n" if keep else b"connection: close\r\n\r\n"
        lines += [HEAD, b"content-length: %d\r\n" % len(content), last, content]
        self.transport.write(b"".join(lines))
        if not keep:
            self.transport.close()
        self.on_response_complete()


def protocol(state: State) -> type[Any]:
    """Give the protocol class of an application."""
    return type("PlainFirst", (PlainFirst,), {"state": state})
