"""Keep one simulated market going, over restarts: ``python -m streaming.standing_market``.

It is what the compose stack ingests where no exchange is in reach. The market began two days ago:
``streaming.first_model`` trains on its past, its last two hours come at once, so that there is
something to see, and the rest comes as it happens. It is an exact function of its start, which
lies beside the lake; so after a restart it goes on where the log ends, with all that has passed
meanwhile, and nothing is lost or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from streaming.events import Arrived, Event
from streaming.log import LogError
from streaming.merge import merge
from volatility.columns import to_records
from volatility.kernel_state import SECOND
from volatility.lake import Lake, LakeError
from volatility.settings import SettingsError, load
from volatility.simulate import simulate

FILE = "standing-market.json"
SYMBOLS = ("BTC-USD", "ETH-USD")
PAST_HOURS = 48  # the first model's: enough for it to beat the baselines, if not always
# Longer than a feature's memory: the stream's first windows are cold, and so are the lake's.
PAUSE_HOURS = 1
RECENT_HOURS = 2  # in the log from the start
MAX_EVENTS = 1024  # in one list
LAKE = Path("data/ticks")
PARTITIONS = 4


class Market(msgspec.Struct, frozen=True):
    """Say when the market began, and from when on it is streamed [ns since the epoch]."""

    start_ns: int
    stream_ns: int


def standing(lake: Path, now_ns: int) -> Market:
    """Read the market of a lake, or let one begin; of several processes the first decides."""
    file = lake / FILE
    if not file.exists():
        stream_ns = (now_ns // SECOND - RECENT_HOURS * 3600) * SECOND
        start_ns = stream_ns - (PAST_HOURS + PAUSE_HOURS) * 3600 * SECOND
        lake.mkdir(parents=True, exist_ok=True)
        partial = lake / f".{FILE}.{os.getpid()}"
        partial.write_bytes(msgspec.json.encode(Market(start_ns, stream_ns)))
        with suppress(FileExistsError):
            os.link(partial, file)
        partial.unlink()
    return msgspec.json.decode(file.read_bytes(), type=Market)


async def stream(
    market: Market,
    seed: int,
    known: Mapping[str, int],
    symbols: Sequence[str] = SYMBOLS,
    *,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncGenerator[list[Event], None]:
    """Yield the market's records when their time has come.

    Parameters
    ----------
    market : Market
    seed : int
    known : mapping of str to int
        Time [ns] of the last record of each symbol that the log holds; a symbol that it does not
        hold begins two hours ago at the earliest.
    symbols : sequence of str
    clock : callable
        Gives the time [ns since the epoch].

    Yields
    ------
    list of Event
        At most 1,024, ordered by (time, symbol).
    """
    # Each record of a simulated symbol is later than the one before it: the time tells all.
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
        start = 0
        while start < len(events):
            now = clock()
            stop = min(int(np.searchsorted(times, now, side="right")), start + MAX_EVENTS)
            if stop > start:
                yield events[start:stop]
                start = stop
            else:
                await asyncio.sleep((int(times[start]) - now) / SECOND)


def _after(batches: Iterator[pa.RecordBatch], time_ns: int) -> Iterator[pa.RecordBatch]:
    """Leave out the rows up to a time."""
    for batch in batches:
        times = batch.column("time").cast(pa.int64()).to_numpy()
        first = int(np.searchsorted(times, time_ns, side="right"))
        if first < len(times):
            yield batch.slice(first)


def main(arguments: list[str] | None = None) -> int:
    """Ingest the market until stopped; 0 stopped, 1 it failed and one line says why."""
    parser = argparse.ArgumentParser(
        prog="python -m streaming.standing_market",
        description="Bring one simulated market into Kafka, and go on with it after a restart.",
        epilog="example: python -m streaming.standing_market --metrics-port 9101",
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
    from streaming import commands, metrics
    from streaming.ingest import last_records, run
    from streaming.kafka_log import KafkaLog
    from volatility.settings import environment

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
            patient=True,
            stopped=commands.stopping(),
        )


if __name__ == "__main__":
    sys.exit(main())
