"""Replay a lake, a recording or a simulated market, in real time or at any other speed.

What is yielded, and in which order, depends only on the arguments; ``received`` stays as
recorded. At a finite speed, the spacing of the exchange times is divided by the speed, on a
schedule that does not drift. A hole longer than 15 s, as between two recordings, takes at most
one second, even if it spans months.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from volatility.lake import Gap, ImportingError, Lake, open_lake
from volatility.records import TICK_SCHEMA, to_records
from volatility.simulation import simulate
from volatility.sources import recordings
from volatility.streaming.sources.events import (
    Arrived,
    Event,
    Rejected,
    SourceError,
    SourceStatistics,
)
from volatility.streaming.sources.merge import Times, merge
from volatility.units import Floats, Integers

BATCH_ROWS = 8192
MAX_EVENTS = 1024  # per yielded list
HOLE_NS = 15_000_000_000  # longer than any silence of a live connection
MAX_PAUSE_SECONDS = 1.0

Batch = tuple[list[Event], Times]  # and the time [ns] at which each is due

_rejected = msgspec.json.Decoder(recordings.Rejected)


async def replay(
    path: Path | str,
    symbols: Sequence[str] = (),
    speed: float = 1.0,
    *,
    statistics: SourceStatistics | None = None,
) -> AsyncGenerator[list[Event], None]:
    """Yield the ticks, heartbeats and gaps of a lake or of recordings.

    Parameters
    ----------
    path : Path
        A lake, or a file or folder of recordings, which are imported into a temporary lake.
        Entries of recordings that are not valid ticks come first, as rejections.
    symbols : sequence of str
        All symbols if empty.
    speed : float
        Multiple of the recorded pace; ``math.inf`` for as fast as possible.
    statistics : SourceStatistics, optional
        Counts what is yielded.

    Yields
    ------
    list of Event
        At most 1,024, ordered by (time, symbol), each symbol in order of arrival. A gap of the
        ledger comes before the first record at or after its end.

    Raises
    ------
    SourceError
        When the speed is not above 0, the path cannot be read, or it lacks a symbol.
    LakeError
        When a part is corrupt.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        lake = await asyncio.to_thread(_lake, Path(path), Path(folder))
        held = lake.symbols()
        chosen = sorted(set(symbols or held))
        missing = [symbol for symbol in chosen if symbol not in held]
        if missing:
            raise SourceError(f"{path} has no symbol {missing[0]}; it has {', '.join(held[:20])}")
        streams = {
            symbol: lake.scan(symbol, TICK_SCHEMA.names, batch_rows=BATCH_ROWS) for symbol in chosen
        }
        gaps = [gap for symbol in chosen for gap in lake.gaps(symbol)]
        batches = _with_gaps(_batches(streams), gaps)
        rejections = _rejections(lake)
        async for events in _paced(batches, speed, rejections, statistics):
            yield events


async def simulated(
    symbols: Sequence[str],
    seed: int,
    speed: float = 1.0,
    start_ns: int | None = None,
    hours: float = math.inf,
    *,
    statistics: SourceStatistics | None = None,
) -> AsyncGenerator[list[Event], None]:
    """Yield the ticks and heartbeats of a simulated market, by default from now and endlessly.

    Parameters
    ----------
    symbols : sequence of str
    seed : int
        The same seed, start and symbol give the same market.
    speed : float
        Multiple of the market's own pace; ``math.inf`` for as fast as possible.
    start_ns : int, optional
        Time of the first second; by default now.
    hours : float
    statistics : SourceStatistics, optional

    Yields
    ------
    list of Event
        At most 1,024, ordered by (time, symbol).

    Raises
    ------
    SourceError
        When an argument is invalid.
    """
    start_ns = time.time_ns() if start_ns is None else start_ns
    try:
        streams = {symbol: simulate(symbol, start_ns, hours, seed) for symbol in symbols}
    except ValueError as error:
        raise SourceError(str(error)) from error
    if not streams:
        raise SourceError("no symbols given; use symbols such as BTC-USD,ETH-USD")
    async for events in _paced(_batches(streams), speed, [], statistics):
        yield events


def _lake(path: Path, folder: Path) -> Lake:
    try:
        return open_lake(path, folder)
    except ImportingError as error:
        raise SourceError(str(error)) from error


def _rejections(lake: Lake) -> list[Event]:
    """Read what the import of recordings rejected, ordered by file name."""
    entries = (
        _rejected.decode(line)
        for path in sorted((lake.root / "rejected").glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    )
    return [Rejected(entry.reason, entry.raw.encode()) for entry in entries]


def _batches(streams: dict[str, Iterator[pa.RecordBatch]]) -> Iterator[Batch]:
    sliced = {symbol: _slices(stream) for symbol, stream in streams.items()}
    for table, times in merge(sliced):
        yield [Arrived(record) for record in to_records(table)], times


def _slices(stream: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Limit how many rows become objects at once; the simulator yields whole hours."""
    for batch in stream:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def _with_gaps(batches: Iterator[Batch], gaps: Sequence[Gap]) -> Iterator[Batch]:
    """Insert each gap before the first record at or after its end."""
    waiting = sorted(gaps, key=lambda gap: (gap.stop_ns, gap.symbol, gap.start_ns), reverse=True)
    for events, times in batches:
        ending = []
        while waiting and waiting[-1].stop_ns <= times[-1]:
            ending.append(waiting.pop())
        at = np.searchsorted(times, [gap.stop_ns for gap in ending]).tolist()
        merged, start = [], 0
        for gap, stop in zip(ending, at, strict=True):
            merged += events[start:stop]
            merged.append(gap)
            start = stop
        yield merged + events[start:], np.insert(times, at, times[at])
    if waiting:
        times = np.array([gap.stop_ns for gap in reversed(waiting)], dtype=np.int64)
        yield list(reversed(waiting)), times


async def _paced(
    batches: Iterator[Batch],
    speed: float,
    first: Sequence[Event],
    statistics: SourceStatistics | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[list[Event], None]:
    """Yield the events of each batch when they are due."""
    if not speed > 0:
        raise SourceError(f"speed must be above 0, not {speed}")
    statistics = statistics or SourceStatistics()
    async for events in _due(batches, speed, first, clock, sleep):
        statistics.count(events)
        yield events


async def _due(
    batches: Iterator[Batch],
    speed: float,
    first: Sequence[Event],
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> AsyncGenerator[list[Event], None]:
    for start in range(0, len(first), MAX_EVENTS):
        yield list(first[start : start + MAX_EVENTS])
    began: float | None = None
    last_ns, last_due = 0, 0.0
    # Reading and simulating take milliseconds, a first compilation seconds.
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        events, times = batch
        if began is None:
            began, last_ns = clock(), int(times[0])
        due = last_due + np.cumsum(_waits(np.diff(times, prepend=last_ns), speed))
        last_ns, last_due = int(times[-1]), float(due[-1])
        async for part in when_due(events, due, partial(_since, began, clock), sleep):
            yield part


def _since(began: float, clock: Callable[[], float]) -> float:
    return clock() - began


async def when_due(
    events: Sequence[Event],
    due: Floats | Integers,
    now: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> AsyncGenerator[list[Event], None]:
    """Yield events once they are due, in order and at most ``MAX_EVENTS`` at a time.

    Parameters
    ----------
    events : sequence of Event
    due : float64[n] or int64[n]
        When each event is due, ascending, in the unit of ``now`` and ``sleep``.
    """
    start = 0
    while start < len(events):
        time_now = now()
        stop = min(int(np.searchsorted(due, time_now, side="right")), start + MAX_EVENTS)
        if stop > start:
            yield list(events[start:stop])
            start = stop
        # Sleep even if the next event is due, so that other tasks can run.
        await sleep(max(0, due[start] - time_now) if start < len(events) else 0)


def _waits(spacing_ns: Times, speed: float) -> npt.NDArray[np.float64]:
    """Return the wait [seconds] before each record."""
    waits = spacing_ns / (1e9 * speed)
    return np.where(spacing_ns > HOLE_NS, np.minimum(waits, MAX_PAUSE_SECONDS), waits)
