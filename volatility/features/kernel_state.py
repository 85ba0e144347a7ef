"""Define the layout of one symbol's state: three arrays, so that the kernel needs no wrapper."""

from __future__ import annotations

import numpy as np

RING = 2048  # seconds of cumulative sums kept; a power of two larger than any window
RANGE_RING = 512  # seconds of highs and lows kept: of 1, of 5 and of 60 s, one after the other
SEEN = 1024  # identifiers of the open second, kept to detect duplicates
EWMA_BLOCKS = 20  # whole minutes an exponential average looks back
QUOTE_SECONDS = 300  # an older quote counts as unknown, even with heartbeats
GAP_AGE_CAP = 1500.0  # seconds; a longer time since the last gap would exceed the memory

# Fixed point. A squared return saturates at 2**-6 (12.5 % in a second), so that 900 of them
# stay below 2**63; the resolution of 2**-58 is a return of 2e-9, a hundredth of BTC's tick.
RETURN_SCALE = 2.0**48
SQUARE_SCALE = 2.0**58
RETURN_CAP = 0.125
SPREAD_SCALE = 2.0**18  # per basis point
SPREAD_CAP = 512.0  # basis points
LEVEL_SCALE = 2.0**30  # of the volatility inside the volatility of volatility
LEVEL_CAP = 0.0625

# columns of the ring: cumulative sums
QUOTED, RETURNS, SQUARES, MOVES, PRODUCTS, PAIRS, RANGES, SPREADS, SPREAD_SQUARES = range(9)
TICKS, DELAYS, DELAY_SQUARES, ARRIVALS, LEVELS, LEVEL_SQUARES, LEVEL_COUNT = range(9, 16)
SUMS = 16

# integer state; the identifiers seen in the open second and their times follow
OPEN, LAST_RECORD, LAST_TICK, COUNT, IN_GAP, HAS_QUOTE, HAS_PREVIOUS, GAP_END = range(8)
LATE, DUPLICATES, SECOND_DELAYS, SECOND_DELAY_SQUARES, SECOND_ARRIVALS = range(8, 13)
SEEN_ID = 16
SEEN_TIME = SEEN_ID + SEEN
INTEGERS = SEEN_TIME + SEEN

# float state; averages, their blocks, highs and lows follow
BID, ASK, BID_SIZE, ASK_SIZE, HIGH, LOW, PREVIOUS_MID, PREVIOUS_RETURN = range(8)
AVERAGES = 5  # squared returns with half-lives 10, 60, 300 s; ticks with 5, 60 s
HALF_LIVES = (10.0, 60.0, 300.0, 5.0, 60.0)
CURRENT = 8  # value and weight of the open minute, then of the minutes before it
HISTORY = CURRENT + 2 * AVERAGES
BLOCKS = HISTORY + 2 * AVERAGES
BLOCK_RING = 32
HIGHS = BLOCKS + BLOCK_RING * 2 * AVERAGES
LOWS = HIGHS + 3 * RANGE_RING
FLOATS = LOWS + 3 * RANGE_RING

DECAY = np.array([0.5 ** (1.0 / h) for h in HALF_LIVES for _ in range(2)])
MINUTE_DECAY = DECAY**60
DECAY_POWERS = np.array([DECAY**k for k in range(61)])
_ANGLE = 2.0 * np.pi * np.arange(1440) / 1440.0
DAY_SIN, DAY_COS = np.sin(_ANGLE), np.cos(_ANGLE)
