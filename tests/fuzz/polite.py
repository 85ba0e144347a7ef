"""Ask steadily, as another client does, and print the 99th percentile: ``python -m ... PORT``.

A process of its own: in the attackers' process it would wait for their turn of the interpreter.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass

PER_SECOND = 200
NEW_EVERY = 20  # one in so many requests opens a connection
BODY = b'{"rows": [{"midprice": 68000.5, "spread": 1.2, "volatility_ratio_60s": 2.0}]}'
TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Served:
    """Represent how a polite client was served: p99 from the planned moment on, and failures."""

    p99_ms: float
    failures: list[str]


def served(port: int, seconds: float, key: str = "") -> Served:
    """Let a polite client ask for some seconds."""
    command = [sys.executable, "-m", "tests.fuzz.polite", str(port), str(seconds), "--key", key]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Served(**json.loads(done.stdout))


def p99(values: list[float]) -> float:
    """Return the 99th percentile: the value that one in a hundred exceeds.

    >>> p99([float(value) for value in range(1, 101)])
    99.0
    """
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def _talk(port: int, seconds: float, key: str) -> Served:
    latencies, failures = [], []
    headers = {"content-type": "application/json", **({"x-api-key": key} if key else {})}
    kept = _line(port)
    began = time.perf_counter()
    for number in range(int(seconds * PER_SECOND)):
        planned = began + number / PER_SECOND
        time.sleep(max(0.0, planned - time.perf_counter()))
        line = _line(port) if number % NEW_EVERY == 0 else kept
        try:
            line.request("POST", "/predict", BODY, headers)
            response = line.getresponse()
            content = response.read()
            if response.status != 200:
                failures.append(f"polite client: {response.status} {content[:200]!r}")
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"polite client: {error!r}")
            line.close()  # the next request opens it again
        # From the planned moment: a client that is held up would otherwise ask less often.
        latencies.append((time.perf_counter() - planned) * 1e3)
        if line is not kept:
            line.close()
    return Served(p99(latencies), failures[:20])


def _line(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)


def main() -> None:
    """Ask, and print the result as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--key", default="")
    options = parser.parse_args()
    found = _talk(options.port, options.seconds, options.key)
    print(json.dumps({"p99_ms": found.p99_ms, "failures": found.failures}))


if __name__ == "__main__":
    main()
