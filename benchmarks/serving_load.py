"""Load a server and time responses: closed loop (``wrk``), open loop (``vegeta``), bursts, batches.

Closed loop: each connection sends its next request after a response, so the server sets the pace.
Open loop: requests are sent at a fixed rate, like those of independent clients, whether or not the
server keeps up, and time spent waiting for a busy server counts.
"""

from __future__ import annotations

import base64
import gc
import json
import selectors
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving_servers import HOST, Server
from volatility.cli.doctor import Check

SCRIPT = Path(__file__).with_name("serving.lua")
GO_FOLDER = Path.home() / "go" / "bin"  # default target of `go install`
VEGETA = "github.com/tsenart/vegeta/v12@latest"
MOST_AT_ONCE = 256  # maximum requests in flight, at which an open loop waits
TIMEOUT_SECONDS = 10.0
JSON = "application/json"


@dataclass(frozen=True)
class Load:
    """Represent the measurements of one run.

    Parameters
    ----------
    per_second : float
        Requests answered per second.
    p50_ms, p99_ms : float
        Quantiles of the time from request to response.
    requests, failed : int
        Requests sent; requests answered with an error or not at all.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    requests: int
    failed: int


@dataclass(frozen=True)
class Burst:
    """Represent the response times of simultaneous requests [ms], and the number without a 200."""

    times_ms: list[float]
    failed: int


def tools() -> list[Check]:
    """Check for the two load generators."""
    wanted = {
        "wrk": "apt-get install wrk (macOS: brew install wrk)",
        "vegeta": f"go install {VEGETA} (macOS: brew install vegeta)",
    }
    return [Check(name, bool(_tool(name)), "", remedy) for name, remedy in wanted.items()]


def missing(checks: Sequence[Check]) -> str:
    """Return one line per missing tool that says how to install it.

    >>> print(missing([Check("wrk", False, "", "apt-get install wrk")]))
    wrk is missing; how to get it: apt-get install wrk
    """
    return "\n".join(
        f"{check.name} is missing; how to get it: {check.remedy}"
        for check in checks
        if not check.ok
    )


def closed(server: Server, bodies: Path, connections: int, seconds: int) -> Load:
    """Keep ``connections`` connections busy for some seconds, sending a file's lines in turn."""
    command = [
        _tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT), server.url,
        "--", str(bodies),
    ]  # fmt: skip
    return read_wrk(_output(command))


def read_wrk(output: str) -> Load:
    """Parse the output of ``serving.lua``.

    Raises
    ------
    RuntimeError
        If there is no output, or no request was answered.
    """
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"wrk said: {output[-300:]}")
    found = json.loads(lines[-1])
    if not found["requests"]:
        raise RuntimeError("no request was answered")
    return Load(
        per_second=found["requests"] / (found["microseconds"] / 1e6),
        p50_ms=found["p50"] / 1e3,
        p99_ms=found["p99"] / 1e3,
        requests=found["requests"],
        failed=found["failed"],
    )


def open_loop(server: Server, bodies: Path, rate: int, seconds: int) -> Load:
    """Send ``rate`` requests per second for some seconds, using a file's lines in turn."""
    vegeta = _tool("vegeta")
    name = f"{server.port}-{rate}"
    targets, results = bodies.with_name(f"{name}.targets"), bodies.with_name(f"{name}.results")
    targets.write_text("".join(_target(server, line) for line in bodies.read_bytes().splitlines()))
    _output(
        [
            vegeta, "attack", "-format=json", f"-targets={targets}", f"-rate={rate}/1s",
            f"-duration={seconds}s", f"-timeout={TIMEOUT_SECONDS}s",
            f"-max-workers={MOST_AT_ONCE}", f"-output={results}",
        ]
    )  # fmt: skip
    output = _output([vegeta, "report", "-type=json", str(results)])
    results.unlink()
    return read_vegeta(output)


def read_vegeta(output: str) -> Load:
    """Parse the output of ``vegeta report -type=json``."""
    found = json.loads(output)
    return Load(
        per_second=found["throughput"],
        p50_ms=found["latencies"]["50th"] / 1e6,
        p99_ms=found["latencies"]["99th"] / 1e6,
        requests=found["requests"],
        failed=found["requests"] - found["status_codes"].get("200", 0),
    )


def burst(server: Server, bodies: Sequence[bytes]) -> Burst:
    """Send all bodies at once, each on its own new connection.

    Times are measured from the start of the burst, so that they include connecting and waiting
    for earlier requests.
    """
    times_ms, failed = [], 0
    gc.disable()  # a collection here would be attributed to the server
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for body in bodies:
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((HOST, server.port))
            selector.register(one, selectors.EVENT_WRITE, [_request(body), b""])
        while selector.get_map():
            ready = selector.select(TIMEOUT_SECONDS)
            if not ready:
                raise RuntimeError(f"{len(selector.get_map())} requests were not answered")
            for key, _ in ready:
                answer = _advance(selector, key)
                if answer is not None:
                    times_ms.append((time.perf_counter() - began) * 1e3)
                    failed += not answer.startswith(b"HTTP/1.1 200 ")
    gc.enable()
    return Burst(times_ms, failed)


def post_ms(server: Server, body: bytes, times: int, query: str = "") -> tuple[list[float], Any]:
    """Send one body several times over one connection; return the times [ms] and the response."""
    connection = HTTPConnection(HOST, server.port, timeout=TIMEOUT_SECONDS)
    taken, content = [], b""
    for _ in range(times):
        began = time.perf_counter()
        connection.request("POST", f"/predict{query}", body, {"Content-Type": JSON})
        response = connection.getresponse()
        content = response.read()
        taken.append((time.perf_counter() - began) * 1e3)
        if response.status != 200:
            raise RuntimeError(f"{server.name} answers {response.status}: {content[:200]!r}")
    connection.close()
    return taken, json.loads(content)


def middle(loads: Sequence[Load]) -> Load:
    """Return the medians of several runs, and the sums of their requests and failures."""
    return Load(
        per_second=median(load.per_second for load in loads),
        p50_ms=median(load.p50_ms for load in loads),
        p99_ms=median(load.p99_ms for load in loads),
        requests=sum(load.requests for load in loads),
        failed=sum(load.failed for load in loads),
    )


def _advance(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> bytes | None:
    """Send or receive what is possible now; return the response once the server has closed."""
    one: Any = key.fileobj
    try:
        if key.data[0]:
            key.data[0] = key.data[0][one.send(key.data[0]) :]
            if not key.data[0]:
                selector.modify(one, selectors.EVENT_READ, key.data)
            return None
        part = one.recv(65536)
    except OSError:
        part, key.data[1] = b"", b""
    key.data[1] += part
    if part:
        return None
    selector.unregister(one)
    one.close()
    return bytes(key.data[1])


def _request(body: bytes) -> bytes:
    head = (
        f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {JSON}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _target(server: Server, body: bytes) -> str:
    target = {
        "method": "POST",
        "url": server.url,
        "header": {"Content-Type": [JSON]},
        "body": base64.b64encode(body).decode(),
    }
    return json.dumps(target) + "\n"


def _tool(name: str) -> str:
    return shutil.which(name) or shutil.which(name, path=str(GO_FOLDER)) or ""


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {done.stderr.strip()[-300:]}")
    return done.stdout
