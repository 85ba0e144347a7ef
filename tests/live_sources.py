"""Listen to a live source in a test, and choose faults for the exchange that it listens to."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial

import pytest

from tests.journal import key_of
from tests.waiting import until_async
from volatility.records.tick import Tick
from volatility.streaming.sources import Arrived, SourceStatistics, Timing, live

FAULTS = 50
TIMING = Timing(
    first_seconds=0.002,
    cap_seconds=0.05,
    healthy_seconds=0.1,
    silence_seconds=0.25,
    subscribe_seconds=5.0,
    close_seconds=0.2,
)
GARBAGE = (
    b"not json",
    b"\xff\xfe\x00",
    b"",
    b"[]",
    b"null",
    b'{"channel":',
    b"[" * 100_000,
    b'{"channel":"ticker","sequence_num":"x","events":[]}',
    b'{"channel":"ticker","sequence_num":987654321987,"events":[]}',
    b'{"type":"ticker","product_id":"BTC-USD"}',
)


class Client:
    """Collect what a live source yields."""

    def __init__(self):
        self.events = []
        self.statistics = SourceStatistics()

    async def run(self, exchange, symbols, known, timing):
        source = live(
            symbols,
            exchange.venue,
            exchange.url,
            clock=exchange.clock,
            timing=timing,
            statistics=self.statistics,
            known=known,
            generator=random.Random(1),
        )
        async for events in source:
            self.events += events

    @property
    def records(self):
        return [event.record for event in self.events if isinstance(event, Arrived)]

    def ticks(self):
        return [record for record in self.records if isinstance(record, Tick)]

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def connected(exchange, known=(), timing=TIMING):
    client = Client()
    task = asyncio.create_task(client.run(exchange, exchange.symbols, known, timing))
    try:
        yield client
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def fresh(exchange, client, count=3):
    """Wait until a live connection has brought so many ticks of every symbol."""
    seen, before = len(client.events), exchange.now

    def enough():
        ticks = [e.record for e in client.events[seen:] if isinstance(e, Arrived)]
        found = Counter(r.symbol for r in ticks if isinstance(r, Tick) and r.time > before)
        return exchange.live() and all(found[symbol] >= count for symbol in exchange.symbols)

    await until_async(enough, "ticks of every symbol")


async def settle(exchange, client):
    """Stop the market where everything is well, and let the last message arrive."""
    await fresh(exchange, client)
    await exchange.do(exchange.pause)
    last = next(entry for entry in reversed(exchange.journal) if entry.sent)
    await until_async(
        lambda: any(key_of(tick, exchange.apart) == last.key for tick in reversed(client.ticks())),
        "the last tick",
    )


def faults(exchange, generator):
    """Choose one fault after the other, each kind about as often."""
    number = generator.randint
    kinds = [
        lambda: exchange.drop,
        lambda: exchange.fall_silent,
        lambda: partial(exchange.skip, number(1, 6)),
        lambda: exchange.repeat,
        lambda: partial(exchange.garbage, generator.choice(GARBAGE)),
        lambda: exchange.damage,
        lambda: exchange.half_frame,
        lambda: partial(exchange.half_frame, reset=True),
        lambda: partial(exchange.error, close=generator.random() < 0.5),
        lambda: partial(exchange.refuse, number(1, 3)),
    ]
    while True:
        generator.shuffle(kinds)
        for kind in kinds:
            yield kind()
