from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatility.records.tick import REASONS, Heartbeat, Tick, TickError
from volatility.sources.coinbase import decode
from volatility.sources.messages import BAD_ENTRY, BAD_SYMBOL, BAD_TIME, parse_time
from volatility.streaming.sources.coinbase import PROTOCOLS

STAMP, NANOSECONDS = "2026-04-04T21:13:43.291084825Z", 1_775_337_223_291_084_825


def entry(**changes):
    fields = {
        "type": "ticker",
        "product_id": "BTC-USD",
        "price": "67223.5",
        "volume_24_h": "2401.16054813",
        "best_bid": "67223.49",
        "best_ask": "67223.5",
        "best_bid_quantity": "0.56309243",
        "best_ask_quantity": "0.25094364",
    }
    return {key: value for key, value in (fields | changes).items() if value is not ...}


def advanced(*tickers, channel="ticker", timestamp=STAMP, kind="update", sequence=7):
    events = [{"type": kind, "tickers": list(tickers)}]
    return json.dumps(
        {"channel": channel, "timestamp": timestamp, "sequence_num": sequence, "events": events}
    )


def exchange(**changes):
    fields = {
        "type": "ticker",
        "sequence": 333938798,
        "product_id": "BAND-GBP",
        "price": "14.7775",
        "best_bid": "14.7550",
        "best_ask": "14.8060",
        "side": "buy",
        "time": "2021-04-17T16:43:30.244075Z",
        "trade_id": 881613,
        "last_size": "0.04",
    }
    return json.dumps({k: v for k, v in (fields | changes).items() if v is not ...})


def test_an_advanced_trade_ticker_is_a_tick():
    message = decode(advanced(entry()), received=NANOSECONDS + 5)
    assert message.records == (
        Tick(
            "BTC-USD",
            NANOSECONDS,
            price=67223.5,
            bid=67223.49,
            ask=67223.5,
            received=NANOSECONDS + 5,
            bid_size=0.56309243,
            ask_size=0.25094364,
            sequence=7,
        ),
    )
    assert (message.kind, message.sequence, message.snapshot) == ("ticker", 7, False)
    assert decode(advanced(entry(), kind="snapshot")).snapshot


def test_several_tickers_in_one_message_are_judged_one_by_one():
    message = decode(
        advanced(
            entry(),
            entry(product_id="ETH-USD", best_bid=...),
            entry(product_id="ETH-USD"),
            entry(product_id=5),
            entry(product_id="../x"),
            channel="ticker_batch",
        )
    )
    assert [record.symbol for record in message.records] == ["BTC-USD", "ETH-USD"]
    assert [reject.reason for reject in message.rejected] == [REASONS[3], BAD_ENTRY, BAD_SYMBOL]
    assert json.loads(message.rejected[0].raw) == entry(product_id="ETH-USD", best_bid=...)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"best_ask": ""}, REASONS[3]),
        ({"best_ask": "1_000"}, REASONS[3]),
        ({"price": "nan"}, REASONS[3]),
        ({"price": None}, REASONS[3]),
        ({"price": "1" + "0" * 400}, REASONS[3]),
        ({"best_bid": "0"}, REASONS[4]),
        ({"best_bid": "70000"}, REASONS[5]),
        ({"price": "1"}, REASONS[6]),
        ({"best_bid_quantity": "-1"}, REASONS[7]),
        ({"best_bid_quantity": "much"}, REASONS[7]),
        ({"price": [1]}, BAD_ENTRY),
    ],
)
def test_a_bad_ticker_is_rejected_with_its_reason(changes, reason):
    message = decode(advanced(entry(**changes)))
    assert not message.records
    assert [reject.reason for reject in message.rejected] == [reason]


def test_a_ticker_without_sizes_is_a_tick():
    missing = entry(best_bid_quantity=..., best_ask_quantity=...)
    (tick,) = decode(advanced(missing)).records
    assert isinstance(tick, Tick)
    assert tick.bid_size is None
    assert tick.ask_size is None


def test_an_arrival_long_before_the_time_is_rejected():
    message = decode(advanced(entry()), received=NANOSECONDS - 61 * 10**9)
    assert [reject.reason for reject in message.rejected] == [REASONS[2]]


def test_a_heartbeat_moves_every_subscribed_symbol():
    events = [
        {
            "current_time": "2024-10-04 07:04:40.820713045 +0000 UTC m=+66987.628148662",
            "heartbeat_counter": 66987,
        }
    ]
    text = json.dumps(
        {"channel": "heartbeats", "timestamp": STAMP, "sequence_num": 1, "events": events}
    )
    message = decode(text, symbols=["BTC-USD", "ETH-USD"])
    time = 1_728_025_480_820_713_045
    assert message.records == (Heartbeat("BTC-USD", time), Heartbeat("ETH-USD", time))
    assert message.heartbeat == 66987
    assert decode(text).records == ()
    assert decode(text.replace('"heartbeat_counter": 66987', '"x": 1')).heartbeat is None
    assert decode(text.replace("66987}", '"3049"}')).heartbeat == 3049


def test_a_subscription_answer_names_the_symbols():
    answer = {"ticker": ["BTC-USD"], "ticker_batch": ["ETH-USD"], "level2": ["SOL-USD"]}
    text = json.dumps({"channel": "subscriptions", "events": [{"subscriptions": answer}]})
    assert decode(text).symbols == ("BTC-USD", "ETH-USD")
    channels = [{"name": "level2", "product_ids": ["A"]}, {"name": "ticker", "product_ids": ["B"]}]
    assert decode(json.dumps({"type": "subscriptions", "channels": channels})).symbols == ("B",)
    assert decode(advanced(entry())).symbols is None


def test_an_exchange_ticker_is_a_tick_with_its_trade():
    assert decode(exchange(), received=5 * 10**18).records == (
        Tick(
            "BAND-GBP",
            1_618_677_810_244_075_000,
            price=14.7775,
            bid=14.755,
            ask=14.806,
            received=5 * 10**18,
            size=0.04,
            side="buy",
            sequence=333938798,
            trade_id=881613,
        ),
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time": ...}, BAD_TIME),
        ({"best_ask": ...}, REASONS[3]),
        ({"product_id": ...}, BAD_SYMBOL),
        ({"trade_id": 2**63}, BAD_ENTRY),
        ({"sequence": "x"}, BAD_ENTRY),
        ({"type": "heartbeat", "time": "now"}, BAD_TIME),
        ({"type": "heartbeat", "product_id": "btc"}, BAD_SYMBOL),
    ],
)
def test_a_bad_exchange_message_is_rejected_whole(changes, reason):
    text = exchange(**changes)
    message = decode(text)
    assert not message.records
    assert [(reject.reason, reject.raw) for reject in message.rejected] == [(reason, text)]


def test_other_messages_carry_nothing_and_errors_say_what():
    for text in ('{"type":"l2update","changes":[]}', '{"channel":"market_trades","events":[1]}'):
        message = decode(text)
        assert (message.records, message.rejected) == ((), ())
    text = '{"type":"error","message":"Failed to subscribe","reason":"x is not valid"}'
    assert decode(text).error == "Failed to subscribe: x is not valid"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", '{"a":1}', '{"channel":5}', b"\xff\xfe", "[" * 10_000]
)
def test_what_is_no_message_raises_a_tick_error(text):
    with pytest.raises(TickError):
        decode(text)


@given(st.data())
def test_no_broken_message_raises_anything_else(data):
    heartbeat = '{"channel":"heartbeats","events":[{"current_time":"x","heartbeat_counter":"y"}]}'
    texts = [advanced(entry()), exchange(), heartbeat, exchange(type="subscriptions")]
    text = bytearray(data.draw(st.sampled_from(texts)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        cut = data.draw(st.integers(0, len(text)))
        width = data.draw(st.integers(0, 12))
        text[cut : cut + width] = data.draw(st.sampled_from([b"", b"1", b"null", b'"', b"\xff{"]))
    try:
        message = decode(bytes(text), symbols=["BTC-USD"])
    except TickError:
        return
    assert all(reject.reason for reject in message.rejected)


@given(st.integers(1_231_027_200_000_000, 4_070_908_800_000_000), st.integers(0, 999))
def test_times_are_read_to_the_nanosecond(microseconds, nanosecond):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    whole = microseconds * 1000 + nanosecond
    fraction = f"{moment.microsecond:06}{nanosecond:03}"
    assert parse_time(f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}Z") == whole
    assert parse_time(f"{moment:%Y-%m-%d %H:%M:%S}.{fraction} +0000 UTC") == whole
    assert parse_time(f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}-01:30") == whole + 5400 * 10**9
    assert parse_time(f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}+0130") == whole - 5400 * 10**9
    stripped = fraction.rstrip("0")
    assert parse_time(f"{moment:%Y-%m-%dT%H:%M:%S}{'.' * bool(stripped)}{stripped}Z") == whole


@pytest.mark.parametrize(
    "text",
    [None, "", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00", "2026-01-01",
     "2026-01-01T00:00:00.0123456789Z", "2026-01-01T00:00:60Z", "0000-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text):
    with pytest.raises(TickError, match=BAD_TIME):
        parse_time(text)


def test_subscriptions_ask_for_tickers_and_heartbeats():
    advanced_trade = [
        json.loads(text) for text in PROTOCOLS["advanced-trade"].subscriptions([["A", "B"]])
    ]
    assert advanced_trade == [
        {"type": "subscribe", "product_ids": ["A", "B"], "channel": "ticker"},
        {"type": "subscribe", "channel": "heartbeats"},
    ]
    (older,) = PROTOCOLS["exchange"].subscriptions([["A"]])
    assert json.loads(older)["channels"] == ["ticker", "heartbeat"]
    assert all(venue.url.startswith("wss://") for venue in PROTOCOLS.values())
