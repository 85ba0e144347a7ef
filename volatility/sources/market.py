"""Join the quotes and trades of a venue that sends them apart, and estimate its clock.

A tick has a quote and a price. A quote takes the price of the last trade, or the midprice as long
as no trade has come; a trade takes the quote in force. A trade before the first quote of a
connection has no quote, so it makes no tick: its symbol is not live yet.

>>> market = Market()
>>> market.trade("BTC-USDT", 1_775_337_223_000_000_000, None, 100.5) is None
True
>>> market.quote("BTC-USDT", 1_775_337_223_100_000_000, None, Quote(100.0, 101.0)).price
100.5
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from volatility.records import EARLIEST_NS, LATEST_NS, Tick, validate

WINDOW_NS = 60_000_000_000
AHEAD_NS = 60_000_000_000  # a time further ahead of its arrival is rejected, so it tells nothing


class Quote(msgspec.Struct, frozen=True):
    """Represent the best bid and ask [quote currency], and their sizes [base currency]."""

    bid: float
    ask: float
    bid_size: float | None = None
    ask_size: float | None = None


@dataclass
class Market:
    """Hold the last quote and price of each symbol."""

    prices: dict[str, float] = field(default_factory=dict)
    quotes: dict[str, Quote] = field(default_factory=dict)

    def connected(self) -> None:
        """Forget the quotes: what they have become meanwhile is not known."""
        self.quotes.clear()

    def price(self, symbol: str, value: float, *, known: bool = True) -> None:
        """Take a last price that was stated beside a quote; unless ``known``, a trade knows better.

        Whatever is not a price is ignored: the quote is good without it.
        """
        if 0 < value < math.inf and (known or symbol not in self.prices):
            self.prices[symbol] = value

    def quote(
        self,
        symbol: str,
        time: int,
        received: int | None,
        quote: Quote,
        sequence: int | None = None,
    ) -> Tick:
        """Return the tick of a new quote; raises ``TickError`` when it is not valid."""
        middle = (quote.bid + quote.ask) / 2
        tick = Tick(
            symbol,
            time,
            self.prices.get(symbol, middle),
            quote.bid,
            quote.ask,
            received,
            quote.bid_size,
            quote.ask_size,
            sequence=sequence,
        )
        validate(tick)
        self.quotes[symbol] = quote
        return tick

    def trade(
        self,
        symbol: str,
        time: int,
        received: int | None,
        price: float,
        size: float | None = None,
        side: Literal["buy", "sell"] | None = None,
        trade_id: int | None = None,
    ) -> Tick | None:
        """Return the tick of a trade, None without a quote; raises ``TickError`` if not valid."""
        quote = self.quotes.get(symbol, Quote(price, price))
        tick = Tick(
            symbol,
            time,
            price,
            quote.bid,
            quote.ask,
            received,
            quote.bid_size,
            quote.ask_size,
            size,
            side,
            trade_id=trade_id,
        )
        validate(tick)
        self.prices[symbol] = price
        return tick if symbol in self.quotes else None


class ExchangeClock:
    """Estimate a venue's time of sending from the arrival of a message that states none.

    It is the arrival less the smallest delay of the last one to two minutes, and never before the
    last time that was stated: what arrives later was sent later.

    >>> clock = ExchangeClock()
    >>> second = 1_000_000_000
    >>> clock.take(1_775_337_223 * second, 1_775_337_225 * second)  # two seconds under way
    >>> clock.at(1_775_337_226 * second) == 1_775_337_224 * second
    True
    """

    def __init__(self) -> None:
        self._stated_ns = 0
        self._since_ns = 0
        self._least: list[int] = []  # of the previous minute and of this one

    def take(self, stated_ns: int, received: int) -> None:
        """Take a time that the venue stated in a message."""
        if not EARLIEST_NS <= stated_ns <= min(LATEST_NS, received + AHEAD_NS):
            return
        delay_ns = received - stated_ns
        if not self._least or not 0 <= received - self._since_ns < WINDOW_NS:
            self._least = [*self._least[-1:], delay_ns]
            self._since_ns = received
        self._least[-1] = min(self._least[-1], delay_ns)
        self._stated_ns = max(self._stated_ns, stated_ns)

    def at(self, received: int) -> int:
        """Return the estimated time of sending [ns] of what arrived at a local time [ns]."""
        return max(received - min(self._least, default=0), self._stated_ns)
