"""Stand in for Coinbase's REST interface: it serves numbered trades and fails on command."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

GONE = "gone"  # the connection ends without an answer
HALF = "half"  # in the middle of the body


@dataclass(frozen=True)
class Failure:
    """Answer with a status instead of a page, or with ``GONE`` or ``HALF``."""

    status: int | str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = '{"message": "Public rate limit exceeded"}'


@dataclass
class RestExchange:
    """Represent the trades of one product: number to (time [ns], price, size, maker's side).

    ``failures`` are used up first, one a request; ``queries`` are those that got a page.
    """

    symbol: str
    trades: dict[int, tuple[int, float, float, str]]
    most: int = 1000
    failures: deque[Failure] = field(default_factory=deque)
    queries: list[dict[str, int]] = field(default_factory=list)
    requests: int = 0
    url: str = ""

    def page(self, query: dict[str, int]) -> list[dict[str, Any]]:
        """Return trades as the documented interface does: newest first, below ``after``."""
        numbers = sorted((n for n in self.trades if n < query.get("after", 2**62)), reverse=True)
        return [
            {
                "trade_id": n,
                "side": self.trades[n][3],
                "size": f"{self.trades[n][2]:.8f}",
                "price": f"{self.trades[n][1]:.8f}",
                "time": _stamp(self.trades[n][0]),
            }
            for n in numbers[: min(query.get("limit", 1000), self.most)]
        ]


def _stamp(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


@contextmanager
def serving(exchange: RestExchange) -> Iterator[RestExchange]:
    """Serve on a free port of the loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            exchange.requests += 1
            address = urlsplit(self.path)
            if exchange.failures:
                self.fail(exchange.failures.popleft())
            elif address.path != f"/products/{exchange.symbol}/trades":
                self.answer(404, '{"message": "NotFound"}')
            else:
                query = {name: int(value[0]) for name, value in parse_qs(address.query).items()}
                page = exchange.page(query)
                exchange.queries.append(query)
                ends = (("cb-before", 0), ("cb-after", -1)) if page else ()
                cursors = tuple((name, str(page[end]["trade_id"])) for name, end in ends)
                self.answer(200, json.dumps(page), cursors)

        def fail(self, failure: Failure) -> None:
            if failure.status == HALF:
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'[{"trade_id": 1, ')
            elif isinstance(failure.status, int):
                self.answer(failure.status, failure.body, failure.headers)
            self.close_connection = True

        def answer(self, status: int, body: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    exchange.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield exchange
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
