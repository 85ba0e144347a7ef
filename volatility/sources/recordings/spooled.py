"""Read tables whose rows wrap messages as text: a column of JSON beside, maybe, a receive time."""

from __future__ import annotations

import csv
import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from volatility.sources.recordings.opening import Entry, opened

_encoder = msgspec.json.Encoder(enc_hook=str)


@contextmanager
def as_lines(entry: Entry, form: str | None) -> Iterator[Entry]:
    """Write each row as a JSON object to a temporary file, and return that as the entry.

    Parameters
    ----------
    entry : Entry
    form : str, optional
        As ``binary.form_of``; None for a table of text.
    """
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        path = Path(folder) / "rows.ndjson"
        with path.open("wb") as file:
            for row in _binary(entry.path, form) if form else _text(entry.path):
                file.write(_encoder.encode(row) + b"\n")
        yield msgspec.structs.replace(entry, path=path)


def _binary(path: Path, form: str) -> Iterator[dict[str, Any]]:
    if form == "Parquet":
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches():
                yield from _rows(batch)
        return
    with pa.memory_map(str(path)) as source:
        if form == "Arrow":
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield from _rows(reader.get_batch(number))
        else:
            for batch in pa.ipc.open_stream(source):
                yield from _rows(batch)


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Return the rows; a time as text with all its digits."""
    columns = {
        field.name: column.cast(pa.string()) if pa.types.is_timestamp(field.type) else column
        for field, column in zip(batch.schema, batch.columns, strict=True)
    }
    for row in pa.table(columns).to_pylist():
        yield {k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in row.items()}


def _text(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with opened(path) as stream:
        text = io.TextIOWrapper(stream.file, "utf-8-sig", errors="replace", newline="")
        sample = text.readline()
        delimiter = max(",;\t|", key=sample.count)
        names = next(csv.reader([sample], delimiter=delimiter))
        for cells in csv.reader(text, delimiter=delimiter):
            yield dict(zip(names, cells, strict=False))
