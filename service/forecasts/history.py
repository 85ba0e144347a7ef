"""Read what was said in the past: the captured predictions, then those not captured yet.

The first prediction of a step is the one that was said; steps ascend, so whatever comes later with
an earlier step is a repetition or the challenger's. A row never changes, and none is inserted
before one that was said earlier, so ``as_of`` gives what was known at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from service.forecasts.board import Told
from volatility.lake import Lake
from volatility.records import (
    PREDICTION_SCHEMA,
    HorizonForecast,
    Prediction,
    Quantiles,
    predictions_to_table,
)
from volatility.streaming.log import PREDICTIONS, EventLog
from volatility.units import Integers

BATCH_ROWS = 32_768
POLL_RECORDS, POLL_SECONDS = 5_000, 0.2
COLUMNS = [name for name in PREDICTION_SCHEMA.names if name not in ("partition", "offset")]
BEFORE_ALL = -(2**63)


@dataclass(frozen=True)
class Wanted:
    """Represent a question: forecasts of a symbol with ``start_ns <= step < stop_ns``.

    Only those said until ``known_ns``, if that is given.
    """

    symbol: str
    start_ns: int
    stop_ns: int
    known_ns: int | None = None


class Tail:
    """Represent what the stream has of a symbol and the lake may not have yet.

    Parameters
    ----------
    log : EventLog
    told : sequence of Told
        The last forecasts of the symbol, in order.
    covers : callable
        Whether ``told`` includes all of a partition from an offset on.
    """

    def __init__(
        self, log: EventLog, told: Sequence[Told], covers: Callable[[int, int], bool]
    ) -> None:
        self._log, self._told, self._covers = log, told, covers

    def predictions(self, lake: Lake, decode: Callable[[bytes], Prediction]) -> list[Prediction]:
        """Return the predictions that the lake lacks, in order, and perhaps some that it has."""
        if not self._told:
            return []
        partition, symbol = self._told[-1].partition, self._told[-1].symbol
        source = f"{PREDICTIONS}.{self._log.generation(PREDICTIONS)}"
        after = lake.last_offset(source, partition) + 1
        if self._covers(partition, after):
            return [decode(one.prediction) for one in self._told if one.offset >= after]
        first = max(after, self._log.start_offsets(PREDICTIONS)[partition])
        end = self._log.end_offsets(PREDICTIONS)[partition]
        reader = self._log.reader(PREDICTIONS, {partition: first})
        found: list[Prediction] = []
        try:
            while reader.position(partition) < end:
                read = reader.poll(POLL_RECORDS, POLL_SECONDS)
                found += [p for p in (decode(m.value) for m in read) if p.symbol == symbol]
        finally:
            reader.close()
        return found


def batches(
    lake: Lake, wanted: Wanted, later: Sequence[Prediction] = ()
) -> Iterator[pa.RecordBatch]:
    """Read the forecasts that were said, one batch of ``COLUMNS`` at a time, in order.

    Parameters
    ----------
    lake : Lake
        Of predictions.
    wanted : Wanted
    later : sequence of Prediction
        What the lake may not have yet.

    Raises
    ------
    LakeError
        When a part is corrupt.
    """
    latest = BEFORE_ALL
    for batch in _stored(lake, wanted):
        latest, first = _first_of_step(batch, latest)
        kept = batch if first.all() else batch.filter(pa.array(first))
        if (kept := _known(kept, wanted.known_ns)).num_rows:
            yield kept
    fresh = [p for p in later if p.symbol == wanted.symbol and p.time > latest]
    fresh = [p for p in fresh if wanted.start_ns <= p.time < wanted.stop_ns]
    if fresh:
        table = predictions_to_table(fresh, 0, range(len(fresh))).select(COLUMNS)
        (batch,) = table.combine_chunks().to_batches()
        _, first = _first_of_step(batch, latest)
        if (kept := _known(batch.filter(pa.array(first)), wanted.known_ns)).num_rows:
            yield kept


def _stored(lake: Lake, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    if any((lake.root / f"symbol={wanted.symbol}").glob("date=*/part-*")):
        yield from lake.scan(
            wanted.symbol, COLUMNS, wanted.start_ns, wanted.stop_ns, batch_rows=BATCH_ROWS
        )


def _first_of_step(batch: pa.RecordBatch, latest: int) -> tuple[int, np.ndarray]:
    """Return the latest step so far, and bool[n]: which rows are the first of a later step."""
    times: Integers = batch.column("time").cast(pa.int64()).to_numpy()
    before = np.maximum.accumulate(np.concatenate([[latest], times]))
    return int(before[-1]), times > before[:-1]


def _known(batch: pa.RecordBatch, known_ns: int | None) -> pa.RecordBatch:
    """Return the rows that were said until a time."""
    if known_ns is None:
        return batch
    said = batch.column("said_at")
    times = said.cast(pa.int64()).fill_null(2**63 - 1).to_numpy()
    return batch.filter(pa.array(times <= known_ns))


def predictions(batch: pa.RecordBatch) -> Iterator[Prediction]:
    """Read the rows of a batch of ``COLUMNS``."""
    columns = [
        batch.column(name).cast(pa.int64()) if name in ("time", "said_at") else batch.column(name)
        for name in COLUMNS
    ]
    for values in zip(*(column.to_pylist() for column in columns), strict=True):
        row = dict(zip(COLUMNS, values, strict=True))
        row["forecasts"] = row["forecasts"] and {
            f"{one['horizon_seconds']}s": HorizonForecast(
                one["volatility_bps"],
                Quantiles(*(one[name] for name in Quantiles.__struct_fields__)),
                one["spike_level_bps"],
                one["spike_probability"],
            )
            for one in row["forecasts"]
        }
        yield Prediction(**row)
