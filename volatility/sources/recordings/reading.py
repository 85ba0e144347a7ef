"""Recognise a recording by its content, and read it as chunks of lake rows."""

from __future__ import annotations

import lzma
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from volatility.records import COINBASE, Record, TickError, to_table
from volatility.sources.recordings.binary import form_of, read_binary
from volatility.sources.recordings.chunks import (
    CHUNK_ROWS,
    EXAMPLES,
    Chunk,
    MessagesInsideError,
    RecordingError,
    Rejected,
    Resolve,
    UnknownContentError,
    by_table,
)
from volatility.sources.recordings.delimited import read_delimited
from volatility.sources.recordings.mapping import Mapping
from volatility.sources.recordings.objects import read_objects
from volatility.sources.recordings.opening import Entry, head
from volatility.sources.recordings.spooled import as_lines
from volatility.sources.recordings.wire import WireError, WireReader

_JSON = re.compile(
    rb"\s*(?:[\[{]|[<>=]\s+[\[{]|\d{1,19}(?:\.\d+)?: [\[{]|(?:wss?|https?)://\S+ <|"
    rb"configuration: |[^{\"']{1,200}\{\"[^\"].*\}$)"
)
_LOOK_LINES = 50
TRADES = frozenset({"match", "last_match", "market_trades"})


class _TradesOnly(Exception):  # noqa: N818  not an error: the file is read again
    """Messages contain trades and no ticker."""


def read(path: Path, chunk_rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Read a recording; its kind is detected from its content.

    Raises
    ------
    RecordingError
        On iteration, when the file is empty, truncated, corrupt or of unknown kind.
    """
    return read_entry(Entry(path, str(path), path), chunk_rows=chunk_rows)


def read_entry(
    entry: Entry,
    resolve: Resolve = by_table,
    mapping: Mapping | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[Chunk]:
    """Read a recording as ``read`` does, with symbols and columns named by the caller.

    Parameters
    ----------
    entry : Entry
    resolve : callable
        Returns the symbol under which the lake keeps the ticks of (name, venue).
    mapping : Mapping, optional
        Which column is which field.
    """
    mapping = mapping or Mapping()
    try:
        if entry.path.stat().st_size == 0:
            raise RecordingError("is empty")
        form = form_of(entry.path)
        try:
            if form:
                yield from read_binary(entry, form, resolve, mapping, chunk_rows)
            else:
                yield from _read_text(entry, resolve, mapping, chunk_rows)
        except MessagesInsideError:
            with as_lines(entry, form) as inner:
                yield from _read_text(inner, resolve, mapping, chunk_rows)
    except (pa.ArrowException, OSError, EOFError, lzma.LZMAError) as error:
        text = " ".join(str(getattr(error, "strerror", "") or error).split())[:120]
        if isinstance(error, OSError) and error.errno:
            raise RecordingError(f"cannot be read ({text})") from error
        raise RecordingError(
            f"is truncated or corrupt ({text}); decompress the readable part into a plain file "
            "and import that"
        ) from error


def _read_text(
    entry: Entry, resolve: Resolve, mapping: Mapping, chunk_rows: int
) -> Iterator[Chunk]:
    start = head(entry.path)
    if not start.strip():
        raise RecordingError("is empty")
    lines = start.removeprefix(b"\xef\xbb\xbf").lstrip().splitlines()[:_LOOK_LINES]
    if not any(map(_JSON.match, lines)):
        yield from read_delimited(entry, resolve, mapping, chunk_rows)
        return
    if not mapping.columns:
        try:
            yield from _read_wire(entry, resolve, chunk_rows)
            return
        except _TradesOnly:
            yield from read_objects(entry, resolve, mapping, chunk_rows, matches=True)
            return
        except UnknownContentError:
            pass
    yield from read_objects(entry, resolve, mapping, chunk_rows)


def _read_wire(entry: Entry, resolve: Resolve, chunk_rows: int) -> Iterator[Chunk]:
    reader = WireReader(entry.path)
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
            _resolved(to_table(records, 0, offsets), resolve),
            np.array(run, np.int32),
            names,
            rejected,
            reader.share,
            reader.ignored,
            said=(EXAMPLES if reader.documented else "Coinbase messages",),
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
        if not offset and not reader.documented and TRADES & reader.ignored.keys():
            raise _TradesOnly
        yield chunk()
    except WireError as error:
        kind = RecordingError if "truncated" in str(error) else UnknownContentError
        raise kind(str(error)) from error


def _resolved(table: pa.Table, resolve: Resolve) -> pa.Table:
    """Rename the symbols of Coinbase to those under which the lake keeps them."""
    if not table.num_rows:
        return table
    encoded = table.column("symbol").combine_chunks().dictionary_encode()
    found = []
    for name in encoded.dictionary.to_pylist():
        try:
            found.append(resolve(name, COINBASE))
        except TickError:
            found.append(name)
    symbols = pc.take(pa.array(found, pa.string()), encoded.indices)
    return table.set_column(0, table.schema.field(0), symbols)


def ignored_only(ignored: Counter[str]) -> str:
    """Describe what a file without a tick consists of."""
    kinds = ", ".join(f"{kind} ({count})" for kind, count in ignored.most_common(4))
    return f"has no tick, only {kinds}"
