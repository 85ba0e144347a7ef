"""Measure the peak memory of the flows train, performance and drift on a month of two symbols.

``python -m benchmarks.month_flows`` writes feature files and a day of predictions, and runs the
steps of each flow on them in a separate process with the flow's imports. It writes
``benchmarks/results/month.json``, takes about seven minutes and is not part of ``make bench``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.month import ROOT, SEED, START_NS, Built, peak_bytes
from benchmarks.results import Row, compare, table, write
from pipelines import drift, performance, train
from volatility import registry
from volatility.evaluation.live_rows import window_start
from volatility.features import INDEX, DayWriter, feature_batches, newest_step, read_features
from volatility.lake import Lake
from volatility.records import PREDICTION_SCHEMA, HorizonForecast, Prediction, Quantiles
from volatility.records.prediction import to_table
from volatility.settings import Features, Settings
from volatility.simulation import simulate
from volatility.units import DAY_NS

SYMBOLS = ("BTC-USD", "ETH-USD")
DAYS, SIMULATED_DAYS, UNSEEN_DAYS = 30, 3, 2
GIBIBYTES = 2.0
BATCH_ROWS = 10_000
RESULTS = ROOT / "benchmarks" / "results" / "month.json"


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


def write_predictions(data: Path) -> int:
    """Write what the serving model says of the measured hours; return the number of predictions."""
    live = registry.live_models()[0]
    specification = live.bundle.specification
    start_ns = window_start(newest_step(data / "features"), Settings().performance.hours)
    lake, count = Lake(data / "predictions", PREDICTION_SCHEMA), 0
    for partition, frame in enumerate(read_features(data / "features", start_ns)):
        place = live.bundle.places([frame.symbol])
        levels = specification.spike_levels_bps[int(place[0])]
        for first in range(0, len(frame.time), BATCH_ROWS):
            rows = frame.rows[first : first + BATCH_ROWS]
            made = live.bundle.forecast(rows, np.repeat(place, len(rows)))
            said = [
                Prediction(
                    symbol=frame.symbol,
                    time=int(frame.time[first + n]),
                    midprice=float(rows[n, INDEX["midprice"]]),
                    forecasts={
                        f"{horizon}s": HorizonForecast(
                            float(made.volatility_bps[n, h]),
                            Quantiles(*made.quantiles_bps[n, h].tolist()),
                            levels[h],
                        )
                        for h, horizon in enumerate(specification.horizons)
                    },
                    score=float(made.exceedance[n, 0]),
                    threshold=live.bundle.threshold,
                    spike=bool(made.exceedance[n, 0] >= live.bundle.threshold),
                    model_name="crypto-vol-ml",
                    model_version=live.version,
                    model_variant=live.bundle.variant,
                )
                for n in range(len(rows))
            ]
            offsets = range(first, first + len(rows))
            lake.write(to_table(said, partition, offsets), "predictions.month", partition)
            count += len(rows)
    return count


def run_train() -> int:
    """Run the flow's steps on features that exist; return the number of training rows."""
    where = ("data", "reports", "params.yaml")
    done = train.fit(*where)
    _, verdict = train.promote(*where, done)
    train.evaluate(*where, done, verdict)
    return done.trained.product.specification.train_rows


def run_performance() -> int:
    """Run the flow's step; return the number of rows with a known outcome."""
    found = performance.measure("data", "reports", "params.yaml")
    return found.rows_labelled if found else 0


def run_drift() -> int:
    """Run the flow's step; return the number of rows compared."""
    found = drift.compare("data", "reports", "params.yaml")
    return found.reference.rows + found.current.rows if found else 0


RUNS = {
    "train": run_train,
    "predict": lambda: write_predictions(Path("data")),
    "performance": run_performance,
    "drift": run_drift,
}


def apart(name: str, folder: Path) -> Built:
    """Run one of ``RUNS`` in a new process that works in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.month_flows", name],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"benchmarks.month_flows {name} failed: {done.stderr.strip()[-500:]}")
    return Built(**json.loads(done.stdout.splitlines()[-1]))


def measure(folder: Path, days: int = DAYS) -> list[Row]:
    """Measure the flows on a number of days; everything is written to ``folder``."""
    features = folder / "data" / "features"
    write_features(features, days)
    (folder / "params.yaml").write_text("{}\n")
    rows = []
    for name in RUNS:
        if name == "predict":  # rows that the model was trained on are not measured
            shutil.rmtree(features)
            write_features(features, days + UNSEEN_DAYS)
        took = apart(name, folder)
        if not took.rows:
            raise RuntimeError(f"{name} had no rows to work on")
        if name != "predict":
            title = f"flow {name}, {days} days of {len(SYMBOLS)} symbols, {took.rows:,} rows"
            rows += [
                compare(f"{title}, peak memory", "GiB", took.peak_bytes / 2**30, target=GIBIBYTES),
                compare(f"{title} (CPU time)", "min", took.cpu_seconds / 60.0),
            ]
    return rows


def main(names: list[str]) -> None:
    """Run one of ``RUNS`` in the current folder, or the whole benchmark if none is named."""
    if names:
        wall, cpu = time.perf_counter(), time.process_time()
        rows = RUNS[names[0]]()
        built = Built(
            rows=rows,
            wall_seconds=time.perf_counter() - wall,
            cpu_seconds=time.process_time() - cpu,
            peak_bytes=peak_bytes(),
        )
        print(json.dumps(vars(built)))
        return
    with tempfile.TemporaryDirectory(prefix="volatility-bench-") as name:
        rows_found = measure(Path(name))
    print(table(rows_found))
    write(rows_found, RESULTS)


if __name__ == "__main__":
    main(sys.argv[1:])
