"""Benchmark the basis of the scheduled flows: incremental features and a quiet drift alert.

Run ``python -m benchmarks.pipeline``. It builds the features of a simulated lake, adds an hour and
builds again; and it compares windows of the same and of another market with a training day. It
writes ``benchmarks/results/pipeline.json``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from benchmarks import results
from benchmarks.month import SYMBOL
from benchmarks.results import Row, compare
from volatility.evaluation import compare as drift
from volatility.features import FeatureFrame, build_features, feature_batches, update_features
from volatility.lake import Lake
from volatility.records import LAKE_SCHEMA
from volatility.settings import Drift, Features
from volatility.simulation import noise, simulate
from volatility.units import SECOND

RESULTS = Path(__file__).parent / "results" / "pipeline.json"
START_NS = 1_767_571_200_000_000_000  # 2026-01-05
HOUR_NS = 3600 * SECOND
TRAIN_HOURS = 24.0
SEEDS = range(8, 14)
WINDOWS = 6  # per seed


def measure_features(hours: float) -> list[Row]:
    """Time a build from scratch, and the update after one more hour."""
    features = Features()
    with tempfile.TemporaryDirectory(prefix="volatility-bench-") as name:
        lake = Lake(Path(name) / "ticks")
        _fill(lake, "first", simulate(SYMBOL, START_NS, hours, 7))
        update_features(lake, Path(name) / "updated", features, progress=False)
        _fill(lake, "later", simulate(SYMBOL, START_NS + int(hours * HOUR_NS), 1.0, 8))
        update, new = _timed(update_features, lake, Path(name) / "updated", features)
        full, rows = _timed(build_features, lake, Path(name) / "full", features)
    return [
        compare(
            f"features of one new hour ({new:,} rows) beside a build of {hours:g} h ({rows:,})",
            "s", update, peer=full, peer_name="build from scratch",
        )
    ]  # fmt: skip


def measure_drift(hours: float) -> list[Row]:
    """Count the inputs that drift in windows of ``hours``, for the same market and for noise."""
    before = _frame(simulate(SYMBOL, START_NS, TRAIN_HOURS, 7))
    counts, alerts, greatest = [], 0, 0.0
    for seed in tqdm(SEEDS, desc=f"windows of {hours:g} h", disable=None):
        market = _frame(simulate(SYMBOL, START_NS, TRAIN_HOURS + WINDOWS * hours, seed))
        for window in range(WINDOWS):
            first = START_NS + int((TRAIN_HOURS + window * hours) * HOUR_NS)
            inside = (market.time >= first) & (market.time < first + hours * HOUR_NS)
            later = FeatureFrame(SYMBOL, market.time[inside], market.rows[inside])
            found = _drift(before, later, hours)
            counts.append(found.drifted_features)
            alerts += found.alert
            greatest = max(greatest, *(f.distance or 0.0 for f in found.per_feature))
    begin = START_NS + int(TRAIN_HOURS * HOUR_NS)
    other = _drift(before, _frame(noise(SYMBOL, begin, hours, 1)), hours)
    place = f"windows of {hours:g} h against a day of training"
    quiet = len(counts) - alerts
    return [
        compare(f"drift, {place}, same market: of {len(counts)} without an alert", "windows",
                quiet, better="higher", target=float(len(counts))),
        compare(f"drift, {place}, same market: of {other.features} inputs, drifted in none",
                "inputs", other.features - max(counts), better="higher"),
        compare(f"drift, {place}, same market: greatest distance", "deviations", greatest),
        compare(f"drift, {place}, a market of noise: of {other.features} inputs, drifted",
                "inputs", other.drifted_features, better="higher", target=0.5 * other.features),
    ]  # fmt: skip


def _drift(before, later, hours):
    both = FeatureFrame(
        SYMBOL,
        np.concatenate([before.time, later.time]),
        np.concatenate([before.rows, later.rows]),
    )
    return drift([both], START_NS, int(before.time[-1]), Drift(hours=hours))


def _frame(market: Iterable[pa.RecordBatch]) -> FeatureFrame:
    parts = [(time.copy(), rows.copy()) for time, rows in feature_batches(market, Features())]
    stamps, rows = (np.concatenate([part[k] for part in parts]) for k in range(2))
    return FeatureFrame(SYMBOL, stamps, rows)


def _fill(lake: Lake, topic: str, market: Iterable[pa.RecordBatch]) -> None:
    offset = 0
    with lake.stage(topic, 0) as stage:
        for batch in market:
            numbers = [
                pa.array(np.zeros(len(batch), np.int32)),
                pa.array(np.arange(offset, offset + len(batch))),
            ]
            stage.append(pa.Table.from_arrays([*batch.columns, *numbers], schema=LAKE_SCHEMA))
            offset += len(batch)


def _timed(build, lake, folder, features):
    began = time.perf_counter()
    counts = build(lake, folder, features, progress=False)
    return time.perf_counter() - began, counts.get("new", counts["rows"])


def main() -> None:
    """Run both benchmarks, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON (%(default)s)")
    parser.add_argument("--hours", type=float, default=120.0, help="of the lake (%(default)s)")
    options = parser.parse_args()
    rows = [*measure_features(options.hours), *measure_drift(6.0), *measure_drift(1.0)]
    results.write(rows, options.output)
    print(results.table(rows))


if __name__ == "__main__":
    main()
