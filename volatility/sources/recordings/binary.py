"""Read Parquet and Arrow files (Feather included) batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from volatility.records import Named, TickError, normalise
from volatility.sources.recordings.chunks import Chunk, RecordingError, Resolve
from volatility.sources.recordings.layout import SAMPLE_ROWS, Layout
from volatility.sources.recordings.layout import resolve as resolve_layout
from volatility.sources.recordings.mapping import Mapping
from volatility.sources.recordings.opening import Entry
from volatility.sources.recordings.places import key
from volatility.sources.recordings.rows import Rows

_ARROW, _PARQUET, _STREAM, _FEATHER = b"ARROW1", b"PAR1", b"\xff\xff\xff\xff", b"FEA1"
REPEATED = ("symbol", "venue", "side", "recording", "time_kind")
_METADATA = (b"instrument_id", b"symbol")


def form_of(path: Path) -> str | None:
    """Return what a binary file is, by its first bytes; None if it is neither of these."""
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_PARQUET):
        return "Parquet"
    if start.startswith((_ARROW, _FEATHER)):
        return "Arrow"
    return "Arrow stream" if start.startswith(_STREAM) else None


def read_binary(
    entry: Entry, form: str, resolve: Resolve, mapping: Mapping, chunk_rows: int
) -> Iterator[Chunk]:
    """Read a Parquet or Arrow file.

    Raises
    ------
    RecordingError
    """
    try:
        read = _parquet if form == "Parquet" else _arrow
        yield from read(entry, form, resolve, mapping, chunk_rows)
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())[:160]
        raise RecordingError(f"is truncated or corrupt ({text}); obtain it again") from error


def _parquet(
    entry: Entry, form: str, resolve: Resolve, mapping: Mapping, chunk_rows: int
) -> Iterator[Chunk]:
    # With `buffer_size`, a column chunk is read page by page, however large its row group is.
    with pq.ParquetFile(entry.path, pre_buffer=False, buffer_size=1 << 20) as file:
        schema = _flat(file.schema_arrow)
        total = max(file.metadata.num_rows, 1)
        layout = _layout(schema, _sample(file, schema), entry, mapping)
        wanted = _wanted(layout, schema)
        rows, done = Rows(layout, resolve, form), 0
    # Texts that repeat are cheaper as a dictionary.
    repeated = [layout.columns[name] for name in REPEATED if name in layout.columns]
    with pq.ParquetFile(
        entry.path, pre_buffer=False, buffer_size=1 << 20, read_dictionary=repeated
    ) as file:
        for batch in file.iter_batches(chunk_rows, columns=wanted, use_threads=True):
            done += batch.num_rows
            yield rows.chunk(batch, done / total)
        if not done:
            raise RecordingError("has no row")


def _sample(file: pq.ParquetFile, schema: pa.Schema) -> pa.RecordBatch:
    batches = file.iter_batches(SAMPLE_ROWS, columns=schema.names, use_threads=False)
    empty = pa.RecordBatch.from_pylist([], schema)
    return next(batches, empty)


def _arrow(
    entry: Entry, form: str, resolve: Resolve, mapping: Mapping, chunk_rows: int
) -> Iterator[Chunk]:
    with pa.memory_map(str(entry.path)) as source:
        stream = form != "Arrow"
        reader = pa.ipc.open_stream(source) if stream else pa.ipc.open_file(source)
        schema = _flat(reader.schema)
        batches = (
            iter(reader) if stream else map(reader.get_batch, range(reader.num_record_batches))
        )
        size, rows = max(entry.path.stat().st_size, 1), None
        layout: Layout | None = None
        for batch in batches:
            if not batch.num_rows:
                continue
            if layout is None:
                layout = _layout(
                    schema, batch.slice(0, SAMPLE_ROWS).select(schema.names), entry, mapping
                )
                rows = Rows(layout, resolve, form)
            assert rows is not None
            kept = batch.select(_wanted(layout, schema))
            for first in range(0, kept.num_rows, chunk_rows):
                yield rows.chunk(kept.slice(first, chunk_rows), source.tell() / size)
        if rows is None:
            raise RecordingError("has no row")


def _wanted(layout: Layout, schema: pa.Schema) -> list[str]:
    candle = [name for name in schema.names if layout.candle and key(name) == "opentime"]
    return list(dict.fromkeys([*layout.columns.values(), *candle]))


def _flat(schema: pa.Schema) -> pa.Schema:
    """Leave out columns of lists and structs, which are never those of a tick."""
    fields = [field for field in schema if not pa.types.is_nested(field.type)]
    return pa.schema(fields, schema.metadata)


def _layout(schema: pa.Schema, sample: pa.RecordBatch, entry: Entry, mapping: Mapping) -> Layout:
    layout = resolve_layout(schema.names, sample, entry.place, mapping, _inside(schema))
    if layout.title.startswith("nautilus"):
        return msgspec.structs.replace(layout, scale=1e-9)
    return layout


def _inside(schema: pa.Schema) -> Named | None:
    """Return the symbol in a file's metadata, where nautilus_trader writes it."""
    for name in _METADATA:
        try:
            return normalise((schema.metadata or {})[name].decode())
        except (KeyError, UnicodeDecodeError, TickError):
            continue
    return None
