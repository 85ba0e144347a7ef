"""Convert the serving measurements to result rows: comparisons with each peer, and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.results import Row, compare
from benchmarks.serving_load import Burst, Load
from benchmarks.serving_names import (
    BARE,
    BENTO,
    CONTRACT,
    HELLO,
    INPUTS,
    OURS,
    USUAL,
    USUAL_ASYNC,
)
from benchmarks.serving_servers import Memory

BOUND_MS = 50.0  # maximum p99 at a sustained rate
LOST_MS = 1000.0  # p99 from which a server is overloaded
DELIVERED = 0.95  # share of the rate that must be answered in time
USUAL_RATIO, HELLO_RATIO = 12.0, 0.8  # minimum throughput relative to these two
HELLO_P99_RATIO = 0.5  # at most twice its p99
BATCH_RATIO = 0.5  # with 24 numbers a row, at most twice as long as the usual design with one
BURST_RATIO = 4.0  # p95 of a burst, relative to the usual design
REASON_RATIO = 0.2  # reasons take at most five times as long as the rest
WHAT = {CONTRACT: "the 4 features of the contract", INPUTS: "the 27 model inputs"}

Ramp = Sequence[tuple[int, Load]]  # requests per second, ascending, and results


@dataclass(frozen=True)
class Found:
    """Represent all measurements.

    Parameters
    ----------
    closed : dict
        Medians over the rounds, by connections and server.
    rounds, round_seconds : int
    inputs : dict
        Results of our server with all model inputs in the row, by connections.
    steady : Load
        Result of our server, open loop.
    steady_rate, steady_seconds : int
    ramp : dict
        Ramps by server.
    bursts : dict
        Bursts by server.
    batches : dict
        Times of requests with ``batch_rows`` rows [ms], by kind of row and server.
    batch_rows : int
    reasons : dict
        Median times with and without reasons [ms], by number of rows.
    ready_seconds : list of float
        From ``bentoml serve`` to ready.
    memory : Memory
    """

    closed: Mapping[int, Mapping[str, Load]]
    rounds: int
    round_seconds: int
    inputs: Mapping[int, Load]
    steady: Load
    steady_rate: int
    steady_seconds: int
    ramp: Mapping[str, Ramp]
    bursts: Mapping[str, Sequence[Burst]]
    batches: Mapping[str, Mapping[str, Sequence[float]]]
    batch_rows: int
    reasons: Mapping[int, tuple[float, float]]
    ready_seconds: Sequence[float]
    memory: Memory


def rows(found: Found) -> list[Row]:
    """Return all rows."""
    return [
        *(row for connections in found.closed for row in closed_rows(found, connections)),
        *steady_rows(found),
        *ramp_rows(found.ramp),
        *burst_rows(found.bursts),
        *batch_rows(found),
        *reason_rows(found),
        *resource_rows(found),
    ]


def closed_rows(found: Found, connections: int) -> list[Row]:
    """Compare throughput and latency at a number of connections."""
    loads = found.closed[connections]
    ours = loads[OURS]
    place = f"closed loop, {connections} connection{'s' if connections > 1 else ''}"
    name = f"{place}, median of {found.rounds} rounds of {found.round_seconds} s"
    wanted = {USUAL: USUAL_RATIO, USUAL_ASYNC: None, HELLO: HELLO_RATIO, BENTO: None, BARE: None}
    faster = [
        compare(name, "requests/s", ours.per_second, better="higher", target_ratio=ratio,
                peer=loads[peer].per_second, peer_name=peer)
        for peer, ratio in wanted.items()
    ]  # fmt: skip
    sooner = [
        compare(f"{place}, p99", "ms", ours.p99_ms, peer=loads[peer].p99_ms, peer_name=peer,
                target_ratio=HELLO_P99_RATIO if peer == HELLO else None)
        for peer in wanted
    ]  # fmt: skip
    middle = compare(f"{place}, p50", "ms", ours.p50_ms, peer=loads[HELLO].p50_ms, peer_name=HELLO)
    whole = found.inputs[connections]
    return [
        *faster,
        *sooner,
        middle,
        answered(place, ours.requests, ours.failed),
        compare(f"{place}, rows of {WHAT[INPUTS]}", "requests/s", whole.per_second,
                better="higher", peer=ours.per_second, peer_name=f"ours, {WHAT[CONTRACT]}"),
        compare(f"{place}, rows of {WHAT[INPUTS]}, p99", "ms", whole.p99_ms),
    ]  # fmt: skip


def steady_rows(found: Found) -> list[Row]:
    """Return the results at a fixed request rate."""
    load = found.steady
    place = f"open loop, {found.steady_rate} requests/s for {found.steady_seconds} s"
    return [
        compare(f"{place}, p99", "ms", load.p99_ms),
        compare(f"{place}, p50", "ms", load.p50_ms),
        answered(place, load.requests, load.failed),
    ]


def answered(place: str, requests: int, failed: int) -> Row:
    """Return a row for the share of requests answered with 200; the target is all of them.

    >>> answered("burst", 100, 1).met
    False
    """
    share = 100.0 * (1.0 - failed / requests)
    name = f"{place}, {requests:,} requests, answered 200"
    return compare(name, "%", share, better="higher", target=100.0)


def kept_up(rate: int, load: Load) -> bool:
    """Return whether a server keeps up: all answered, in time, with a bounded p99."""
    return load.p99_ms <= BOUND_MS and not overrun(rate, load)


def overrun(rate: int, load: Load) -> bool:
    """Return whether requests fail, or arrive faster than they are answered."""
    return bool(load.failed) or load.per_second < DELIVERED * rate or load.p99_ms > LOST_MS


def highest_rate(ramp: Ramp) -> int | None:
    """Return the highest rate up to which a server keeps up; None if it never does."""
    highest = None
    for rate, load in ramp:
        if not kept_up(rate, load):
            break
        highest = rate
    return highest


def ramp_rows(ramp: Mapping[str, Ramp]) -> list[Row]:
    """Compare the highest rates that the servers sustain."""
    name = f"open loop, highest rate of the ramp with p99 <= {BOUND_MS:.0f} ms"
    highest = {server: highest_rate(entries) for server, entries in ramp.items()}
    ours = highest.pop(OURS)
    return [
        compare(name, "requests/s", ours, better="higher", peer=rate, peer_name=server)
        for server, rate in highest.items()
        if ours and rate
    ]


def burst_rows(bursts: Mapping[str, Sequence[Burst]]) -> list[Row]:
    """Compare bursts of simultaneous requests by the median of their p95."""
    p95 = {name: median(_quantile(b.times_ms, 0.95) for b in of) for name, of in bursts.items()}
    ours = bursts[OURS]
    at_once = len(ours[0].times_ms)
    place = f"burst of {at_once} new connections at once"
    return [
        *(
            compare(f"{place}, p95, median of {len(ours)}", "ms", p95[OURS], target_ratio=ratio,
                    peer=p95[peer], peer_name=peer)
            for peer, ratio in ((USUAL, BURST_RATIO), (HELLO, HELLO_P99_RATIO))
        ),
        compare(f"{place}, last answer of the worst of {len(ours)}", "ms",
                max(max(b.times_ms) for b in ours)),
        answered(place, at_once * len(ours), sum(b.failed for b in ours)),
    ]  # fmt: skip


def batch_rows(found: Found) -> list[Row]:
    """Time requests with many rows, including reading the complete response."""
    made = []
    for kind, by_server in found.batches.items():
        ours = by_server[OURS]
        peer = median(by_server[USUAL]) if USUAL in by_server else None
        name = f"{found.batch_rows:,} rows of {WHAT[kind]} in one request"
        made += [
            compare(f"{name}, median of {len(ours)}", "ms", median(ours), peer=peer,
                    peer_name=USUAL if peer else None, target_ratio=BATCH_RATIO if peer else None),
            compare(f"{name}, p95", "ms", _quantile(ours, 0.95)),
        ]  # fmt: skip
    return made


def reason_rows(found: Found) -> list[Row]:
    """Return the time that reasons add to a request, per row."""
    return [
        compare(f"reasons, a row of a request of {rows:,}", "ms",
                max(explained - plain, 1e-6) / rows, target_ratio=REASON_RATIO,
                peer=plain / rows, peer_name="the request without reasons")
        for rows, (explained, plain) in found.reasons.items()
    ]  # fmt: skip


def resource_rows(found: Found) -> list[Row]:
    """Return the resource usage of the service: startup time, and memory after all load."""
    name = f"bentoml serve to ready, median of {len(found.ready_seconds)}"
    memory = found.memory
    return [
        compare(name, "s", median(found.ready_seconds)),
        compare("resident memory, worker", "MiB", memory.worker, target=300.0),
        compare("resident memory, its registry watcher", "MiB", memory.watcher),
        compare("resident memory, BentoML's supervisor", "MiB", memory.supervisor),
    ]


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share))
