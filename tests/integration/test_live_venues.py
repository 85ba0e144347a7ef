"""Each venue through an exchange that speaks its protocol and fails in every way."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.chaos.faults import ticks
from tests.journal import check
from tests.live_sources import FAULTS, TIMING, Client, connected, faults, fresh, settle
from tests.venues import VENUES, Binance, Kraken
from tests.waiting import until_async
from volatility.lake import Lake, market_of
from volatility.records.tick import Heartbeat
from volatility.streaming import capture_topic, ingest
from volatility.streaming.log.interface import TICKS
from volatility.streaming.log.memory_log import MemoryLog
from volatility.streaming.sources import Gap, Reconnected, Rejected, SourceError, live

VENUE = pytest.mark.parametrize("venue", VENUES)


def numbered(ticks):
    """Leave out the quotes that Binance's ticker states before the first one of the book."""
    return [tick for tick in ticks if _is_of_the_journal(tick)]


def in_the_lake(client, venue, root):
    """Ingest and capture what a source yielded; return the lake."""

    async def events():
        yield client.events

    log, lake = MemoryLog(), Lake(root)
    ingest.run(log, events(), lake, partitions=3, market=venue)
    capture_topic(log, TICKS, root)
    assert market_of(root) == venue
    return lake


def _is_of_the_journal(tick):
    return tick.symbol.endswith("-USD") or tick.trade_id is not None or tick.sequence is not None


@VENUE
@pytest.mark.parametrize("seed", range(2))
def test_through_faults_each_message_is_in_the_lake_once_or_in_a_gap(venue, seed, tmp_path):
    generator = random.Random(f"{venue} {seed}")

    async def scenario():
        async with VENUES[venue](seed=seed) as exchange, connected(exchange) as client:
            await fresh(exchange, client)
            for _, fault in zip(range(FAULTS), faults(exchange, generator), strict=False):
                await until_async(exchange.live, "a connection")
                await exchange.do(fault)
                if generator.random() < 0.5:  # else another fault follows at once
                    await fresh(exchange, client, generator.randint(1, 8))
            await settle(exchange, client)
            return exchange, client

    exchange, client = asyncio.run(scenario())
    lake, ended = in_the_lake(client, venue, tmp_path), exchange.ended_by_client
    gaps = lake.gaps()
    counts = check(exchange.journal, numbered(ticks(lake)), gaps, ended, apart=True)
    assert min(counts["arrived"], counts["withheld"]) > FAULTS
    assert counts["under way"] <= FAULTS
    statistics = client.statistics
    assert statistics.ticks == len(client.ticks())
    assert statistics.gaps == len(client.of(Gap)) >= len(gaps)
    assert statistics.reconnects == len(client.of(Reconnected)) >= FAULTS // 3
    assert sum(statistics.rejected.values()) == len(client.of(Rejected))
    assert min(statistics.duplicates, statistics.lost_messages, exchange.refused) > 0
    assert {event.cause for event in client.of(Reconnected)} >= {"closed", "silent"}


@VENUE
def test_without_faults_there_is_no_gap(venue):
    async def scenario():
        async with VENUES[venue]() as exchange, connected(exchange) as client:
            await fresh(exchange, client, 40)
            await settle(exchange, client)
            return exchange, client

    exchange, client = asyncio.run(scenario())
    assert client.of(Gap) == client.of(Rejected) == client.of(Reconnected) == []
    assert check(exchange.journal, numbered(client.ticks()), [], set(), apart=True)["arrived"] > 80
    sides = Counter(tick.side for tick in client.ticks())
    assert min(sides["buy"], sides["sell"], sides[None]) > 0
    assert all(record.received is not None for record in client.records)


@VENUE
def test_a_restart_goes_on_where_the_last_run_ended(venue):
    async def scenario():
        async with VENUES[venue]() as exchange:
            async with connected(exchange) as first:
                await fresh(exchange, first)
            await until_async(
                lambda: all(session.ended for session in exchange.sessions), "the sessions end"
            )
            away = len(exchange.journal)
            await until_async(lambda: len(exchange.journal) > away + 20, "twenty more messages")
            async with connected(exchange, known=first.records) as second:
                await fresh(exchange, second)
                await settle(exchange, second)
            return exchange, first, second

    exchange, first, second = asyncio.run(scenario())
    gaps = second.of(Gap)
    assert {gap.symbol for gap in gaps if gap.reason == "restart"} == set(exchange.symbols)
    arrived = numbered(first.ticks() + second.ticks())
    ended = exchange.ended_by_client
    assert check(exchange.journal, arrived, gaps, ended, apart=True)["withheld"] >= 10


@asynccontextmanager
async def asking(exchange, *symbols, **times):
    client = Client()
    timing = replace(TIMING, **{"subscribe_seconds": 0.05, **times})
    task = asyncio.create_task(client.run(exchange, symbols, (), timing))
    try:
        yield client
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@VENUE
def test_a_product_that_the_exchange_does_not_list_stops_no_other(venue, caplog):
    async def scenario():
        async with VENUES[venue]() as exchange:
            async with asking(exchange, "NONE-USD", *exchange.symbols, "GONE-EUR") as client:
                missing = {"NONE-USD", "GONE-EUR"}
                await until_async(lambda: client.statistics.missing == missing, "it is named")
                await fresh(exchange, client, 20)
            return exchange, client

    exchange, client = asyncio.run(scenario())
    assert len(exchange.sessions) == 1
    assert client.of(Reconnected) == []
    assert {record.symbol for record in client.records} == set(exchange.symbols)
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert sorted(line.split(":")[0] for line in told) == [
        "no ticks of GONE-EUR",
        "no ticks of NONE-USD",
    ]


def test_the_only_product_being_refused_by_name_is_one_line():
    async def scenario():
        async with Kraken() as exchange:
            source = live(["XXX-USD"], exchange.venue, exchange.url, timing=TIMING)
            async for _ in source:
                pass

    with pytest.raises(SourceError, match=r"refuses XXX-USD .*such as BTC-USD") as error:
        asyncio.run(scenario())
    assert "\n" not in str(error.value)


@VENUE
def test_a_refused_subscription_is_requested_again(venue):
    async def scenario():
        async with VENUES[venue]() as exchange:
            exchange.refused_subscriptions = 1
            async with connected(exchange) as client:
                await fresh(exchange, client)
            return exchange, client

    _, client = asyncio.run(scenario())
    assert {back.cause for back in client.of(Reconnected)} == {"unsubscribed"}


def test_a_silent_product_keeps_its_clock_while_another_trades():
    async def scenario():
        async with Kraken() as exchange, connected(exchange) as client:
            await fresh(exchange, client)
            quiet, _ = exchange.symbols
            exchange.symbols.remove(quiet)
            seen = exchange.now

            def moved():
                beats = [r for r in client.records if isinstance(r, Heartbeat)]
                return sum(r.symbol == quiet and r.time > seen for r in beats) >= 5

            await until_async(moved, "heartbeats of the silent product")
            return quiet, client

    quiet, client = asyncio.run(scenario())
    beats = [r.time for r in client.records if isinstance(r, Heartbeat) and r.symbol == quiet]
    assert beats == sorted(set(beats))
    assert client.of(Gap) == []


def test_while_the_market_is_closed_no_clock_moves(caplog):
    async def scenario():
        async with Kraken() as exchange, connected(exchange) as client:
            await fresh(exchange, client)
            await exchange.do(exchange.pause)
            await exchange.do(lambda: exchange.set_system("maintenance"))
            closed_ns = exchange.now
            for _ in range(20):
                exchange.now += 1_000_000_000
                await exchange.do(exchange.beat)
            count = client.statistics.messages
            await exchange.do(lambda: exchange.set_system("online"))
            await until_async(lambda: client.statistics.messages > count, "the market is open")
            exchange.paused = False
            await fresh(exchange, client)
            return closed_ns, client

    closed_ns, client = asyncio.run(scenario())
    inside = range(closed_ns + 1, closed_ns + 20_000_000_000)
    assert [r for r in client.records if isinstance(r, Heartbeat) and r.time in inside] == []
    assert client.of(Reconnected) == []
    told = [r.message for r in caplog.records if "market is now" in r.message]
    assert told == ["Kraken's market is now 'maintenance'", "Kraken's market is now 'online'"]


def test_an_announced_shutdown_is_not_waited_for():
    async def scenario():
        async with Binance() as exchange, connected(exchange) as client:
            await fresh(exchange, client)
            await exchange.do(exchange.shut_down)
            await settle(exchange, client)
            return exchange, client

    exchange, client = asyncio.run(scenario())
    (back,) = client.of(Reconnected)
    assert (back.cause, len(exchange.sessions)) == ("closed", 2)
    assert "shuts this connection down" in back.detail
    check(
        exchange.journal,
        numbered(client.ticks()),
        client.of(Gap),
        exchange.ended_by_client,
        apart=True,
    )


def test_a_ping_is_answered_with_its_content():
    async def scenario():
        async with Binance() as exchange, connected(exchange) as client:
            await fresh(exchange, client)
            (session,) = exchange.live()
            await (await session.socket.ping(b"1672515782136"))

    asyncio.run(scenario())
