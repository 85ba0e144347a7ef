"""Merge sources that overlap in time, such as the recordings of two recorders, without doubles.

A captured topic is read in the order in which its records arrived. A recording that was imported
has no order in relation to other sources, so where it overlaps with one, rows are merged by time.
What several sources have is read once: rows of one time with the same trade id, or, where an id
is missing, with the same prices, as often as the source that has them most often.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from volatility.lake.parts import Part
from volatility.units import Integers

IMPORTED = "import."  # what the topics of imported recordings begin with
NEEDED = ("time", "price", "bid", "ask", "trade_id")

Group = list[Part]  # parts of one source whose offsets overlap


class Cluster(NamedTuple):
    """Represent what overlaps in time: for each source its groups of parts, in order."""

    streams: list[list[Group]]

    @property
    def parts(self) -> list[Part]:
        """All parts, source by source."""
        return [part for stream in self.streams for group in stream for part in group]


def clusters(groups: Sequence[Group]) -> list[Cluster]:
    """Gather groups, in the order of a scan, that must be merged by time with an imported one."""
    found: list[list[Group]] = []
    reached = -1
    imported = False
    for group in groups:
        low = min(part.first_ns for part in group)
        high = max(part.last_ns for part in group)
        here = group[0].topic.startswith(IMPORTED)
        if found and low <= reached and (here or imported):
            found[-1].append(group)
            reached, imported = max(reached, high), imported or here
        else:
            found.append([group])
            reached, imported = high, here
    return [Cluster(_streams(cluster)) for cluster in found]


def _streams(cluster: list[Group]) -> list[list[Group]]:
    streams: dict[tuple[str, int], list[Group]] = {}
    for group in cluster:
        streams.setdefault((group[0].topic, group[0].partition), []).append(group)
    return list(streams.values())


class _Head:
    """Read one source ahead, with the latest time up to each row."""

    def __init__(self, stream: Iterator[pa.RecordBatch]) -> None:
        self._stream = stream
        self._latest = -(2**63)
        self.batch: pa.RecordBatch | None = None
        self.keys: Integers = np.empty(0, np.int64)
        self.advance()

    def advance(self) -> None:
        self.batch = next(self._stream, None)
        if self.batch is not None:
            time = self.batch.column("time").cast(pa.int64()).to_numpy()
            self.keys = np.maximum(np.maximum.accumulate(time), self._latest)
            self._latest = int(self.keys[-1])

    def take(self, bound: int, *, through: bool) -> tuple[pa.RecordBatch, Integers]:
        """Cut off the rows before a time, or through it."""
        assert self.batch is not None
        cut = int(np.searchsorted(self.keys, bound, side="right" if through else "left"))
        taken, keys = self.batch.slice(0, cut), self.keys[:cut]
        if cut == len(self.keys):
            self.advance()
        else:
            self.batch, self.keys = self.batch.slice(cut), self.keys[cut:]
        return taken, keys


def by_time(
    streams: Sequence[Iterator[pa.RecordBatch]], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Merge streams by time, without doubles, holding one or two batches of each.

    The order of a stream's own rows stays; of rows with one time, those of the first stream come
    first. The batches have the columns of ``NEEDED``, and maybe others.
    """
    heads = [_Head(stream) for stream in streams]
    while any(head.batch is not None for head in heads):
        active = [(i, head) for i, head in enumerate(heads) if head.batch is not None]
        bound = min(int(head.keys[-1]) for _, head in active)
        # Rows of one time are compared with each other, so they are cut off together: up to the
        # bound without it, unless that is all there is.
        through = all(int(head.keys[0]) >= bound for _, head in active)
        taken, keys, sources = [], [], []
        for i, head in active:
            while head.batch is not None:
                last = int(head.keys[-1])
                batch, key = head.take(bound, through=through)
                taken.append(batch)
                keys.append(key)
                sources.append(np.full(len(key), i))
                if not (through and last == bound):  # the next batch may continue this time
                    break
        yield from _merged(taken, np.concatenate(keys), np.concatenate(sources), batch_rows)


def _merged(
    batches: list[pa.RecordBatch], keys: Integers, sources: Integers, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    if not len(keys):
        return
    order = np.lexsort((sources, keys))
    table = pa.Table.from_batches(batches).combine_chunks()
    if np.any(sources != sources[0]):
        double = _doubles(table, sources)
        order = order[~double[order]]
    yield from table.take(pa.array(order)).combine_chunks().to_batches(batch_rows)


def _doubles(table: pa.Table, sources: Integers) -> npt.NDArray[np.bool_]:
    """Mark the rows that an earlier source has, too."""
    time = table.column("time").cast(pa.int64()).to_numpy()
    double = np.zeros(len(time), dtype=bool)
    _, group, size = np.unique(time, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(size[group] > 1)
    if not len(shared):
        return double
    group, source = group[shared], sources[shared]
    trade = table.column("trade_id").take(pa.array(shared))
    named = np.asarray(trade.is_valid())
    number = np.asarray(trade.fill_null(0).to_numpy(), dtype=np.int64)
    all_named = np.ones(len(size), dtype=bool)
    np.logical_and.at(all_named, group, named)
    by_name = _repeated([group, number], source) & named
    prices = [
        np.nan_to_num(table.column(name).take(pa.array(shared)).to_numpy(), nan=-1.0)
        for name in ("price", "bid", "ask")
        if name in table.schema.names
    ]
    double[shared] = by_name | (_repeated([group, *prices], source) & ~all_named[group])
    return double


def _repeated(keys: Sequence[npt.NDArray[np.generic]], source: Integers) -> npt.NDArray[np.bool_]:
    """Mark the n-th row of a key in one source when an earlier source has an n-th, too."""
    places = np.arange(len(source))
    order = np.lexsort((places, source, *keys))
    within = _same([*keys, source], order)
    starts = np.maximum.accumulate(np.where(within, 0, places))
    occurrence = np.empty(len(source), dtype=np.int64)
    occurrence[order] = places - starts
    order = np.lexsort((source, occurrence, *keys))
    repeated = np.empty(len(source), dtype=bool)
    repeated[order] = _same([*keys, occurrence], order)
    return repeated


def _same(
    keys: Sequence[npt.NDArray[np.generic]], order: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    """Return whether each row, in an order, equals the one before it."""
    same = np.ones(len(order), dtype=bool)
    same[0] = False
    for key in keys:
        same[1:] &= key[order[1:]] == key[order[:-1]]
    return same
