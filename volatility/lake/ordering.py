"""Bring the rows of a recording into pieces of one size and, where needed, into time order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from volatility.lake.parts import Stage
from volatility.sources import Chunk
from volatility.units import SECOND, Integers

LATE_NS = 60 * SECOND  # a row so far behind an earlier one is not just a slow message
LATE_SHARE = 0.01
SLICE_ROWS = 131_072


class Gathered:
    """Hand rows on in pieces of one size, so that the lake does not depend on a file's batches."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def append(self, table: pa.Table) -> None:
        """Add rows."""
        self._waiting.append(table)
        self._rows += table.num_rows
        while self._rows >= SLICE_ROWS:
            whole = pa.concat_tables(self._waiting)
            self._stage.append(whole.slice(0, SLICE_ROWS).combine_chunks())
            self._waiting = [whole.slice(SLICE_ROWS)]
            self._rows -= SLICE_ROWS

    def flush(self) -> None:
        """Hand on what is left."""
        if self._rows:
            self._stage.append(pa.concat_tables(self._waiting).combine_chunks())
        self._waiting, self._rows = [], 0


class Order:
    """Judge whether a recording is in time order, apart from slow messages."""

    def __init__(self) -> None:
        self._rows = self._late = self._backward = self._forward = 0

    def add(self, time: Integers, reached: Integers) -> None:
        """Count rows of one symbol and run: their times [ns], and the latest time before each."""
        steps = time - reached
        self._rows += len(time)
        self._late += int(np.count_nonzero(steps < -LATE_NS))
        moves = np.diff(time)
        self._backward += int(np.count_nonzero(moves < 0))
        self._forward += int(np.count_nonzero(moves > 0))

    @property
    def broken(self) -> bool:
        """Whether the rows must be sorted, as reading them in order would drop most of them."""
        return self._late > LATE_SHARE * self._rows or self._backward > self._forward


def by_time(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield the rows of all chunks in time order, numbered in this order.

    They wait in a temporary file; in memory are 24 bytes a row.
    """
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        path = Path(folder) / "rows.arrow"
        times: list[Integers] = []
        last: Chunk | None = None
        with pa.OSFile(str(path), "wb") as sink:
            writer: pa.RecordBatchFileWriter | None = None
            for chunk in chunks:
                table = chunk.table.append_column("run", pa.array(chunk.run))
                if writer is None:
                    writer = pa.ipc.new_file(sink, table.schema)
                writer.write_table(table)
                times.append(table.column("time").cast(pa.int64()).to_numpy())
                last = chunk
                yield msgspec.structs.replace(
                    chunk, table=chunk.table.slice(0, 0), run=chunk.run[:0]
                )
            if writer is None or last is None:
                return
            writer.close()
        order = np.argsort(np.concatenate(times), kind="stable")
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            for first in range(0, len(order), SLICE_ROWS):
                taken = table.take(pa.array(order[first : first + SLICE_ROWS])).combine_chunks()
                numbers = pa.array(np.arange(first, first + taken.num_rows))
                place = taken.schema.get_field_index("offset")
                rows = taken.set_column(place, last.table.schema.field("offset"), numbers)
                yield msgspec.structs.replace(
                    last,
                    table=rows.drop_columns(["run"]),
                    run=np.asarray(taken.column("run").to_numpy(), dtype=np.int32),
                    rejected=[],
                    share=1.0,
                )
