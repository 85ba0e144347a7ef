"""Benchmark the importer against plain readers of the same files.

Run ``python -m benchmarks.importing`` (or ``make bench-import``). It prints a table and writes
``benchmarks/results/importing.json``. Reading includes recognising the layout, converting units
and symbols, and checking each row; the peers only parse. Time is CPU time of all threads.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from benchmarks import results
from benchmarks.results import Row, compare
from benchmarks.timing import interleaved
from volatility.lake import Lake, import_files
from volatility.sources import read

RESULTS = Path(__file__).parent / "results" / "importing.json"
COLUMNS = ["symbol", "time", "price", "bid", "ask", "bid_size", "ask_size"]
ROWS = 1_000_000
TIMES_LARGER = 4
REPETITIONS = 7
START_NS = 1_767_571_200_000_000_000


def recording(rows: int) -> pa.Table:
    """Return random quotes of one symbol, with a column that is not read."""
    random = np.random.default_rng(1)
    middle = np.round(60_000 + np.cumsum(random.normal(0, 0.1, rows)), 2)
    return pa.table(
        {
            "symbol": pa.array(["BTC-USD"] * rows),
            "time": START_NS + np.cumsum(random.integers(1, 150, rows)) * 1_000_000,
            "price": middle,
            "bid": middle - 0.01,
            "ask": middle + 0.01,
            "bid_size": np.round(random.random(rows), 4),
            "ask_size": np.round(random.random(rows), 4),
            "volume_24h": random.random(rows),
        }
    )


def read_all(path: Path) -> None:
    """Read a file as the importer does, and drop the rows."""
    for _ in read(path):
        pass


def import_again(path: Path, folder: Path) -> None:
    """Import a file into an empty lake."""
    shutil.rmtree(folder, ignore_errors=True)
    import_files([path], Lake(folder), progress=False)


def measure(folder: Path, rows: int, repetitions: int) -> list[Row]:
    """Measure reading and importing of Parquet and CSV."""
    parquet, text = folder / "quotes.parquet", folder / "quotes.csv"
    table = recording(rows)
    pq.write_table(table, parquet)
    pacsv.write_csv(table, text)
    taken = interleaved(
        {
            "parquet": partial(read_all, parquet),
            "pandas": partial(pd.read_parquet, parquet, columns=COLUMNS),
            "csv": partial(read_all, text),
            "polars": partial(pl.read_csv, text, columns=COLUMNS),
            "parquet into the lake": partial(import_again, parquet, folder / "lake"),
            "csv into the lake": partial(import_again, text, folder / "lake"),
        },
        repetitions,
    )
    speed = {name: rows / seconds.cpu / 1e6 for name, seconds in taken.items()}
    unit = "million rows/s"
    return [
        compare(
            "Parquet read, recognised and checked", unit, speed["parquet"], better="higher",
            target_ratio=0.5, peer=speed["pandas"], peer_name="pandas.read_parquet",
        ),
        compare(
            "CSV read, recognised and checked", unit, speed["csv"], better="higher",
            target_ratio=0.3, peer=speed["polars"], peer_name="polars.read_csv",
        ),
        compare("Parquet into the lake", unit, speed["parquet into the lake"], better="higher"),
        compare("CSV into the lake", unit, speed["csv into the lake"], better="higher"),
    ]  # fmt: skip


def measure_memory(folder: Path, rows: int) -> list[Row]:
    """Compare the peak memory of importing a file with that of one several times as large."""
    measured = []
    for form in ("parquet", "csv"):
        peaks = []
        for times in (1, TIMES_LARGER):
            path = folder / f"memory-{times}.{form}"
            table = recording(rows * times)
            (pq.write_table if form == "parquet" else pacsv.write_csv)(table, path)
            del table
            command = [sys.executable, "-m", "benchmarks.importing", "--peak", str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks.append(float(done.stdout))
        name = f"peak memory, {form} of {TIMES_LARGER} times the rows"
        measured.append(compare(name, "times", peaks[1] / peaks[0], target=1.25))
    return measured


def peak(path: Path) -> float:
    """Import a file; return the peak memory of this process [MiB]."""
    with tempfile.TemporaryDirectory() as folder:
        import_again(path, Path(folder) / "lake")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak(options.peak))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options.rows, options.repetitions)
        rows += measure_memory(Path(folder), options.rows)
    results.write(rows, options.output)
    print(results.table(rows))


if __name__ == "__main__":
    main()
