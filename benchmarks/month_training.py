"""Measure peak memory and time of training on a month of two symbols.

``python -m benchmarks.month_training`` writes the feature files, trains on them in a separate
process and prints the table; given a folder of features, it trains on that and prints the
measurements as JSON. It takes some minutes and is not part of ``make bench``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.month import ROOT, SEED, START_NS, Built, peak_bytes
from benchmarks.results import Row, compare, table
from volatility.dataset import read_dataset
from volatility.evaluation import walk_forward_predictions, write_predictions
from volatility.features import DayWriter, feature_batches
from volatility.models import fit_bundle, shipped
from volatility.settings import Features, Settings
from volatility.simulation import simulate
from volatility.units import DAY_NS

SYMBOLS = ("BTC-USD", "ETH-USD")
DAYS, SIMULATED_DAYS = 30, 3
MINUTES, GIBIBYTES = 10.0, 2.0


def write_features(folder: Path, days: int) -> None:
    """Write feature files of two symbols: a few simulated days, repeated at later dates.

    Time and memory do not depend on whether a day resembles an earlier one.
    """
    for seed, symbol in enumerate(SYMBOLS, start=SEED):
        market = simulate(symbol, START_NS, 24.0 * SIMULATED_DAYS, seed)
        parts = [(t.copy(), rows.copy()) for t, rows in feature_batches(market, Features())]
        time_ns = np.concatenate([part[0] for part in parts])
        inside = time_ns < START_NS + SIMULATED_DAYS * DAY_NS
        time_ns, rows = time_ns[inside], np.concatenate([part[1] for part in parts])[inside]
        with DayWriter(folder / f"symbol={symbol}") as writer:
            for first in range(0, days, SIMULATED_DAYS):
                later = time_ns + first * DAY_NS
                kept = later < START_NS + days * DAY_NS
                writer.write(later[kept], rows[kept])


def train_apart(folder: Path) -> Built:
    """Train on a folder of features in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.month_training", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"benchmarks.month_training failed: {done.stderr.strip()[-500:]}")
    return Built(**json.loads(done.stdout))


def measure(folder: Path, days: int = DAYS) -> list[Row]:
    """Measure training on a number of days; feature files are written to ``folder``."""
    write_features(folder, days)
    took = train_apart(folder)
    name = f"training, {days} days of {len(SYMBOLS)} symbols, {took.rows:,} rows"
    return [
        compare(f"{name} (wall time)", "min", took.wall_seconds / 60.0, target=MINUTES),
        compare(f"{name} (CPU time)", "min", took.cpu_seconds / 60.0, target=MINUTES),
        compare(f"{name}, peak memory", "GiB", took.peak_bytes / 2**30, target=GIBIBYTES),
    ]


def train(folder: Path) -> Built:
    """Read the rows, fit, and evaluate the recipe walk-forward, as ``volatility train`` does."""
    wall, cpu = time.perf_counter(), time.process_time()
    settings, prior = Settings(), shipped()
    data = read_dataset(folder, settings)
    fit_bundle(data, settings, prior)
    walked = walk_forward_predictions(data, settings, prior, progress=False)
    write_predictions(walked.predictions, folder / "predictions.parquet")
    return Built(
        rows=len(data),
        wall_seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        peak_bytes=peak_bytes(),
    )


def main(folders: list[str]) -> None:
    """Train on a folder, or run the whole benchmark if none is given."""
    if folders:
        print(json.dumps(vars(train(Path(folders[0])))))
    else:
        with tempfile.TemporaryDirectory(prefix="volatility-bench-") as name:
            print(table(measure(Path(name))))


if __name__ == "__main__":
    main(sys.argv[1:])
