"""Benchmark features, live update and scoring against common alternatives.

Run ``python -m benchmarks.core`` (or ``make bench``). It prints a table and writes
``benchmarks/results/core.json``. Single-core work is measured in CPU time, so that other load on
the machine does not count; measures with a wall-time target say so in their names.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa

from benchmarks import month, results, scoring
from benchmarks.peers import COMPUTED, with_pandas, with_polars
from benchmarks.results import Row, compare
from benchmarks.timing import interleaved
from volatility.features import (
    BATCH_ROWS,
    FEATURE_NAMES,
    FeatureEngine,
    FeatureFrame,
    advance,
    columns,
    new_state,
    rules,
)
from volatility.records import to_records
from volatility.settings import Features
from volatility.simulation import simulate
from volatility.units import SECOND, Floats, Integers

RESULTS = Path(__file__).parent / "results" / "core.json"
QUOTE = ("bid", "ask", "bid_size", "ask_size")
REPETITIONS = 15
LIVE_HOURS = 2.0


class Records(NamedTuple):
    """Represent the same records in the form that each side uses."""

    arrays: tuple[npt.NDArray[np.generic], ...]
    pandas: pd.DataFrame
    polars: pl.DataFrame

    @property
    def steps(self) -> int:
        """Seconds from the first record to the last."""
        times = self.arrays[0].astype(np.int64)
        return int(times[-1] // SECOND - times[0] // SECOND)

    @property
    def ticks_a_step(self) -> float:
        """Mean number of ticks per second, without the heartbeat."""
        return float(np.count_nonzero(~np.isnan(self.arrays[1].astype(float)))) / self.steps


def day_of_records() -> Records:
    """Simulate a day of one symbol with five ticks and a heartbeat per second."""
    return to_all_forms(pa.Table.from_batches(simulate(month.SYMBOL, month.START_NS, 24.0, 7)))


def to_all_forms(table: pa.Table) -> Records:
    """Convert a table with the columns of ``TICK_SCHEMA`` for the kernel and for its peers."""
    table = table.combine_chunks()
    frame = pl.from_arrow(table.select(["time", *QUOTE]))
    assert isinstance(frame, pl.DataFrame)
    return Records(
        arrays=columns(table.to_batches()[0]),
        pandas=pd.DataFrame(
            {
                "time": pd.DatetimeIndex(table["time"].to_numpy(), tz="UTC"),
                **{name: table[name].to_numpy() for name in QUOTE},
            }
        ),
        polars=frame,
    )


def kernel_features(records: Records) -> tuple[Integers, Floats]:
    """Compute all rows into new arrays: int64[n] steps [ns], float64[n, features]."""
    room = records.steps + Features().gap_seconds + 8
    out_time = np.empty(room, dtype=np.int64)
    out = np.empty((room, len(FEATURE_NAMES)))
    _, rows = advance(*new_state(), rules(Features()), *records.arrays, 0, out_time, out)
    return out_time[:rows], out[:rows]


def stream_features(records: Records, out_time: Integers, out: Floats) -> None:
    """Compute all rows with reused buffers, as ``build_features`` does."""
    state, start = new_state(), 0
    while start < len(records.arrays[0]):
        start, _ = advance(*state, rules(Features()), *records.arrays, start, out_time, out)


def measure_features(records: Records) -> list[Row]:
    """Measure the kernel, and the same features with pandas and with Polars."""
    buffers = np.empty(BATCH_ROWS, dtype=np.int64), np.empty((BATCH_ROWS, len(FEATURE_NAMES)))
    taken = interleaved(
        {
            "stream": partial(stream_features, records, *buffers),
            "kernel": partial(kernel_features, records),
            "pandas": partial(with_pandas.features, records.pandas),
            "polars": partial(with_polars.features, records.polars),
        },
        REPETITIONS,
    )
    speed = records.steps / taken["stream"].cpu / 1e6
    peer = records.steps / taken["pandas"].cpu / 1e6
    name = f"kernel on one core, {records.ticks_a_step:.1f} ticks a step (CPU time)"
    cores = pl.thread_pool_size()
    same = f"{len(COMPUTED)} features of a day"
    return [
        compare(name, "million steps/s", speed, better="higher", target_ratio=4.0, peer=peer,
                peer_name="pandas"),
        compare(f"{same} (CPU time)", "ms", 1e3 * taken["kernel"].cpu, target_ratio=5.0,
                peer=1e3 * taken["pandas"].cpu, peer_name="pandas"),
        compare(f"{same} (wall time)", "ms", 1e3 * taken["kernel"].wall, target_ratio=1.0,
                peer=1e3 * taken["polars"].wall, peer_name=f"Polars, {cores} cores"),
        compare(f"{same} (CPU time, Polars' divided by its {cores} cores)", "ms",
                1e3 * taken["kernel"].cpu, target_ratio=1.0,
                peer=1e3 * taken["polars"].cpu / cores, peer_name="Polars, ideally parallel"),
    ]  # fmt: skip


def measure_live() -> list[Row]:
    """Measure ``FeatureEngine.update``, one record at a time."""
    table = pa.Table.from_batches(simulate(month.SYMBOL, month.START_NS, LIVE_HOURS, 7))
    records = list(to_records(table))
    engine = FeatureEngine()
    warm = len(records) // 4
    for record in records[:warm]:
        engine.update(record)
    every, closing = [], []
    clock = time.perf_counter_ns
    for record in records[warm:]:
        begin = clock()
        rows = engine.update(record)
        taken = (clock() - begin) / 1e3
        every.append(taken)
        if rows:
            closing.append(taken)

    memory_ns = Features().memory_seconds * SECOND
    frame = to_all_forms(table).pandas
    recent = frame[frame["time"] > frame["time"].iloc[-1] - pd.Timedelta(memory_ns, "ns")]
    recent = recent.reset_index(drop=True)
    peer = interleaved({"pandas": partial(with_pandas.features, recent)}, 9)["pandas"].wall * 1e6
    figures = {
        "tick in to feature row out, median": median(closing),
        "tick in to feature row out, p99": float(np.quantile(closing, 0.99)),
        "any record, median": median(every),
        "any record, p99": float(np.quantile(every, 0.99)),
    }
    return [
        compare(f"live update, {name} (wall time)", "us", microseconds, target_ratio=500.0,
                peer=peer, peer_name="pandas over the last 30 min")
        for name, microseconds in figures.items()
    ]  # fmt: skip


def measure_month(days: int) -> list[Row]:
    """Measure ``build_features`` over ``days`` and a third of them, in separate processes."""
    few = max(1, days // 3)
    with tempfile.TemporaryDirectory(prefix="volatility-bench-") as name:
        folder = Path(name)
        ticks = month.simulate_lake(folder / "lake", days)
        month.first_days(folder / "lake", folder / "few", few)
        short, whole, read = [], [], []
        for _ in range(3):
            short.append(month.build_apart(folder / "few", folder / "features"))
            whole.append(month.build_apart(folder / "lake", folder / "features"))
            read.append(month.read(folder / "lake"))
        shutil.rmtree(folder / "features")
    name = f"lake to feature Parquet, {days} days, {ticks / 1e6:.1f} million ticks"
    peak = max(built.peak_bytes for built in whole)
    growth = peak / max(built.peak_bytes for built in short)
    seconds = median(built.wall_seconds for built in whole)
    cpu = median(built.cpu_seconds for built in whole)
    reading = "reading the same Parquet, columns discarded"
    return [
        compare(f"{name} (wall time)", "s", seconds, target_ratio=0.1,
                peer=median(one.wall for one in read), peer_name=reading),
        compare(f"{name} (CPU time)", "s", cpu, target_ratio=0.1,
                peer=median(one.cpu for one in read), peer_name=reading),
        compare(f"{name}, peak memory", "MiB", peak / 2**20, target=1024.0),
        compare(f"peak memory of {days} days over that of {few}", "x", growth, target=1.1),
    ]  # fmt: skip


def main() -> None:
    """Run all benchmarks, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON (%(default)s)")
    parser.add_argument("--days", type=int, default=30, help="length of the lake (%(default)s)")
    options = parser.parse_args()
    records = day_of_records()
    rows = [
        *measure_features(records),
        *measure_live(),
        *scoring.measure(FeatureFrame(month.SYMBOL, *kernel_features(records))),
        *measure_month(options.days),
    ]
    results.write(rows, options.output)
    promised = [row for row in rows if row.met is not None]
    print(results.table(rows))
    print(f"{len(promised) - len(results.missed(rows))} of {len(promised)} targets met")


if __name__ == "__main__":
    main()
