"""Read a feature row out of the running sums."""

from __future__ import annotations

import math

import numpy as np

from volatility.compiled import njit
from volatility.feature_table import FEATURE_NAMES
from volatility.kernel_state import (
    ARRIVALS,
    ASK,
    ASK_SIZE,
    BID,
    BID_SIZE,
    COUNT,
    CURRENT,
    DAY_COS,
    DAY_SIN,
    DECAY_POWERS,
    DELAY_SQUARES,
    DELAYS,
    GAP_AGE_CAP,
    GAP_END,
    HALF_LIVES,
    HIGHS,
    HISTORY,
    LAST_RECORD,
    LAST_TICK,
    LEVEL_COUNT,
    LEVEL_SQUARES,
    LEVELS,
    LOWS,
    MOVES,
    PAIRS,
    PRODUCTS,
    QUOTED,
    RANGE_RING,
    RANGES,
    RETURN_SCALE,
    RETURNS,
    RING,
    SCRATCH,
    SECOND,
    SPREAD_SCALE,
    SPREAD_SQUARES,
    SPREADS,
    SQUARE_SCALE,
    TICKS,
)
from volatility.kernel_sums import root_mean_square

COLUMNS = len(FEATURE_NAMES)
(
    F_MIDPRICE, F_SPREAD, F_INTENSITY, F_DEVIATION_30,
    F_RV_5, F_RV_15, F_RV_30, F_RV_60, F_RV_300, F_RV_900,
    F_EWMA_10, F_EWMA_60, F_EWMA_300, F_RETURN, F_RECORD_AGE, F_MEAN_INTENSITY, F_INTERARRIVAL,
    F_GAP_AGE, F_DAY_SIN, F_DAY_COS,
    F_SPREAD_BPS, F_SPREAD_RATIO, F_SPREAD_DEVIATION,
    F_RATIO_5, F_RATIO_15, F_RATIO_30, F_RATIO_60, F_RATIO_300,
    F_EWMA_RATIO_10, F_EWMA_RATIO_60, F_EWMA_RATIO_300,
    F_BIPOWER_60, F_BIPOWER_300, F_RANGE_60, F_RANGE_300, F_PARKINSON_60,
    F_MOMENTUM_15, F_MOMENTUM_60, F_MOMENTUM_300,
    F_IMBALANCE, F_MICROPRICE,
    F_INTENSITY_1, F_INTENSITY_5, F_INTENSITY_60, F_SILENCE, F_DISPERSION, F_VOL_OF_VOL,
) = range(COLUMNS)  # fmt: skip


@njit()
def _ratio(value, scale):
    return value / scale if scale > 0.0 else np.nan


@njit()
def _momentum(now, before, least, baseline):
    count = now[RETURNS] - before[RETURNS]
    if now[QUOTED] - before[QUOTED] < least or count < 1:
        return np.nan
    move = abs((now[MOVES] - before[MOVES]) / RETURN_SCALE)
    return _ratio(move, baseline * math.sqrt(count))


@njit()
def _bipower(now, before, least, realised):
    pairs = now[PAIRS] - before[PAIRS]
    if now[QUOTED] - before[QUOTED] < least or pairs < 1:
        return np.nan
    mean = (now[PRODUCTS] - before[PRODUCTS]) / SQUARE_SCALE / pairs
    return _ratio(math.sqrt(0.5 * math.pi * mean), realised)


@njit()
def _range(floats, bits, second, seconds, least, covered, baseline):
    """Log of highest over lowest midprice of a window, in baseline deviations of its length."""
    if covered < least:
        return np.nan
    last = (second & (RANGE_RING - 1)) + RANGE_RING
    # Positive doubles order as their bits do, and integer maxima are vectorised.
    highest, lowest = bits[HIGHS + last], bits[LOWS + last]
    for place in range(last - seconds + 1, last):
        highest = max(highest, bits[HIGHS + place])
        lowest = min(lowest, bits[LOWS + place])
    bits[SCRATCH], bits[SCRATCH + 1] = highest, lowest
    spread = math.log(floats[SCRATCH] / floats[SCRATCH + 1])
    return _ratio(spread, baseline * math.sqrt(seconds))


@njit()
def _deviation_ratio(total, squares, count):
    """Standard deviation over mean of ``count`` integers, from their sum and sum of squares."""
    if count < 2 or total <= 0:
        return np.nan
    variance = count * float(squares) - float(total) * float(total)
    return math.sqrt(max(variance, 0.0)) / total


@njit()
def write_row(integers, floats, bits, ring, second, log_return, min_coverage, min_baseline, out):
    """Write the feature row of a closed second to ``out`` (float64[COLUMNS])."""
    now = ring[second & (RING - 1)]
    r5, r15 = ring[(second - 5) & (RING - 1)], ring[(second - 15) & (RING - 1)]
    r30, r60 = ring[(second - 30) & (RING - 1)], ring[(second - 60) & (RING - 1)]
    r300, r900 = ring[(second - 300) & (RING - 1)], ring[(second - 900) & (RING - 1)]
    w5, w15 = math.ceil(5 * min_coverage), math.ceil(15 * min_coverage)
    w30, w60 = math.ceil(30 * min_coverage), math.ceil(60 * min_coverage)
    w300 = math.ceil(300 * min_coverage)
    bid, ask, bid_size, ask_size = floats[BID], floats[ASK], floats[BID_SIZE], floats[ASK_SIZE]
    middle = 0.5 * (bid + ask)
    covered = now[QUOTED] - r900[QUOTED]

    baseline = root_mean_square(now, r900, min_baseline)
    out[F_MIDPRICE] = middle
    out[F_SPREAD] = ask - bid
    out[F_INTENSITY] = integers[COUNT]
    out[F_RETURN] = log_return
    out[F_RECORD_AGE] = (second * SECOND - integers[LAST_RECORD]) / 1e9
    out[F_RV_5] = root_mean_square(now, r5, w5)
    out[F_RV_15] = root_mean_square(now, r15, w15)
    out[F_RV_30] = root_mean_square(now, r30, w30)
    out[F_RV_60] = root_mean_square(now, r60, w60)
    out[F_RV_300] = root_mean_square(now, r300, w300)
    out[F_RV_900] = baseline

    deviation = out[F_RV_30]
    if deviation == deviation:
        count = now[RETURNS] - r30[RETURNS]
        mean = (now[MOVES] - r30[MOVES]) / RETURN_SCALE / count
        deviation = math.sqrt(max(deviation * deviation - mean * mean, 0.0))
    out[F_DEVIATION_30] = deviation

    powers = DECAY_POWERS[second % 60 + 1]
    for k in range(3):
        value = floats[CURRENT + 2 * k] + powers[2 * k] * floats[HISTORY + 2 * k]
        weight = floats[CURRENT + 2 * k + 1] + powers[2 * k + 1] * floats[HISTORY + 2 * k + 1]
        warm = covered >= min(3.0 * HALF_LIVES[k], float(min_baseline))
        average = math.sqrt(value / weight) if warm and weight > 0.0 else np.nan
        out[F_EWMA_10 + k] = average
        out[F_EWMA_RATIO_10 + k] = _ratio(average, baseline)

    rate = np.nan
    if covered >= min_baseline:
        rate = (now[TICKS] - r900[TICKS]) / covered
    out[F_MEAN_INTENSITY] = rate
    out[F_INTENSITY_1] = _ratio(out[F_INTENSITY], rate)
    for k in range(3, 5):
        value = floats[CURRENT + 2 * k] + powers[2 * k] * floats[HISTORY + 2 * k]
        weight = floats[CURRENT + 2 * k + 1] + powers[2 * k + 1] * floats[HISTORY + 2 * k + 1]
        out[F_INTENSITY_5 + k - 3] = _ratio(value / weight, rate) if weight > 0.0 else np.nan
    out[F_SILENCE] = (second * SECOND - integers[LAST_TICK]) / 1e9 * rate

    arrivals = now[ARRIVALS] - r60[ARRIVALS]
    delays = now[DELAYS] - r60[DELAYS]
    warm = now[QUOTED] - r60[QUOTED] >= w60
    out[F_INTERARRIVAL] = delays / arrivals / 1e6 if warm and arrivals > 0 else np.nan
    delay_squares = now[DELAY_SQUARES] - r60[DELAY_SQUARES]
    out[F_DISPERSION] = _deviation_ratio(delays, delay_squares, arrivals) if warm else np.nan

    out[F_GAP_AGE] = min(float(second - integers[GAP_END]), GAP_AGE_CAP)
    minute = second // 60 % 1440
    out[F_DAY_SIN] = DAY_SIN[minute]
    out[F_DAY_COS] = DAY_COS[minute]

    spread = 1e4 * (ask - bid) / middle
    out[F_SPREAD_BPS] = spread
    quoted = now[QUOTED] - r300[QUOTED]
    mean = (now[SPREADS] - r300[SPREADS]) / SPREAD_SCALE / quoted
    out[F_SPREAD_RATIO] = _ratio(spread, mean) if quoted >= w300 else np.nan
    out[F_SPREAD_DEVIATION] = (
        _deviation_ratio(
            now[SPREADS] - r60[SPREADS],
            now[SPREAD_SQUARES] - r60[SPREAD_SQUARES],
            now[QUOTED] - r60[QUOTED],
        )
        if warm
        else np.nan
    )

    out[F_RATIO_5] = _ratio(out[F_RV_5], baseline)
    out[F_RATIO_15] = _ratio(out[F_RV_15], baseline)
    out[F_RATIO_30] = _ratio(deviation, baseline)
    out[F_RATIO_60] = _ratio(out[F_RV_60], baseline)
    out[F_RATIO_300] = _ratio(out[F_RV_300], baseline)
    out[F_BIPOWER_60] = _bipower(now, r60, w60, out[F_RV_60])
    out[F_BIPOWER_300] = _bipower(now, r300, w300, out[F_RV_300])
    out[F_RANGE_60] = _range(floats, bits, second, 60, w60, now[QUOTED] - r60[QUOTED], baseline)
    out[F_RANGE_300] = _range(floats, bits, second, 300, w300, quoted, baseline)
    out[F_PARKINSON_60] = np.nan
    if warm:
        mean = (now[RANGES] - r60[RANGES]) / SQUARE_SCALE / (now[QUOTED] - r60[QUOTED])
        out[F_PARKINSON_60] = _ratio(math.sqrt(mean / (4.0 * math.log(2.0))), baseline)
    out[F_MOMENTUM_15] = _momentum(now, r15, w15, baseline)
    out[F_MOMENTUM_60] = _momentum(now, r60, w60, baseline)
    out[F_MOMENTUM_300] = _momentum(now, r300, w300, baseline)

    imbalance = (bid_size - ask_size) / (bid_size + ask_size)
    out[F_IMBALANCE] = imbalance  # NaN without sizes, and when both are zero
    out[F_MICROPRICE] = 0.5 * imbalance * spread
    levels = now[LEVEL_COUNT] - r300[LEVEL_COUNT]
    out[F_VOL_OF_VOL] = np.nan
    if levels >= w300:
        out[F_VOL_OF_VOL] = _deviation_ratio(
            now[LEVELS] - r300[LEVELS], now[LEVEL_SQUARES] - r300[LEVEL_SQUARES], levels
        )
