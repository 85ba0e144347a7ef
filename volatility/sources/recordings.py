"""Read recordings of any supported kind as chunks of lake rows, in bounded memory.

A Parquet recording has the columns ``symbol, time, price, bid, ask`` and may have the other
tick columns; ``recording`` names an uninterrupted run, and ``time_kind`` the clock of ``time``.
Any other file is read as wire messages.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from volatility.records import (
    EARLIEST_NS,
    LAKE_SCHEMA,
    LATEST_NS,
    REASONS,
    SYMBOL,
    TICK_SCHEMA,
    Record,
    reasons,
    to_table,
)
from volatility.sources.messages import BAD_SYMBOL
from volatility.sources.wire import WireError, WireReader

CHUNK_ROWS = 131_072
REQUIRED = ("symbol", "time", "price", "bid", "ask")

_UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


class RecordingError(Exception):
    """A file is not a readable recording; the message says what is wrong with it."""


class Rejected(msgspec.Struct, frozen=True):
    """Represent an entry that is not a valid tick: line or row (from 1), reason, original text."""

    position: int
    reason: str
    raw: str


class Chunk(msgspec.Struct, frozen=True):
    """Represent consecutive rows of a recording.

    Parameters
    ----------
    table : Table
        Valid rows with the columns of ``LAKE_SCHEMA``; ``offset`` is the record's number in the
        file, counting rejected ones.
    run : int32[rows]
        Index into ``names``: the uninterrupted run that a row belongs to.
    names : list of str
    rejected : list of Rejected
    share : float
        Fraction of the file that has been read, 0 to 1.
    ignored : Counter
        Messages so far that carry no tick, by kind.
    """

    table: pa.Table
    run: npt.NDArray[np.int32]
    names: list[str]
    rejected: list[Rejected]
    share: float
    ignored: Counter[str]


def read(path: Path, chunk_rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Read a recording; its kind is detected from its content.

    Raises
    ------
    RecordingError
        On iteration, when the file is empty, truncated, corrupt or of unknown kind.
    """
    try:
        if path.stat().st_size == 0:
            raise RecordingError("is empty")
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        yield from _read_parquet(path, chunk_rows) if parquet else _read_wire(path, chunk_rows)
    except OSError as error:
        raise RecordingError(f"cannot be read ({error.strerror or error})") from error


def _read_wire(path: Path, chunk_rows: int) -> Iterator[Chunk]:
    reader = WireReader(path)
    names: list[str] = []
    records: list[Record] = []
    offsets: list[int] = []
    run: list[int] = []
    rejected: list[Rejected] = []
    offset = 0

    def chunk() -> Chunk:
        while len(names) <= max(run, default=0):
            names.append(f"connection {len(names)}")
        return Chunk(
            to_table(records, 0, offsets),
            np.array(run, np.int32),
            names,
            rejected,
            reader.share,
            reader.ignored,
        )

    try:
        for line in reader:
            records += line.records
            offsets += range(offset, offset + len(line.records))
            run += [line.connection] * len(line.records)
            rejected += [Rejected(line.number, r.reason, r.raw) for r in line.rejected]
            offset += len(line.records) + len(line.rejected)
            if len(records) + len(rejected) >= chunk_rows:
                yield chunk()
                records, offsets, run, rejected = [], [], [], []
        yield chunk()
    except WireError as error:
        raise RecordingError(str(error)) from error


def _read_parquet(path: Path, chunk_rows: int) -> Iterator[Chunk]:
    runs: dict[str, int] = {}
    offset = 0
    try:
        # With `buffer_size`, a column chunk is read page by page, however large its row group is.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            columns = _columns(file.schema_arrow)
            total = max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(chunk_rows, columns=columns, use_threads=False):
                yield _chunk(batch, offset, runs, total)
                offset += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())[:160]
        raise RecordingError(
            f"is truncated or corrupt, or has unsuitable columns ({text}); obtain it again"
        ) from error


def _columns(schema: pa.Schema) -> list[str]:
    missing = [name for name in REQUIRED if name not in schema.names]
    if missing:
        raise RecordingError(
            f"has no column {', '.join(missing)}; ticks require {', '.join(REQUIRED)}"
        )
    kind = schema.field("time").type
    if not (pa.types.is_timestamp(kind) or pa.types.is_int64(kind)):
        raise RecordingError(f"column time is {kind}; it must be a timestamp or int64 nanoseconds")
    known = [*TICK_SCHEMA.names, "recording", "time_kind"]
    return [name for name in known if name in schema.names]


def _chunk(batch: pa.RecordBatch, offset: int, runs: dict[str, int], total: int) -> Chunk:
    rows = batch.num_rows
    columns = [
        _conform(batch.column(field.name), field)
        if field.name in batch.schema.names
        else pa.nulls(rows, field.type)
        for field in TICK_SCHEMA
    ]
    numbers = np.arange(offset, offset + rows)
    arrays = [*columns, pa.array(np.zeros(rows, np.int32)), pa.array(numbers)]
    table = pa.Table.from_arrays(arrays, schema=LAKE_SCHEMA)
    broken = reasons(table)
    malformed = ~_well_named(table.column("symbol").combine_chunks())
    bad = np.flatnonzero(malformed | (broken != 0))
    rejected = [
        Rejected(offset + int(i) + 1, BAD_SYMBOL if malformed[i] else REASONS[broken[i]], raw)
        for i, raw in zip(bad, _texts(batch.take(pa.array(bad))), strict=True)
    ]
    run = _runs(batch, runs)
    if len(bad):
        keep = np.ones(rows, dtype=bool)
        keep[bad] = False
        table, run = table.filter(pa.array(keep)), run[keep]
    return Chunk(table, run, list(runs), rejected, (offset + rows) / total, Counter())


def _conform(column: pa.Array, field: pa.Field) -> pa.Array:
    """Cast a column to the tick's type; an impossible time becomes one that will be rejected."""
    if pa.types.is_timestamp(field.type):
        unit = _UNIT_NS[column.type.unit] if pa.types.is_timestamp(column.type) else 1
        values = column.cast(pa.int64())
        fits = pc.and_(
            pc.greater_equal(values, EARLIEST_NS // unit), pc.less_equal(values, LATEST_NS // unit)
        )
        scaled = pc.multiply(pc.if_else(fits, values, 0), unit)
        return (pc.fill_null(scaled, 0) if not field.nullable else scaled).cast(field.type)
    if pa.types.is_string(field.type):
        text = column.cast(pa.string())
        if not field.nullable:
            return pc.fill_null(text, "")
        lower = pc.utf8_lower(text)
        return pc.if_else(pc.is_in(lower, pa.array(["buy", "sell"])), lower, None)
    if pa.types.is_integer(field.type) and pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)  # how pandas writes missing integers
    return column.cast(field.type)


def _texts(batch: pa.RecordBatch) -> list[str]:
    """Format rows as JSON, times as the file's integers, since any may be out of range."""
    columns = {
        field.name: column.cast(pa.int64()) if pa.types.is_timestamp(field.type) else column
        for field, column in zip(batch.schema, batch.columns, strict=True)
    }
    return [json.dumps(row, default=str) for row in pa.table(columns).to_pylist()]


def _well_named(symbols: pa.Array) -> npt.NDArray[np.bool_]:
    encoded = symbols.dictionary_encode()
    fits = [bool(SYMBOL.fullmatch(symbol)) for symbol in encoded.dictionary.to_pylist()]
    return np.asarray(np.array(fits, dtype=bool)[encoded.indices.to_numpy()])


def _runs(batch: pa.RecordBatch, runs: dict[str, int]) -> npt.NDArray[np.int32]:
    """Number the runs; another clock starts another run, because times are not comparable."""
    kinds = [
        pc.fill_null(batch.column(name).cast(pa.string()), "")
        for name in ("recording", "time_kind")
        if name in batch.schema.names
    ]
    if not kinds:
        runs.setdefault("", 0)
        return np.zeros(batch.num_rows, dtype=np.int32)
    encoded = pc.binary_join_element_wise(*kinds, " ").dictionary_encode()
    codes = [runs.setdefault(name, len(runs)) for name in encoded.dictionary.to_pylist()]
    return np.asarray(np.array(codes, dtype=np.int32)[encoded.indices.to_numpy()])


def changes(run: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """Split rows into stretches of one run: pairs of first row and one past the last.

    >>> changes(np.array([0, 0, 1], dtype=np.int32))
    [(0, 2), (2, 3)]
    """
    edges = [0, *(np.flatnonzero(np.diff(run)) + 1).tolist(), len(run)]
    return [(start, stop) for start, stop in pairwise(edges) if stop > start]
