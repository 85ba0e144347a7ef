"""Benchmark the service against common alternatives, with one worker each.

Run ``python -m benchmarks.serving`` (or ``make bench-serving``). It starts all servers on free
ports of the loopback address, ours as ``bentoml serve`` with a champion of the shipped size in a
separate registry, and loads them in turn, round by round, so that other load on the machine
affects all of them. It prints a table and writes ``benchmarks/results/serving.json`` and the page
``reports/serving.html``. The load generators share the machine's cores with the servers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from benchmarks import results, serving_load, serving_page, serving_rows
from benchmarks.results import Row, compare
from benchmarks.serving_load import Burst, Load
from benchmarks.serving_names import CONTRACT, INPUTS, OURS, USUAL, USUAL_ASYNC
from benchmarks.serving_rows import Found
from benchmarks.serving_servers import COMMANDS, ROOT, Server, laid_out, memory, serving

RESULTS = Path(__file__).parent / "results" / "serving.json"
CONNECTIONS = (1, 8)
DIFFERENT = 64  # distinct rows, sent in turn
STARTS = 3
WARM_UP_SECONDS = 1
STEADY_RATE = 500
RATES = (100, 200, 500, 1000, 2000, 3000, 4000, 6000, 8000, 12000)
AT_ONCE, BURSTS = 100, 15
BATCHES = 40
PACKAGES = ("bentoml", "fastapi", "uvicorn", "uvloop", "scikit-learn", "pandas")

Servers = Mapping[str, Server]


class Requests:
    """Represent the rows to send, and the files from which the load generators read them.

    Parameters
    ----------
    folder : Path
        Folder written by ``benchmarks.serving_models``.
    """

    def __init__(self, folder: Path) -> None:
        content = {kind: json.loads((folder / f"{kind}.json").read_text()) for kind in _KINDS}
        self.rows: dict[str, list[dict[str, float]]] = {k: v["rows"] for k, v in content.items()}
        self.scores: dict[str, list[float]] = {k: v["scores"] for k, v in content.items()}
        self.files = {kind: folder / f"{kind}.lines" for kind in _KINDS}
        for kind, file in self.files.items():
            file.write_bytes(b"".join(body + b"\n" for body in self.bodies(kind, DIFFERENT)))

    def bodies(self, kind: str, count: int) -> list[bytes]:
        """Return ``count`` bodies of one row each, with rows spread over the day."""
        rows = self.rows[kind]
        return [_body([rows[i * len(rows) // count]]) for i in range(count)]

    def batch(self, kind: str) -> bytes:
        """Return the body with all rows."""
        return _body(self.rows[kind])


_KINDS = (CONTRACT, INPUTS)


def prepare(folder: Path) -> Requests:
    """Create the models and the requests in a separate process."""
    command = [sys.executable, "-m", "benchmarks.serving_models", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return Requests(folder)


def start(stack: ExitStack, folder: Path) -> tuple[dict[str, Server], list[float]]:
    """Start all servers; start ours several times to time it."""
    ready = []
    for _ in range(STARTS - 1):
        with serving(OURS, folder) as server:
            ready.append(server.ready_seconds)
    servers = {name: stack.enter_context(serving(name, folder)) for name in COMMANDS}
    return servers, [*ready, servers[OURS].ready_seconds]


def verify(servers: Servers, requests: Requests) -> None:
    """Check that the service returns the model's scores, bit for bit, before timing it.

    Raises
    ------
    RuntimeError
        If it does not.
    """
    for kind in _KINDS:
        answer = serving_load.post_ms(servers[OURS], requests.batch(kind), 1)[1]
        if answer["scores"] != requests.scores[kind] or answer["model_variant"] != "ml":
            raise RuntimeError(f"the scores of the {kind} rows differ from the model's")
    peer = serving_load.post_ms(servers[USUAL], requests.batch(CONTRACT), 1)[1]
    if len(set(peer["scores"])) < DIFFERENT:
        raise RuntimeError("the usual design does not score the rows sent")


def measure_closed(
    servers: Servers, requests: Requests, rounds: int, seconds: int, tell: Callable[[str], None]
) -> tuple[dict[int, dict[str, Load]], dict[int, Load]]:
    """Load each server in turn, round by round, in rotating order.

    Returns
    -------
    (dict, dict)
        Results by connections and server, and of ours with all model inputs by connections.
    """
    contenders = [(name, CONTRACT) for name in servers] + [(OURS, INPUTS)]
    for name, kind in contenders:
        serving_load.closed(servers[name], requests.files[kind], max(CONNECTIONS), WARM_UP_SECONDS)
    taken: dict[tuple[str, str, int], list[Load]] = {}
    for turn in range(rounds):
        tell(f"closed loop, round {turn + 1} of {rounds}")
        first = turn % len(contenders)
        for name, kind in [*contenders[first:], *contenders[:first]]:
            for connections in CONNECTIONS:
                load = serving_load.closed(
                    servers[name], requests.files[kind], connections, seconds
                )
                taken.setdefault((name, kind, connections), []).append(load)
    middle = {key: serving_load.middle(loads) for key, loads in taken.items()}
    return (
        {c: {name: middle[name, CONTRACT, c] for name in servers} for c in CONNECTIONS},
        {c: middle[OURS, INPUTS, c] for c in CONNECTIONS},
    )


def measure_ramp(
    servers: Servers, bodies: Path, seconds: int, tell: Callable[[str], None]
) -> dict[str, list[tuple[int, Load]]]:
    """Raise the rate equally for all servers, until each is overloaded.

    A server that fails to keep up for the first time is tried again, and the better result counts,
    so that a stall of the machine is not attributed to the server.
    """
    ramp: dict[str, list[tuple[int, Load]]] = {name: [] for name in servers}
    going = list(servers)
    for rate in RATES:
        tell(f"ramp, {rate} requests/s")
        for name in list(going):
            kept = all(serving_rows.kept_up(*entry) for entry in ramp[name])
            load = serving_load.open_loop(servers[name], bodies, rate, seconds)
            if kept and not serving_rows.kept_up(rate, load):
                again = serving_load.open_loop(servers[name], bodies, rate, seconds)
                load = min(load, again, key=lambda one: (one.failed, one.p99_ms))
            ramp[name].append((rate, load))
            if serving_rows.overrun(rate, load):
                going.remove(name)
    return ramp


def measure_bursts(servers: Servers, bodies: Sequence[bytes]) -> dict[str, list[Burst]]:
    """Send bursts to each server in turn."""
    taken: dict[str, list[Burst]] = {name: [] for name in servers}
    for _ in range(BURSTS):
        for name, server in servers.items():
            taken[name].append(serving_load.burst(server, bodies))
    return taken


def measure_batches(servers: Servers, requests: Requests) -> dict[str, dict[str, list[float]]]:
    """Send all rows in one request to ours and to the usual design, in turn."""
    contenders = [(CONTRACT, OURS), (CONTRACT, USUAL), (INPUTS, OURS)]
    taken: dict[str, dict[str, list[float]]] = {kind: {} for kind in _KINDS}
    for _ in range(4):
        for kind, name in contenders:
            times_ms, _answer = serving_load.post_ms(
                servers[name], requests.batch(kind), BATCHES // 4
            )
            taken[kind].setdefault(name, []).extend(times_ms)
    return taken


def measure_reasons(server: Server, requests: Requests) -> dict[int, tuple[float, float]]:
    """Time requests with and without reasons, in turn; return medians [ms] by number of rows."""
    medians = {}
    for rows in (1, len(requests.rows[INPUTS])):
        body = _body(requests.rows[INPUTS][:rows])
        taken: dict[str, list[float]] = {"?explain=true": [], "?explain=false": []}
        for _ in range(BATCHES):
            for query, times_ms in taken.items():
                times_ms.extend(serving_load.post_ms(server, body, 1, query)[0])
        explained, plain = (median(times_ms) for times_ms in taken.values())
        medians[rows] = explained, plain
    return medians


def measure(folder: Path, options: argparse.Namespace) -> Found:
    """Run all benchmarks; ``folder`` is temporary."""
    with ExitStack() as stack:
        progress = stack.enter_context(tqdm(unit=" stage", disable=None))

        def tell(stage: str) -> None:
            progress.set_description(stage)
            progress.update()

        tell("models")
        requests = prepare(folder)
        stack.enter_context(laid_out())
        tell("start")
        servers, ready = start(stack, folder)
        verify(servers, requests)
        closed, inputs = measure_closed(
            servers, requests, options.rounds, options.round_seconds, tell
        )
        five = {name: server for name, server in servers.items() if name != USUAL_ASYNC}
        tell(f"{STEADY_RATE} requests/s")
        bodies = requests.files[CONTRACT]
        steady = serving_load.open_loop(servers[OURS], bodies, STEADY_RATE, options.steady_seconds)
        ramp = measure_ramp(five, bodies, options.ramp_seconds, tell)
        tell("bursts and batches")
        bursts = measure_bursts(five, requests.bodies(CONTRACT, AT_ONCE))
        batches = measure_batches(servers, requests)
        reasons = measure_reasons(servers[OURS], requests)
        return Found(
            closed=closed,
            rounds=options.rounds,
            round_seconds=options.round_seconds,
            inputs=inputs,
            steady=steady,
            steady_rate=STEADY_RATE,
            steady_seconds=options.steady_seconds,
            ramp=ramp,
            bursts=bursts,
            batches=batches,
            batch_rows=len(requests.rows[CONTRACT]),
            reasons=reasons,
            ready_seconds=ready,
            memory=memory(servers[OURS]),
        )


def machine() -> Row:
    """Describe the machine and its load."""
    model = platform.processor() or platform.machine()
    description = Path("/proc/cpuinfo")
    if description.exists():
        names = [s for s in description.read_text().splitlines() if s.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    text = (
        f"machine: {os.cpu_count()} cores, {model}, {platform.system()}, "
        f"Python {platform.python_version()}, {packages}; load before the start"
    )
    return compare(text, "processes", max(os.getloadavg()[0], 0.01))


def main() -> None:
    """Run all benchmarks, print the table, and write it with the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON (%(default)s)")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="(%(default)s)")
    lengths = {"rounds": 6, "round-seconds": 2, "steady-seconds": 60, "ramp-seconds": 3}
    for name, default in lengths.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    options = parser.parse_args()
    lacking = serving_load.missing(serving_load.tools())
    if lacking:
        sys.exit(lacking)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stop the servers too
    began = time.monotonic()
    rows = [machine()]
    with tempfile.TemporaryDirectory(prefix="volatility-bench-") as name:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(name) / 'mlflow.db'}"
        found = measure(Path(name), options)
    rows += serving_rows.rows(found)
    results.write(rows, options.output)
    page = serving_page.write_page(rows, found, options.reports)
    promised = [row for row in rows if row.met is not None]
    print(results.table(rows))
    print(f"{len(promised) - len(results.missed(rows))} of {len(promised)} targets met, "
          f"{time.monotonic() - began:.0f} s; {page}")  # fmt: skip


def _body(rows: Any) -> bytes:
    return json.dumps({"rows": rows}).encode()


if __name__ == "__main__":
    main()
