"""Compute a feature row from the running sums."""

from __future__ import annotations

import math

import numpy as np

from volatility.compiled import njit
from volatility.features.kernel_state import (
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
    HISTORY,
    LAST_RECORD,
    LAST_TICK,
    LEVEL_COUNT,
    LEVEL_SQUARES,
    LEVELS,
    MOVES,
    PAIRS,
    PRODUCTS,
    QUOTED,
    RANGES,
    RETURN_SCALE,
    RETURNS,
    RING,
    SPREAD_SCALE,
    SPREAD_SQUARES,
    SPREADS,
    SQUARE_SCALE,
    TICKS,
)
from volatility.features.kernel_sums import range_of, root_mean_square
from volatility.features.table import FEATURE_NAMES
from volatility.units import SECOND

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


@njit(inline="always")
def _momentum(ring, now, before, least, baseline):
    count = ring[now, RETURNS] - ring[before, RETURNS]
    if ring[now, QUOTED] - ring[before, QUOTED] < least or count < 1:
        return np.nan
    move = abs((ring[now, MOVES] - ring[before, MOVES]) / RETURN_SCALE)
    return _ratio(move, baseline * math.sqrt(count))


@njit(inline="always")
def _bipower(ring, now, before, least, realised):
    pairs = ring[now, PAIRS] - ring[before, PAIRS]
    if ring[now, QUOTED] - ring[before, QUOTED] < least or pairs < 1:
        return np.nan
    mean = (ring[now, PRODUCTS] - ring[before, PRODUCTS]) / SQUARE_SCALE / pairs
    return _ratio(math.sqrt(0.5 * math.pi * mean), realised)


@njit(inline="always")
def _range(floats, second, windows, least, covered, baseline):
    """Return log(highest / lowest midprice) over whole minutes, in baseline deviations."""
    if covered < least:
        return np.nan
    highest, lowest = range_of(floats, 2, second, 60, windows)
    return _ratio(math.log(highest / lowest), baseline * math.sqrt(60.0 * windows))


@njit()
def _deviation_ratio(total, squares, count):
    """Return deviation over mean of ``count`` integers, from their sum and sum of squares."""
    if count < 2 or total <= 0:
        return np.nan
    variance = count * float(squares) - float(total) * float(total)
    return math.sqrt(max(variance, 0.0)) / total


@njit(inline="always")
def write_row(integers, floats, ring, second, log_return, min_coverage, min_baseline, out, row):
    """Write the feature row of a closed second to ``out[row]`` (float64[n, COLUMNS])."""
    now = second & (RING - 1)
    r5, r15 = (second - 5) & (RING - 1), (second - 15) & (RING - 1)
    r30, r60 = (second - 30) & (RING - 1), (second - 60) & (RING - 1)
    r300, r900 = (second - 300) & (RING - 1), (second - 900) & (RING - 1)
    w5, w15 = math.ceil(5 * min_coverage), math.ceil(15 * min_coverage)
    w30, w60 = math.ceil(30 * min_coverage), math.ceil(60 * min_coverage)
    w300 = math.ceil(300 * min_coverage)
    bid, ask, bid_size, ask_size = floats[BID], floats[ASK], floats[BID_SIZE], floats[ASK_SIZE]
    middle = 0.5 * (bid + ask)
    covered = ring[now, QUOTED] - ring[r900, QUOTED]

    baseline = root_mean_square(ring, now, r900, min_baseline)
    out[row, F_MIDPRICE] = middle
    out[row, F_SPREAD] = ask - bid
    out[row, F_INTENSITY] = integers[COUNT]
    out[row, F_RETURN] = log_return
    out[row, F_RECORD_AGE] = (second * SECOND - integers[LAST_RECORD]) / 1e9
    out[row, F_RV_5] = root_mean_square(ring, now, r5, w5)
    out[row, F_RV_15] = root_mean_square(ring, now, r15, w15)
    out[row, F_RV_30] = root_mean_square(ring, now, r30, w30)
    out[row, F_RV_60] = root_mean_square(ring, now, r60, w60)
    out[row, F_RV_300] = root_mean_square(ring, now, r300, w300)
    out[row, F_RV_900] = baseline

    deviation = out[row, F_RV_30]
    if deviation == deviation:
        count = ring[now, RETURNS] - ring[r30, RETURNS]
        mean = (ring[now, MOVES] - ring[r30, MOVES]) / RETURN_SCALE / count
        deviation = math.sqrt(max(deviation * deviation - mean * mean, 0.0))
    out[row, F_DEVIATION_30] = deviation

    minute_second = second % 60 + 1
    for k in range(3):
        value = (
            floats[CURRENT + 2 * k] + DECAY_POWERS[minute_second, 2 * k] * floats[HISTORY + 2 * k]
        )
        weight = (
            floats[CURRENT + 2 * k + 1]
            + DECAY_POWERS[minute_second, 2 * k + 1] * floats[HISTORY + 2 * k + 1]
        )
        warm = covered >= min(3.0 * HALF_LIVES[k], float(min_baseline))
        average = math.sqrt(value / weight) if warm and weight > 0.0 else np.nan
        out[row, F_EWMA_10 + k] = average
        out[row, F_EWMA_RATIO_10 + k] = _ratio(average, baseline)

    rate = np.nan
    if covered >= min_baseline:
        rate = (ring[now, TICKS] - ring[r900, TICKS]) / covered
    out[row, F_MEAN_INTENSITY] = rate
    out[row, F_INTENSITY_1] = _ratio(out[row, F_INTENSITY], rate)
    for k in range(3, 5):
        value = (
            floats[CURRENT + 2 * k] + DECAY_POWERS[minute_second, 2 * k] * floats[HISTORY + 2 * k]
        )
        weight = (
            floats[CURRENT + 2 * k + 1]
            + DECAY_POWERS[minute_second, 2 * k + 1] * floats[HISTORY + 2 * k + 1]
        )
        out[row, F_INTENSITY_5 + k - 3] = _ratio(value / weight, rate) if weight > 0.0 else np.nan
    out[row, F_SILENCE] = (second * SECOND - integers[LAST_TICK]) / 1e9 * rate

    arrivals = ring[now, ARRIVALS] - ring[r60, ARRIVALS]
    delays = ring[now, DELAYS] - ring[r60, DELAYS]
    warm = ring[now, QUOTED] - ring[r60, QUOTED] >= w60
    out[row, F_INTERARRIVAL] = delays / arrivals / 1e6 if warm and arrivals > 0 else np.nan
    delay_squares = ring[now, DELAY_SQUARES] - ring[r60, DELAY_SQUARES]
    out[row, F_DISPERSION] = _deviation_ratio(delays, delay_squares, arrivals) if warm else np.nan

    out[row, F_GAP_AGE] = min(float(second - integers[GAP_END]), GAP_AGE_CAP)
    minute = second // 60 % 1440
    out[row, F_DAY_SIN] = DAY_SIN[minute]
    out[row, F_DAY_COS] = DAY_COS[minute]

    spread = 1e4 * (ask - bid) / middle
    out[row, F_SPREAD_BPS] = spread
    quoted = ring[now, QUOTED] - ring[r300, QUOTED]
    mean = (ring[now, SPREADS] - ring[r300, SPREADS]) / SPREAD_SCALE / quoted
    out[row, F_SPREAD_RATIO] = _ratio(spread, mean) if quoted >= w300 else np.nan
    out[row, F_SPREAD_DEVIATION] = (
        _deviation_ratio(
            ring[now, SPREADS] - ring[r60, SPREADS],
            ring[now, SPREAD_SQUARES] - ring[r60, SPREAD_SQUARES],
            ring[now, QUOTED] - ring[r60, QUOTED],
        )
        if warm
        else np.nan
    )

    out[row, F_RATIO_5] = _ratio(out[row, F_RV_5], baseline)
    out[row, F_RATIO_15] = _ratio(out[row, F_RV_15], baseline)
    out[row, F_RATIO_30] = _ratio(deviation, baseline)
    out[row, F_RATIO_60] = _ratio(out[row, F_RV_60], baseline)
    out[row, F_RATIO_300] = _ratio(out[row, F_RV_300], baseline)
    out[row, F_BIPOWER_60] = _bipower(ring, now, r60, w60, out[row, F_RV_60])
    out[row, F_BIPOWER_300] = _bipower(ring, now, r300, w300, out[row, F_RV_300])
    out[row, F_RANGE_60] = _range(
        floats, second, 1, w60, ring[now, QUOTED] - ring[r60, QUOTED], baseline
    )
    out[row, F_RANGE_300] = _range(floats, second, 5, w300, quoted, baseline)
    out[row, F_PARKINSON_60] = np.nan
    if warm:
        mean = (
            (ring[now, RANGES] - ring[r60, RANGES])
            / SQUARE_SCALE
            / (ring[now, QUOTED] - ring[r60, QUOTED])
        )
        out[row, F_PARKINSON_60] = _ratio(math.sqrt(mean / (4.0 * math.log(2.0))), baseline)
    out[row, F_MOMENTUM_15] = _momentum(ring, now, r15, w15, baseline)
    out[row, F_MOMENTUM_60] = _momentum(ring, now, r60, w60, baseline)
    out[row, F_MOMENTUM_300] = _momentum(ring, now, r300, w300, baseline)

    imbalance = (bid_size - ask_size) / (bid_size + ask_size)
    out[row, F_IMBALANCE] = imbalance  # NaN without sizes, and when both are zero
    out[row, F_MICROPRICE] = 0.5 * imbalance * spread
    levels = ring[now, LEVEL_COUNT] - ring[r300, LEVEL_COUNT]
    out[row, F_VOL_OF_VOL] = np.nan
    if levels >= w300:
        out[row, F_VOL_OF_VOL] = _deviation_ratio(
            ring[now, LEVELS] - ring[r300, LEVELS],
            ring[now, LEVEL_SQUARES] - ring[r300, LEVEL_SQUARES],
            levels,
        )
