"""Turn ticks into feature rows: the loop shared by live, replay and batch.

Every window is the difference of two cumulative sums of 64-bit integers, so what a window
holds is exact and independent of what came before it: sums of floats that add and subtract
would drift with their history. Integer overflow of the running sums is harmless, because
their differences are taken modulo 2**64 and each window's own sum fits.

Exponential averages are sums over whole minutes, each summed from zero, and are limited to
``EWMA_BLOCKS`` minutes: so they forget exactly, too.
"""

from __future__ import annotations

import numpy as np

from volatility.compiled import njit
from volatility.features.kernel_rows import write_row
from volatility.features.kernel_state import (
    ASK,
    ASK_SIZE,
    BID,
    BID_SIZE,
    COUNT,
    DUPLICATES,
    GAP_END,
    HAS_QUOTE,
    HIGH,
    IN_GAP,
    LAST_RECORD,
    LAST_TICK,
    LATE,
    LOW,
    OPEN,
    RING,
    SECOND_ARRIVALS,
    SECOND_DELAY_SQUARES,
    SECOND_DELAYS,
    SEEN,
    SEEN_ID,
    SEEN_TIME,
)
from volatility.features.kernel_sums import (
    average_second,
    clear,
    close_second,
    copy_sums,
    forget_since,
    note_range,
)
from volatility.units import SECOND


@njit(nogil=True)
def advance(
    integers, floats, ring, rules,
    time, bid, ask, bid_size, ask_size, identifier, start,
    out_time, out,
):  # fmt: skip
    """Feed records ``start:`` to one symbol's state; write the rows of the steps they close.

    Parameters
    ----------
    integers, floats, ring : arrays
        State of ``new_state``; changed in place.
    rules : (int, float, int)
        Gap [seconds], minimum coverage [share], minimum baseline [seconds].
    time : int64[n]
        Nanoseconds since the epoch, in arrival order.
    bid, ask, bid_size, ask_size : float64[n]
        NaN where absent; a record without a bid is a heartbeat.
    identifier : int64[n]
        Trade id or sequence number, -1 where absent; with the same time it is a duplicate.
    out_time : int64[m]
        Step of each row, nanoseconds.
    out : float64[m, COLUMNS]
        Feature rows.

    Returns
    -------
    consumed, rows : int, int
        The first record not consumed, and the rows written. Records are left over only when
        ``out`` might not hold what the next one closes: call again with an empty ``out``.
    """
    gap_seconds, min_coverage, min_baseline = rules
    rows = 0
    room = len(out_time) - gap_seconds - 2
    open_second = integers[OPEN]
    open_start = (open_second - 1) * SECOND
    open_end = open_second * SECOND
    for i in range(start, len(time)):
        now = time[i]
        quoted = bid[i] == bid[i]
        if now > open_end:
            if rows > room:
                return i, rows
            target = (now - 1) // SECOND + 1
            if open_second == 0:
                integers[GAP_END] = target
            else:
                for second in range(open_second, target):
                    age = second * SECOND - integers[LAST_RECORD]
                    if age <= gap_seconds * SECOND:
                        log_return = close_second(integers, floats, ring, second, min_coverage)
                        average_second(floats, ring, second)
                        if integers[HAS_QUOTE]:
                            write_row(
                                integers, floats, ring, second, log_return,
                                min_coverage, min_baseline, out, rows,
                            )  # fmt: skip
                            out_time[rows] = second * SECOND
                            rows += 1
                    else:
                        if target - second > RING:
                            clear(integers, floats, ring)
                            integers[IN_GAP] = 1
                            break
                        if not integers[IN_GAP]:
                            last = (integers[LAST_RECORD] - 1) // SECOND + 1
                            forget_since(integers, floats, ring, last, second)
                        copy_sums(ring, second & (RING - 1), (second - 1) & (RING - 1))
                        note_range(floats, second, 0.0, np.inf)
                        average_second(floats, ring, second)
                    integers[COUNT] = 0
                    integers[SECOND_DELAYS] = 0
                    integers[SECOND_DELAY_SQUARES] = 0
                    integers[SECOND_ARRIVALS] = 0
                if not integers[IN_GAP] and now - integers[LAST_RECORD] > gap_seconds * SECOND:
                    # No step was old enough to show it, but the silence was still a gap.
                    last = (integers[LAST_RECORD] - 1) // SECOND + 1
                    forget_since(integers, floats, ring, last, target)
                if integers[IN_GAP]:
                    integers[IN_GAP] = 0
                    integers[GAP_END] = target
            open_second = target
            integers[OPEN] = target
            open_start = (target - 1) * SECOND
            open_end = target * SECOND
        elif now <= open_start:
            if quoted:
                integers[LATE] += 1
            continue
        integers[LAST_RECORD] = max(integers[LAST_RECORD], now)
        if not quoted:
            continue
        key = identifier[i]
        if key >= 0:
            slot = key & (SEEN - 1)
            if integers[SEEN_ID + slot] == key and integers[SEEN_TIME + slot] == now:
                integers[DUPLICATES] += 1
                continue
            integers[SEEN_ID + slot] = key
            integers[SEEN_TIME + slot] = now
        middle = 0.5 * (bid[i] + ask[i])
        if integers[HAS_QUOTE]:
            floats[HIGH] = max(floats[HIGH], middle)
            floats[LOW] = min(floats[LOW], middle)
        else:
            floats[HIGH] = floats[LOW] = middle
        integers[HAS_QUOTE] = 1
        floats[BID] = bid[i]
        floats[ASK] = ask[i]
        floats[BID_SIZE] = bid_size[i]
        floats[ASK_SIZE] = ask_size[i]
        integers[COUNT] += 1
        last_tick = integers[LAST_TICK]
        if last_tick:
            delay = max(now - last_tick, 0) // 1000
            integers[SECOND_DELAYS] += delay
            integers[SECOND_DELAY_SQUARES] += delay * delay
            integers[SECOND_ARRIVALS] += 1
        integers[LAST_TICK] = max(last_tick, now)
    return len(time), rows
