"""Prepare the labelled rows of one horizon for fitting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from volatility.dataset import Dataset, Fold, SplitError, blocked, walk_forward
from volatility.features import LONGEST_WINDOW_SECONDS
from volatility.models.forecaster import ACTIVITY, LEAST_ACTIVITY
from volatility.models.inputs import FLOOR, LEVEL_COLUMNS
from volatility.units import SECOND, Floats, Integers

VALIDATION_BLOCKS = 4
BLOCK_SECONDS = 1200  # clock time over all symbols: the unit of evidence


@dataclass(frozen=True)
class Sample:
    """Represent the rows with a known outcome at one horizon.

    ``rows`` is float64[n, features], ``symbol`` and ``time`` int64[n], ``realised`` float64[n].
    """

    horizon_seconds: int
    symbols: int
    rows: Floats
    symbol: Integers
    time: Integers
    realised: Floats

    def __len__(self) -> int:
        return len(self.time)

    def take(self, chosen: Integers) -> Sample:
        """Return a subset of rows, by index."""
        return Sample(
            self.horizon_seconds, self.symbols, self.rows[chosen], self.symbol[chosen],
            self.time[chosen], self.realised[chosen],
        )  # fmt: skip

    def outcomes(self) -> Sample:
        """Return the same sample without its features, of which subsets need no copy."""
        return replace(self, rows=self.rows[:, :0])

    def of(self, symbol: int) -> Integers:
        """Return the indices of one symbol's rows."""
        return np.flatnonzero(self.symbol == symbol)

    @cached_property
    def folds(self) -> list[Fold]:
        """Blocks for validation within these rows."""
        return blocked(self.time, VALIDATION_BLOCKS, self.horizon_seconds, LONGEST_WINDOW_SECONDS)

    @cached_property
    def forward_folds(self) -> list[Fold]:
        """The same blocks from the second on, with the rows before each; empty with few rows."""
        try:
            return walk_forward(
                self.time, VALIDATION_BLOCKS - 1, self.horizon_seconds, LONGEST_WINDOW_SECONDS
            )
        except SplitError:
            return []

    @cached_property
    def weight(self) -> Floats:
        """Weight of each row, float64[n]: all symbols have equal weight."""
        count = np.bincount(self.symbol, minlength=self.symbols)
        return len(self) / np.count_nonzero(count) / count[self.symbol]

    @cached_property
    def level(self) -> Floats:
        """Level of each row, float64[n]: its 900-second volatility."""
        return np.maximum(self.rows[:, LEVEL_COLUMNS[0]], FLOOR)

    @cached_property
    def activity(self) -> Floats:
        """Log of mean ticks per second, float64[n]."""
        return np.log(np.maximum(self.rows[:, ACTIVITY], LEAST_ACTIVITY))

    def windows(self, chosen: Integers) -> int:
        """Count the distinct clock windows of the horizon among the given rows."""
        if not len(chosen):
            return 0
        window = np.sort(self.time[chosen] // (self.horizon_seconds * SECOND))
        return 1 + int(np.count_nonzero(np.diff(window)))

    @property
    def days(self) -> float:
        """Days from the first to the last row."""
        return float(self.time[-1] - self.time[0]) / (86_400 * SECOND) if len(self) else 0.0


def sample(data: Dataset, place: int) -> Sample:
    """Return the rows of a dataset with a known outcome at a horizon's index."""
    known = np.flatnonzero(~np.isnan(data.variance[:, place]))
    # All rows have an outcome at the shortest horizon: a month of features needs no copy.
    rows = data.rows if len(known) == len(data) else data.rows[known]
    return Sample(
        data.horizons[place], len(data.symbols), rows, data.symbol[known],
        data.time[known], data.variance[known, place],
    )  # fmt: skip


def gain(sample: Sample, chosen: Integers, better: Floats, worse: Floats) -> tuple[float, float]:
    """Return how much lower one loss is than another, with its standard error by clock blocks.

    ``better`` and ``worse`` are float64[n] losses of the sample's rows; ``chosen`` are the rows to
    include.
    """
    difference = (worse - better)[chosen] * sample.weight[chosen]
    _, block = np.unique(sample.time[chosen] // (BLOCK_SECONDS * SECOND), return_inverse=True)
    total = np.bincount(block, difference)
    rows = np.bincount(block, sample.weight[chosen])
    mean = float(total.sum() / rows.sum())
    if len(total) < 2:
        return mean, float("inf")
    spread = float(np.sqrt(np.sum((total - mean * rows) ** 2)) / rows.sum())
    return mean, spread * float(np.sqrt(len(total) / (len(total) - 1)))
