"""Run the feature kernel tick by tick, or from the lake to Parquet.

Both run ``kernel.advance`` over the same records in the same order, so the same ticks produce
bit-identical rows. A row is written when a later record closes its step, never before.

>>> from volatility.records.tick import Heartbeat, Tick
>>> engine = FeatureEngine()
>>> second = 1_000_000_000
>>> start = 1_775_337_223 * second
>>> engine.update(Tick("BTC-USD", start, price=10.0, bid=9.0, ask=11.0))
[]
>>> rows = engine.update(Heartbeat("BTC-USD", start + second))
>>> rows[0].time == start, rows[0].value("midprice")
(True, 10.0)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from volatility.features.files import (
    FEATURE_SCHEMA,
    DayWriter,
    FeatureFrame,
    FeaturesError,
    read_features,
)
from volatility.features.kernel import advance
from volatility.features.kernel_rows import COLUMNS
from volatility.features.kernel_state import DUPLICATES, LATE
from volatility.features.kernel_sums import new_state
from volatility.features.table import INDEX
from volatility.records import Heartbeat, Record, identifier
from volatility.settings import Features

TICK_COLUMNS = ("time", "bid", "ask", "bid_size", "ask_size", "trade_id", "sequence")
__all__ = [
    "FEATURE_SCHEMA",
    "FeatureEngine",
    "FeatureFrame",
    "FeatureRow",
    "FeaturesError",
    "build_features",
    "feature_batches",
    "read_features",
    "rows_of",
]

BATCH_ROWS = 65_536


class TickScan(Protocol):
    """Define what ``build_features`` needs from a lake."""

    def symbols(self) -> list[str]:
        """List the symbols."""

    def scan(self, symbol: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Read one symbol's records in arrival order."""


@dataclass(frozen=True)
class FeatureRow:
    """Represent what is known about one symbol at one step.

    Parameters
    ----------
    symbol : str
    time : int
        The step, nanoseconds since the epoch; ticks up to and including it are used.
    values : float64[len(FEATURE_NAMES)]
        Features in the order of the table; NaN means missing.
    """

    symbol: str
    time: int
    values: npt.NDArray[np.float64]

    def value(self, name: str) -> float:
        """Return one feature by name."""
        return float(self.values[INDEX[name]])


class _SymbolState:
    """Store one symbol's kernel state and the buffers for a single record."""

    def __init__(self, settings: Features) -> None:
        self.state = new_state()
        self.rules = rules(settings)
        self.time = np.zeros(1, dtype=np.int64)
        self.quote = tuple(np.full(1, np.nan) for _ in range(4))
        self.identifier = np.zeros(1, dtype=np.int64)
        rows = 2 * settings.gap_seconds + 8
        self.out_time = np.empty(rows, dtype=np.int64)
        self.out = np.empty((rows, COLUMNS))


class FeatureEngine:
    """Turn records into feature rows as they arrive, for any number of symbols."""

    def __init__(self, settings: Features | None = None) -> None:
        self._settings = settings or Features()
        self._symbols: dict[str, _SymbolState] = {}

    def update(self, record: Record) -> list[FeatureRow]:
        """Process one valid record; return the rows of the steps it closes, oldest first.

        A tick for a step that is already closed is only counted as late.
        """
        symbol = self._symbols.get(record.symbol)
        if symbol is None:
            symbol = self._symbols[record.symbol] = _SymbolState(self._settings)
        symbol.time[0] = record.time
        bid, ask, bid_size, ask_size = symbol.quote
        if isinstance(record, Heartbeat):
            bid[0] = np.nan
        else:
            bid[0], ask[0] = record.bid, record.ask
            bid_size[0] = np.nan if record.bid_size is None else record.bid_size
            ask_size[0] = np.nan if record.ask_size is None else record.ask_size
            symbol.identifier[0] = identifier(record)
        _, rows = advance(
            *symbol.state,
            symbol.rules,
            symbol.time,
            *symbol.quote,
            symbol.identifier,
            0,
            symbol.out_time,
            symbol.out,
        )
        return [
            FeatureRow(record.symbol, int(symbol.out_time[k]), symbol.out[k].copy())
            for k in range(rows)
        ]

    def counts(self, symbol: str) -> dict[str, int]:
        """Return the number of late ticks and of duplicates dropped so far."""
        state = self._symbols.get(symbol)
        if state is None:
            return {"late": 0, "duplicates": 0}
        return _counts(state.state[0])


def rules(settings: Features) -> tuple[int, float, int]:
    """Return the kernel's rules: gap [s], minimum coverage [share], minimum baseline [s]."""
    return settings.gap_seconds, settings.min_coverage, settings.min_baseline_seconds


def _counts(integers: npt.NDArray[np.int64]) -> dict[str, int]:
    return {
        "late": int(integers[LATE]),
        "duplicates": int(integers[DUPLICATES]),
    }


def columns(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.generic], ...]:
    """Convert a batch of ticks to the kernel's arrays: time, four for the quote, identifier."""
    number = batch.column("trade_id")  # as in `records.identifier`
    if number.null_count:
        number = pc.coalesce(number, batch.column("sequence"))
    return (
        batch.column("time").cast(pa.int64()).to_numpy(),
        *(
            batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
            for name in ("bid", "ask", "bid_size", "ask_size")
        ),
        number.fill_null(-1).to_numpy(),
    )


def feature_batches(
    batches: Iterable[pa.RecordBatch], settings: Features, counts: dict[str, int] | None = None
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Compute the feature rows of one symbol's ticks, in bounded memory.

    Yields
    ------
    int64[n], float64[n, len(FEATURE_NAMES)]
        Steps [ns] and rows. The arrays are reused: copy what you keep.
    """
    return rows_of((columns(batch) for batch in batches), settings, counts)


def rows_of(
    ticks: Iterable[tuple[npt.NDArray[np.generic], ...]],
    settings: Features,
    counts: dict[str, int] | None = None,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Compute feature rows like ``feature_batches``, from the arrays that ``columns`` returns."""
    state = new_state()
    out_time = np.empty(BATCH_ROWS, dtype=np.int64)
    out = np.empty((BATCH_ROWS, COLUMNS))
    filled = 0
    for arrays in ticks:
        start = 0
        while start < len(arrays[0]):
            start, rows = advance(
                *state, rules(settings), *arrays, start, out_time[filled:], out[filled:]
            )
            filled += rows
            if start < len(arrays[0]):
                yield out_time[:filled], out[:filled]
                filled = 0
    if filled:
        yield out_time[:filled], out[:filled]
    if counts is not None:
        counts.update(_counts(state[0]))


def build_features(
    lake: TickScan, folder: Path, settings: Features, *, progress: bool = True
) -> dict[str, int]:
    """Build the features of every symbol of a lake, one Parquet file per symbol and day.

    The folder is replaced as a whole, once all of it is built.

    Returns
    -------
    dict
        ``rows``, and the numbers of dropped ``late`` and ``duplicates`` ticks.
    """
    building = folder.with_name(folder.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        total = _build(lake, building, settings, progress)
        if not total["rows"]:
            raise FeaturesError("the lake is too short: it needs ticks of more than one second")
        _replace(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return total


def _build(lake: TickScan, folder: Path, settings: Features, progress: bool) -> dict[str, int]:
    total = {"rows": 0, "late": 0, "duplicates": 0}
    with tqdm(unit=" rows", desc="features", disable=None if progress else True) as bar:
        for symbol in lake.symbols():
            counts: dict[str, int] = {}
            scan = lake.scan(symbol, columns=list(TICK_COLUMNS))
            with DayWriter(folder / f"symbol={symbol}") as writer:
                for time, rows in feature_batches(scan, settings, counts):
                    writer.write(time, rows)
                    total["rows"] += len(time)
                    bar.update(len(time))
            total["late"] += counts["late"]
            total["duplicates"] += counts["duplicates"]
    return total


def _replace(building: Path, folder: Path) -> None:
    """Replace the old folder by the built one; a crash never leaves a partial folder there."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(building, folder)
    shutil.rmtree(old, ignore_errors=True)
