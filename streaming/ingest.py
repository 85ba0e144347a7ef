"""Bring events from a source into the log; what could not be brought is counted and named."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from streaming import metrics
from streaming.dead_letter import bury
from streaming.feed import GAP_REASONS
from streaming.log import DEAD_LETTER, TICKS, EventLog, LogError, Writer
from streaming.sources import Arrived, Event, Gap, Reconnected, Rejected
from volatility.lake import Lake, LakeError
from volatility.settings import Settings
from volatility.tick import Record, Tick, TickError, decode, encode

logger = logging.getLogger(__name__)

MEASURE_SECONDS = 0.5
FLUSH_SECONDS = 60.0
PATIENT_RECORDS = 100_000  # pending; a source that can wait is asked for more below it
PATIENT_SECONDS = 0.02
BUFFER_FULL = "buffer full"
LAST_RECORDS = 5_000  # of each partition, in which the last of each symbol is looked for

Events = AsyncIterator[list[Event]]


class Ingest:
    """Append events to the log.

    While the broker is away, records wait in the writer's queue, in order; past its bound they
    are lost, counted, and named in the ledger as a gap of their symbol.
    """

    def __init__(self, writer: Writer, lake: Lake) -> None:
        self._writer, self._lake = writer, lake
        self._lost: dict[str, tuple[int, int, int]] = {}
        self._gaps: list[Gap] = []  # the ledger has none of these yet
        self._waiting_since = 0.0
        self._measured = 0.0
        self.records = 0
        for reason in (*GAP_REASONS, BUFFER_FULL):
            metrics.gaps.labels(reason)  # from 0 on: Prometheus sees no increase in a first value

    def take(self, events: list[Event]) -> None:
        """Append what arrived, bury what was rejected, write gaps to the ledger."""
        for event in events:
            if isinstance(event, Arrived):
                self._append(event.record)
            elif isinstance(event, Rejected):
                metrics.rejected_ticks.inc()
                self._bury(event)
            elif isinstance(event, Gap):
                self._enter(event)
            elif isinstance(event, Reconnected):
                metrics.reconnects.inc()
        self._measure()

    def finish(self) -> None:
        """Name what was lost, and wait until the rest is in the log.

        Raises
        ------
        LogError
            When the broker did not take it in time.
        LakeError
            When the ledger has no room for a gap.
        """
        for symbol in list(self._lost):
            self._name(symbol)
        self._writer.flush(FLUSH_SECONDS)
        self._enter_all()

    def _append(self, record: Record) -> None:
        symbol = record.symbol
        try:
            self._writer.append(TICKS, symbol.encode(), encode(record))
        except LogError:
            start, _, count = self._lost.get(symbol, (record.time, 0, 0))
            self._lost[symbol] = (start, record.time, count + 1)
            metrics.dropped_ticks.inc()
            return
        if symbol in self._lost:
            self._name(symbol)
        self.records += 1
        if isinstance(record, Tick):
            metrics.ticks.labels(symbol).inc()
            if record.received is not None:
                metrics.ingest_latency.observe(max(record.received - record.time, 0) / 1e9)

    def _bury(self, event: Rejected) -> None:
        try:
            bury(self._writer, None, event.raw, event.reason)
        except LogError:
            metrics.dropped_ticks.inc()

    def _name(self, symbol: str) -> None:
        start, stop, count = self._lost.pop(symbol)
        logger.error("%s: %d records lost: the broker was away for too long", symbol, count)
        self._enter(Gap(symbol, start, stop, BUFFER_FULL, {"lost": count}))

    def _enter(self, gap: Gap) -> None:
        """Write a gap to the ledger; a full disk must not stop the ticks, so it waits then."""
        metrics.gaps.labels(gap.reason).inc()
        waiting = bool(self._gaps)
        self._gaps.append(gap)
        try:
            self._enter_all()
        except LakeError as error:
            if not waiting:
                logger.error("gaps wait for the ledger: %s", error)

    def _enter_all(self) -> None:
        while self._gaps:
            gap = self._gaps[0]
            self._lake.record_gap(gap.symbol, gap.start_ns, gap.stop_ns, gap.reason, **gap.detail)
            del self._gaps[0]

    def _measure(self) -> None:
        now = time.monotonic()
        if now - self._measured < MEASURE_SECONDS:
            return
        self._measured = now
        with suppress(LakeError):
            self._enter_all()
        waiting = self._writer.pending()
        if not waiting:
            self._waiting_since = now
        metrics.buffered_ticks.set(waiting)
        metrics.buffer_age.set(now - self._waiting_since)


def run(
    log: EventLog,
    events: Events,
    lake: Lake,
    *,
    partitions: int,
    patient: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Ingest until the source ends or ``stopped``, then flush; give the records appended.

    A ``patient`` source can wait: while many records are pending it is not asked for more, and
    none is lost, however long the broker is away.
    """
    log.create(TICKS, partitions)
    log.create(DEAD_LETTER, 1)
    writer = log.writer()
    work = Ingest(writer, lake)
    try:
        asyncio.run(_pump(work, events, writer if patient else None, stopped))
        work.finish()
    finally:
        writer.close()
    return work.records


def last_records(log: EventLog) -> list[Record]:
    """Read the last tick and the last heartbeat of each symbol from the end of the log."""
    if not log.partitions(TICKS):
        return []
    starts, ends = log.start_offsets(TICKS), log.end_offsets(TICKS)
    offsets = {p: max(starts[p], end - LAST_RECORDS) for p, end in ends.items() if end > starts[p]}
    found: dict[tuple[str, type], Record] = {}
    if not offsets:
        return []
    reader = log.reader(TICKS, offsets)
    try:
        deadline = time.monotonic() + FLUSH_SECONDS
        while any(reader.position(p) < ends[p] for p in offsets):
            for message in reader.poll(LAST_RECORDS, MEASURE_SECONDS):
                with suppress(TickError):
                    record = decode(message.value)
                    found[record.symbol, type(record)] = record
            if time.monotonic() > deadline:
                raise LogError("the topic ticks cannot be read; is the broker up?")
    finally:
        reader.close()
    return sorted(found.values(), key=lambda record: record.time)


async def _pump(
    work: Ingest, events: Events, awaited: Writer | None, stopped: Callable[[], bool]
) -> None:
    async def read() -> None:
        async for batch in events:
            work.take(batch)
            await asyncio.sleep(0)
            while awaited and awaited.pending() > PATIENT_RECORDS:  # noqa: ASYNC110  no event tells
                await asyncio.sleep(PATIENT_SECONDS)

    reading = asyncio.ensure_future(read())
    while not reading.done() and not stopped():
        await asyncio.wait([reading], timeout=0.1)
    if not reading.done():
        reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading


def source_of(source: str, settings: Settings, **options: Any) -> Events:
    """Open the source that the command line names."""
    from streaming import sources

    symbols = tuple(s.strip() for s in options["symbols"].split(",") if s.strip())
    speed = float("inf") if options["speed"] == "max" else float(options["speed"])
    if source == "coinbase":
        return sources.live(
            symbols, protocol=options["protocol"], url=options["url"], known=options["known"]
        )
    if source == "replay":
        if options["path"] is None:
            raise ValueError("the source replay needs --path: a lake or recordings")
        return sources.replay(options["path"], symbols, speed=speed)
    hours = float("inf") if options["hours"] is None else options["hours"]
    return sources.simulated(symbols, settings.simulate.seed, speed, hours=hours)
