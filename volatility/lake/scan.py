"""Read the rows of parts: filtered, merged by offset, in bounded memory."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from volatility.lake.merging import NEEDED, Cluster, by_time
from volatility.lake.parts import LakeError, Part, limits, parse_name, read_part, readable

ALWAYS_WRITTEN = frozenset({"bid", "ask"})  # nullable, but a part that lacks them contains trades
REOPENINGS = 20  # each needs a compaction that ends between naming a part and opening it


@dataclass(frozen=True)
class Wanted:
    """Represent what a scan reads: the columns ``names`` of a schema, and the rows in a period.

    Rows count with ``start_ns <= time < stop_ns`` [ns], except those with a time in a period of
    ``voided``. No batch has more than ``batch_rows`` rows.
    """

    schema: pa.Schema
    names: list[str]
    start_ns: int | None
    stop_ns: int | None
    voided: tuple[tuple[int, int], ...]
    batch_rows: int


def overlaps(part: Part, start_ns: int | None, stop_ns: int | None) -> bool:
    """Return whether a part may have rows with ``start_ns <= time < stop_ns``."""
    after = start_ns is None or part.last_ns >= start_ns
    return after and (stop_ns is None or part.first_ns < stop_ns)


def scan(found: list[Cluster], wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """Read clusters one after the other; the sources of a cluster are merged by time."""
    names = wanted.names
    for cluster in found:
        streams = [stream for stream in cluster.streams if any(stream)]
        if len(streams) < 2:
            batches = _in_order(streams[0], wanted) if streams else iter(())
        else:
            needed = [name for name in NEEDED if name in wanted.schema.names]
            wider = replace(wanted, names=list(dict.fromkeys([*names, *needed])))
            batches = by_time([_in_order(s, wider) for s in streams], wanted.batch_rows)
        for batch in batches:
            yield batch.select(names)


def _in_order(groups: list[list[Part]], wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """Read groups of parts one after the other; the parts of a group are merged by offset."""
    names = wanted.names
    ordered = replace(wanted, names=[*names, *({"offset"} - set(names))])
    for group in groups:
        if len(group) < 2:
            batches = _read(group[0], wanted) if group else iter(())
        else:
            batches = _merge([_read(part, ordered) for part in group], wanted.batch_rows)
        for batch in batches:
            yield batch.select(names)


def _read(part: Part, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """Read the rows that a part had when it was described, even if it has been merged since.

    A column added to the schema after the part was written reads as null.
    """
    schema, names = wanted.schema, wanted.names
    low = -(2**63) if wanted.start_ns is None else wanted.start_ns
    high = 2**63 if wanted.stop_ns is None else wanted.stop_ns
    first, last = part.first_offset, part.last_offset
    with readable(part.path), _open(part) as file:
        absent = set(names) - set(file.schema_arrow.names)
        wrong = [
            name for name in absent if name in ALWAYS_WRITTEN or not schema.field(name).nullable
        ]
        if wrong:
            raise LakeError(
                f"{part.path} has no column {', '.join(sorted(wrong))}: its rows are not ticks "
                "but, for example, trades without quotes; read a lake of ticks instead"
            )
        metadata = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        times = [limits(group, "time") for group in metadata]
        offsets = [limits(group, "offset") for group in metadata]
        groups = [
            i
            for i in range(file.num_row_groups)
            if times[i][0] < high
            and low <= times[i][1]
            and offsets[i][0] <= last
            and first <= offsets[i][1]
        ]
        whole = all(low <= times[i][0] and times[i][1] < high for i in groups)
        same = all(first <= offsets[i][0] and offsets[i][1] <= last for i in groups)
        stored = [name for name in names if name not in absent]
        columns = [*stored, *({"time"} if same else {"time", "offset"}) - set(names)]
        batches = file.iter_batches(
            wanted.batch_rows, row_groups=groups, columns=columns, use_threads=False
        )
        for batch in batches:
            kept = batch.replace_schema_metadata(None)
            if not whole:
                time = kept.column("time").cast(pa.int64()).to_numpy()
                kept = kept.filter(pa.array((time >= low) & (time < high)))
            for start_ns, stop_ns in wanted.voided:
                time = kept.column("time").cast(pa.int64()).to_numpy()
                void = (time >= start_ns) & (time < stop_ns)
                if void.any():
                    kept = kept.filter(pa.array(~void))
            if not same:
                offset = kept.column("offset").to_numpy()
                kept = kept.filter(pa.array((offset >= first) & (offset <= last)))
            for name in sorted(absent):
                nulls = pa.nulls(kept.num_rows, schema.field(name).type)
                kept = kept.append_column(schema.field(name), nulls)
            if kept.num_rows:
                yield _as_stored_now(kept, schema)


def _as_stored_now(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Convert the columns whose type has gained fields since they were written: null in these."""
    for place, field in enumerate(batch.schema):
        wanted = schema.field(field.name)
        if field.type != wanted.type:
            batch = batch.set_column(place, wanted, batch.column(place).cast(wanted.type))
    return batch


def _open(part: Part) -> pq.ParquetFile:
    """Open a part, or the part that compaction merged it into.

    Once open, it stays readable even if compaction deletes it.

    Raises
    ------
    FileNotFoundError
    """
    path = part.path
    for _ in range(REOPENINGS):
        with suppress(FileNotFoundError):
            # Without `pre_buffer` the file is read one column chunk at a time, in constant memory.
            return pq.ParquetFile(path, pre_buffer=False)
        path = _successor(part)
    return pq.ParquetFile(path, pre_buffer=False)


def _successor(part: Part) -> Path:
    """Find the part of the same source and date that contains all of a part's offsets."""
    name = f"part-{glob.escape(part.topic)}-{part.partition}-*.parquet"
    for path in part.path.parent.glob(name):
        named = parse_name(path)
        if named is not None and named[:2] == (part.topic, part.partition):
            with suppress(LakeError):
                found = read_part(path)
                first, last = found.first_offset, found.last_offset
                if first <= part.first_offset and part.last_offset <= last:
                    return path
    return part.path


def _merge(streams: list[Iterator[pa.RecordBatch]], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Merge streams that ascend by offset, without repeated offsets, holding one batch of each."""
    pending = [(batch, stream) for stream in streams if (batch := next(stream, None)) is not None]
    while pending:
        bound = min(batch.column("offset")[-1].as_py() for batch, _ in pending)
        heads, rest = [], []
        for batch, stream in pending:
            cut = int(np.searchsorted(batch.column("offset").to_numpy(), bound, side="right"))
            heads.append(batch.slice(0, cut))
            tail = batch.slice(cut) if cut < batch.num_rows else next(stream, None)
            if tail is not None:
                rest.append((tail, stream))
        pending = rest
        merged = pa.Table.from_batches(heads).combine_chunks()
        _, first = np.unique(merged.column("offset").to_numpy(), return_index=True)
        yield from merged.take(pa.array(first)).to_batches(batch_rows)
