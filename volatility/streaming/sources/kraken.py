"""Define the address and subscriptions of Kraken's public WebSocket v2.

Its messages are decoded by ``volatility.sources.kraken``. Trades are subscribed before tickers:
their snapshot tells the number of the newest trade by the time a symbol is live. Each product is
answered by itself, so a refused one does not stop the others.

>>> KRAKEN.subscriptions([["BTC-USD"]])[0]
b'{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"],"snapshot":true}}'
"""

from __future__ import annotations

from typing import Any

import msgspec

from volatility.sources import kraken
from volatility.streaming.sources.venue import Requests, Venue

CHANNELS: tuple[dict[str, Any], ...] = (
    {"channel": "trade"},
    {"channel": "ticker", "event_trigger": "bbo"},
)


def _subscriptions(requests: Requests) -> tuple[bytes, ...]:
    return tuple(
        msgspec.json.encode(
            {
                "method": "subscribe",
                "params": {**channel, "symbol": [kraken.name_of(s) for s in symbols]}
                | {"snapshot": True},
            }
        )
        for symbols in requests
        for channel in CHANNELS
    )


KRAKEN = Venue(
    name="kraken",
    url="wss://ws.kraken.com/v2",
    example=("BTC-USD", "ETH-USD"),
    decoder=kraken.Decoder,
    subscriptions=_subscriptions,
    messages_per_second=8,
    heartbeats="traffic",
    repeated_quotes="content",
    refuses_one=True,
)
