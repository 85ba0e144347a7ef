"""Measure building feature Parquet from a month of the lake, in a separate process.

``python -m benchmarks.month LAKE FOLDER`` builds the features and prints the measurements as JSON.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks.timing import Seconds
from volatility.features import build_features
from volatility.lake import Lake
from volatility.settings import Features
from volatility.simulation import simulate

ROOT = Path(__file__).resolve().parents[1]
SYMBOL = "BTC-USD"
START_NS = 1_767_571_200_000_000_000  # 2026-01-05
SEED = 7


@dataclass(frozen=True)
class Built:
    """Represent the measurements of a feature build or a training.

    Parameters
    ----------
    rows : int
        Feature rows; for a training, those used.
    wall_seconds, cpu_seconds : float
        From opened files to the result, without imports.
    peak_bytes : int
        Peak resident memory of the whole process, including imports.
    """

    rows: int
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def simulate_lake(folder: Path, days: int, *, progress: bool = True) -> int:
    """Fill a lake with a simulated market; return the number of ticks without heartbeats."""
    lake = Lake(folder)
    offset = ticks = 0
    with (
        tqdm(total=24 * days, unit=" h", desc="lake", disable=None if progress else True) as bar,
        lake.stage("benchmark", 0) as stage,
    ):
        for batch in simulate(SYMBOL, START_NS, 24.0 * days, SEED):
            count = batch.num_rows
            table = pa.Table.from_batches([batch])
            table = table.append_column("partition", pa.array(np.zeros(count, np.int32)))
            table = table.append_column("offset", pa.array(np.arange(offset, offset + count)))
            stage.append(table)
            offset += count
            ticks += count - batch.column("bid").null_count
            bar.update(1)
    return ticks


def first_days(lake: Path, folder: Path, days: int) -> None:
    """Create a lake with the first dates of another, by links to its parts."""
    for date in Lake(lake).dates(SYMBOL)[:days]:
        place = Path(f"symbol={SYMBOL}", f"date={date}")
        shutil.copytree(lake / place, folder / place, copy_function=os.link)


def build_apart(lake: Path, folder: Path) -> Built:
    """Build the features of a lake in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.month", str(lake), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"benchmarks.month failed: {done.stderr.strip()[-500:]}")
    return Built(**json.loads(done.stdout))


def read(lake: Path) -> Seconds:
    """Time reading all Parquet files of a lake, one after another, without keeping them."""
    wall, cpu = time.perf_counter(), time.process_time()
    for path in sorted(lake.rglob("*.parquet")):
        pq.read_table(path)
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def _build(lake: Path, folder: Path) -> Built:
    wall, cpu = time.perf_counter(), time.process_time()
    counts = build_features(Lake(lake), folder, Features(), progress=False)
    return Built(
        rows=counts["rows"],
        wall_seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        peak_bytes=peak_bytes(),
    )


def peak_bytes() -> int:
    """Return the peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux a child inherits the parent's peak, which getrusage would report.
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return 1024 * int(found[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    print(json.dumps(vars(_build(Path(sys.argv[1]), Path(sys.argv[2])))))
