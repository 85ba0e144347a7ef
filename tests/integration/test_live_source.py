from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from tests.exchange import Exchange
from tests.journal import check
from tests.live_sources import FAULTS, TIMING, Client, connected, faults, fresh, settle
from tests.tickers import recorded, synthetic
from tests.waiting import until_async
from volatility.records.tick import Heartbeat
from volatility.streaming.sources import (
    Arrived,
    Gap,
    Reconnected,
    Rejected,
    SourceError,
    live,
)


def contents(protocol, source, request):
    if source == "synthetic":
        return synthetic(protocol)
    return recorded(request.getfixturevalue("recordings") / "wire", protocol)


@pytest.mark.parametrize("source", ["synthetic", "recorded"])
@pytest.mark.parametrize("protocol", ["advanced-trade", "exchange"])
def test_through_faults_each_message_arrives_once_or_lies_in_a_gap(protocol, source, request):
    generator = random.Random(f"{protocol} {source}")

    async def scenario():
        async with (
            Exchange(contents(protocol, source, request), protocol) as exchange,
            connected(exchange) as client,
        ):
            await fresh(exchange, client)
            for _, fault in zip(range(FAULTS), faults(exchange, generator), strict=False):
                await until_async(exchange.live, "a connection")
                await exchange.do(fault)
                if generator.random() < 0.5:  # else another fault follows at once
                    await fresh(exchange, client, generator.randint(1, 8))
            await settle(exchange, client)
            return exchange, client

    exchange, client = asyncio.run(scenario())
    counts = check(exchange.journal, client.ticks(), client.of(Gap), exchange.ended_by_client)
    assert min(counts["arrived"], counts["withheld"]) > FAULTS
    assert counts["under way"] <= FAULTS
    statistics = client.statistics
    assert statistics.ticks == len(client.ticks())
    assert statistics.gaps == len(client.of(Gap))
    assert statistics.reconnects == len(client.of(Reconnected)) >= FAULTS // 3
    assert sum(statistics.rejected.values()) == len(client.of(Rejected))
    assert min(statistics.duplicates, statistics.lost_messages, exchange.refused) > 0
    if protocol == "advanced-trade":  # and no gap covers what arrived
        assert not any(
            gap.start_ns < tick.time < gap.stop_ns
            for gap in client.of(Gap)
            for tick in client.ticks()
            if tick.symbol == gap.symbol
        )
    causes = {event.cause for event in client.of(Reconnected)}
    assert causes >= {"closed", "silent"}


def test_without_faults_there_is_no_gap():
    async def scenario(protocol):
        async with (
            Exchange(synthetic(protocol), protocol) as exchange,
            connected(exchange) as client,
        ):
            await fresh(exchange, client, 40)
            await settle(exchange, client)
            return exchange, client

    for protocol in ("advanced-trade", "exchange"):
        exchange, client = asyncio.run(scenario(protocol))
        assert client.of(Gap) == client.of(Rejected) == client.of(Reconnected) == []
        assert check(exchange.journal, client.ticks(), [], set())["arrived"] > 80
        beats = [record for record in client.records if isinstance(record, Heartbeat)]
        assert {record.symbol for record in beats} == set(exchange.symbols)
        assert all(record.received is not None for record in client.records)


@pytest.mark.parametrize("protocol", ["advanced-trade", "exchange"])
def test_a_restart_goes_on_where_the_last_run_ended(protocol):
    async def scenario():
        async with Exchange(synthetic(protocol), protocol) as exchange:
            async with connected(exchange) as first:
                await fresh(exchange, first)
            await until_async(
                lambda: all(session.ended for session in exchange.sessions), "the sessions end"
            )
            away = len(exchange.journal)
            await until_async(lambda: len(exchange.journal) > away + 20, "twenty more tickers")
            async with connected(exchange, known=first.records) as second:
                await fresh(exchange, second)
                await settle(exchange, second)
            return exchange, first, second

    exchange, first, second = asyncio.run(scenario())
    gaps = second.of(Gap)
    assert {gap.symbol for gap in gaps if gap.reason == "restart"} == set(exchange.symbols)
    ended = exchange.ended_by_client
    counts = check(exchange.journal, first.ticks() + second.ticks(), gaps, ended)
    assert counts["withheld"] >= 10
    assert first.of(Gap) == first.of(Reconnected) == second.of(Reconnected) == []


def test_cancelling_closes_the_connection_in_good_form():
    async def scenario():
        async with Exchange(synthetic()) as exchange:
            async with connected(exchange) as client:
                await fresh(exchange, client)
            (session,) = exchange.sessions
            await until_async(lambda: session.ended, "the session ends")
            return session.socket.close_code

    assert asyncio.run(scenario()) == 1000


def test_whoever_stops_listening_closes_the_connection():
    async def scenario():
        async with Exchange(synthetic()) as exchange:
            async with aclosing(live(["BTC-USD"], url=exchange.url, timing=TIMING)) as source:
                async for events in source:
                    assert events
                    break
            (session,) = exchange.sessions
            await until_async(lambda: session.ended, "the session ends")

    asyncio.run(scenario())


def cause_of_loss(fault, **times):
    """Connect, let the exchange fail, and tell why the source has connected again."""

    async def scenario():
        async with (
            Exchange(synthetic()) as exchange,
            connected(exchange, timing=replace(TIMING, **times)) as client,
        ):
            await fresh(exchange, client)
            await exchange.do(lambda: fault(exchange))
            await fresh(exchange, client)
            return client

    (back,) = asyncio.run(scenario()).of(Reconnected)
    return back.cause


def test_an_absurd_sequence_number_ends_the_connection():
    text = b'{"channel":"ticker","sequence_num":987654321987,"events":[]}'
    assert cause_of_loss(lambda exchange: exchange.garbage(text)) == "untrusted"


def test_a_dead_peer_is_left_without_a_farewell():
    # A farewell would take longer than this test waits.
    assert cause_of_loss(lambda exchange: exchange.fall_silent(deaf=True), close_seconds=1000) == (
        "silent"
    )


def test_a_refused_subscription_ends_the_connection():
    async def scenario():
        async with Exchange(synthetic()) as exchange:
            exchange.refused_subscriptions = 1
            async with connected(exchange) as client:
                await fresh(exchange, client)
            return client

    client = asyncio.run(scenario())
    (back,) = client.of(Reconnected)
    assert (back.cause, back.detail) == ("unsubscribed", "Failed to subscribe")
    assert client.of(Rejected)[0].reason == "the exchange sent an error"


def test_refusals_are_counted_and_named():
    async def scenario():
        async with Exchange(synthetic()) as exchange, connected(exchange) as client:
            await fresh(exchange, client)
            await exchange.do(lambda: exchange.refuse(3))
            await fresh(exchange, client)
            return client

    client = asyncio.run(scenario())
    (back,) = client.of(Reconnected)
    assert (back.cause, back.attempts) == ("closed", 4)
    assert "429" in back.detail
    assert client.statistics.failed_attempts == 3


def test_the_first_connection_may_take_several_attempts():
    async def scenario():
        async with Exchange(synthetic()) as exchange:
            exchange.refusals = 2
            async with connected(exchange) as client:
                await fresh(exchange, client)
            return client

    client = asyncio.run(scenario())
    assert client.of(Reconnected) == client.of(Gap) == []
    assert client.statistics.failed_attempts == 2


@asynccontextmanager
async def asking(exchange, *symbols, **times):
    """Listen to an exchange for symbols of which it may not have each."""
    client = Client()
    timing = replace(TIMING, **{"subscribe_seconds": 0.05, **times})
    task = asyncio.create_task(client.run(exchange, symbols, (), timing))
    try:
        yield client
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("protocol", ["advanced-trade", "exchange"])
@pytest.mark.parametrize("bad", [("NONE-USD",), ("XXX-EUR", "YYY-USD")])
def test_a_product_that_the_exchange_leaves_out_stops_no_other(protocol, bad, caplog):
    async def scenario():
        async with Exchange(synthetic(protocol), protocol) as exchange:
            async with asking(exchange, bad[0], *exchange.symbols, *bad[1:]) as client:
                await until_async(lambda: client.statistics.missing == set(bad), "it is named")
                await fresh(exchange, client, 20)
            return exchange, client

    exchange, client = asyncio.run(scenario())
    assert len(exchange.sessions) == 1
    assert client.of(Reconnected) == []
    assert {record.symbol for record in client.records} == set(exchange.symbols)
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert [line.split(":")[0] for line in told] == [f"no ticks of {symbol}" for symbol in bad]


@pytest.mark.parametrize("naming", [True, False])
@pytest.mark.parametrize("protocol", ["advanced-trade", "exchange"])
def test_a_product_that_has_the_whole_subscription_refused_stops_no_other(protocol, naming, caplog):
    async def scenario():
        async with Exchange(synthetic(protocol), protocol) as exchange:
            exchange.refuses_strangers = "named" if naming else "unnamed"
            async with asking(exchange, "XXX-USD", *exchange.symbols, "Y2-EUR") as client:
                await until_async(
                    lambda: client.statistics.missing == {"XXX-USD", "Y2-EUR"}, "they are named"
                )
                await fresh(exchange, client, 20)
            return exchange, client

    exchange, client = asyncio.run(scenario())
    assert len(exchange.sessions) <= 3
    assert {record.symbol for record in client.records} == set(exchange.symbols)
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert sorted(line.split(":")[0] for line in told) == [
        "no ticks of XXX-USD",
        "no ticks of Y2-EUR",
    ]


@pytest.mark.parametrize("symbol", ["XXX-USD", "DOGE-EUR"])
def test_the_only_product_being_refused_by_name_is_one_line(symbol):
    async def scenario():
        async with Exchange(synthetic()) as exchange:
            exchange.refuses_strangers = "named"
            async with aclosing(live([symbol], url=exchange.url, timing=TIMING)) as source:
                async for _ in source:
                    pass

    with pytest.raises(SourceError, match=f"refuses {symbol} .*such as BTC-USD") as error:
        asyncio.run(scenario())
    assert "\n" not in str(error.value)


def test_where_nothing_is_subscribed_it_is_requested_again_on_the_same_connection(caplog):
    async def scenario():
        async with Exchange(synthetic()) as exchange:
            exchange.unlisted = set(exchange.symbols)
            async with asking(exchange, *exchange.symbols) as client:
                await until_async(
                    lambda: client.statistics.missing == set(exchange.symbols), "they are named"
                )
                exchange.unlisted.clear()
                await until_async(lambda: not client.statistics.missing, "they arrive")
                await fresh(exchange, client)
            return exchange, client

    exchange, client = asyncio.run(scenario())
    assert len(exchange.sessions) == 1
    assert client.of(Reconnected) == []


@pytest.mark.parametrize("answered", ["alias", "asked"])
@pytest.mark.parametrize(
    ("asked", "aliases"),
    [
        (["BTC-USDC"], {"BTC-USDC": "BTC-USD"}),
        (["BTC-USDC", "BTC-USD"], {"BTC-USDC": "BTC-USD"}),
        (["ETH-USDC", "BTC-USD"], {"ETH-USDC": "ETH-USD"}),
        (["ETH-USDT", "BTC-USDC"], {"ETH-USDT": "ETH-USD", "BTC-USDC": "BTC-USD"}),
    ],
)
def test_a_product_that_arrives_as_another_has_that_name_once(asked, aliases, answered, caplog):
    async def scenario():
        async with Exchange(synthetic()) as exchange:
            exchange.aliases, exchange.answers_as_asked = aliases, answered == "asked"
            wanted = {aliases.get(symbol, symbol) for symbol in asked}
            async with asking(exchange, *asked) as client:

                def enough():
                    ticks = Counter(tick.symbol for tick in client.ticks())
                    told = [r for r in caplog.records if "is recorded under that name" in r.message]
                    return all(ticks[name] >= 20 for name in wanted) and len(told) == len(aliases)

                await until_async(enough, "ticks of each and a line for each alias")
                await exchange.do(exchange.drop)
                count = len(client.of(Arrived))
                await until_async(lambda: len(client.of(Arrived)) > count + 20, "more after that")
            return wanted, client

    wanted, client = asyncio.run(scenario())
    assert {record.symbol for record in client.records} == wanted
    assert {gap.symbol for gap in client.of(Gap)} == wanted
    assert client.of(Rejected) == []
    assert client.statistics.missing == set()
    assert len(client.of(Reconnected)) == 1
    keys = [(tick.symbol, tick.time) for tick in client.ticks()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("symbols", "url", "named"),
    [
        ([], None, "no symbol"),
        (["btc-usd"], None, "'btc-usd'"),
        (["BTC-USD"], "http://127.0.0.1", "wss://"),
    ],
)
def test_what_a_user_got_wrong_is_one_line(symbols, url, named):
    async def scenario():
        async with aclosing(live(symbols, url=url)) as source:
            async for _ in source:
                pass

    with pytest.raises(SourceError, match=named) as error:
        asyncio.run(scenario())
    assert "\n" not in str(error.value)
