"""Make awkward tick streams: gaps, silences, late ticks, duplicates, missing sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from volatility.records.columns import to_table
from volatility.records.tick import Heartbeat, Record, Tick
from volatility.units import SECOND

START = 1_775_337_223 * SECOND


def random_records(seed: int, seconds: int, *, gaps: bool = True) -> list[Record]:
    """Draw a stream of about ``seconds``; every awkwardness that the wire has shown occurs."""
    random = np.random.default_rng(seed)
    time, middle, trade = START + int(random.integers(0, SECOND)), 100.0, 0
    rows: list[dict[str, Any]] = []
    stop = time + seconds * SECOND
    while time < stop:
        kind = random.random()
        if gaps and kind < 0.002:
            time += int(random.choice([14.9, 15.0, 15.1, 15.9, 16.0, 40.0, 700.0, 2500.0]) * SECOND)
        else:
            time += int(random.exponential(0.4) * SECOND)
        if random.random() < 0.05:
            time = -(-time // SECOND) * SECOND  # exactly on a step
        row: dict[str, Any] = {"symbol": "BTC-USD", "time": time}
        if kind < 0.9:
            if random.random() < 0.6:
                middle *= float(np.exp(random.standard_t(3) * 2e-5))
            half = float(random.choice([0.005, 0.005, 0.02]))
            trade += 1
            row |= {"price": middle, "bid": middle - half, "ask": middle + half}
            if random.random() < 0.7:
                row |= {"bid_size": float(random.random()), "ask_size": float(random.random())}
            if random.random() < 0.8:
                row["trade_id"] = trade
            elif random.random() < 0.5:
                row["sequence"] = trade
        rows.append(row)
        if random.random() < 0.03:
            rows.append(dict(rows[int(random.integers(max(0, len(rows) - 4), len(rows)))]))
        if random.random() < 0.03:
            late = dict(rows[-1])
            late["time"] = time - int(random.exponential(2.0) * SECOND)
            rows.append(late)
    return [Tick(**row) if "bid" in row else Heartbeat(**row) for row in rows]


def to_batch(records: list[Record]) -> pa.RecordBatch:
    """Put records into one batch, as a scan of the lake gives them."""
    return to_table(records, 0, range(len(records))).combine_chunks().to_batches()[0]


seeds = st.integers(0, 2**32 - 1)
