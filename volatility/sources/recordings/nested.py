"""Find Coinbase messages, and flat records, inside whatever a recorder wrapped them in.

>>> wrapped = {"ts": 1762932011.5, "raw": '{"type":"heartbeat","product_id":"BTC-USD"}'}
>>> list(messages(wrapped))
[(b'{"type":"heartbeat","product_id":"BTC-USD"}', 1762932011500000000)]
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from volatility.records import TickError, normalise
from volatility.sources.recordings.names import CANDLE, NAMES
from volatility.sources.recordings.places import key, symbol_in
from volatility.sources.recordings.times import instant

MAX_DEPTH = 8
# Messages of the Exchange feed that name no product; all others do.
_ANSWERS = frozenset({"subscriptions", "error", "status"})
_ARRIVALS = (*NAMES["received"], "ts", "timestamp", "time", "t", "at", "at_ns", "when")

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


class _Signs(msgspec.Struct):
    channel: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()
    events: msgspec.Raw = msgspec.Raw()
    product_id: msgspec.Raw = msgspec.Raw()
    product_ids: msgspec.Raw = msgspec.Raw()
    channels: msgspec.Raw = msgspec.Raw()


_signs = msgspec.json.Decoder(_Signs)
_ANSWERED = frozenset(f'"{kind}"'.encode() for kind in _ANSWERS)
_EXCHANGE = frozenset(
    f'"{kind}"'.encode()
    for kind in (
        "ticker", "heartbeat", "match", "last_match", "l2update", "snapshot", "received", "open",
        "done", "change", "activate",
    )
)  # fmt: skip


def is_message(text: bytes) -> bool:
    """Return whether JSON is a message of either Coinbase protocol, without a wrapper."""
    try:
        signs = _signs.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    if bytes(signs.channel):
        return bytes(signs.events).startswith(b"[") or bytes(signs.channel) == b'"subscriptions"'
    kind = bytes(signs.type)
    if kind in _EXCHANGE:
        return bool(bytes(signs.product_id))
    subscribed = bytes(signs.product_ids) + bytes(signs.channels)
    return kind in _ANSWERED or bool(kind and subscribed)


def _is_message(value: dict[str, Any]) -> bool:
    if isinstance(value.get("channel"), str) and isinstance(value.get("events"), list):
        return True
    kind = value.get("type")
    if not isinstance(kind, str):
        return False
    if kind == "subscriptions":
        return isinstance(value.get("channels"), list)
    exchange = f'"{kind}"'.encode() in _EXCHANGE and isinstance(value.get("product_id"), str)
    return exchange and ("best_bid" not in value or "time" in value)


def messages(value: Any) -> Iterator[tuple[bytes, int | None]]:
    """Yield each Coinbase message inside a value, and when its recorder received it [ns]."""
    yield from _messages(value, None, 0)


def _messages(value: Any, received: int | None, depth: int) -> Iterator[tuple[bytes, int | None]]:
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        text = value.encode(errors="replace")
        inner = _json(value)
        if isinstance(inner, dict) and is_message(text):
            yield text, received
        elif inner is not None:
            yield from _messages(inner, received, depth + 1)
    elif isinstance(value, list):
        for one in value:
            yield from _messages(one, received, depth + 1)
    elif isinstance(value, dict):
        if _is_message(value):
            yield _encoder.encode(value), received
            return
        here = _arrival(value)
        for one in value.values():
            if isinstance(one, dict | list | str):
                yield from _messages(one, received if here is None else here, depth + 1)


def _json(text: str) -> Any:
    """Decode a text that is JSON; None if it is not an object or array."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _arrival(wrapper: dict[str, Any]) -> int | None:
    """Return the receive time of a wrapper; names that say so count before others."""
    by_key = {key(name): value for name, value in wrapper.items()}
    for name in _ARRIVALS:
        if name in by_key:
            found = instant(by_key[name])
            if found is not None:
                return found
    return None


def records(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the flat records inside a value, each with what its wrappers add.

    A record is an object with a price or a quote; the symbol, time and venue of its wrappers
    complete it, and their receive time becomes ``received``.
    """
    yield from _records(value, {}, 0)


def _records(value: Any, around: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        inner = _json(value)
        if inner is not None:
            yield from _records(inner, around, depth + 1)
    elif isinstance(value, list):
        if value and all(isinstance(one, str | int | float | Decimal | None) for one in value):
            if len(value) >= 3:
                yield {**around, **{str(i + 1): one for i, one in enumerate(value)}}
            return
        for one in value:
            yield from _records(one, around, depth + 1)
    elif isinstance(value, dict):
        book = _top(value)
        keys = {key(name) for name in value}
        if book or _is_record(keys):
            yield {**_completing(around, keys), **value, **book}
            return
        here = {**around, **_context(value)}
        for name, one in value.items():
            if isinstance(one, dict | list | str):
                inner = {**here, "symbol": name} if _is_pair(name) else here
                yield from _records(one, inner, depth + 1)


_PRICES = frozenset(NAMES["price"]) | frozenset(NAMES["bid"]) | {"close"}
_SYMBOLS = frozenset(NAMES["symbol"])
_TIMES = frozenset(NAMES["time"]) | frozenset(NAMES["received"])


def _is_record(keys: set[str]) -> bool:
    if set(CANDLE) <= keys:
        return True
    return bool(keys & _PRICES) and bool(keys & (_SYMBOLS | _TIMES))


def is_quote(record: dict[str, Any]) -> bool:
    """Return whether a record has a bid and an ask."""
    keys = {key(name) for name in record}
    return bool(keys & set(NAMES["bid"])) and bool(keys & set(NAMES["ask"]))


def _is_pair(name: str) -> bool:
    try:
        return "-" in normalise(name).symbol and len(name) <= 16 and "_" not in name
    except TickError:
        return False


def _context(wrapper: dict[str, Any]) -> dict[str, Any]:
    """Return what a wrapper says about the record inside it."""
    found: dict[str, Any] = {}
    received = _arrival(wrapper)
    if received is not None:
        found["received"] = received
    for field in ("symbol", "venue"):
        for name, value in wrapper.items():
            if isinstance(value, str) and len(value) <= 40 and key(name) in NAMES[field]:
                found.setdefault(field, value)
    for name in ("channel", "stream", "topic"):
        value = wrapper.get(name)
        named = symbol_in(Path(value.replace("/", "-"))) if isinstance(value, str) else None
        if named is not None:
            found.setdefault("symbol", named.symbol)
    return found


def _completing(around: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    """Leave out what the record itself has under any name."""
    return {field: value for field, value in around.items() if not keys & set(NAMES.get(field, ()))}


def _top(value: dict[str, Any]) -> dict[str, Any]:
    """Return the best quote of an order book ``{"bids": [[price, size], ...], "asks": ...}``."""
    found: dict[str, Any] = {}
    if value.get("type") in {"update", "delta", "l2update"} or value.get("action") == "update":
        return found
    for side, field in (("bids", "bid"), ("asks", "ask")):
        levels = value.get(side)
        if not isinstance(levels, list) or not levels:
            return {}
        level = levels[0]
        if isinstance(level, dict):
            level = [level.get("price"), level.get("size", level.get("qty", level.get("amount")))]
        if not isinstance(level, list) or not level:
            return {}
        found[field], found[f"{field}_size"] = level[0], level[1] if len(level) > 1 else None
    return found
