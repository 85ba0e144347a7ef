"""Define the addresses and subscriptions of Coinbase's two public feeds.

Their messages are decoded by ``volatility.sources.coinbase``. Neither feed needs an API key for
these channels. The exchange closes a connection that has not subscribed within 5 s.

>>> EXCHANGE.subscriptions([["BTC-USD"]])
(b'{"type":"subscribe","product_ids":["BTC-USD"],"channels":["ticker","heartbeat"]}',)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from volatility.sources import Message, decode
from volatility.streaming.sources.venue import Requests, Venue

MAX_MESSAGES_PER_SECOND = 8  # that a client may send, per address
EXAMPLE = ("BTC-USD", "ETH-USD")
ONE_BOOK = frozenset({"USD", "USDC"})  # whoever asks for BTC-USDC may receive BTC-USD


class _Decoder:
    """Decode messages of either protocol; each of them is complete in itself."""

    def __init__(self, _symbols: Sequence[str]) -> None:
        pass

    def connected(self) -> None:
        """Do nothing: there is nothing to forget."""

    def decode(self, message: bytes, received: int, symbols: Iterable[str]) -> Message:
        return decode(message, received, symbols)


def _advanced(requests: Requests) -> tuple[bytes, ...]:
    """Subscribe to tickers and heartbeats.

    Advanced Trade closes a channel after 60 to 90 s of silence unless heartbeats are subscribed.
    It accepts one channel per message, and its heartbeats name no symbol.
    """
    tickers = tuple(_request(product_ids=list(s), channel="ticker") for s in requests)
    return (*tickers, _request(channel="heartbeats"))


def _exchange(requests: Requests) -> tuple[bytes, ...]:
    channels = ["ticker", "heartbeat"]
    return tuple(_request(product_ids=list(s), channels=channels) for s in requests)


def _request(**fields: str | list[str]) -> bytes:
    return msgspec.json.encode({"type": "subscribe", **fields})


ADVANCED_TRADE = Venue(
    name="coinbase",
    url="wss://advanced-trade-ws.coinbase.com",
    example=EXAMPLE,
    decoder=_Decoder,
    subscriptions=_advanced,
    messages_per_second=MAX_MESSAGES_PER_SECOND,
    heartbeats="connection",
    one_book=ONE_BOOK,
)
EXCHANGE = Venue(
    name="coinbase",
    url="wss://ws-feed.exchange.coinbase.com",
    example=EXAMPLE,
    decoder=_Decoder,
    subscriptions=_exchange,
    messages_per_second=MAX_MESSAGES_PER_SECOND,
    heartbeats="product",
    one_book=ONE_BOOK,
)
PROTOCOLS: dict[str, Venue] = {"advanced-trade": ADVANCED_TRADE, "exchange": EXCHANGE}
