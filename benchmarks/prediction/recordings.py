"""Read the recordings as feature rows, with one symbol per venue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from volatility.features import FeatureFrame, rows_of
from volatility.settings import Features

HERE = Path(__file__).resolve()
DATA = HERE.parents[3] / "shared" / "data"
VENUES = {
    "bitFlyer BTC-JPY 2018": "venues/bitflyer-btc-jpy.parquet",
    "BitMEX XBT-USD 2018": "venues/bitmex-xbt-usd.parquet",
    "StandX BTC-USD 2026": "venues/standx-btc-usd.parquet",
    "Bithumb BTC-KRW": "venues/bithumb-btc-krw.parquet",
    "Upbit BTC-KRW": "venues/upbit-btc-krw.parquet",
    "Chainlink index 2026": "venues/chainlink-btc-usd.parquet",
    "Coinbase BTC-USD": "ticks/btc-usd.parquet",
}
LEAST_HOURS = 1.0


class RecordingsError(ValueError):
    """Report that recordings are missing, and where they were expected."""


def read_venues(folder: Path = DATA) -> list[FeatureFrame]:
    """Build the feature rows of every venue, with the kernel that the service uses."""
    if not (folder / "venues").is_dir():
        raise RecordingsError(f"{folder} has no recordings; pass their folder with --data")
    return [_frame(name, folder / file) for name, file in VENUES.items()]


def _frame(name: str, file: Path) -> FeatureFrame:
    table = pq.read_table(file)
    table = table.take(pc.sort_indices(table.column("time")))

    def numbers(column: str) -> npt.NDArray[np.float64]:
        if column not in table.column_names:
            return np.full(len(table), np.nan)
        values = table.column(column).cast(pa.float64()).combine_chunks()
        result: npt.NDArray[np.float64] = values.fill_null(np.nan).to_numpy(zero_copy_only=False)
        return result.copy()

    ticks = (
        table.column("time").cast(pa.int64()).to_numpy().copy(),
        *(numbers(column) for column in ("bid", "ask", "bid_size", "ask_size")),
        np.full(len(table), -1, dtype=np.int64),
    )
    parts = [(time.copy(), rows.copy()) for time, rows in rows_of([ticks], Features())]
    return FeatureFrame(
        name, np.concatenate([t for t, _ in parts]), np.concatenate([r for _, r in parts])
    )
