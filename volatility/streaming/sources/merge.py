"""Merge the rows of several symbols by time, keeping the order within each symbol's stream.

A late row keeps its place in its symbol's stream: it is ordered by the greatest time before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Times = npt.NDArray[np.int64]


class _Head(msgspec.Struct):
    """Represent the rows of one stream that are read but not yet merged."""

    rank: int
    stream: Iterator[pa.RecordBatch]
    rows: pa.RecordBatch
    times: Times


def merge(streams: Mapping[str, Iterator[pa.RecordBatch]]) -> Iterator[tuple[pa.Table, Times]]:
    """Yield rows ordered by (time, symbol), and their times.

    Parameters
    ----------
    streams : mapping of str to iterator of RecordBatch
        By symbol; all with the same schema, which has a column ``time``.

    Yields
    ------
    tuple of Table and int64[rows]
        The times [ns] never decrease, neither within a table nor from one to the next.
    """
    heads = []
    for rank, symbol in enumerate(sorted(streams)):
        head = _Head(rank, streams[symbol], pa.record_batch({}), np.empty(0, np.int64))
        if _advance(head):
            heads.append(head)
    while heads:
        # Every stream is known up to here. A later symbol contributes only the rows before this
        # time, because more rows with the same time may follow.
        bound = min(heads, key=lambda head: (int(head.times[-1]), head.rank))
        reached = int(bound.times[-1])
        parts, times, ranks = [], [], []
        rest = []
        for head in heads:
            side: Literal["left", "right"] = "right" if head.rank <= bound.rank else "left"
            cut = int(np.searchsorted(head.times, reached, side=side))
            parts.append(head.rows.slice(0, cut))
            times.append(head.times[:cut])
            ranks.append(np.full(cut, head.rank))
            head.rows, head.times = head.rows.slice(cut), head.times[cut:]
            if len(head.times) or _advance(head, reached):
                rest.append(head)
        heads = rest
        table = pa.Table.from_batches(parts)
        time = np.concatenate(times)
        if len(parts) > 1:
            order = np.lexsort((np.concatenate(ranks), time))
            table, time = table.take(pa.array(order)), time[order]
        yield table, time


def _advance(head: _Head, reached: int | None = None) -> bool:
    """Read the stream's next rows; False at its end."""
    for rows in head.stream:
        if rows.num_rows:
            time = np.asarray(rows.column("time").cast(pa.int64()).to_numpy(), dtype=np.int64)
            lowest = time[0] if reached is None else reached
            head.rows, head.times = rows, np.maximum.accumulate(np.maximum(time, lowest))
            return True
    return False
