"""Put the labelled rows of all symbols on one clock: what training and evaluation work on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from volatility.features import FeatureFrame
from volatility.kernel_state import SECOND
from volatility.labels import label_values
from volatility.settings import Label

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Hold labelled rows of all symbols, sorted by time.

    Parameters
    ----------
    symbols : tuple of str
        Names; ``symbol`` holds their places.
    symbol, time : int64[n]
        Symbol and step [ns] of each row.
    rows : float64[n, features]
        Feature rows in the order of the table.
    values : float64[n]
        What the label compares with its threshold; see ``label_values``.
    frames : sequence of FeatureFrame
        The unbroken rows they come from; ``frame_row`` holds each row's place in its frame.
    """

    symbols: tuple[str, ...]
    symbol: Integers
    time: Integers
    rows: Floats
    values: Floats
    frames: tuple[FeatureFrame, ...]
    frame_row: Integers

    def __len__(self) -> int:
        return len(self.time)

    def take(self, chosen: Integers) -> Dataset:
        """Keep some rows, by number."""
        return replace(
            self,
            symbol=self.symbol[chosen],
            time=self.time[chosen],
            rows=self.rows[chosen],
            values=self.values[chosen],
            frame_row=self.frame_row[chosen],
        )

    def gather(self, per_frame: Sequence[Floats]) -> Floats:
        """Pick each row's value out of one array a frame, such as a filtered series."""
        result = np.empty(len(self))
        for place, series in enumerate(per_frame):
            mine = self.symbol == place
            result[mine] = series[self.frame_row[mine]]
        return result

    def digest(self) -> str:
        """Digest times, rows and label values: the data's identity for provenance."""
        content = hashlib.sha256()
        for array in (self.symbol, self.time, self.rows, self.values):
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


def assemble(frames: Sequence[FeatureFrame], label: Label) -> Dataset:
    """Label the frames and keep the rows that have both a label and a warm baseline."""
    frames = tuple(frames)
    values = [label_values(frame, label) for frame in frames]
    kept = [np.flatnonzero(~np.isnan(value)) for value in values]
    symbol = np.concatenate([np.full(len(k), i, dtype=np.int64) for i, k in enumerate(kept)])
    time = np.concatenate([f.time[k] for f, k in zip(frames, kept, strict=True)])
    order = np.lexsort((symbol, time))
    return Dataset(
        symbols=tuple(frame.symbol for frame in frames),
        symbol=symbol[order],
        time=time[order],
        rows=np.concatenate([f.rows[k] for f, k in zip(frames, kept, strict=True)])[order],
        values=np.concatenate([v[k] for v, k in zip(values, kept, strict=True)])[order],
        frames=frames,
        frame_row=np.concatenate(kept)[order],
    )


def runs(data: Dataset, break_seconds: int) -> Integers:
    """Number the unbroken stretches: a new one at each new symbol or longer break.

    Returns
    -------
    int64[n]
        Run of each row; rows of several symbols interleave in time and have their own runs.
    """
    order = np.lexsort((data.time, data.symbol))
    fresh = (np.diff(data.symbol[order], prepend=-1) != 0) | (
        np.diff(data.time[order], prepend=0) > break_seconds * SECOND
    )
    result = np.empty(len(data), dtype=np.int64)
    result[order] = np.cumsum(fresh) - 1
    return result
