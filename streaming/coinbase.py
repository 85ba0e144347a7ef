"""Say where Coinbase's two public feeds are and how to subscribe to them.

What they send is read by ``volatility.coinbase``. Neither needs a key for these channels.

>>> subscriptions("exchange", ["BTC-USD"])
(b'{"type":"subscribe","product_ids":["BTC-USD"],"channels":["ticker","heartbeat"]}',)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Protocol = Literal["advanced", "exchange"]

URLS: dict[Protocol, str] = {
    "advanced": "wss://advanced-trade-ws.coinbase.com",
    "exchange": "wss://ws-feed.exchange.coinbase.com",
}
SUBSCRIBE_WITHIN_SECONDS = 5.0  # after that an idle connection is closed
MAX_MESSAGES_PER_SECOND = 8  # that we may send, per address


def subscriptions(protocol: Protocol, symbols: Sequence[str]) -> tuple[bytes, ...]:
    """Write the messages that subscribe to tickers and heartbeats, in the order to send them.

    Advanced Trade closes a channel after 60 to 90 s of silence unless heartbeats run, so they
    are part of every subscription; it takes one channel a message and its heartbeats name no
    symbol.
    """
    if protocol == "exchange":
        return (_request(product_ids=list(symbols), channels=["ticker", "heartbeat"]),)
    return (_request(product_ids=list(symbols), channel="ticker"), _request(channel="heartbeats"))


def _request(**fields: str | list[str]) -> bytes:
    return msgspec.json.encode({"type": "subscribe", **fields})
