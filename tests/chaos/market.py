"""Generate an endless market of numbered ticks, so that order and closing steps can be checked."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence

from volatility.records.tick import Heartbeat, Record, Tick
from volatility.streaming.sources.events import Arrived, Event
from volatility.units import SECOND

START_NS = 1_767_571_200 * SECOND
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
PARTITIONS = 2  # both are used: BTC-USD and SOL-USD share one


def records(
    seed: int, symbols: Sequence[str] = SYMBOLS, start_ns: int = START_NS, step_ns: int = 10**8
) -> Iterator[Record]:
    """Yield ticks of all symbols in turn, numbered by symbol, with some heartbeats and pauses."""
    chance = random.Random(seed)
    middles = dict.fromkeys(symbols, 100.0)
    numbers = dict.fromkeys(symbols, 0)
    now = start_ns
    while True:
        for symbol in symbols:
            now += chance.randint(1, 2 * step_ns)
            if chance.random() < 0.0005:
                now += chance.randint(5, 40) * SECOND  # some of it longer than a gap
            if chance.random() < 0.1:
                yield Heartbeat(symbol, now)
                continue
            middles[symbol] *= 1.0 + chance.gauss(0.0, 2e-5)
            numbers[symbol] += 1
            bid, ask = middles[symbol] - 0.01, middles[symbol] + 0.01
            sizes = chance.random(), chance.random()
            yield Tick(
                symbol,
                now,
                price=bid,
                bid=bid,
                ask=ask,
                bid_size=sizes[0],
                ask_size=sizes[1],
                trade_id=numbers[symbol],
            )


async def events(source: Iterator[Record], per_second: float) -> AsyncIterator[list[Event]]:
    """Yield this many records a second, in small batches."""
    began, given = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * per_second) - given
        batch: list[Event] = [Arrived(next(source)) for _ in range(min(max(due, 0), 1_000))]
        given += len(batch)
        if batch:
            yield batch
        await asyncio.sleep(0.005)
