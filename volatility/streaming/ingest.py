"""Append events from a source to the log; count and record whatever is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from volatility.lake import (
    REAL,
    SIMULATED,
    Lake,
    LakeError,
    Market,
    check_market,
    claim_market,
    market_of,
    mixes,
)
from volatility.records import Record, Tick, TickError, decode, encode
from volatility.settings import Settings
from volatility.streaming import metrics
from volatility.streaming.dead_letter import send_to_dead_letter
from volatility.streaming.layout import note
from volatility.streaming.log import (
    DEAD_LETTER,
    TICKS,
    DeniedError,
    EventLog,
    LogError,
    Message,
    Writer,
)
from volatility.streaming.sources import (
    GAP_REASONS,
    Arrived,
    Event,
    Gap,
    Reconnected,
    Rejected,
    SourceStatistics,
)
from volatility.streaming.sources.coinbase import PROTOCOLS
from volatility.streaming.sources.venues import VENUES

logger = logging.getLogger(__name__)

MEASURE_SECONDS = 0.5
FLUSH_SECONDS = 60.0
PATIENT_RECORDS = 100_000  # above this many pending records, a patient source is paused
PATIENT_SECONDS = 0.02
BUFFER_FULL = "buffer full"
LAST_RECORDS = 5_000  # per partition, searched for the last record of each symbol
# The header of a record that names its market. In every record it would cost capture a
# third of its speed; with one in 500, the last 5,000 of the topic have it, whatever the partitions.
MARKET = "market"
MARK_EVERY = 500
SIMULATED_SYMBOLS = ("BTC-USD", "ETH-USD")

Events = AsyncIterator[list[Event]]


class Ingest:
    """Append events to the log.

    While the broker is unavailable, records wait in the writer's queue, in order. Once the queue
    is full, further records are lost, counted, and recorded in the ledger as a gap of their symbol.
    """

    def __init__(
        self,
        writer: Writer,
        lake: Lake,
        statistics: SourceStatistics | None = None,
        market: Market | None = None,
    ) -> None:
        self._writer, self._lake = writer, lake
        self._unclaimed = market  # a source that fails before its first event claims nothing
        self._mark = ((MARKET, market.encode()),) if market else ()
        self._statistics = statistics or SourceStatistics()
        self._exported = (0, 0)  # of the source's duplicates and lost messages
        self._missing: set[str] = set()  # exported so far
        self._lost: dict[str, tuple[int, int, int]] = {}
        self._gaps: list[Gap] = []  # not in the ledger yet
        self._measured = 0.0
        self.records = 0
        # Read by each scrape: under load something is always pending, and while the source is
        # silent nothing else would notice that the oldest record grows older.
        metrics.buffered_ticks.set_function(writer.pending)
        metrics.buffer_age.set_function(writer.age_seconds)
        for reason in (*GAP_REASONS, BUFFER_FULL):
            metrics.gaps.labels(reason)  # start at 0: Prometheus sees no increase in a first value

    def take(self, events: list[Event]) -> None:
        """Append records, send rejected ones to the dead-letter topic, record gaps.

        Raises
        ------
        LakeError
            When another process claimed the lake for another market meanwhile.
        """
        if self._unclaimed and events:
            claim_market(self._lake.root, self._unclaimed)
            self._unclaimed = None
        for event in events:
            if isinstance(event, Arrived):
                self._append(event.record)
            elif isinstance(event, Rejected):
                metrics.rejected_ticks.inc()
                self._send_rejected(event)
            elif isinstance(event, Gap):
                self._record_gap(event)
            elif isinstance(event, Reconnected):
                metrics.reconnects.inc()
        self._measure()

    def finish(self) -> None:
        """Record what was lost, and wait until the rest is in the log.

        Raises
        ------
        LogError
            When the broker did not acknowledge it in time.
        LakeError
            When a gap cannot be written to the ledger.
        """
        for symbol in list(self._lost):
            self._record_loss(symbol)
        self._writer.flush(FLUSH_SECONDS)
        self._flush_gaps()
        self._export_statistics()

    def _append(self, record: Record) -> None:
        symbol = record.symbol
        try:
            headers = () if self.records % MARK_EVERY else self._mark
            self._writer.append(TICKS, symbol.encode(), encode(record), headers)
        except DeniedError:
            raise  # no later record will be taken, either
        except LogError:
            start, _, count = self._lost.get(symbol, (record.time, 0, 0))
            self._lost[symbol] = (start, record.time, count + 1)
            metrics.dropped_ticks.inc()
            return
        if symbol in self._lost:
            self._record_loss(symbol)
        self.records += 1
        if isinstance(record, Tick):
            metrics.ticks.labels(symbol).inc()
            if record.received is not None:
                metrics.ingest_latency.observe(max(record.received - record.time, 0) / 1e9)

    def _send_rejected(self, event: Rejected) -> None:
        try:
            send_to_dead_letter(self._writer, None, event.raw, event.reason)
        except DeniedError:
            raise
        except LogError:
            metrics.dropped_ticks.inc()

    def _record_loss(self, symbol: str) -> None:
        start, stop, count = self._lost.pop(symbol)
        logger.error("%s: lost %d records: the broker was unavailable for too long", symbol, count)
        self._record_gap(Gap(symbol, start, stop, BUFFER_FULL, {"lost": count}))

    def _record_gap(self, gap: Gap) -> None:
        """Write a gap to the ledger, or buffer it: a full disk must not stop the ticks."""
        metrics.gaps.labels(gap.reason).inc()
        waiting = bool(self._gaps)
        self._gaps.append(gap)
        try:
            self._flush_gaps()
        except LakeError as error:
            if not waiting:
                logger.error("buffering gaps, the ledger is not writable: %s", error)

    def _flush_gaps(self) -> None:
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
            self._flush_gaps()
        self._export_statistics()

    def _export_statistics(self) -> None:
        """Count in the metrics what the source noticed since the last time."""
        found = (self._statistics.duplicates, self._statistics.lost_messages)
        metrics.duplicate_ticks.inc(found[0] - self._exported[0])
        metrics.lost_messages.inc(found[1] - self._exported[1])
        self._exported = found
        for symbol in self._missing.symmetric_difference(self._statistics.missing):
            metrics.missing_symbols.labels(symbol).set(symbol in self._statistics.missing)
        self._missing = set(self._statistics.missing)


def run(
    log: EventLog,
    events: Events,
    lake: Lake,
    *,
    partitions: int,
    market: Market | None = None,
    patient: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    statistics: SourceStatistics | None = None,
) -> int:
    """Ingest until the source ends or ``stopped``, then flush; return the records appended.

    ``market`` is the one that the source streams; lake and topic then take no other. Without it,
    nothing is checked. ``statistics`` are those that the source fills; they are exported as
    metrics.

    A ``patient`` source can wait: it is paused while many records are pending, so nothing is
    lost, however long the broker is unavailable.

    Raises
    ------
    LakeError
        When the lake holds another market, or cannot be written.
    LogError
        When the topic holds another market, or the broker does not respond.
    """
    if market is not None:
        check_market(lake.root, market)
    log.create(TICKS, partitions)
    log.create(DEAD_LETTER, 1)
    if market is not None:
        check_topic(log, market)
    writer = log.writer()
    work = Ingest(writer, lake, statistics, market)
    try:
        note(log, writer)
        asyncio.run(_pump(work, events, writer if patient else None, stopped))
        work.finish()
    finally:
        writer.close()
    return work.records


def last_records(log: EventLog) -> list[Record]:
    """Read the last tick and the last heartbeat of each symbol from the end of the log."""
    found: dict[tuple[str, type], tuple[int, Record]] = {}
    for message in _last_messages(log):
        with suppress(TickError):
            record = decode(message.value, message.time_ns)
            kind = record.symbol, type(record)
            # By arrival: added partitions may have moved the symbol to another.
            if kind not in found or found[kind][0] <= message.time_ns:
                found[kind] = message.time_ns, record
    return sorted((record for _, record in found.values()), key=lambda record: record.time)


def check_topic(log: EventLog, market: Market) -> None:
    """Check that the newest ticks in the log are not of another market.

    Ticks of an earlier release, and of other producers, do not tell and are accepted.

    Raises
    ------
    LogError
        When they are.
    """
    for message in _last_messages(log):
        held = dict(message.headers).get(MARKET, market.encode()).decode(errors="replace")
        if mixes(held, market):
            raise LogError(
                f"topic {TICKS} holds a {held} market, and a {market} one must not be mixed into "
                "it: delete the topic and the lake, or use another broker and another folder; "
                'docs/runbook.md, "Change the market", says how'
            )


def _last_messages(log: EventLog) -> Iterator[Message]:
    """Read the end of the topic of ticks: 5,000 records of each partition."""
    if not log.partitions(TICKS):
        return
    starts, ends = log.start_offsets(TICKS), log.end_offsets(TICKS)
    offsets = {p: max(starts[p], end - LAST_RECORDS) for p, end in ends.items() if end > starts[p]}
    if not offsets:
        return
    reader = log.reader(TICKS, offsets)
    try:
        deadline = time.monotonic() + FLUSH_SECONDS
        while any(reader.position(p) < ends[p] for p in offsets):
            yield from reader.poll(LAST_RECORDS, MEASURE_SECONDS)
            if time.monotonic() > deadline:
                raise LogError("cannot read topic ticks; check that the broker is running")
    finally:
        reader.close()


async def _pump(
    work: Ingest, events: Events, awaited: Writer | None, stopped: Callable[[], bool]
) -> None:
    async def read() -> None:
        async for batch in events:
            work.take(batch)
            await asyncio.sleep(0)
            while awaited and awaited.pending() > PATIENT_RECORDS:  # noqa: ASYNC110  no event to await
                await asyncio.sleep(PATIENT_SECONDS)

    reading = asyncio.ensure_future(read())
    while not reading.done() and not stopped():
        await asyncio.wait([reading], timeout=0.1)
    if not reading.done():
        reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading


def market_from(source: str, path: Path | None = None) -> Market:
    """Return whose market a source streams.

    A replayed lake passes its market on; recordings are taken for real.
    """
    if source in VENUES:
        return source
    if source == "simulate":
        return SIMULATED
    if source == "replay" and path is not None and path.is_dir():
        return market_of(path) or REAL
    return REAL


def symbols_of(source: str, named: str | None) -> tuple[str, ...]:
    """Return the symbols named on the command line, or those that a source has by default.

    Returns
    -------
    tuple of str
        Empty for a replay of all that was recorded.

    Raises
    ------
    ValueError
        When the list names no symbol.
    """
    if named is None and source == "replay":
        return ()
    if named is None:
        return VENUES[source].example if source in VENUES else SIMULATED_SYMBOLS
    symbols = tuple(s.strip() for s in named.split(",") if s.strip())
    if not symbols:
        raise ValueError("no symbols given; use symbols such as BTC-USD,ETH-USD")
    return symbols


def source_of(
    source: str, settings: Settings, statistics: SourceStatistics | None = None, **options: Any
) -> Events:
    """Open the source named on the command line, with its options; it fills ``statistics``.

    ``symbols`` are those of ``symbols_of``.
    """
    from volatility.streaming import sources

    symbols = options["symbols"]
    speed = float("inf") if options["speed"] == "max" else float(options["speed"])
    if source in VENUES:
        venue = PROTOCOLS[options["protocol"]] if source == "coinbase" else VENUES[source]
        return sources.live(
            symbols,
            venue,
            url=options["url"],
            known=options["known"],
            statistics=statistics,
        )
    if source == "replay":
        if options["path"] is None:
            raise ValueError("source replay needs --path: a lake or recordings")
        return sources.replay(options["path"], symbols, speed=speed, statistics=statistics)
    hours = float("inf") if options["hours"] is None else options["hours"]
    seed = settings.simulate.seed
    return sources.simulated(symbols, seed, speed, hours=hours, statistics=statistics)
