"""Stand in for the vendors' servers of files: they serve by path, and fail on command."""

from __future__ import annotations

import gzip
import hashlib
import io
import threading
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.rest_exchange import GONE, HALF, Failure

ROWS = 400


@dataclass
class Files:
    """Represent a server: its files by path, and the failures that are used up first."""

    files: dict[str, bytes] = field(default_factory=dict)
    failures: deque[Failure] = field(default_factory=deque)
    ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and range
    url: str = ""


@contextmanager
def serving(files: Files) -> Iterator[Files]:
    """Serve on a free port of the loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            files.asked.append((self.path, wanted))
            content = files.files.get(self.path)
            failure = files.failures.popleft() if files.failures else None
            if failure is not None and isinstance(failure.status, int):
                self.answer(failure.status, failure.body.encode(), failure.headers)
            elif failure is not None and failure.status == GONE:
                self.close_connection = True
            elif content is None:
                self.answer(404, b"no such file")
            else:
                first = int(wanted[6:-1]) if wanted and files.ranges else 0
                if first and first >= len(content):
                    self.answer(416, b"")
                    return
                half = failure is not None and failure.status == HALF
                self.answer(206 if first else 200, content[first:], cut=half)

        def answer(
            self,
            status: int,
            content: bytes,
            headers: tuple[tuple[str, str], ...] = (),
            cut: bool = False,
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection |= cut

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def start_of(day: date) -> int:
    """Return the first microsecond of a day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def tardis_quotes(day: date, exchange: str = "coinbase", symbol: str = "BTC-USD") -> bytes:
    """Write a day's quotes as Tardis does."""
    lines = ["exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount"]
    for n in range(ROWS):
        time = start_of(day) + n * 1_000_000
        price = 67_000 + n % 7
        lines.append(f"{exchange},{symbol},{time},{time + 9_000},0.5,{price + 1},{price},0.25")
    return gzip.compress("\n".join([*lines, ""]).encode())


def tardis_path(day: date, exchange: str = "coinbase", symbol: str = "BTC-USD") -> str:
    return f"/v1/{exchange}/quotes/{day:%Y/%m/%d}/{symbol}.csv.gz"


def binance_trades(day: date, symbol: str = "BTCUSDT") -> bytes:
    """Write a day's trades as Binance does since 2025: without a header, in microseconds."""
    text = "".join(
        f"{100 + n},{67_000 + n % 7}.01,0.001,67.0,{start_of(day) + n * 1_000_000},True,True\n"
        for n in range(ROWS)
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{symbol}-trades-{day}.csv", text)
    return packed.getvalue()


def binance_files(day: date, symbol: str = "BTCUSDT") -> dict[str, bytes]:
    """Return a day's file with its checksum beside it."""
    name = f"{symbol}-trades-{day}.zip"
    content = binance_trades(day, symbol)
    path = f"/data/spot/daily/trades/{symbol}/{name}"
    checksum = f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    return {path: content, f"{path}.CHECKSUM": checksum.encode()}
