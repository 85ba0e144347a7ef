"""Read the messages of Binance's combined spot streams as ticks and heartbeats.

``<symbol>@bookTicker`` has the best quotes, numbered by ``u`` and without a time; it is estimated
from the arrival. ``<symbol>@trade`` has the trades, numbered by ``t`` without a hole, and
``<symbol>@ticker`` comes every second and names the newest trade. Times are integers in
milliseconds, or in microseconds where the address asks for them.

>>> decoder = Decoder(["BTC-USDT"])
>>> quote = b'{"stream":"btcusdt@bookTicker","data":{"u":4,"s":"BTCUSDT","b":"100","a":"101"}}'
>>> decoder.decode(quote, 1_775_337_223_291_084_825).records[0].bid
100.0
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from volatility.records import SYMBOL, Heartbeat, Record, TickError, normalise, validate
from volatility.sources.market import ExchangeClock, Market, Quote
from volatility.sources.messages import (
    BAD_ENTRY,
    BAD_SYMBOL,
    BAD_TIME,
    NOT_JSON,
    Count,
    Message,
    Number,
    Rejection,
    number,
    text_of,
)

NOT_A_MESSAGE = "not a Binance message"
MICROSECONDS = 10**14  # from here on; in milliseconds this is the year 5138
SHUTDOWN = "the exchange announced that it shuts this connection down"


class _Error(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Envelope(msgspec.Struct):
    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None
    code: int | None = None
    msg: str = ""


class _Event(msgspec.Struct):
    """Represent a quote, a trade or a 24-hour ticker by the venue's one-letter fields."""

    e: str | None = None
    E: Any = None
    T: Any = None
    s: str = ""
    u: Count | None = None
    t: Count | None = None
    L: Count | None = None
    b: Number = None
    B: Number = None
    a: Number = None
    A: Number = None
    p: Number = None
    q: Number = None
    c: Number = None
    m: bool | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_event = msgspec.json.Decoder(_Event)


def name_of(symbol: str) -> str:
    """Return the venue's name of a symbol.

    >>> name_of("BTC-USDT")
    'btcusdt'
    """
    return symbol.replace("-", "").lower()


class Decoder:
    """Read the messages of one connection after another.

    Parameters
    ----------
    symbols : sequence of str
        Requested symbols. Others may arrive as well, and make no records.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self._symbols = {name_of(symbol).upper(): symbol for symbol in symbols}
        self._market = Market()
        self._clock = ExchangeClock()

    def connected(self) -> None:
        """Forget what only the last connection knew."""
        self._market.connected()

    def decode(self, message: bytes, received: int, _symbols: Iterable[str] = ()) -> Message:
        """Read one message.

        Raises
        ------
        TickError
            When it is not JSON or not a message of this venue. A bad entry does not raise.
        """
        try:
            envelope = _envelope.decode(message)
        except msgspec.ValidationError as error:
            raise TickError(NOT_A_MESSAGE) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TickError(NOT_JSON) from error
        if envelope.error is not None or envelope.code is not None:
            return Message("error", error=envelope.error.msg if envelope.error else envelope.msg)
        if bytes(envelope.data):
            return self._stream(message, bytes(envelope.data), received)
        if bytes(envelope.result):
            return Message("answer")
        raise TickError(NOT_A_MESSAGE)

    def _stream(self, message: bytes, data: bytes, received: int) -> Message:
        try:
            event = _event.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return Message("", rejected=(Rejection(BAD_ENTRY, text_of(message)),))
        kind = event.e or ("bookTicker" if event.u is not None else "")
        if kind == "serverShutdown":
            return Message(kind, ending=SHUTDOWN)
        sent_ns = _nanoseconds(event.E)
        if sent_ns is not None:
            self._clock.take(sent_ns, received)
        estimated = event.E is None
        stamp = self._clock.at(received) if estimated else sent_ns
        try:
            records = self._records(kind, event, stamp, received)
        except TickError as error:
            rejected = (Rejection(str(error), text_of(message)),)
            return Message(kind, rejected=rejected, stamp=stamp, estimated=estimated)
        return Message(
            kind,
            records,
            stamp=stamp,
            estimated=estimated,
            last_trade_id=event.L if records else None,
        )

    def _records(
        self, kind: str, event: _Event, stamp: int | None, received: int
    ) -> tuple[Record, ...]:
        if kind not in {"bookTicker", "trade", "24hrTicker"}:
            return ()
        symbol = self._symbols.get(event.s)
        if symbol is None:
            symbol = normalise(event.s).symbol
            if not SYMBOL.fullmatch(symbol):
                raise TickError(BAD_SYMBOL)
            if kind == "24hrTicker":
                return ()  # of the stream that is a heartbeat for all
        if kind == "trade":
            time = _nanoseconds(event.T)
            if time is None:
                raise TickError(BAD_TIME)
            # The buyer was there first, so the seller took.
            side: Any = None if event.m is None else "sell" if event.m else "buy"
            price, size = number(event.p), number(event.q)
            trade = self._market.trade(symbol, time, received, price, size, side, event.t)
            return () if trade is None else (trade,)
        if stamp is None:
            raise TickError(BAD_TIME)
        if kind == "24hrTicker" and symbol in self._market.quotes:
            return (validate(Heartbeat(symbol, stamp, received)),)
        if kind == "24hrTicker":
            self._market.price(symbol, number(event.c), known=False)
        sizes = (None if size is None else number(size) for size in (event.B, event.A))
        quote = Quote(number(event.b), number(event.a), *sizes)
        return (self._market.quote(symbol, stamp, received, quote, event.u),)


def _nanoseconds(value: object) -> int | None:
    if type(value) is not int or not 0 <= value < 2**63 // 1000:
        return None
    return value * (1_000 if value >= MICROSECONDS else 1_000_000)
