"""Write the history as CSV, Arrow or Parquet, piece by piece: a row for each step and horizon."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from service.forecasts.history import COLUMNS
from volatility.records import PREDICTION_SCHEMA

FORECAST = PREDICTION_SCHEMA.field("forecasts").type.value_type
# A few values repeat over all rows: as numbers in a dictionary they cost nothing.
REPEATED = ("symbol", "model_name", "model_version", "model_variant")
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}


def _field(field: pa.Field) -> pa.Field:
    repeated = pa.dictionary(pa.int32(), pa.string())
    return field.with_type(repeated) if field.name in REPEATED else field


_STEP = [
    _field(PREDICTION_SCHEMA.field(name).with_name("as_of" if name == "time" else name))
    for name in COLUMNS
    if name != "forecasts"
]
# `score`, `threshold` and `spike` belong to the first horizon.
SCHEMA = pa.schema([*_STEP[:2], *(field.with_nullable(True) for field in FORECAST), *_STEP[2:]])


def rows(batch: pa.RecordBatch, horizons: frozenset[int]) -> pa.RecordBatch:
    """Return a row for each step and horizon of a batch; of all horizons if none is given.

    A prediction from before forecasts were stored has no row.
    """
    forecasts = batch.column("forecasts")
    parents = pc.list_parent_indices(forecasts)
    entries = pc.list_flatten(forecasts)
    if horizons:
        chosen = np.isin(pc.struct_field(entries, "horizon_seconds").to_numpy(), list(horizons))
        parents, entries = parents.filter(pa.array(chosen)), entries.filter(pa.array(chosen))
    columns = {field.name: pc.struct_field(entries, field.name) for field in FORECAST}
    for name in COLUMNS:
        if name == "forecasts":
            continue
        column = batch.column(name)
        if name in REPEATED:
            column = column.dictionary_encode()
        columns["as_of" if name == "time" else name] = column.take(parents)
    return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


class _Pieces(io.RawIOBase):
    """Collect what a writer of Arrow's writes."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._parts.append(bytes(content))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        found = b"".join(self._parts)
        self._parts.clear()
        return found


_OPEN: dict[str, Callable[[Any], Any]] = {
    "csv": lambda sink: pa_csv.CSVWriter(sink, _plain(SCHEMA)),
    "arrow": lambda sink: pa.ipc.new_stream(
        sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4")
    ),
    "parquet": lambda sink: pq.ParquetWriter(sink, _plain(SCHEMA), compression="zstd"),
}


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return a schema without dictionaries."""
    return pa.schema([f.with_type(pa.string()) if f.name in REPEATED else f for f in schema])


def written(
    batches: Iterator[pa.RecordBatch], kind: str, horizons: frozenset[int]
) -> Iterator[bytes]:
    """Write batches of the history in a format of ``TYPES``; yields pieces that are not empty."""
    sink = _Pieces()
    writer = _OPEN[kind](sink)
    for batch in batches:
        found = rows(batch, horizons)
        writer.write_batch(found if kind == "arrow" else found.cast(_plain(SCHEMA)))
        if piece := sink.take():
            yield piece
    writer.close()
    if piece := sink.take():
        yield piece
