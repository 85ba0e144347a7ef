"""Measure the way from the lake to feature Parquet over a month, in a process of its own.

``python -m benchmarks.month LAKE FOLDER`` builds the features and prints what it took as JSON.
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
from tqdm import tqdm

from volatility.features import build_features
from volatility.lake import Lake
from volatility.settings import Features
from volatility.simulate import simulate

ROOT = Path(__file__).resolve().parents[1]
SYMBOL = "BTC-USD"
START_NS = 1_767_571_200_000_000_000  # 2026-01-05
SEED = 7


@dataclass(frozen=True)
class Built:
    """Say what a build of features took.

    Parameters
    ----------
    rows : int
        Feature rows.
    wall_seconds, cpu_seconds : float
        From the opened lake to the last file in its place; imports are not in it.
    peak_bytes : int
        Greatest resident memory of the whole process, imports included.
    """

    rows: int
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def simulate_lake(folder: Path, days: int, *, progress: bool = True) -> int:
    """Fill a lake with a simulated market; give the number of ticks, heartbeats left out."""
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
    """Make a lake of the first dates of another, by links to its parts."""
    for date in Lake(lake).dates(SYMBOL)[:days]:
        place = Path(f"symbol={SYMBOL}", f"date={date}")
        shutil.copytree(lake / place, folder / place, copy_function=os.link)


def build_apart(lake: Path, folder: Path) -> Built:
    """Build the features of a lake in a fresh process."""
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


def _build(lake: Path, folder: Path) -> Built:
    wall, cpu = time.perf_counter(), time.process_time()
    counts = build_features(Lake(lake), folder, Features(), progress=False)
    return Built(
        rows=counts["rows"],
        wall_seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        peak_bytes=_peak_bytes(),
    )


def _peak_bytes() -> int:
    """Read the greatest resident memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands the parent's peak on to what it starts, and getrusage would report that.
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return 1024 * int(found[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    print(json.dumps(vars(_build(Path(sys.argv[1]), Path(sys.argv[2])))))
