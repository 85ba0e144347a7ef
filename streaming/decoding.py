"""Decode what was read from a topic into columns of the lake, many records at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from streaming.log import Message
from volatility import prediction
from volatility.columns import to_table
from volatility.prediction import Prediction
from volatility.tick import REASONS, SYMBOL, Fields, TickError, decode, reasons

Decoded = tuple[pa.Table, list[tuple[Message, str]]]
Decode = Callable[[Sequence[Message], int], Decoded]

_ticks = msgspec.json.Decoder(list[Fields])
_prediction = msgspec.json.Decoder(Prediction)


def decode_ticks(messages: Sequence[Message], partition: int) -> Decoded:
    """Decode records of the topic ``ticks``.

    Returns
    -------
    pa.Table
        The valid ones, columns of ``LAKE_SCHEMA``, in order.
    list of (Message, str)
        The others, with the reason.
    """
    try:
        # One call for all of them: 0.6 µs a record instead of 1.5.
        rows: Sequence[Any] = _ticks.decode(b"[" + b",".join(m.value for m in messages) + b"]")
        if len(rows) == len(messages) and all(map(SYMBOL.fullmatch, {r.symbol for r in rows})):
            table = to_table(rows, partition, [m.offset for m in messages])
            broken = reasons(table)
            if not broken.any():
                return table, []
            rejected = [(messages[i], REASONS[broken[i]]) for i in np.flatnonzero(broken).tolist()]
            return table.filter(pa.array(broken == 0)), rejected
    except (msgspec.MsgspecError, UnicodeDecodeError, pa.ArrowException, OverflowError):
        pass  # one at a time, then, to find the culprit
    good, rejected = [], []
    for message in messages:
        try:
            good.append((decode(message.value), message.offset))
        except TickError as error:
            rejected.append((message, str(error)))
    return to_table([r for r, _ in good], partition, [o for _, o in good]), rejected


def decode_predictions(messages: Sequence[Message], partition: int) -> Decoded:
    """Decode records of the topic ``predictions``; as ``decode_ticks``."""
    good, rejected = [], []
    for message in messages:
        try:
            good.append((_prediction.decode(message.value), message.offset))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            rejected.append((message, str(error)))
    table = prediction.to_table([p for p, _ in good], partition, [o for _, o in good])
    return table, rejected
