"""Read the messages of both Coinbase protocols as ticks and heartbeats.

*Advanced Trade* sends ``{"channel": ..., "timestamp": ..., "sequence_num": ..., "events": [...]}``;
its ``sequence_num`` counts every message of a connection across all channels. The older *Exchange*
feed sends ``{"type": ..., "product_id": ..., "time": ..., "sequence": ..., ...}``, one ticker per
trade. Messages of other kinds are accepted and carry no record.

>>> text = '{"type":"heartbeat","product_id":"BTC-USD","time":"2026-04-04T21:13:43.291084825Z"}'
>>> decode(text).records
(Heartbeat(symbol='BTC-USD', time=1775337223291084825, received=None),)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from volatility.records import REASONS, SYMBOL, Heartbeat, Record, Tick, TickError, validate
from volatility.sources.messages import (
    BAD_ENTRY,
    BAD_SYMBOL,
    NOT_JSON,
    Count,
    Message,
    Number,
    Rejection,
    number,
    parse_time,
    text_of,
)

NOT_A_MESSAGE = "not a Coinbase message"


class _Header(msgspec.Struct):
    """Represent the fields that distinguish protocols and kinds; the rest is not decoded here."""

    channel: str | None = None
    type: str | None = None
    timestamp: str | None = None
    time: Any = None  # of whatever type: a bad one makes a bad entry, not an unknown message
    last_trade_id: Any = None
    sequence_num: Count | None = None
    events: msgspec.Raw = msgspec.Raw(b"[]")


class _Event(msgspec.Struct):
    type: str | None = None
    tickers: list[msgspec.Raw] = []
    subscriptions: dict[str, list[str]] = {}
    current_time: str | None = None
    heartbeat_counter: Count | str | None = None


class _Entry(msgspec.Struct):
    """Represent one ticker of Advanced Trade."""

    product_id: str = ""
    price: Number = None
    best_bid: Number = None
    best_ask: Number = None
    best_bid_quantity: Number = None
    best_ask_quantity: Number = None


class _Exchange(msgspec.Struct):
    """Represent the ``ticker`` or ``heartbeat`` of the Exchange feed."""

    product_id: str = ""
    time: str | None = None
    price: Number = None
    best_bid: Number = None
    best_ask: Number = None
    best_bid_size: Number = None
    best_ask_size: Number = None
    last_size: Number = None
    side: str | None = None
    sequence: Count | None = None
    trade_id: Count | None = None


class _Channel(msgspec.Struct):
    name: str
    product_ids: list[str] = []


class _Answer(msgspec.Struct):
    """Represent the ``subscriptions`` or ``error`` of the Exchange feed."""

    channels: list[_Channel | str] = []
    message: str = ""
    reason: str = ""


_header = msgspec.json.Decoder(_Header)
_events = msgspec.json.Decoder(list[_Event])
_entry = msgspec.json.Decoder(_Entry)
_exchange = msgspec.json.Decoder(_Exchange)
_answer = msgspec.json.Decoder(_Answer)


def decode(
    message: bytes | str, received: int | None = None, symbols: Iterable[str] = ()
) -> Message:
    """Read one message.

    Parameters
    ----------
    message : bytes or str
        As received.
    received : int, optional
        Arrival time [ns].
    symbols : iterable of str
        Subscribed symbols: an Advanced Trade heartbeat names no symbol and applies to all of them.

    Raises
    ------
    TickError
        When it is not JSON or not a message of either protocol. A bad *entry* does not raise.
    """
    try:
        header = _header.decode(message)
    except msgspec.ValidationError as error:
        raise TickError(NOT_A_MESSAGE) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TickError(NOT_JSON) from error
    try:
        if header.channel is not None:
            return _stamped(_decode_advanced(header, received, symbols), header)
        if header.type is not None:
            return _stamped(_decode_exchange(message, header.type, received), header)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        kind = header.channel or header.type or ""
        raw = text_of(message)
        return Message(kind, rejected=(Rejection(BAD_ENTRY, raw),), sequence=header.sequence_num)
    raise TickError(NOT_A_MESSAGE)


def _stamped(message: Message, header: _Header) -> Message:
    stamp = header.timestamp or header.time
    last = header.last_trade_id
    return msgspec.structs.replace(
        message,
        stamp=stamp if isinstance(stamp, str) else None,
        last_trade_id=last if type(last) is int else None,
    )


def _decode_advanced(header: _Header, received: int | None, symbols: Iterable[str]) -> Message:
    kind, sequence = header.channel or "", header.sequence_num
    if kind not in {"ticker", "ticker_batch", "heartbeats", "subscriptions"}:
        return Message(kind, sequence=sequence)
    records: list[Record] = []
    rejected: list[Rejection] = []
    subscribed: tuple[str, ...] | None = None
    heartbeat: int | None = None
    snapshot = False
    for event in _events.decode(header.events):
        snapshot |= event.type == "snapshot"
        if kind == "subscriptions":
            lists = (event.subscriptions.get(name, []) for name in ("ticker", "ticker_batch"))
            subscribed = tuple(dict.fromkeys(symbol for names in lists for symbol in names))
        elif kind == "heartbeats":
            heartbeat = _whole(event.heartbeat_counter)
            moved, failed = _heartbeats(event.current_time or header.timestamp, received, symbols)
            records += moved
            rejected += failed
        for raw in event.tickers:
            try:
                records.append(_advanced_tick(raw, header, received))
            except TickError as error:
                rejected.append(Rejection(str(error), text_of(bytes(raw))))
    return Message(kind, tuple(records), tuple(rejected), subscribed, sequence, heartbeat, snapshot)


def _heartbeats(
    time: str | None, received: int | None, symbols: Iterable[str]
) -> tuple[list[Record], list[Rejection]]:
    try:
        moment = parse_time(time)
        return [validate(Heartbeat(symbol, moment, received)) for symbol in symbols], []
    except TickError as error:
        return [], [Rejection(str(error), str(time))]


def _advanced_tick(raw: msgspec.Raw, header: _Header, received: int | None) -> Record:
    try:
        entry = _entry.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TickError(BAD_ENTRY) from error
    return _tick(
        entry.product_id,
        header.timestamp,
        received,
        (entry.price, entry.best_bid, entry.best_ask),
        (entry.best_bid_quantity, entry.best_ask_quantity, None),
        sequence=header.sequence_num,
    )


def _decode_exchange(message: bytes | str, kind: str, received: int | None) -> Message:
    if kind == "subscriptions":
        channels = [c for c in _answer.decode(message).channels if isinstance(c, _Channel)]
        tickers = [c.product_ids for c in channels if c.name in {"ticker", "ticker_batch"}]
        return Message(kind, symbols=tuple(dict.fromkeys(s for names in tickers for s in names)))
    if kind == "error":
        answer = _answer.decode(message)
        return Message(kind, error=": ".join(filter(None, (answer.message, answer.reason))))
    if kind not in {"ticker", "heartbeat"}:
        return Message(kind)
    entry = _exchange.decode(message)
    try:
        return Message(kind, (_exchange_record(kind, entry, received),))
    except TickError as error:
        return Message(kind, rejected=(Rejection(str(error), text_of(message)),))


def _exchange_record(kind: str, entry: _Exchange, received: int | None) -> Record:
    if kind == "heartbeat":
        if not SYMBOL.fullmatch(entry.product_id):
            raise TickError(BAD_SYMBOL)
        return validate(Heartbeat(entry.product_id, parse_time(entry.time), received))
    return _tick(
        entry.product_id,
        entry.time,
        received,
        (entry.price, entry.best_bid, entry.best_ask),
        (entry.best_bid_size, entry.best_ask_size, entry.last_size),
        side=entry.side,
        sequence=entry.sequence,
        trade_id=entry.trade_id,
    )


def _tick(
    symbol: str,
    time: str | None,
    received: int | None,
    quote: tuple[Number, Number, Number],
    sizes: tuple[Number, Number, Number],
    side: str | None = None,
    sequence: int | None = None,
    trade_id: int | None = None,
) -> Record:
    if not SYMBOL.fullmatch(symbol):
        raise TickError(BAD_SYMBOL)
    moment = parse_time(time)
    if None in quote:
        raise TickError(REASONS[3])
    price, bid, ask = (number(value) for value in quote)
    bid_size, ask_size, size = (None if s is None else number(s) for s in sizes)
    return validate(
        Tick(
            symbol,
            moment,
            price,
            bid,
            ask,
            received,
            bid_size,
            ask_size,
            size,
            "buy" if side == "buy" else "sell" if side == "sell" else None,
            sequence,
            trade_id,
        )
    )


def _whole(value: int | str | None) -> int | None:
    return (
        int(value)
        if isinstance(value, int) or (value and re.fullmatch(r"\d{1,18}", value))
        else None
    )
