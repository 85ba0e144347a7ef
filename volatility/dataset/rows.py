"""Assemble the labelled rows of all symbols on one clock, for training and evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from volatility import memory
from volatility.dataset.forward import forward_variance
from volatility.features import (
    FEATURE_NAMES,
    INDEX,
    FeatureFrame,
    day_frames,
    is_warm,
    window_start,
)
from volatility.settings import Settings
from volatility.units import SECOND, Floats, Integers

COLUMNS = len(FEATURE_NAMES)
RETURN, RECORD_AGE = INDEX["log_return_1s"], INDEX["seconds_since_record"]


@dataclass(frozen=True)
class Dataset:
    """Represent the labelled rows of all symbols, sorted by time and symbol.

    Parameters
    ----------
    symbols : tuple of str
        Names, which ``symbol`` indexes.
    horizons : tuple of int
        H horizons [s].
    symbol, time : int64[n]
        Symbol and step [ns] of each row.
    rows : float64[n, features]
        Feature rows in the order of the feature table.
    variance : float64[n, H]
        Forward realised variance [1/s]; NaN for an incomplete window. The shortest window of
        every row is complete.
    """

    symbols: tuple[str, ...]
    horizons: tuple[int, ...]
    symbol: Integers
    time: Integers
    rows: Floats
    variance: Floats

    def __len__(self) -> int:
        return len(self.time)

    def take(self, chosen: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Dataset:
        """Return a subset of rows, selected by index or mask."""
        return replace(
            self,
            symbol=self.symbol[chosen],
            time=self.time[chosen],
            rows=self.rows[chosen],
            variance=self.variance[chosen],
        )

    def digest(self) -> str:
        """Return a digest of times, rows and labels that identifies the data."""
        content = hashlib.sha256()
        for array in (self.symbol, self.time, self.rows, self.variance):
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


def assemble(frames: Sequence[FeatureFrame], settings: Settings) -> Dataset:
    """Label the rows of complete frames; keep the warm, labelled rows on the stride's grid."""
    return _join([(frame.symbol, *_label([frame], settings)) for frame in frames], settings)


def read_dataset(folder: Path, settings: Settings, *, start_ns: int | None = None) -> Dataset:
    """Read the labelled rows of the newest ``train.window_days`` that a features folder has.

    Read one day at a time, so that memory depends on the rows kept, one per
    ``train.stride_seconds``, not on those stored. ``start_ns`` overrides the first row [ns].

    Raises
    ------
    FeaturesError
        If there are none, or they were built with another feature table.
    """
    symbols, _ = day_frames(folder)
    start = window_start(folder, settings.train.window_days) if start_ns is None else start_ns
    found = _join(
        [(symbol, *_label(frames(start), settings)) for symbol, frames in symbols.items()],
        settings,
    )
    memory.trim()  # what the days took: a quarter of a gigabyte that training would lie on top of
    return found


def _label(frames: Iterable[FeatureFrame], settings: Settings) -> tuple[Integers, Floats, Floats]:
    """Return times, rows and labels of one symbol's warm rows on the stride's grid."""
    horizons = settings.forecast.horizons
    times, returns, ages, kept_rows, kept_places = [], [], [], [], []
    before = 0
    for frame in frames:
        times.append(frame.time)
        returns.append(frame.rows[:, RETURN].copy())
        ages.append(frame.rows[:, RECORD_AGE].copy())
        on_grid = frame.time // SECOND % settings.train.stride_seconds == 0
        places = np.flatnonzero(on_grid & is_warm(frame.rows))
        kept_rows.append(frame.rows[places])
        kept_places.append(places + before)
        before += len(frame.time)
    if not times:
        return np.empty(0, np.int64), np.empty((0, COLUMNS)), np.empty((0, len(horizons)))
    time, place = np.concatenate(times), np.concatenate(kept_places)
    variance = forward_variance(time, np.concatenate(returns), np.concatenate(ages), horizons)
    labelled = ~np.isnan(variance[place, 0])
    place = place[labelled]
    return time[place], np.concatenate(kept_rows)[labelled], variance[place]


def _join(parts: Sequence[tuple[str, Integers, Floats, Floats]], settings: Settings) -> Dataset:
    symbol = np.concatenate(
        [np.full(len(part[1]), place, dtype=np.int64) for place, part in enumerate(parts)]
    )
    time = np.concatenate([part[1] for part in parts])
    order = np.lexsort((symbol, time))
    return Dataset(
        symbols=tuple(part[0] for part in parts),
        horizons=settings.forecast.horizons,
        symbol=symbol[order],
        time=time[order],
        rows=np.concatenate([part[2] for part in parts])[order],
        variance=np.concatenate([part[3] for part in parts])[order],
    )


def runs(data: Dataset, break_seconds: int) -> Integers:
    """Number the uninterrupted runs: a new one starts at each symbol or longer break.

    Returns
    -------
    int64[n]
        Run of each row; rows of several symbols interleave in time but have separate runs.
    """
    order = np.lexsort((data.time, data.symbol))
    fresh = (np.diff(data.symbol[order], prepend=-1) != 0) | (
        np.diff(data.time[order], prepend=0) > break_seconds * SECOND
    )
    result = np.empty(len(data), dtype=np.int64)
    result[order] = np.cumsum(fresh) - 1
    return result
