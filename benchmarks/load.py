"""Load-test a service: bursts of 100 simultaneous requests, then an open-loop ramp to overload.

Run ``python -m benchmarks.load`` (or ``make load``). It starts ``bentoml serve`` with a champion
of the shipped size on a free port; with ``--url http://localhost:3000`` it tests a service that
is already running on this machine. It writes ``reports/load.html`` and its figures as
``load.json``. Exit code 1: a request of a burst failed, or the service cannot sustain any rate.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import numpy as np
from tqdm import tqdm

from benchmarks import load_page, serving, serving_load
from benchmarks.serving_load import Burst, Load
from benchmarks.serving_names import OURS
from benchmarks.serving_rows import BOUND_MS, highest_rate
from benchmarks.serving_servers import HOST, Server, laid_out
from benchmarks.serving_servers import serving as started
from volatility.features import INDEX, feature_batches
from volatility.settings import Features
from volatility.simulation import START_PRICES, simulate

SYMBOL, START_NS, SEED = next(iter(START_PRICES)), 1_767_571_200_000_000_000, 7
HOURS = 0.5  # of market data: enough rows that all requests of a burst differ
SENT = (
    "midprice", "spread", "trade_intensity", "volatility_30s", "realised_volatility_60s",
    "realised_volatility_300s", "realised_volatility_900s", "mean_trade_intensity_900s",
)  # fmt: skip
AT_ONCE = serving.AT_ONCE
SLO_MS = 15.0  # p99 limit of the alert PredictionLatency
HERE = {"localhost", HOST}


class LoadError(Exception):
    """Report why a service cannot be load-tested."""


@dataclass(frozen=True)
class Found:
    """Represent the results of a load test.

    Parameters
    ----------
    model : str
        Serving variant and version.
    bursts : sequence of Burst
    ramp : sequence of (int, Load)
        Requests per second, ascending, and results; the last rate may have overloaded it.
    """

    model: str
    bursts: Sequence[Burst]
    ramp: Sequence[tuple[int, Load]]

    @property
    def failed_at_once(self) -> int:
        """Requests of all bursts that were not answered with 200."""
        return sum(burst.failed for burst in self.bursts)

    @property
    def burst_p95_ms(self) -> float:
        """Median of the bursts' p95."""
        return median(float(np.quantile(burst.times_ms, 0.95)) for burst in self.bursts)

    @property
    def keeps_up(self) -> int | None:
        """Highest rate with all requests answered in time and p99 within ``BOUND_MS``."""
        return highest_rate(self.ramp)

    @property
    def within_slo(self) -> int | None:
        """Highest rate up to which p99 also meets the objective."""
        kept = self.keeps_up or 0
        highest = None
        for rate, load in self.ramp:
            if rate > kept or load.p99_ms > SLO_MS:
                break
            highest = rate
        return highest

    @property
    def passed(self) -> bool:
        """Whether all bursts were answered completely and some rate was sustained."""
        return not self.failed_at_once and self.keeps_up is not None


def bodies() -> list[bytes]:
    """Return requests of one row each, from half an hour of a simulated market."""
    market = simulate(SYMBOL, START_NS, HOURS, SEED)
    rows = np.concatenate([part.copy() for _, part in feature_batches(market, Features())])
    columns = [INDEX[name] for name in SENT]
    warm = rows[~np.isnan(rows[:, columns]).any(axis=1)][:, columns]
    chosen = warm[np.linspace(0, len(warm) - 1, AT_ONCE).astype(int)]
    return [json.dumps({"rows": [dict(zip(SENT, row, strict=True))]}).encode()
            for row in chosen.tolist()]  # fmt: skip


def running(url: str) -> Server:
    """Return a service that is already running on this machine.

    Raises
    ------
    LoadError
        If the address is on another machine, or no ready service responds there.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in HERE:
        raise LoadError(f"{url} is not on this machine: give http://localhost:PORT")
    port = parts.port or 80
    connection = HTTPConnection(HOST, port, timeout=serving_load.TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except OSError as error:
        raise LoadError(f"nothing answers at {url}: {error}; start `bentoml serve`") from error
    finally:
        connection.close()
    if status != 200:
        raise LoadError(f"{url} is not ready: /readyz answers {status}")
    return Server(OURS, port, 0, 0.0)


@contextmanager
def service(url: str | None, folder: Path) -> Iterator[Server]:
    """Yield the service at an address, or a new one for the duration of the block."""
    if url is not None:
        yield running(url)
        return
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    serving.prepare(folder)
    with laid_out(), started(OURS, folder) as server:
        yield server


def measure(server: Server, folder: Path, ramp_seconds: int) -> Found:
    """Send the bursts, then the ramp."""
    sent = bodies()
    try:
        answer = serving_load.post_ms(server, sent[0], 1)[1]
    except RuntimeError as error:  # for example, a key is required
        raise LoadError(f"a single request is refused: {error}") from error
    with tqdm(unit=" stage", disable=None) as progress:

        def tell(stage: str) -> None:
            progress.set_description(stage)
            progress.update()

        tell(f"bursts of {AT_ONCE}")
        bursts = serving.measure_bursts({OURS: server}, sent)[OURS]
        lines = folder / "rows.lines"
        lines.write_bytes(b"\n".join(sent) + b"\n")
        ramp = serving.measure_ramp({OURS: server}, lines, ramp_seconds, tell)[OURS]
    return Found(f"{answer['model_variant']} version {answer['model_version']}", bursts, ramp)


def summary(found: Found) -> str:
    """Summarise the results in one line."""
    number = len(found.bursts) * len(found.bursts[0].times_ms)
    lost = found.failed_at_once
    answered = "all answered" if not lost else f"{lost} of {number} NOT answered"
    kept = f"keeps up to {found.keeps_up:,}/s" if found.keeps_up else "keeps up with no rate"
    if found.keeps_up == found.ramp[-1][0]:
        kept += ", the highest tried"
    slo = f"up to {found.within_slo:,}/s" if found.within_slo else "at no rate"
    return (
        f"burst of {len(found.bursts[0].times_ms)}: {answered}, p95 {found.burst_p95_ms:.0f} ms; "
        f"{kept} (p99 <= {BOUND_MS:.0f} ms), {slo} within {SLO_MS:.0f} ms"
    )


def main() -> None:
    """Run the test, write the page, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="URL of a running service; by default one is started")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="(%(default)s)")
    parser.add_argument("--ramp-seconds", type=int, default=5, help="a rate (%(default)s)")
    options = parser.parse_args()
    needed = [check for check in serving_load.tools() if check.name == "vegeta"]
    lacking = serving_load.missing(needed)
    if lacking:
        sys.exit(lacking)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stop the service too
    with tempfile.TemporaryDirectory(prefix="volatility-load-") as name:
        folder = Path(name)
        try:
            with service(options.url, folder) as server:
                found = measure(server, folder, options.ramp_seconds)
        except LoadError as error:
            sys.exit(f"Error: {error}")
    page = load_page.write_page(found, summary(found), SLO_MS, options.reports)
    print(f"{summary(found)}; {page}")
    sys.exit(not found.passed)


if __name__ == "__main__":
    main()
