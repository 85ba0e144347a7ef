"""Measure the forecast routes beside bare peers: ``python -m benchmarks.forecasts``.

- 1,000 subscribers of one worker, beside a bare ASGI stream of the same bytes: p99 of the time
  from saying a forecast to reading it;
- ``GET /forecast``, beside FastAPI's hello-world: requests per second;
- the history of a day as Arrow, beside pyarrow reading the same Parquet files.

Servers and clients are processes of their own; a peer is measured in turns with ours.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import uvicorn

from benchmarks.results import Row, compare, missed, table, write
from benchmarks.serving_peers import hello
from volatility.lake import Lake
from volatility.records import (
    PREDICTION_SCHEMA,
    HorizonForecast,
    Prediction,
    Quantiles,
    predictions_to_table,
)
from volatility.units import SECOND

RESULTS = Path(__file__).parent / "results" / "forecasts.json"
HOST = "127.0.0.1"
SUBSCRIBERS, SECONDS, ROUNDS = 1_000, 10, 3
CONNECTIONS, ASK_SECONDS = 8, 4.0
DAY_SECONDS = 86_400
START = 1_775_337_180 * SECOND
SAID_AT = re.compile(rb'"said_at":"[^"]*?(\d\d):(\d\d):(\d\d\.\d+)Z"')


def prediction(time_ns: int, said_at: int, size: float = 1.2345678901234) -> Prediction:
    """Return a prediction like those of the scorer, of a size [basis points]."""
    quantiles = Quantiles(*(size * k for k in (0.3, 0.6, 0.9, 1.3, 2.2)))
    return Prediction(
        symbol="BTC-USD",
        time=time_ns,
        midprice=68_000.505,
        forecasts={
            f"{h}s": HorizonForecast(size * (h / 60) ** 0.5, quantiles, 7.5, size / 10.0)
            for h in (60, 300, 900)
        },
        score=0.0712345,
        threshold=0.41,
        spike=False,
        model_name="crypto-vol-ml",
        model_version="7",
        model_variant="ml",
        said_at=said_at,
        out_of_distribution=False,
    )


def ours(port: int, data: Path) -> None:
    """Serve the forecast routes over a log in memory, to which a forecast is added a second."""
    from service.forecasts.center import Center
    from service.forecasts.routes import Forecasts
    from service.front import Front
    from service.http import application
    from service.protocol import protocol
    from service.state import State
    from volatility.settings import Settings
    from volatility.streaming.log import PREDICTIONS
    from volatility.streaming.log.memory_log import MemoryLog

    log = MemoryLog()
    log.create(PREDICTIONS, 4)
    state = State(Settings(), max_connections=2 * SUBSCRIBERS)
    state.forecasts = Forecasts(Center(lambda: log, data), state)

    def say() -> None:
        writer = log.writer()
        while True:
            now = time.time_ns()
            content = msgspec.json.encode(prediction(now // SECOND * SECOND, now))
            writer.append(PREDICTIONS, b"BTC-USD", content)
            time.sleep(1.0)

    threading.Thread(target=say, daemon=True).start()
    _serve(Front(application(state), state), port, http=protocol(state))


def bare(port: int, _: Path) -> None:
    """Stream the same bytes from the smallest ASGI application."""
    from service.forecasts.board import Board
    from volatility.streaming.log import Message

    board = Board()
    board.begin("0123456789abcdef", {0: 0, 1: 0, 2: 0, 3: 0})
    current: list[Any] = []

    async def say() -> None:
        offset = 0
        while True:
            now = time.time_ns()
            content = msgspec.json.encode(prediction(now // SECOND * SECOND, now))
            told = board.take([Message(1, offset, now, b"BTC-USD", content)])
            offset += 1
            waiting = current.pop() if current else None
            current.append(asyncio.get_running_loop().create_future())
            if waiting is not None and told:
                waiting.set_result(told[0].event)
            await asyncio.sleep(1.0)

    tasks = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            tasks.append(asyncio.ensure_future(say()))
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            content = await asyncio.shield(current[0])
            await send({"type": "http.response.body", "body": content, "more_body": True})

    _serve(app, port)


def fastapi(port: int, _: Path) -> None:
    """Serve FastAPI's hello-world."""
    app = hello()

    @app.get("/hello")
    async def get() -> dict[str, str]:
        return {"hello": "world"}

    _serve(app, port)


def _serve(app: Any, port: int, **options: Any) -> None:
    uvicorn.run(
        app, host=HOST, port=port, log_level="error", access_log=False, backlog=4096, **options
    )


@contextmanager
def serving(server: Callable[[int, Path], None], data: Path) -> Iterator[int]:
    """Run a server in a separate process; return its port."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=server, args=(port, data))
    process.start()
    try:
        while True:
            try:
                socket.create_connection((HOST, port), 1.0).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.join()


def latencies(port: int) -> list[float]:
    """Subscribe 1,000 times; return the time from saying to reading of each event [ms]."""
    return asyncio.run(_latencies(port))


async def _latencies(port: int) -> list[float]:
    found: list[float] = []
    begun = time.monotonic() + 5.0  # connections are made, the first events arrive

    async def read() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"GET /forecast/stream HTTP/1.1\r\nhost: x\r\n\r\n")
        while time.monotonic() < begun + SECONDS:
            line = await reader.readline()
            if line.startswith(b"data: "):
                now = time.time()
                said = SAID_AT.search(line)
                if said and time.monotonic() > begun:
                    hours, minutes, seconds = (float(part) for part in said.groups())
                    found.append(1e3 * (now % 86_400 - hours * 3600 - minutes * 60 - seconds))
        writer.close()

    await asyncio.gather(*(read() for _ in range(SUBSCRIBERS)))
    return found


def rate(port: int, path: str) -> float:
    """Return the requests per second that a few connections get answered."""
    return asyncio.run(_rate(port, path))


async def _rate(port: int, path: str) -> float:
    request = f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
    count = 0

    async def ask(stop: float) -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection(HOST, port)
        while time.monotonic() < stop:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert head.startswith(b"HTTP/1.1 200"), head
            assert length is not None
            await reader.readexactly(int(length[1]))
            count += 1
        writer.close()

    await asyncio.gather(*(ask(time.monotonic() + 1.0) for _ in range(CONNECTIONS)))
    count, began = 0, time.monotonic()
    await asyncio.gather(*(ask(began + ASK_SECONDS) for _ in range(CONNECTIONS)))
    return count / (time.monotonic() - began)


def fan_out(data: Path) -> Row:
    """Compare the delay of the last of 1,000 subscribers."""
    p99: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(ROUNDS):
        for name, server in (("ours", ours), ("bare", bare)):
            with serving(server, data) as port:
                p99[name].append(float(np.quantile(latencies(port), 0.99)))
    return compare(
        "1,000 subscribers of one worker, p99 from saying to reading", "ms",
        median(p99["ours"]), peer=median(p99["bare"]), peer_name="bare ASGI stream",
        target_ratio=1 / 1.5,
    )  # fmt: skip


def newest(data: Path) -> Row:
    """Compare the rate of requests for the newest forecast."""
    rates: dict[str, list[float]] = {"ours": [], "hello": []}
    for _ in range(ROUNDS):
        with serving(ours, data) as port:
            time.sleep(3.0)
            rates["ours"].append(rate(port, "/forecast?symbol=BTC-USD"))
        with serving(fastapi, data) as port:
            rates["hello"].append(rate(port, "/hello"))
    return compare(
        "GET /forecast, 8 connections", "requests/s", median(rates["ours"]), better="higher",
        peer=median(rates["hello"]), peer_name="FastAPI hello-world", target_ratio=0.8,
    )  # fmt: skip


def history(data: Path) -> Row:
    """Compare the time of a day's history as Arrow."""
    lake, random = Lake(data / "predictions", PREDICTION_SCHEMA), np.random.default_rng(7)
    for first in range(0, DAY_SECONDS, 10_800):
        steps = range(first, first + 10_800)
        times = [START + n * SECOND for n in steps]
        sizes = random.gamma(5.0, 0.2, len(times)).tolist()
        said = [prediction(t, t + 7, size) for t, size in zip(times, sizes, strict=True)]
        lake.write(predictions_to_table(said, 0, list(steps)), "predictions.bench", 0)
    taken: dict[str, list[float]] = {"ours": [], "pyarrow": []}
    url = f"/forecast/history?symbol=BTC-USD&from={START}&format=arrow"
    with serving(ours, data) as port:
        for _ in range(2 * ROUNDS):
            began = time.perf_counter()
            content = httpx.get(f"http://{HOST}:{port}{url}", timeout=60.0).content
            rows = pa.ipc.open_stream(content).read_all().num_rows
            taken["ours"].append(time.perf_counter() - began)
            assert rows >= 3 * DAY_SECONDS
            began = time.perf_counter()
            ds.dataset(data / "predictions" / "symbol=BTC-USD", format="parquet").to_table()
            taken["pyarrow"].append(time.perf_counter() - began)
    return compare(
        "a day's history as Arrow, over HTTP", "ms", 1e3 * median(taken["ours"]),
        peer=1e3 * median(taken["pyarrow"]), peer_name="pyarrow reading the files",
        target_ratio=0.5,
    )  # fmt: skip


def main() -> int:
    """Measure, print and store; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecasts", description=__doc__)
    parser.add_argument("--only", choices=("fan_out", "newest", "history"))
    only = parser.parse_args().only
    rows = []
    for measure in (fan_out, newest, history):
        if only in (None, measure.__name__):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(Path(folder)))
    print(table(rows))
    if only is None:
        write(rows, RESULTS)
    return 1 if missed(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
