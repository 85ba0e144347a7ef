"""Kraken's messages, as its documentation writes them."""

from __future__ import annotations

import json

import pytest

from tests.tickers import stamp
from volatility.records.tick import FUTURE, REASONS, Tick, TickError
from volatility.sources.kraken import NOT_A_MESSAGE, Decoder
from volatility.sources.messages import BAD_ENTRY, BAD_TIME, NOT_JSON
from volatility.streaming.sources.kraken import KRAKEN
from volatility.units import SECOND

SENT = 1_695_637_445_123_456_000
ARRIVAL = SENT + SECOND // 10
ALGO = "ALGO-USD"


def entries(channel, *data, kind="update"):
    return json.dumps({"channel": channel, "type": kind, "data": data}).encode()


def quote(**fields):
    data = {"symbol": "ALGO/USD", "bid": 0.10025, "bid_qty": 740.0, "ask": 0.10035}
    data |= {"ask_qty": 1361.44, "last": 0.10035, "volume": 997038.98, "vwap": 0.10148}
    return {**data, "low": 0.09979, "high": 0.10285, "change": -0.0001, "change_pct": -0.1} | fields


def trade(number=4665846, **fields):
    data = {"symbol": "ALGO/USD", "side": "sell", "price": 0.1003, "qty": 21.0}
    return data | {"ord_type": "market", "trade_id": number, "timestamp": stamp(SENT)} | fields


def read(decoder, *messages):
    return [decoder.decode(raw, ARRIVAL) for raw in messages][-1]


def test_a_quote_and_its_trades_are_ticks():
    decoder = Decoder([ALGO])
    assert read(decoder, entries("trade", trade())).records == (), "no quote is known"
    (tick,) = read(decoder, entries("ticker", quote(timestamp=stamp(SENT + 5)))).records
    assert tick == Tick(ALGO, SENT + 5, 0.10035, 0.10025, 0.10035, ARRIVAL, 740.0, 1361.44)
    two = read(decoder, entries("trade", trade(7), trade(8, side="buy", price=0.1004)))
    assert [(t.trade_id, t.side, t.price, t.bid) for t in two.records] == [
        (7, "sell", 0.1003, 0.10025),
        (8, "buy", 0.1004, 0.10025),
    ]
    assert (two.records[0].time, two.sent_ns, two.estimated) == (SENT, SENT, False)


def test_a_quote_without_a_time_is_estimated():
    decoder = Decoder([ALGO])
    found = read(decoder, entries("trade", trade()), entries("ticker", quote()))
    assert (found.records[0].time, found.estimated) == (SENT, True)


def test_the_snapshot_of_trades_tells_their_numbers():
    old = [trade(n, timestamp=stamp(SENT - n)) for n in (5, 6, 7)]
    found = read(Decoder([ALGO]), entries("trade", *old, kind="snapshot"))
    assert found.records == ()
    assert found.past == {ALGO: {n: SENT - n for n in (5, 6, 7)}}


def test_an_old_name_of_an_asset_is_understood():
    raw = entries("ticker", quote(symbol="XBT/USD", bid=1, ask=2, last=1))
    assert read(Decoder(["BTC-USD"]), raw).records[0].symbol == "BTC-USD"


def test_heartbeats_have_an_estimated_time_while_the_market_is_open(caplog):
    decoder = Decoder([ALGO])
    beat = b'{"channel":"heartbeat"}'
    assert read(decoder, entries("trade", trade()), beat).sent_ns == SENT
    for system in ("maintenance", "cancel_only", "post_only"):
        status = entries("status", {"system": system, "api_version": "v2", "version": "2.0.0"})
        assert read(decoder, status, beat).sent_ns is None
        assert read(decoder, entries("ticker", quote())).sent_ns is None
    assert read(decoder, entries("status", {"system": "online"}), beat).sent_ns == SENT
    assert len(caplog.records) == 4


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (entries("trade", trade(timestamp="1970-01-01T00:00:00Z")), REASONS[1]),
        (entries("trade", trade(timestamp=None)), BAD_TIME),
        (entries("trade", trade(timestamp="now")), BAD_TIME),
        (entries("trade", trade(timestamp=stamp(SENT + 3600 * SECOND))), FUTURE),
        (entries("trade", trade(price=-1)), REASONS[4]),
        (entries("trade", trade(qty=-1)), REASONS[7]),
        (entries("trade", trade(trade_id="x")), BAD_ENTRY),
        (entries("trade", 5), BAD_ENTRY),
        (entries("ticker", quote(timestamp="0001-01-01T00:00:00Z")), REASONS[1]),
        (entries("ticker", quote(bid=None)), REASONS[3]),
        (entries("ticker", quote(bid=1)), REASONS[5]),
        (entries("ticker", quote(symbol="")), "symbol '' is not understood"),
    ],
)
def test_a_bad_entry_is_rejected_and_the_others_are_taken(raw, reason):
    decoder = Decoder([ALGO])
    read(decoder, entries("ticker", quote()))
    message = json.loads(raw)
    message["data"].append(trade() if message["channel"] == "trade" else quote())
    found = read(decoder, json.dumps(message).encode())
    assert len(found.records) == 1
    (rejection,) = found.rejected
    assert rejection.reason.startswith(reason)


@pytest.mark.parametrize("last", [None, 0, -1, "x"])
def test_a_bad_last_price_does_not_spoil_the_quote(last):
    decoder = Decoder([ALGO])
    found = read(decoder, entries("ticker", quote()), entries("ticker", quote(last=last)))
    assert found.records[0].price == 0.10035


def test_errors_are_in_our_symbols():
    text = '{"error":"Currency pair not supported XX/USD","method":"subscribe","success":false%s}'
    for more in ("", ',"symbol":"XX/USD"'):
        found = read(Decoder(["XX-USD"]), (text % more).encode())
        assert ("XX-USD" in found.error) == bool(more)
    assert read(Decoder([]), b'{"method":"subscribe","success":false}').error == "no reason given"


def test_answers_and_pongs_are_known():
    for raw in (b'{"method":"pong","time_in":"x"}', b'{"method":"subscribe","success":true}'):
        found = read(Decoder([ALGO]), raw)
        assert (found.records, found.error) == ((), None)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"[]", NOT_A_MESSAGE), (b"{}", NOT_A_MESSAGE), (b"\xff", NOT_JSON), (b"", NOT_JSON)],
)
def test_what_is_not_a_message_raises(raw, reason):
    with pytest.raises(TickError, match=reason):
        Decoder([ALGO]).decode(raw, ARRIVAL)


def test_subscriptions_ask_for_trades_and_then_tickers():
    trades, tickers = (json.loads(text)["params"] for text in KRAKEN.subscriptions([[ALGO]]))
    assert trades == {"channel": "trade", "symbol": ["ALGO/USD"], "snapshot": True}
    assert tickers == {**trades, "channel": "ticker", "event_trigger": "bbo"}
