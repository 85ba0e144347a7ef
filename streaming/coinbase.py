"""Say where Coinbase's two public feeds are, how to subscribe, and what numbers their messages.

What they send is read by ``volatility.coinbase``. Neither needs a key for these channels.

>>> subscriptions("exchange", ["BTC-USD"])
(b'{"type":"subscribe","product_ids":["BTC-USD"],"channels":["ticker","heartbeat"]}',)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from volatility.coinbase import parse_time
from volatility.tick import TickError

Protocol = Literal["advanced-trade", "exchange"]

URLS: dict[Protocol, str] = {
    "advanced-trade": "wss://advanced-trade-ws.coinbase.com",
    "exchange": "wss://ws-feed.exchange.coinbase.com",
}
SUBSCRIBE_WITHIN_SECONDS = 5.0  # after that an idle connection is closed
MAX_MESSAGES_PER_SECOND = 8  # that we may send, per address


class _Stamp(msgspec.Struct):
    timestamp: str | None = None
    time: str | None = None
    last_trade_id: int | None = None


_stamp = msgspec.json.Decoder(_Stamp)


def subscriptions(protocol: Protocol, symbols: Sequence[str]) -> tuple[bytes, ...]:
    """Write the messages that subscribe to tickers and heartbeats, in the order to send them.

    Advanced Trade closes a channel after 60 to 90 s of silence unless heartbeats run, so they
    are part of every subscription; it takes one channel a message and its heartbeats name no
    symbol.
    """
    if protocol == "exchange":
        return (_request(product_ids=list(symbols), channels=["ticker", "heartbeat"]),)
    return (_request(product_ids=list(symbols), channel="ticker"), _request(channel="heartbeats"))


def sent_ns(message: bytes | str) -> int | None:
    """Read when the exchange sent a message [ns]; None where it does not say.

    Advanced Trade stamps every message, the Exchange feed what belongs to a product; its
    tickers carry the time of the trade.
    """
    try:
        stamp = _stamp.decode(message)
        return parse_time(stamp.timestamp or stamp.time)
    except (msgspec.MsgspecError, UnicodeDecodeError, TickError):
        return None


def last_trade_id(message: bytes | str) -> int | None:
    """Read which trade a heartbeat of the Exchange feed names as the last one."""
    try:
        return _stamp.decode(message).last_trade_id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _request(**fields: str | list[str]) -> bytes:
    return msgspec.json.encode({"type": "subscribe", **fields})
