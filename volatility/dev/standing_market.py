"""Stream a simulated market that persists over restarts.

Usage: ``python -m volatility.dev.standing_market``. The compose stack ingests it when no exchange
is reachable. The market began two days ago: ``volatility.dev.first_model`` trains on its past, the
last two hours are sent at once, so that there is something to see, and the rest follows in real
time. It is a deterministic function of its start, which is stored beside the lake. So after a
restart it resumes where the log ends, including everything since, and nothing is lost or
duplicated.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from volatility.files import write_once
from volatility.lake import SIMULATED, Lake, LakeError, claim_market
from volatility.records import to_records
from volatility.settings import SettingsError, load
from volatility.simulation import simulate
from volatility.streaming.log import LogError
from volatility.streaming.sources import Arrived, Event, merge, when_due
from volatility.units import SECOND

FILE = "standing-market.json"
SYMBOLS = ("BTC-USD", "ETH-USD")
PAST_HOURS = 48  # for the first model: usually enough to beat the baselines
# Longer than a feature's memory, so that the first windows are cold in the stream and in the lake.
PAUSE_HOURS = 1
RECENT_HOURS = 2  # sent at once at the start
LAKE = Path("data/ticks")
PARTITIONS = 4


class Market(msgspec.Struct, frozen=True):
    """Represent when the market began, and when its streamed part begins [ns since the epoch]."""

    start_ns: int
    stream_ns: int


def standing(lake: Path, now_ns: int) -> Market:
    """Read the market of a lake, or create one; among several processes, the first one decides.

    Raises
    ------
    LakeError
        When the lake holds a real market.
    """
    claim_market(lake, SIMULATED)
    stream_ns = (now_ns // SECOND - RECENT_HOURS * 3600) * SECOND
    start_ns = stream_ns - (PAST_HOURS + PAUSE_HOURS) * 3600 * SECOND
    content = write_once(lake / FILE, msgspec.json.encode(Market(start_ns, stream_ns)))
    return msgspec.json.decode(content, type=Market)


async def stream(
    market: Market,
    seed: int,
    known: Mapping[str, int],
    symbols: Sequence[str] = SYMBOLS,
    *,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncGenerator[list[Event], None]:
    """Yield the market's records when they are due.

    Parameters
    ----------
    market : Market
    seed : int
    known : mapping of str to int
        Time [ns] of the last record of each symbol in the log. A symbol that is not in it starts
        two hours ago at the earliest.
    symbols : sequence of str
    clock : callable
        Returns the time [ns since the epoch].

    Yields
    ------
    list of Event
        At most 1,024, ordered by (time, symbol).
    """
    # The times of a simulated symbol strictly increase, so a time identifies the position.
    earliest = max(market.stream_ns, clock() - RECENT_HOURS * 3600 * SECOND) - 1
    streams = {
        symbol: _after(
            simulate(symbol, market.start_ns, math.inf, seed), known.get(symbol, earliest)
        )
        for symbol in symbols
    }
    batches = merge(streams)
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        table, times = batch
        events: list[Event] = [Arrived(record) for record in to_records(table)]
        async for part in when_due(events, times, clock, _sleep):
            yield part


async def _sleep(nanoseconds: float) -> None:
    await asyncio.sleep(nanoseconds / SECOND)


def _after(batches: Iterator[pa.RecordBatch], time_ns: int) -> Iterator[pa.RecordBatch]:
    """Skip the rows up to a time."""
    for batch in batches:
        times = batch.column("time").cast(pa.int64()).to_numpy()
        first = int(np.searchsorted(times, time_ns, side="right"))
        if first < len(times):
            yield batch.slice(first)


def main(arguments: list[str] | None = None) -> int:
    """Ingest the market until stopped; return 0, or 1 on failure, with one line that says why."""
    parser = argparse.ArgumentParser(
        prog="python -m volatility.dev.standing_market",
        description="Stream a simulated market into Kafka, and resume it after a restart.",
        epilog="example: python -m volatility.dev.standing_market --metrics-port 9101",
    )
    parser.add_argument("--lake", type=Path, default=LAKE)
    parser.add_argument("--metrics-port", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        _ingest(options.lake, options.metrics_port)
    except (LogError, LakeError, SettingsError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _ingest(lake: Path, metrics_port: int) -> None:
    from volatility.cli import streaming as commands
    from volatility.settings import environment
    from volatility.streaming import last_records, metrics, run
    from volatility.streaming.log import KafkaLog

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it repeats itself
    metrics.serve(metrics_port)
    market = standing(lake, time.time_ns())
    with closing(KafkaLog(environment().kafka_bootstrap_servers)) as log:
        known = {record.symbol: record.time for record in last_records(log)}  # ordered by time
        events = stream(market, load().simulate.seed, known)
        run(
            log,
            events,
            Lake(lake),
            partitions=PARTITIONS,
            market=SIMULATED,
            patient=True,
            stopped=commands.stopping(),
        )


if __name__ == "__main__":
    sys.exit(main())
