"""Convert records to the columns of the lake and back.

>>> record = Heartbeat("BTC-USD", 1_775_337_223_000_000_000)
>>> list(to_records(to_table([record], partition=0, offsets=[7]))) == [record]
True
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from volatility.records.tick import LAKE_SCHEMA, TICK_SCHEMA, Heartbeat, Record, Tick


def to_table(records: Sequence[Record], partition: int, offsets: Sequence[int]) -> pa.Table:
    """Convert records to a table of ``LAKE_SCHEMA``; ``offsets`` has one entry per record."""
    columns = [
        pa.array([getattr(record, field.name, None) for record in records], _storage(field.type))
        for field in TICK_SCHEMA
    ]
    columns += [pa.array([partition] * len(records), pa.int32()), pa.array(offsets, pa.int64())]
    arrays = [a.cast(field.type) for a, field in zip(columns, LAKE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=LAKE_SCHEMA)


def to_records(table: pa.Table | pa.RecordBatch) -> Iterator[Record]:
    """Read the rows of a table with the columns of ``TICK_SCHEMA``, in order."""
    columns = [
        table.column(field.name).cast(_storage(field.type)).to_pylist() for field in TICK_SCHEMA
    ]
    fields = TICK_SCHEMA.names
    for row in zip(*columns, strict=True):
        values = dict(zip(fields, row, strict=True))
        if values["price"] is None and values["bid"] is None and values["ask"] is None:
            yield Heartbeat(values["symbol"], values["time"], values["received"])
        else:
            yield Tick(**values)


def _storage(kind: pa.DataType) -> pa.DataType:
    """Return the type used for conversion: times as integers, as datetime has no nanoseconds."""
    return pa.int64() if pa.types.is_timestamp(kind) else kind
