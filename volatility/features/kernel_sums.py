"""Close a second: add what happened in it to the running sums from which windows are read.

Rows of the ring are indexed rather than viewed, and functions called every second are inlined:
numba counts references to views and arguments atomically, which took a quarter of the time.
"""

from __future__ import annotations

import math

import numpy as np

from volatility.compiled import njit
from volatility.features.kernel_state import (
    ARRIVALS,
    ASK,
    AVERAGES,
    BID,
    BLOCK_RING,
    BLOCKS,
    COUNT,
    CURRENT,
    DECAY,
    DELAY_SQUARES,
    DELAYS,
    DUPLICATES,
    EWMA_BLOCKS,
    FLOATS,
    HAS_PREVIOUS,
    HAS_QUOTE,
    HIGH,
    HIGHS,
    HISTORY,
    IN_GAP,
    INTEGERS,
    LAST_TICK,
    LATE,
    LEVEL_CAP,
    LEVEL_COUNT,
    LEVEL_SCALE,
    LEVEL_SQUARES,
    LEVELS,
    LOW,
    LOWS,
    MINUTE_DECAY,
    MOVES,
    PAIRS,
    PREVIOUS_MID,
    PREVIOUS_RETURN,
    PRODUCTS,
    QUOTE_SECONDS,
    QUOTED,
    RANGE_RING,
    RANGES,
    RETURN_CAP,
    RETURN_SCALE,
    RETURNS,
    RING,
    SECOND_ARRIVALS,
    SECOND_DELAY_SQUARES,
    SECOND_DELAYS,
    SEEN,
    SEEN_ID,
    SPREAD_CAP,
    SPREAD_SCALE,
    SPREAD_SQUARES,
    SPREADS,
    SQUARE_SCALE,
    SQUARES,
    SUMS,
    TICKS,
)
from volatility.units import SECOND


def new_state() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Create an empty state for one symbol: int64[INTEGERS], float64[FLOATS], int64[RING, SUMS]."""
    integers = np.zeros(INTEGERS, dtype=np.int64)
    floats = np.zeros(FLOATS)
    ring = np.zeros((RING, SUMS), dtype=np.int64)
    clear(integers, floats, ring)
    return integers, floats, ring


@njit()
def clear(integers, floats, ring):
    """Reset a state in place, except the counts of dropped ticks."""
    late, duplicates = integers[LATE], integers[DUPLICATES]
    integers[:] = 0
    integers[SEEN_ID : SEEN_ID + SEEN] = -1
    integers[LATE], integers[DUPLICATES] = late, duplicates
    floats[:] = 0.0
    floats[LOWS:FLOATS] = np.inf
    ring[:] = 0


@njit(inline="always")
def copy_sums(ring, place, source):
    """Copy a row of the ring without creating views of rows."""
    for k in range(SUMS):
        ring[place, k] = ring[source, k]


@njit()
def _begin_minute(floats, minute):
    """Store the minute that ended as a block, and sum the last ``EWMA_BLOCKS`` again from zero."""
    width = 2 * AVERAGES
    base = BLOCKS + ((minute - 1) % BLOCK_RING) * width
    for k in range(width):
        floats[base + k] = floats[CURRENT + k]
        floats[CURRENT + k] = 0.0
        floats[HISTORY + k] = 0.0
    for back in range(EWMA_BLOCKS, 0, -1):
        base = BLOCKS + ((minute - back) % BLOCK_RING) * width
        for k in range(width):
            floats[HISTORY + k] = floats[HISTORY + k] * MINUTE_DECAY[k] + floats[base + k]


@njit(inline="always")
def average_second(floats, ring, second):
    """Add one second, read from the ring, to the exponential averages."""
    if second % 60 == 0:
        _begin_minute(floats, second // 60)
    now, before = second & (RING - 1), (second - 1) & (RING - 1)
    square = (ring[now, SQUARES] - ring[before, SQUARES]) / SQUARE_SCALE
    returns = float(ring[now, RETURNS] - ring[before, RETURNS])
    ticks = float(ring[now, TICKS] - ring[before, TICKS])
    quoted = float(ring[now, QUOTED] - ring[before, QUOTED])
    for k in range(0, 6, 2):
        floats[CURRENT + k] = floats[CURRENT + k] * DECAY[k] + square
        floats[CURRENT + k + 1] = floats[CURRENT + k + 1] * DECAY[k] + returns
    for k in range(6, 10, 2):
        floats[CURRENT + k] = floats[CURRENT + k] * DECAY[k] + ticks
        floats[CURRENT + k + 1] = floats[CURRENT + k + 1] * DECAY[k] + quoted


@njit(inline="always")
def range_of(floats, level, second, stride, count):
    """Return highest and lowest over ``count`` entries of a range-ring level, ``stride`` apart."""
    highest, lowest = 0.0, np.inf
    for back in range(count):
        place = level * RANGE_RING + ((second - back * stride) & (RANGE_RING - 1))
        highest = max(highest, floats[HIGHS + place])
        lowest = min(lowest, floats[LOWS + place])
    return highest, lowest


@njit(inline="always")
def note_range(floats, second, high, low):
    """Store a second's high and low, and those of the 5 s and the 60 s that end with it.

    A window of 300 s then needs five entries instead of 300; a maximum of maxima is exact.
    """
    place = second & (RANGE_RING - 1)
    floats[HIGHS + place], floats[LOWS + place] = high, low
    place += RANGE_RING
    floats[HIGHS + place], floats[LOWS + place] = range_of(floats, 0, second, 1, 5)
    place += RANGE_RING
    floats[HIGHS + place], floats[LOWS + place] = range_of(floats, 1, second, 5, 12)


@njit()
def forget_since(integers, floats, ring, last_second, second):
    """Remove the silent seconds after ``last_second`` from every window: they are in a gap."""
    for silent in range(last_second + 1, second):
        copy_sums(ring, silent & (RING - 1), last_second & (RING - 1))
        note_range(floats, silent, 0.0, np.inf)
    floats[CURRENT:HIGHS] = 0.0
    # A minute's sum starts from zero, so replaying whole minutes reproduces the same bits.
    for again in range(((second - 1) // 60 - EWMA_BLOCKS) * 60, second):
        average_second(floats, ring, again)
    integers[IN_GAP] = 1
    integers[HAS_QUOTE] = 0
    integers[HAS_PREVIOUS] = 0
    integers[LAST_TICK] = 0


@njit(inline="always")
def root_mean_square(ring, now, before, least):
    """Return the root mean square return between two rows of sums; NaN below ``least`` seconds."""
    count = ring[now, RETURNS] - ring[before, RETURNS]
    if ring[now, QUOTED] - ring[before, QUOTED] < least or count < 1:
        return np.nan
    return math.sqrt((ring[now, SQUARES] - ring[before, SQUARES]) / SQUARE_SCALE / count)


@njit(inline="always")
def close_second(integers, floats, ring, second, min_coverage):
    """Close one second outside gaps: add what happened in it to the sums.

    Returns the second's log return, or NaN if there is none.
    """
    now, before = second & (RING - 1), (second - 1) & (RING - 1)
    copy_sums(ring, now, before)
    log_return = np.nan
    middle = 0.5 * (floats[BID] + floats[ASK])
    if integers[HAS_QUOTE] and second * SECOND - integers[LAST_TICK] > QUOTE_SECONDS * SECOND:
        integers[HAS_QUOTE] = integers[HAS_PREVIOUS] = integers[LAST_TICK] = 0
    if not integers[HAS_QUOTE]:
        note_range(floats, second, 0.0, np.inf)
        return log_return
    ring[now, QUOTED] += 1
    ring[now, TICKS] += integers[COUNT]
    ring[now, DELAYS] += integers[SECOND_DELAYS]
    ring[now, DELAY_SQUARES] += integers[SECOND_DELAY_SQUARES]
    ring[now, ARRIVALS] += integers[SECOND_ARRIVALS]
    if integers[HAS_PREVIOUS]:
        log_return = 0.0
        if middle != floats[PREVIOUS_MID]:
            log_return = math.log(middle / floats[PREVIOUS_MID])
        clipped = min(max(log_return, -RETURN_CAP), RETURN_CAP)
        size = abs(clipped)
        ring[now, RETURNS] += 1
        ring[now, SQUARES] += int(clipped * clipped * SQUARE_SCALE + 0.5)
        ring[now, MOVES] += math.floor(clipped * RETURN_SCALE + 0.5)
        if integers[HAS_PREVIOUS] == 2:
            ring[now, PRODUCTS] += int(size * floats[PREVIOUS_RETURN] * SQUARE_SCALE + 0.5)
            ring[now, PAIRS] += 1
        floats[PREVIOUS_RETURN] = size
        integers[HAS_PREVIOUS] = 2
    else:
        integers[HAS_PREVIOUS] = 1
    if floats[HIGH] > floats[LOW]:
        width = min(math.log(floats[HIGH] / floats[LOW]), RETURN_CAP)
        ring[now, RANGES] += int(width * width * SQUARE_SCALE + 0.5)
    spread = min(1e4 * (floats[ASK] - floats[BID]) / middle, SPREAD_CAP)
    units = int(spread * SPREAD_SCALE + 0.5)
    ring[now, SPREADS] += units
    ring[now, SPREAD_SQUARES] += units * units
    level = root_mean_square(ring, now, (second - 15) & (RING - 1), math.ceil(15 * min_coverage))
    if level == level:
        units = int(min(level, LEVEL_CAP) * LEVEL_SCALE + 0.5)
        ring[now, LEVELS] += units
        ring[now, LEVEL_SQUARES] += units * units
        ring[now, LEVEL_COUNT] += 1
    note_range(floats, second, floats[HIGH], floats[LOW])
    floats[PREVIOUS_MID] = floats[HIGH] = floats[LOW] = middle
    return log_return
