"""Read the messages of Kraken's WebSocket v2 as ticks and heartbeats.

The channel ``ticker`` has the best quotes and the last price, ``trade`` the trades, numbered
without a hole. ``heartbeat`` comes about once a second while nothing else does, and has no time;
where a time is missing, it is estimated from the arrival. ``status`` tells whether the market is
open: while it is not, silence does not mean that the price stays, so no clock moves.

>>> decoder = Decoder(["BTC-USD"])
>>> quote = b'{"channel":"ticker","data":[{"symbol":"BTC/USD","bid":100,"ask":101,"last":100.5}]}'
>>> decoder.decode(quote, 1_775_337_223_291_084_825).records[0].price
100.5
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from volatility.records import Record, TickError, normalise
from volatility.sources.market import ExchangeClock, Market, Quote
from volatility.sources.messages import (
    BAD_ENTRY,
    NOT_JSON,
    Count,
    Message,
    Number,
    Rejection,
    number,
    parse_time,
    text_of,
)

logger = logging.getLogger(__name__)

NOT_A_MESSAGE = "not a Kraken message"
ONLINE = "online"


class _Header(msgspec.Struct):
    channel: str | None = None
    type: str | None = None
    method: str | None = None
    success: bool | None = None
    error: str | None = None
    symbol: str | None = None
    data: list[msgspec.Raw] = []


class _Ticker(msgspec.Struct):
    symbol: str = ""
    bid: Number = None
    ask: Number = None
    bid_qty: Number = None
    ask_qty: Number = None
    last: Number = None
    timestamp: str | None = None


class _Trade(msgspec.Struct):
    symbol: str = ""
    side: str | None = None
    price: Number = None
    qty: Number = None
    trade_id: Count | None = None
    timestamp: str | None = None


class _Status(msgspec.Struct):
    system: str = ONLINE


_header = msgspec.json.Decoder(_Header)
_ticker = msgspec.json.Decoder(_Ticker)
_trade = msgspec.json.Decoder(_Trade)
_status = msgspec.json.Decoder(_Status)


def name_of(symbol: str) -> str:
    """Return the venue's name of a symbol.

    >>> name_of("BTC-USD")
    'BTC/USD'
    """
    return symbol.replace("-", "/", 1)


class Decoder:
    """Read the messages of one connection after another.

    Parameters
    ----------
    symbols : sequence of str
        Requested symbols.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self._symbols = {name_of(symbol): symbol for symbol in symbols}
        self._market = Market()
        self._clock = ExchangeClock()
        self._system = ONLINE

    def connected(self) -> None:
        """Forget what only the last connection knew."""
        self._market.connected()
        self._system = ONLINE

    def decode(self, message: bytes, received: int, _symbols: Iterable[str] = ()) -> Message:
        """Read one message.

        Raises
        ------
        TickError
            When it is not JSON or not a message of this venue. A bad entry does not raise.
        """
        try:
            header = _header.decode(message)
        except msgspec.ValidationError as error:
            raise TickError(NOT_A_MESSAGE) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TickError(NOT_JSON) from error
        if header.error is not None or header.success is False:
            return Message("error", error=self._error(header))
        if header.channel == "status":
            self._follow(header.data)
        if header.channel in {"ticker", "trade"}:
            return self._entries(header.channel, header.data, received, header.type == "snapshot")
        if header.channel is None and header.method is None:
            raise TickError(NOT_A_MESSAGE)
        kind = header.channel or header.method or ""
        beats = kind == "heartbeat" and self._system == ONLINE
        return Message(kind, stamp=self._clock.at(received) if beats else None, estimated=beats)

    def _error(self, header: _Header) -> str:
        """Return the error in our symbols: ``Currency pair not supported XX-USD``."""
        text = header.error or "no reason given"
        if header.symbol is None:
            return text
        symbol = self._named(header.symbol)
        return text.replace(header.symbol, symbol) if header.symbol in text else f"{symbol}: {text}"

    def _follow(self, data: Sequence[msgspec.Raw]) -> None:
        for raw in data[-1:]:
            try:
                system = _status.decode(raw).system
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if system != self._system:
                logger.warning("Kraken's market is now %r", system)
            self._system = system

    def _named(self, name: str) -> str:
        return self._symbols.get(name) or normalise(name).symbol

    def _entries(
        self, kind: str, data: Sequence[msgspec.Raw], received: int, snapshot: bool
    ) -> Message:
        records: list[Record] = []
        rejected: list[Rejection] = []
        past: dict[str, dict[int, int]] = {}
        stamps: list[int] = []
        estimated = False
        for raw in data:
            try:
                if kind == "trade":
                    trade = _trade.decode(raw)
                    symbol, time = self._named(trade.symbol), parse_time(trade.timestamp)
                    if snapshot:  # trades before the subscription, of which no quote is known
                        if trade.trade_id is not None:
                            past.setdefault(symbol, {})[trade.trade_id] = time
                        continue
                    stamps.append(time)
                    records += self._take_trade(symbol, time, trade, received)
                else:
                    ticker = _ticker.decode(raw)
                    stated = ticker.timestamp is not None
                    time = parse_time(ticker.timestamp) if stated else self._clock.at(received)
                    estimated |= not stated
                    stamps.append(time)
                    records.append(self._take_quote(ticker, time, received))
            except TickError as error:
                rejected.append(Rejection(str(error), text_of(bytes(raw))))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                rejected.append(Rejection(BAD_ENTRY, text_of(bytes(raw))))
        stamp = max(stamps, default=None)
        if stamp is not None and not estimated:
            self._clock.take(stamp, received)
        return Message(
            kind,
            tuple(records),
            tuple(rejected),
            snapshot=snapshot,
            stamp=stamp if self._system == ONLINE else None,
            estimated=estimated,
            past=past,
        )

    def _take_trade(self, symbol: str, time: int, trade: _Trade, received: int) -> Iterable[Record]:
        side: Any = trade.side if trade.side in {"buy", "sell"} else None
        price, size = number(trade.price), number(trade.qty)
        tick = self._market.trade(symbol, time, received, price, size, side, trade.trade_id)
        return () if tick is None else (tick,)

    def _take_quote(self, ticker: _Ticker, time: int, received: int) -> Record:
        symbol = self._named(ticker.symbol)
        self._market.price(symbol, number(ticker.last))
        sizes = (
            None if size is None else number(size) for size in (ticker.bid_qty, ticker.ask_qty)
        )
        quote = Quote(number(ticker.bid), number(ticker.ask), *sizes)
        return self._market.quote(symbol, time, received, quote)
