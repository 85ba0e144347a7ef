"""Group dependent rows, so that evidence is counted once: clock-time blocks, windows, symbols.

Rows of several symbols in one second, and overlapping windows, are a single piece of evidence.
"""

from __future__ import annotations

import numpy as np

from volatility.units import SECOND, Floats, Integers


def clock_blocks(time_ns: Integers, block_seconds: int) -> Integers:
    """Return the block of clock time of each row: int64[n] from 0, all symbols together.

    Rows of a block are drawn together: their labels overlap, volatility clusters (Kunsch, Annals
    of Statistics, 1989), and markets move together. Empty blocks are not numbered.
    """
    _, number = np.unique(time_ns // (block_seconds * SECOND), return_inverse=True)
    return number.astype(np.int64)


def block_means(values: Floats, weight: Floats, block: Integers) -> Floats:
    """Average float64[n] values by block: float64[B] in time order, ignoring NaN.

    A block with no known value is NaN.
    """
    total, mass = block_sums(values, weight, block, int(block.max()) + 1)
    return np.divide(total, mass, out=np.full_like(total, np.nan), where=mass > 0.0)


def block_sums(
    values: Floats, weight: Floats, block: Integers, blocks: int
) -> tuple[Floats, Floats]:
    """Sum weight times value, and weight, of the known rows of each block: float64[B] each."""
    known = ~np.isnan(values)
    total = np.bincount(block[known], (values * weight)[known], minlength=blocks)
    mass = np.bincount(block[known], weight[known], minlength=blocks)
    return np.asarray(total, np.float64), np.asarray(mass, np.float64)


def symbol_weights(symbol: Integers) -> Floats:
    """Return the weight of each row, float64[n] with sum 1: all symbols have equal weight."""
    _, place, count = np.unique(symbol, return_inverse=True, return_counts=True)
    result: Floats = 1.0 / (len(count) * count[place])
    return result


def effective_windows(time_ns: Integers, horizon_seconds: int) -> int:
    """Count the distinct windows of clock time; symbols at the same time count once."""
    return len(np.unique(time_ns // (horizon_seconds * SECOND)))
