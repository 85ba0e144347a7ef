"""Define the addresses and subscriptions of Coinbase's two public feeds.

Their messages are decoded by ``volatility.sources.coinbase``. Neither feed needs an API key for
these channels.

>>> subscriptions("exchange", [["BTC-USD"]])
(b'{"type":"subscribe","product_ids":["BTC-USD"],"channels":["ticker","heartbeat"]}',)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Protocol = Literal["advanced-trade", "exchange"]

URLS: dict[Protocol, str] = {
    "advanced-trade": "wss://advanced-trade-ws.coinbase.com",
    "exchange": "wss://ws-feed.exchange.coinbase.com",
}
SUBSCRIBE_WITHIN_SECONDS = 5.0  # afterwards the exchange closes an idle connection
MAX_MESSAGES_PER_SECOND = 8  # that a client may send, per address


def subscriptions(protocol: Protocol, requests: Sequence[Sequence[str]]) -> tuple[bytes, ...]:
    """Return the messages that subscribe to tickers and heartbeats, in sending order.

    Each of ``requests`` lists the symbols of one message. Advanced Trade closes a channel after
    60 to 90 s of silence unless heartbeats are subscribed, so they are part of every subscription.
    It accepts one channel per message, and its heartbeats name no symbol.
    """
    if protocol == "exchange":
        channels = ["ticker", "heartbeat"]
        return tuple(_request(product_ids=list(s), channels=channels) for s in requests)
    tickers = tuple(_request(product_ids=list(s), channel="ticker") for s in requests)
    return (*tickers, _request(channel="heartbeats"))


def _request(**fields: str | list[str]) -> bytes:
    return msgspec.json.encode({"type": "subscribe", **fields})
