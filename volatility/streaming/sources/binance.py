"""Define the address and subscriptions of Binance's public spot streams.

Their messages are decoded by ``volatility.sources.binance``. The server pings every 20 s, which
the WebSocket library answers, and ends each connection after 24 hours. It accepts any stream's
name and never sends anything for one that does not exist.

>>> BINANCE.subscriptions([["ETH-USDT"]])[1]
b'{"method":"SUBSCRIBE","params":["btcusdt@ticker"],"id":2}'
"""

from __future__ import annotations

import msgspec

from volatility.sources import binance
from volatility.streaming.sources.venue import Requests, Venue

STREAMS = ("trade", "bookTicker", "ticker")
# A product that trades every second: its ticker is a heartbeat for the silent ones.
HEARTBEAT = "btcusdt@ticker"


def _subscriptions(requests: Requests) -> tuple[bytes, ...]:
    params = [
        [f"{binance.name_of(symbol)}@{stream}" for symbol in symbols for stream in STREAMS]
        for symbols in requests
    ]
    return tuple(
        msgspec.json.encode({"method": "SUBSCRIBE", "params": streams, "id": number})
        for number, streams in enumerate([*params, [HEARTBEAT]], start=1)
    )


BINANCE = Venue(
    name="binance",
    url="wss://stream.binance.com:9443/stream",
    example=("BTC-USDT", "ETH-USDT"),
    decoder=binance.Decoder,
    subscriptions=_subscriptions,
    messages_per_second=4,  # of 5, of which pongs are a part
    heartbeats="traffic",
    repeated_quotes="number",
)
