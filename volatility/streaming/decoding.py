"""Decode the records of a topic into columns of the lake, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from volatility.records import (
    REASONS,
    SYMBOL,
    Fields,
    Prediction,
    TickError,
    decode,
    prediction,
    reasons,
    to_table,
)
from volatility.streaming.log import Message

Decoded = tuple[pa.Table, list[tuple[Message, str]]]
Decode = Callable[[Sequence[Message], int], Decoded]

_ticks = msgspec.json.Decoder(list[Fields])
_prediction = msgspec.json.Decoder(Prediction)


def decode_ticks(messages: Sequence[Message], partition: int) -> Decoded:
    """Decode records of the topic ``ticks``.

    Returns
    -------
    pa.Table
        The valid ones, in the columns of ``LAKE_SCHEMA``, in order.
    list of (Message, str)
        The rejected ones, with the reason.
    """
    arrival = np.array([message.time_ns for message in messages], dtype=np.int64)
    try:
        # One call for all of them: 0.6 µs per record instead of 1.5.
        rows: Sequence[Any] = _ticks.decode(_as_array([m.value for m in messages]))
        if all(map(SYMBOL.fullmatch, {r.symbol for r in rows})):
            table = to_table(rows, partition, [m.offset for m in messages])
            broken = reasons(table, arrival)
            if not broken.any():
                return table, []
            rejected = [(messages[i], REASONS[broken[i]]) for i in np.flatnonzero(broken).tolist()]
            return table.filter(pa.array(broken == 0)), rejected
    except (msgspec.MsgspecError, UnicodeDecodeError, pa.ArrowException, OverflowError):
        pass  # decode one at a time below, to find the culprit
    good, rejected = [], []
    for message in messages:
        try:
            good.append((decode(message.value, message.time_ns), message.offset))
        except TickError as error:
            rejected.append((message, str(error)))
    return to_table([r for r, _ in good], partition, [o for _, o in good]), rejected


def _as_array(values: Sequence[bytes]) -> bytes:
    """Join objects to one JSON array, of which each element is one of them.

    Pieces of an object could complete each other. Here every value begins and ends with a brace
    and has no other: as many objects then need all braces, so each is exactly one value. Valid
    records have no braces within.

    Raises
    ------
    msgspec.DecodeError
        If a value may not be one object without others inside.
    """
    whole = b",".join(values)
    once = whole.count(b"{") == whole.count(b"}") == len(values)
    if not once or any(value[:1] != b"{" or value[-1:] != b"}" for value in values):
        raise msgspec.DecodeError("not one object per record")
    return b"[" + whole + b"]"


def decode_predictions(messages: Sequence[Message], partition: int) -> Decoded:
    """Decode records of the topic ``predictions``, like ``decode_ticks``."""
    good, rejected = [], []
    for message in messages:
        try:
            good.append((_prediction.decode(message.value), message.offset))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            rejected.append((message, str(error)))
    table = prediction.to_table([p for p, _ in good], partition, [o for _, o in good])
    return table, rejected
