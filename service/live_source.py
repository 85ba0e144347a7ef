"""Open the source of a process that forecasts by itself, where its log ends."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from volatility.dev import standing_market
from volatility.records import Record, TickError, decode
from volatility.settings import Settings
from volatility.streaming import VENUES, last_records, market_from, sources
from volatility.streaming import source_of as plain_source_of
from volatility.streaming.log import TICKS, LocalLog
from volatility.streaming.sources import Event, SourceStatistics

Events = AsyncIterator[list[Event]]

MATCHED = 32  # records of each symbol by which a replay finds where it was


def source_of(
    source: str, settings: Settings, log: LocalLog, data: Path, **options: Any
) -> tuple[Events, dict[str, Any]]:
    """Open a source where the log ends; return it, and the options of ``ingest.run``.

    A simulated market continues for as long as the lake exists: what would have come while nothing
    ran comes at once.
    """
    statistics = SourceStatistics()
    market = market_from(source, options["path"])
    running = {"market": market, "patient": source not in VENUES, "statistics": statistics}
    symbols = options["symbols"]
    if source == "simulate":
        known = {record.symbol: record.time for record in last_records(log)}
        standing = standing_market.standing(data / TICKS, time.time_ns())
        seed = settings.simulate.seed
        return standing_market.stream(standing, seed, known, symbols), running
    if source in VENUES:
        known_records = last_records(log)
        events = plain_source_of(source, settings, statistics, known=known_records, **options)
        return events, running
    if options["path"] is None:
        raise ValueError("source replay needs --path: a lake or recordings")
    speed = float("inf") if options["speed"] == "max" else float(options["speed"])
    whole = sources.replay(options["path"], symbols, math.inf, statistics=statistics)
    return sources.resumed(whole, last_of_each(log), speed), running


def last_of_each(log: LocalLog) -> dict[str, list[Record]]:
    """Read the last records of each symbol in the log, in order."""
    found: dict[str, deque[Record]] = defaultdict(lambda: deque(maxlen=MATCHED))
    starts, ends = log.start_offsets(TICKS), log.end_offsets(TICKS)
    reader = log.reader(TICKS, starts)
    while any(reader.position(p) < end for p, end in ends.items()):
        for message in reader.poll(10_000, 0.1):
            try:
                record = decode(message.value, message.time_ns)
            except TickError:
                continue
            found[record.symbol].append(record)
    reader.close()
    return {symbol: list(records) for symbol, records in found.items()}
