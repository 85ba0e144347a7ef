"""Run the tasks that the streaming benchmark times, each in a dedicated process.

Times of different processes are comparable, because they share the clock ``time.monotonic``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks import streaming_peer as peer
from benchmarks.timing import Seconds, interleaved
from volatility import registry
from volatility.lake import Lake
from volatility.records import encode, to_records
from volatility.settings import Settings
from volatility.simulation import simulate
from volatility.streaming import Models, Scorer, capture_topic, ingest, metrics, sources
from volatility.streaming.log import PREDICTIONS, TICKS, KafkaLog

SYMBOLS = (
    *("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "ADA-USD"),
    *("LTC-USD", "DOGE-USD", "LINK-USD", "AVAX-USD", "DOT-USD"),
)
PARTITIONS = 4
SEED = 7
START_NS = 1_767_571_200_000_000_000  # 2026-01-05
WRITTEN = "written"  # topic for the comparison of producers
FLUSH_SECONDS = 60.0
POLL_SECONDS = 1.0
POLL_RECORDS = 20_000


@dataclass(frozen=True)
class Work:
    """Represent the amount and the time of completed work.

    Parameters
    ----------
    count : int
        Records, rows or predictions.
    began, ended : float
        Monotonic clock, seconds.
    cpu : float
        CPU seconds of all threads of the process in that time.
    """

    count: int
    began: float
    ended: float
    cpu: float

    @property
    def wall(self) -> float:
        """Seconds from start to end."""
        return self.ended - self.began


@dataclass(frozen=True)
class Market:
    """Represent the size of a market: all records, and ticks without heartbeats."""

    hours: float
    records: int
    ticks: int


def count_market(hours: float) -> Market:
    """Generate the market that ``fill`` ingests, and count its records."""
    records = ticks = 0
    for symbol in SYMBOLS:
        for batch in simulate(symbol, START_NS, hours, SEED):
            records += batch.num_rows
            ticks += batch.num_rows - batch.column("bid").null_count
    return Market(hours, records, ticks)


def make_champion(folder: str) -> str:
    """Train a model of the shipped size on a simulated day and make it the champion."""
    from benchmarks.core import day_of_records, kernel_features
    from benchmarks.month import SYMBOL
    from volatility.dataset import assemble
    from volatility.features import FeatureFrame
    from volatility.models import fit_bundle, shipped

    settings = Settings()
    frame = FeatureFrame(SYMBOL, *kernel_features(day_of_records()))
    with threadpool_limits(1):  # as in training: on busy cores, threads wait for each other
        fit_bundle(assemble([frame], settings), settings, shipped()).save(Path(folder))
    version = registry.register(Path(folder), parameters={}, metrics={}).version
    registry.promote(version, evidence={"reason": "benchmark"})
    return version


def fill(servers: str, lake: str, hours: float) -> Work:
    """Ingest the simulated market at full speed; time starts with the first append."""
    first: list[float] = []

    async def stamped() -> AsyncIterator[list[sources.Event]]:
        async for events in sources.simulated(SYMBOLS, SEED, float("inf"), START_NS, hours):
            if not first:
                first.append(time.monotonic())
            yield events

    cpu = time.process_time()
    with closing(KafkaLog(servers)) as log:
        count = ingest.run(log, stamped(), Lake(lake), partitions=PARTITIONS)
        return Work(count, first[0], time.monotonic(), time.process_time() - cpu)


def follow(servers: str, lake: str, records: int) -> Work:
    """Capture like `volatility capture --follow`, until ``records`` are in the lake."""
    before = _rows_written()
    began, cpu = time.monotonic(), time.process_time()
    with closing(KafkaLog(servers)) as log:
        count = capture_topic(
            log,
            TICKS,
            Path(lake),
            follow=True,
            stopped=lambda: _rows_written() - before >= records,
        )
        return Work(count, began, time.monotonic(), time.process_time() - cpu)


def _rows_written() -> int:
    """Read the metric, which counts a part once it is on disk under its final name."""
    labels = {"topic": TICKS}
    return int(metrics.registry.get_sample_value("volatility_rows_written_total", labels) or 0)


def score(servers: str) -> Work:
    """Score the whole topic like `volatility score`, until everything is acknowledged."""
    models = Models()
    models.watch()
    with closing(KafkaLog(servers)) as log:
        began, cpu = time.monotonic(), time.process_time()
        scorer = Scorer(log, models, group=None)
        try:
            made = scorer.run(follow=False)
            work = Work(made, began, time.monotonic(), time.process_time() - cpu)
        finally:
            scorer.close()
        kept = sum(log.end_offsets(PREDICTIONS).values())
    if kept != made:
        raise RuntimeError(f"{made} predictions were made and {kept} are in the log")
    return work


def compare_readers(servers: str, records: int, repetitions: int) -> dict[str, Seconds]:
    """Time capture, its reader and a bare consumer, in turn, on the same topic."""
    with tempfile.TemporaryDirectory() as folder, closing(KafkaLog(servers)) as log:

        def capture() -> int:
            return capture_topic(log, TICKS, Path(tempfile.mkdtemp(dir=folder)))

        ways: dict[str, Callable[[], int]] = {
            "capture": capture,
            "reader": partial(_read, log, records),
            "consumer": partial(peer.consume, servers, TICKS, records),
        }
        return interleaved(
            {name: verified(way, records) for name, way in ways.items()}, repetitions
        )


def consume_alone(servers: str, records: int, repetitions: int) -> Seconds:
    """Time a bare consumer on the same topic."""
    consume = verified(partial(peer.consume, servers, TICKS, records), records)
    return interleaved({"consumer": consume}, repetitions)["consumer"]


def compare_writers(servers: str, records: int, repetitions: int) -> dict[str, Seconds]:
    """Time the log's writer and bare producers, in turn, from first append to last ack."""
    entries = messages(records)
    with closing(KafkaLog(servers)) as log:
        log.create(WRITTEN, PARTITIONS)
        ways: dict[str, Callable[[], int]] = {
            "writer": partial(_write, log, entries),
            "producer": partial(peer.produce, servers, WRITTEN, entries),
            "tuned": partial(peer.produce, servers, WRITTEN, entries, **peer.TUNED),
        }
        return interleaved(
            {name: verified(way, records) for name, way in ways.items()}, repetitions
        )


def profile_peer(servers: str, topic_records: int, records: int) -> str:
    """Profile a bare consumer and a bare producer."""
    entries = messages(records)
    return "\n".join(
        [
            peer.profiled(
                f"KafkaConsumer, {topic_records:,} records, poll(max_records=20,000)",
                partial(peer.consume, servers, TICKS, topic_records),
            ),
            peer.profiled(
                f"KafkaProducer, {records:,} records, zstd, batches of 512 KiB",
                partial(peer.produce, servers, WRITTEN, entries, **peer.TUNED),
            ),
        ]
    )


def messages(records: int) -> list[tuple[bytes, bytes]]:
    """Return keys and values of ticks, as ingest appends them."""
    found: list[tuple[bytes, bytes]] = []
    share = records // len(SYMBOLS)
    for symbol in SYMBOLS:
        batch = next(simulate(symbol, START_NS, 1.0, SEED)).slice(0, share)
        found += [(symbol.encode(), encode(record)) for record in to_records(batch)]
    if len(found) != records:
        raise RuntimeError(f"the market has {len(found)} records and not {records}")
    return [found[i + j] for i in range(share) for j in range(0, records, share)]


def _read(log: KafkaLog, records: int) -> int:
    reader = log.reader(TICKS, log.start_offsets(TICKS))
    count = 0
    while count < records:
        count += len(reader.poll(POLL_RECORDS, POLL_SECONDS))
    reader.close()
    return count


def _write(log: KafkaLog, entries: list[tuple[bytes, bytes]]) -> int:
    writer = log.writer()
    for key, value in entries:
        writer.append(WRITTEN, key, value)
    writer.flush(FLUSH_SECONDS)
    writer.close()
    return len(entries)


def verified(way: Callable[[], int], records: int) -> Callable[[], None]:
    """Return the function with a check that it did all of its work."""

    def checked() -> None:
        if (count := way()) != records:
            raise RuntimeError(f"{count} records came through, not {records}")

    return checked
