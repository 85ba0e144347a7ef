"""Binance's messages, as its documentation writes them."""

from __future__ import annotations

import json

import pytest

from volatility.records.tick import FUTURE, REASONS, Heartbeat, Tick, TickError
from volatility.sources.binance import NOT_A_MESSAGE, SHUTDOWN, Decoder
from volatility.sources.messages import BAD_ENTRY, BAD_TIME, NOT_JSON
from volatility.streaming.sources.binance import BINANCE
from volatility.units import SECOND

SENT_MS = 1_672_515_782_136
SENT = SENT_MS * 1_000_000
ARRIVAL = SENT + SECOND // 10
BNB = "BNB-BTC"


def quote(**fields):
    data = {"u": 400900217, "s": "BNBBTC", "b": "0.00100", "B": "31.21", "a": "0.00102"}
    return message("bnbbtc@bookTicker", data | {"A": "40.66"} | fields)


def trade(**fields):
    data = {"e": "trade", "E": SENT_MS, "s": "BNBBTC", "t": 12345, "p": "0.001", "q": "100"}
    data |= {"b": 88, "a": 50, "T": SENT_MS, "m": True, "M": True}
    return message("bnbbtc@trade", data | fields)


def ticker(**fields):
    data = {"e": "24hrTicker", "E": SENT_MS, "s": "BNBBTC", "p": "0.0015", "P": "250.00"}
    data |= {"c": "0.00101", "Q": "10", "b": "0.001", "B": "10", "a": "0.00102", "A": "100"}
    data |= {"O": 0, "C": 86400000, "F": 0, "L": 18150, "n": 18151}
    return message("bnbbtc@ticker", data | fields)


def message(stream, data):
    return json.dumps({"stream": stream, "data": data}).encode()


def read(decoder, *messages):
    return [decoder.decode(raw, ARRIVAL) for raw in messages][-1]


def test_a_quote_and_a_trade_are_ticks():
    decoder = Decoder([BNB])
    assert read(decoder, trade()).records == (), "no quote is known"
    (tick,) = read(decoder, quote()).records
    assert tick == Tick(BNB, SENT, 0.001, 0.001, 0.00102, ARRIVAL, 31.21, 40.66, sequence=400900217)
    (tick,) = read(decoder, trade(t=12346, p="0.00102", m=False)).records
    assert tick == Tick(
        BNB, SENT, 0.00102, 0.001, 0.00102, ARRIVAL, 31.21, 40.66, 100.0, "buy", trade_id=12346
    )
    assert read(decoder, trade()).records[0].side == "sell"


def test_the_first_ticker_is_a_quote_and_the_others_are_heartbeats():
    decoder = Decoder([BNB])
    (tick,) = read(decoder, ticker()).records
    assert (tick.time, tick.price, tick.bid, tick.ask) == (SENT, 0.00101, 0.001, 0.00102)
    beat = read(decoder, ticker(E=SENT_MS + 1000, L=18151))
    assert beat.records == (Heartbeat(BNB, SENT + SECOND, ARRIVAL),)
    assert (beat.last_trade_id, beat.sent_ns) == (18151, SENT + SECOND)
    decoder.connected()
    assert isinstance(read(decoder, ticker()).records[0], Tick), "the quotes were forgotten"


def test_a_quote_before_the_first_trade_has_the_midprice():
    (tick,) = read(Decoder([BNB]), quote()).records
    assert tick.price == (0.001 + 0.00102) / 2
    assert tick.time == ARRIVAL, "no time has been stated yet"


def test_another_products_ticker_only_states_the_time():
    beat = read(Decoder([BNB]), ticker(s="BTCUSDT"))
    assert (beat.records, beat.rejected, beat.sent_ns) == ((), (), SENT)


def test_microseconds_are_told_by_their_size():
    decoder = Decoder([BNB])
    (tick,) = read(decoder, quote(), trade(T=SENT_MS * 1000 + 7, E=SENT_MS * 1000 + 9)).records
    assert tick.time == SENT + 7_000


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (trade(T=0), REASONS[1]),
        (trade(T=-5), BAD_TIME),
        (trade(T="now"), BAD_TIME),
        (trade(T=None), BAD_TIME),
        (trade(T=SENT_MS + 3_600_000), FUTURE),
        (trade(T=2**62), BAD_TIME),
        (ticker(E=0), REASONS[1]),
        (quote(a="0"), REASONS[4]),
        (quote(a="0.0001"), REASONS[5]),
        (quote(b="none"), REASONS[3]),
        (trade(p=None), REASONS[3]),
        (trade(p="1000"), REASONS[6]),
        (trade(t="x"), BAD_ENTRY),
        (quote(u=2**64), BAD_ENTRY),
        (quote(s="<script>"), "symbol '<script>' is not understood"),
    ],
)
def test_a_bad_entry_is_rejected_with_its_text(raw, reason):
    decoder = Decoder([BNB])
    if b"24hr" not in raw:
        decoder.decode(quote(), ARRIVAL)
    found = decoder.decode(raw, ARRIVAL)
    assert found.records == ()
    (rejection,) = found.rejected
    assert rejection.reason.startswith(reason)
    assert rejection.raw == raw.decode()


@pytest.mark.parametrize("stamp", [0, 1, -1, SENT_MS * 10, "x", None, 2**63])
def test_an_absurd_time_does_not_move_the_clock(stamp):
    decoder = Decoder([BNB])
    decoder.decode(trade(), ARRIVAL)
    decoder.decode(trade(E=stamp), ARRIVAL)
    assert decoder.decode(quote(), ARRIVAL).sent_ns == SENT


def test_the_clock_follows_the_smallest_delay_of_the_last_minutes():
    decoder = Decoder([BNB])
    for second, delay in ((0, 5), (1, 2), (2, 9)):
        at = SENT + second * SECOND
        decoder.decode(trade(E=at // 1_000_000), at + delay * SECOND // 10)
    assert decoder.decode(quote(), SENT + 4 * SECOND).sent_ns == SENT + 4 * SECOND - SECOND // 5
    for second in (100, 200):  # the local clock was set
        at = SENT + second * SECOND
        decoder.decode(trade(E=at // 1_000_000), at + SECOND)
    assert decoder.decode(quote(), SENT + 202 * SECOND).sent_ns == SENT + 201 * SECOND


def test_answers_errors_and_the_announced_end():
    decoder = Decoder([BNB])
    assert decoder.decode(b'{"result":null,"id":1}', ARRIVAL).kind == "answer"
    text = "Invalid request: too many parameters"
    for error in ({"code": 2, "msg": text}, {"error": {"code": 2, "msg": text}, "id": 1}):
        assert decoder.decode(json.dumps(error).encode(), ARRIVAL).error == text
    event = {"e": "serverShutdown", "E": SENT_MS}
    assert decoder.decode(message("", event), ARRIVAL).ending == SHUTDOWN
    assert decoder.decode(message("x@kline_1s", {"e": "kline"}), ARRIVAL).records == ()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"[]", NOT_A_MESSAGE), (b"{}", NOT_A_MESSAGE), (b"\xff", NOT_JSON), (b"", NOT_JSON)],
)
def test_what_is_not_a_message_raises(raw, reason):
    with pytest.raises(TickError, match=reason):
        Decoder([BNB]).decode(raw, ARRIVAL)


def test_subscriptions_ask_for_quotes_trades_and_tickers():
    messages = [json.loads(text) for text in BINANCE.subscriptions([["BNB-BTC", "ETH-USDT"]])]
    streams = [f"{name}@{kind}" for name in ("bnbbtc", "ethusdt") for kind in STREAMS]
    assert messages[0] == {"method": "SUBSCRIBE", "params": streams, "id": 1}
    assert messages[1] == {"method": "SUBSCRIBE", "params": ["btcusdt@ticker"], "id": 2}


STREAMS = ("trade", "bookTicker", "ticker")
