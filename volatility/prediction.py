"""Describe one prediction: its fields, its JSON and its columns.

``(symbol, time, model_version)`` identifies it; the topic may repeat it, the lake does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("ns", tz="UTC"), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("threshold", pa.float64(), nullable=False),
        pa.field("spike", pa.bool_(), nullable=False),
        pa.field("model_name", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("model_variant", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the score of one symbol at one step (nanoseconds since the epoch)."""

    symbol: str
    time: int
    score: float
    threshold: float
    spike: bool
    model_name: str
    model_version: str
    model_variant: str


_FIELDS = Prediction.__struct_fields__


def to_table(predictions: Sequence[Prediction], partition: int, offsets: Sequence[int]) -> pa.Table:
    """Lay predictions out as a table of ``PREDICTION_SCHEMA``, one offset each."""
    columns: list[list[object]] = [[getattr(p, name) for p in predictions] for name in _FIELDS]
    arrays = [
        pa.array(values, pa.int64() if field.name == "time" else field.type).cast(field.type)
        for values, field in zip(columns, PREDICTION_SCHEMA, strict=False)
    ]
    arrays += [pa.array([partition] * len(predictions), pa.int32()), pa.array(offsets, pa.int64())]
    return pa.Table.from_arrays(arrays, schema=PREDICTION_SCHEMA)
