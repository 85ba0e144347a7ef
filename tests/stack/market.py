"""Make the markets of the stack test: one to train on, one to replay whose regime changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from volatility.lake.lake import Lake
from volatility.records.tick import LAKE_SCHEMA
from volatility.simulation.simulator import simulate
from volatility.units import SECOND

SYMBOLS = ("BTC-USD", "ETH-USD")
START_NS = 1_767_571_200 * SECOND  # 2026-01-05
TRAINING_HOURS = 12.0
# Longer than a feature's memory: the stream's first windows are cold, and so are the lake's.
PAUSE_HOURS = 1.0
USUAL_HOURS, STRANGE_HOURS = 1.5, 3.0
HOLE_SECONDS = 1200  # between the regimes; a replay leaps over it

BURST_EVERY_SECONDS = 10
HALF_SPREAD, SPREAD_DEVIATION = 2e-5, 1.0  # of the midprice; in logs
BID_SIZE, ASK_SIZE = 9.0, 0.3


def write_training(lake: Path) -> int:
    """Write the market that the first model learns; give its rows."""
    return sum(
        _write(lake, f"training.{symbol}", number, simulate(symbol, START_NS, TRAINING_HOURS, 7))
        for number, symbol in enumerate(SYMBOLS)
    )


def write_recording(lake: Path) -> int:
    """Write what is replayed: the market goes on, then it changes; give its rows."""
    usual_ns = START_NS + int((TRAINING_HOURS + PAUSE_HOURS) * 3600) * SECOND
    strange_ns = usual_ns + (int(USUAL_HOURS * 3600) + HOLE_SECONDS) * SECOND
    rows = 0
    for number, symbol in enumerate(SYMBOLS):
        rows += _write(lake, f"usual.{symbol}", number, simulate(symbol, usual_ns, USUAL_HOURS, 8))
        market = simulate(symbol, strange_ns, STRANGE_HOURS, 9)
        rows += _write(lake, f"strange.{symbol}", number, strange(market))
    return rows


def strange(market: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Change the regime: trades in bursts, at wide quotes that lean to one side."""
    random = np.random.default_rng(1)
    for batch in market:
        second = batch.column("time").cast(pa.int64()).to_numpy() // SECOND
        quoted = pc.is_valid(batch.column("bid")).to_numpy(zero_copy_only=False)
        kept = batch.filter(pa.array(~quoted | (second % BURST_EVERY_SECONDS == 0)))
        bid, ask = _floats(kept, "bid"), _floats(kept, "ask")
        middle = (bid + ask) / 2
        half = middle * HALF_SPREAD * np.exp(random.normal(0.0, SPREAD_DEVIATION, len(kept)))
        changed = {
            "bid": np.round(middle - half, 2),
            "ask": np.round(middle + half, 2),
            "bid_size": np.where(np.isnan(bid), np.nan, BID_SIZE),
            "ask_size": np.where(np.isnan(bid), np.nan, ASK_SIZE),
        }
        columns = [
            pa.array(changed[name], pa.float64(), from_pandas=True)
            if name in changed
            else kept.column(name)
            for name in kept.schema.names
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=kept.schema)


def _floats(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = batch.column(name).to_numpy(zero_copy_only=False)
    return values


def _write(lake: Path, source: str, partition: int, market: Iterator[pa.RecordBatch]) -> int:
    offset = 0
    with Lake(lake).stage(source, partition) as stage:
        for batch in market:
            count = len(batch)
            place = [
                pa.array([partition] * count, pa.int32()),
                pa.array(range(offset, offset + count), pa.int64()),
            ]
            stage.append(pa.Table.from_arrays([*batch.columns, *place], schema=LAKE_SCHEMA))
            offset += count
    return offset
