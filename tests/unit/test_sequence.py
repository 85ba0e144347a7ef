from __future__ import annotations

import io
import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.tickers import stamp
from volatility.records.tick import Heartbeat, Tick
from volatility.streaming.sources.coinbase import ADVANCED_TRADE, EXCHANGE
from volatility.streaming.sources.events import Arrived, Gap, Rejected, SourceStatistics
from volatility.streaming.sources.feed import Feed
from volatility.streaming.sources.sequence import REPEATED, SequenceTracker
from volatility.streaming.sources.trades import MAX_LOST
from volatility.units import SECOND

START = 1_775_337_223_000_000_000
ARRIVAL = START + 3600 * SECOND
BTC, ETH = "BTC-USD", "ETH-USD"


@given(st.lists(st.integers(0, 30), max_size=60))
def test_numbers_agree_with_a_set_of_what_came(taken):
    numbers, seen, greatest = SequenceTracker(0), set(), -1
    for number in taken:
        found = numbers.take(number)
        if number > greatest:
            assert found == number - greatest - 1
            greatest = number
        else:
            assert found == (REPEATED if number in seen else 0)
        seen.add(number)


def test_numbers_begin_with_the_first_where_none_is_expected():
    numbers = SequenceTracker()
    assert numbers.skip(5) == 0
    assert [numbers.take(number) for number in (7, 8, 10, 7)] == [0, 0, 1, REPEATED]
    assert numbers.skip(9) == 0
    assert [numbers.skip(13), numbers.take(13), numbers.take(12)] == [2, 0, 0]


class Wire:
    """Feed messages of Advanced Trade, one tenth of a second apart."""

    def __init__(self, symbols=(BTC, ETH), known=()):
        self.statistics = SourceStatistics()
        self.feed = Feed(symbols, ADVANCED_TRADE, self.statistics, known)
        self.tenths = 0
        self.connect()

    def connect(self, cause=""):
        self.sequence = -1
        self.feed.connected(START, cause)

    def at(self, tenths):
        return START + tenths * SECOND // 10

    def take(self, channel, event, sequence=None, tenths=None):
        self.tenths = self.tenths + 1 if tenths is None else tenths
        self.sequence = self.sequence + 1 if sequence is None else sequence
        fields = {"channel": channel, "timestamp": stamp(self.at(self.tenths)), "events": [event]}
        message = json.dumps({**fields, "sequence_num": self.sequence}).encode()
        return self.feed.take(message, ARRIVAL)

    def ticker(self, symbol=BTC, bid="100.0", kind="update", size="1", **more):
        entry = {"product_id": symbol, "price": "100.0", "best_bid": bid, "best_ask": "101.0"}
        entry |= {"best_bid_quantity": size, "best_ask_quantity": "2"}
        return self.take("ticker", {"type": kind, "tickers": [entry]}, **more)

    def answer(self, *symbols, **more):
        return self.take("subscriptions", {"subscriptions": {"ticker": symbols}}, **more)

    def heartbeat(self, counter, **more):
        text = stamp(self.at(more.get("tenths", self.tenths + 1))).replace("T", " ")
        event = {"current_time": text.replace("Z", " +0000 UTC"), "heartbeat_counter": counter}
        return self.take("heartbeats", event, **more)


@pytest.fixture
def wire():
    wire = Wire()
    wire.answer(BTC, ETH)
    wire.ticker(BTC)
    wire.ticker(ETH)
    return wire


def kinds(events):
    return [type(e.record if isinstance(e, Arrived) else e) for e in events]


def test_what_arrives_is_yielded_with_its_arrival(wire):
    (event,) = wire.ticker(bid="100.5")
    assert (event.record.bid, event.record.received) == (100.5, ARRIVAL)
    beats = wire.heartbeat(1)
    assert kinds(beats) == [Heartbeat, Heartbeat]
    assert [beat.record.symbol for beat in beats] == [BTC, ETH]
    assert wire.feed.subscribed
    assert wire.statistics.messages == 5


@pytest.mark.parametrize("minutes", [3, 90])
def test_a_slow_local_clock_is_blamed_once_with_the_difference(wire, caplog, minutes):
    ahead = (ARRIVAL - START) * 10 // SECOND + minutes * 600
    for tenth in range(5):
        events = wire.ticker(tenths=ahead + tenth) + wire.heartbeat(tenth, tenths=ahead + tenth)
        assert set(kinds(events)) <= {Rejected, Gap}
    (told,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert f"{60 * minutes} s ahead of this computer's" in told


def test_one_record_of_the_future_among_good_ones_blames_no_clock_of_ours(wire, caplog):
    wire.ticker()
    assert not caplog.records


def test_a_step_over_all_channels_is_a_gap_of_every_symbol(wire):
    last = wire.at(wire.tenths)
    events = wire.ticker(sequence=wire.sequence + 4)
    now = wire.at(wire.tenths)
    detail = {"lost": 3, "before": wire.sequence}
    assert events[:2] == [Gap(s, last, now, "lost messages", detail) for s in (BTC, ETH)]
    assert kinds(events[2:]) == [Tick]
    assert wire.statistics.lost_messages == 3


def test_other_channels_use_up_numbers(wire):
    wire.take("l2_data", {"type": "update"})
    assert kinds(wire.ticker()) == [Tick]


def test_a_repeated_number_is_dropped_and_counted(wire):
    assert wire.ticker(bid="100.5", sequence=wire.sequence, tenths=wire.tenths) == []
    assert wire.statistics.duplicates == 1
    assert wire.feed.fault is None


def test_a_message_that_comes_late_is_kept_once(wire):
    wire.ticker(sequence=wire.sequence + 2)
    late = wire.sequence - 1
    assert kinds(wire.ticker(sequence=late, tenths=wire.tenths)) == [Tick]
    assert wire.ticker(sequence=late, tenths=wire.tenths) == []


def test_numbers_that_start_over_do_not_hide_later_ticks(wire):
    wire.ticker(sequence=0)
    assert wire.feed.fault is not None
    assert wire.feed.fault[0] == "untrusted"


def test_an_absurd_number_is_no_loss_of_so_many(wire):
    (event,) = wire.ticker(sequence=MAX_LOST + 100)
    assert isinstance(event, Rejected)
    assert wire.feed.fault[0] == "untrusted"
    assert wire.statistics.lost_messages == 0


def test_what_is_lost_before_the_first_message_is_a_gap():
    wire = Wire(symbols=[BTC])
    (gap, tick) = wire.ticker(sequence=2)
    assert (gap.start_ns, gap.stop_ns, gap.detail["lost"]) == (START, wire.at(1), 2)
    assert kinds([tick]) == [Tick]


@pytest.mark.parametrize(
    ("step", "tenths", "missed"), [(1, 10, 0), (2, 10, 0), (1, 20, 0), (2, 20, 1), (4, 40, 3)]
)
def test_a_heartbeat_is_missed_by_counter_and_clock_together(wire, step, tenths, missed):
    wire.heartbeat(41_691, tenths=20)
    events = wire.heartbeat(41_691 + step, tenths=20 + tenths)
    gaps = [event for event in events if isinstance(event, Gap)]
    assert wire.statistics.missed_heartbeats == missed
    assert len(gaps) == (2 if missed else 0)
    for gap in gaps:
        assert (gap.start_ns, gap.stop_ns) == (wire.at(20), wire.at(20 + tenths))
        assert (gap.reason, gap.detail) == ("missed heartbeats", {"missed": missed})


def test_a_heartbeat_among_lost_messages_is_not_told_twice(wire):
    wire.heartbeat(1, tenths=20)
    wire.ticker(sequence=wire.sequence + 3, tenths=35)
    assert kinds(wire.heartbeat(3, tenths=40)) == [Heartbeat, Heartbeat]
    assert kinds(wire.heartbeat(5, tenths=60))[:2] == [Gap, Gap]


def test_a_reconnect_is_a_gap_until_each_ticker_runs(wire):
    wire.heartbeat(1, tenths=20)
    wire.connect("silent")
    assert wire.take("subscriptions", {"subscriptions": {"heartbeats": ["heartbeats"]}}) == []
    (gap, _) = wire.ticker(ETH, bid="99.0", tenths=50)
    detail = {"cause": "silent"}
    assert gap == Gap(ETH, wire.at(20), wire.at(50), "reconnect", detail)
    assert wire.answer(BTC, ETH, tenths=55) == [
        Gap(BTC, wire.at(20), wire.at(55), "reconnect", detail)
    ]


def test_a_snapshot_after_a_reconnect_repeats_the_last_tick(wire):
    wire.ticker(BTC, bid="100.5")
    wire.connect("closed")
    assert kinds(wire.ticker(BTC, bid="100.5", kind="snapshot")) == [Gap]
    assert kinds(wire.ticker(ETH, size="7", kind="snapshot")) == [Gap, Tick]
    assert kinds(wire.ticker(ETH, size="7")) == [Tick]  # no snapshot: a message of its own
    assert wire.statistics.duplicates == 1


def test_an_earlier_run_is_known():
    known = [
        Tick(BTC, START - 60 * SECOND, 100.0, 100.0, 101.0, bid_size=1.0, ask_size=2.0),
        Heartbeat(BTC, START - 50 * SECOND),
    ]
    wire = Wire(symbols=[BTC], known=known)
    assert wire.ticker(BTC, kind="snapshot") == [
        Gap(BTC, START - 50 * SECOND, wire.at(1), "restart", {})
    ]
    assert wire.statistics.duplicates == 1


def test_what_is_no_tick_is_rejected_as_it_came(wire):
    assert wire.feed.take(b"\xff{", ARRIVAL) == [Rejected("not JSON", b"\xff{")]
    (event,) = wire.ticker(bid="102.0")
    assert (type(event), event.reason) == (Rejected, "bid is above ask")
    (event,) = wire.ticker("DOGE-USD")
    assert event.reason == "symbol was not subscribed"
    assert kinds(wire.ticker()) == [Tick]


def test_an_error_ends_a_connection_only_before_it_is_subscribed(wire):
    error = b'{"type":"error","message":"Failed to subscribe","reason":"no such product"}'
    wire.heartbeat(1)
    assert wire.feed.take(error, ARRIVAL) == [Rejected("the exchange sent an error", error)]
    assert wire.feed.fault is None
    wire.connect()
    wire.feed.take(error, ARRIVAL)
    assert wire.feed.fault == ("unsubscribed", "Failed to subscribe: no such product")


def test_an_ended_subscription_ends_the_connection(wire):
    wire.answer(BTC)
    assert wire.feed.fault[0] == "unsubscribed"
    assert ETH in wire.feed.fault[1]


class Trades:
    """Feed messages of the Exchange feed, by second."""

    def __init__(self):
        self.statistics = SourceStatistics()
        self.feed = Feed([BTC, ETH], EXCHANGE, self.statistics)
        self.feed.connected(START)

    def at(self, second):
        return START + second * SECOND

    def send(self, kind, second, symbol=BTC, **fields):
        message = {"type": kind, "product_id": symbol, "time": stamp(self.at(second)), **fields}
        return self.feed.take(json.dumps(message).encode(), ARRIVAL)

    def trade(self, number, second, symbol=BTC):
        quote = {"price": "100", "best_bid": "100", "best_ask": "101", "sequence": 7 * number}
        return self.send("ticker", second, symbol, trade_id=number, **quote)

    def heartbeat(self, last, second, symbol=BTC):
        return self.send("heartbeat", second, symbol, last_trade_id=last, sequence=1)


def test_a_step_of_the_trades_is_a_gap_of_that_product():
    trades = Trades()
    trades.trade(5, 0)
    assert kinds(trades.trade(900, 1, ETH)) == [Tick]
    gap, tick = trades.trade(8, 3)
    assert gap == Gap(BTC, trades.at(0), trades.at(3), "lost trades", {"lost": 2})
    assert tick.record.trade_id == 8
    assert trades.trade(8, 3) == []
    assert kinds(trades.trade(7, 2)) == [Tick]  # late after all
    assert (trades.statistics.lost_messages, trades.statistics.duplicates) == (2, 1)


def test_a_restarted_counter_hides_no_trade():
    trades = Trades()
    trades.trade(500, 0)
    assert kinds(trades.trade(3, 1)) == [Tick]
    assert kinds(trades.trade(4, 2)) == [Tick]
    assert trades.trade(4, 2) == []
    gap, _ = trades.trade(6, 4)
    assert gap == Gap(BTC, trades.at(2), trades.at(4), "lost trades", {"lost": 1})


def test_an_absurd_step_of_the_trades_ends_the_connection():
    trades = Trades()
    trades.trade(5, 0)
    (rejected,) = trades.trade(6 + MAX_LOST + 1, 1)
    assert rejected.reason == "sequence number is absurd"
    assert (trades.feed.fault or ("",))[0] == "untrusted"
    trades.feed.connected(START, "untrusted")
    events = trades.trade(6 + MAX_LOST + 1, 2)  # of another connection any number may come
    assert kinds(events)[-1] == Tick
    assert trades.feed.fault is None


def test_a_heartbeat_names_a_trade_that_never_came():
    trades = Trades()
    trades.trade(5, 0)
    assert kinds(trades.heartbeat(6, 1)) == [Heartbeat]  # it may still be under way
    gap, _ = trades.heartbeat(6, 2)
    assert gap == Gap(BTC, trades.at(0), trades.at(2), "lost trades", {"lost": 1})
    assert kinds(trades.heartbeat(6, 3)) == [Heartbeat]
    assert kinds(trades.trade(7, 3)) == [Tick]


def test_a_trade_that_comes_after_the_heartbeat_that_names_it_is_not_lost():
    trades = Trades()
    trades.trade(5, 0)
    trades.heartbeat(6, 1)
    assert kinds(trades.trade(6, 1)) == [Tick]
    assert kinds(trades.heartbeat(6, 2)) == [Heartbeat]


def test_missed_heartbeats_of_a_product_are_told_by_time():
    trades = Trades()
    trades.heartbeat(1, 0)
    trades.heartbeat(1, 0, ETH)
    assert kinds(trades.heartbeat(1, 1, ETH)) == [Heartbeat]
    gap, _ = trades.heartbeat(1, 3)
    assert gap == Gap(BTC, trades.at(0), trades.at(3), "missed heartbeats", {"missed": 2})


def test_the_first_ticker_after_a_reconnect_ends_no_gap():
    trades = Trades()
    trades.trade(5, 0)
    trades.heartbeat(5, 10)
    trades.feed.connected(START, "closed")
    assert trades.trade(5, 0) == []  # the last trade again
    gap, beat = trades.heartbeat(5, 20)
    assert gap == Gap(BTC, trades.at(10), trades.at(20), "reconnect", {"cause": "closed"})
    assert kinds([beat]) == [Heartbeat]
    trades.trade(1, 21, ETH)
    gap, tick = trades.trade(2, 22, ETH)
    assert gap == Gap(ETH, trades.at(10), trades.at(22), "reconnect", {"cause": "closed"})
    assert tick.record.trade_id == 2


def test_a_recorded_connection_has_no_gap(recordings):
    path = recordings / "wire" / "advanced-trade-all-channels.jsonl.zst"
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        lines = [json.loads(line) for line in io.TextIOWrapper(reader)]
    messages = [line["data"].encode() for line in lines if line["t"] == "recv"]
    statistics = SourceStatistics()
    feed = Feed([BTC, ETH], ADVANCED_TRADE, statistics)
    feed.connected(ARRIVAL)
    events = [event for message in messages for event in feed.take(message, 2 * ARRIVAL)]
    assert feed.subscribed
    assert feed.fault is None
    assert statistics == SourceStatistics(messages=len(messages))
    assert set(kinds(events)) == {Tick, Heartbeat}
    assert kinds(events).count(Tick) == 160
