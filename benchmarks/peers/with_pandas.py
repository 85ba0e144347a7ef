"""Compute the features with pandas: group the records by second, then roll over the seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.peers import (
    COMPUTED,
    HALF_LIVES_SECONDS,
    WINDOWS_SECONDS,
    least_returns,
    least_seconds,
)

SECOND = 1_000_000_000
QUOTE = ["bid", "ask", "bid_size", "ask_size"]


def features(records: pd.DataFrame) -> pd.DataFrame:
    """Compute the feature rows of one symbol.

    Parameters
    ----------
    records : DataFrame
        ``time`` (int64, ns) ascending, ``bid``, ``ask``, ``bid_size``, ``ask_size``; a
        heartbeat has no bid.

    Returns
    -------
    DataFrame
        ``time`` of the step (int64, ns) and the columns of ``COMPUTED``.
    """
    return _over_seconds(_by_second(records))


def _by_second(records: pd.DataFrame) -> pd.DataFrame:
    """Reduce the records to one row a second: the last quote and what happened in it."""
    quotes = records[QUOTE].ffill()
    ticked = records["bid"].notna()
    middle = 0.5 * (quotes["bid"] + quotes["ask"])
    start = records["time"].iloc[0]  # nanoseconds since then are exact as floats
    tick_time = (records["time"] - start).where(ticked).ffill()
    delay = tick_time.diff() // 1000
    second = -(-records["time"] // SECOND)
    last = second != second.shift(-1)
    groups = pd.DataFrame(
        {
            "high": middle,
            "low": middle,
            "ticks": ticked,
            "delay": delay,
            "delay_square": delay * delay,
        }
    ).groupby(second.to_numpy(), sort=False)
    summed = groups[["ticks", "delay", "delay_square"]].sum()
    steps = quotes[last].set_index(second[last].to_numpy())
    steps["record"] = records["time"][last].to_numpy()
    steps["silence"] = steps.index * SECOND - start - tick_time[last].to_numpy()
    steps["middle"] = middle[last].to_numpy()
    steps["high"] = groups["high"].max()
    steps["low"] = groups["low"].min()
    return pd.concat([steps, summed], axis=1)


def _over_seconds(steps: pd.DataFrame) -> pd.DataFrame:
    """Roll over the seconds."""
    time = steps.index.to_series() * SECOND
    middle, before = steps["middle"], steps["middle"].shift()
    log_return = np.log(middle / before)
    square, size = log_return * log_return, log_return.abs()
    out = {
        "time": time,
        "midprice": middle,
        "spread": steps["ask"] - steps["bid"],
        "trade_intensity": steps["ticks"],
        "volatility_30s": log_return.rolling(30, least_returns(30)).std(ddof=0),
        "log_return_1s": log_return,
        "seconds_since_record": (time - steps["record"]) / SECOND,
    }
    for window in WINDOWS_SECONDS:
        mean = square.rolling(window, least_returns(window)).mean()
        out[f"realised_volatility_{window}s"] = np.sqrt(mean)
    baseline = out["realised_volatility_900s"]
    for half_life in HALF_LIVES_SECONDS:
        warm = min(3 * half_life, least_returns(900))
        mean = square.ewm(halflife=half_life, min_periods=warm).mean()
        out[f"ewma_volatility_{half_life}s"] = np.sqrt(mean)
        out[f"ewma_ratio_{half_life}s"] = out[f"ewma_volatility_{half_life}s"] / baseline
    for window in (5, 15, 60, 300):
        out[f"volatility_ratio_{window}s"] = out[f"realised_volatility_{window}s"] / baseline
    out["volatility_ratio_30s"] = out["volatility_30s"] / baseline

    product = size * size.shift()
    high = np.fmax(steps["high"], before)
    low = np.fmin(steps["low"], before)
    for window in (60, 300):
        mean = product.rolling(window, least_returns(window) - 1).mean()
        out[f"bipower_ratio_{window}s"] = (
            np.sqrt(0.5 * np.pi * mean) / out[f"realised_volatility_{window}s"]
        )
        least = least_seconds(window)
        wide = np.log(high.rolling(window, least).max() / low.rolling(window, least).min())
        out[f"range_ratio_{window}s"] = wide / (baseline * np.sqrt(window))
    wide = np.log(high / low)
    mean = (wide * wide).rolling(60, least_seconds(60)).mean()
    out["parkinson_ratio_60s"] = np.sqrt(mean / (4.0 * np.log(2.0))) / baseline
    for window in (15, 60, 300):
        move = log_return.rolling(window, least_returns(window)).mean().abs()
        out[f"momentum_{window}s"] = move * np.sqrt(window) / baseline

    spread = 1e4 * out["spread"] / middle
    rolling = spread.rolling(60, least_seconds(60))
    out["spread_bps"] = spread
    out["spread_ratio_300s"] = spread / spread.rolling(300, least_seconds(300)).mean()
    out["spread_deviation_60s"] = rolling.std(ddof=0) / rolling.mean()
    imbalance = (steps["bid_size"] - steps["ask_size"]) / (steps["bid_size"] + steps["ask_size"])
    out["quote_imbalance"] = imbalance
    out["microprice_distance_bps"] = 0.5 * imbalance * spread

    ticks = steps["ticks"].astype(float)
    rate = ticks.rolling(900, least_returns(900) + 1).mean()
    out["mean_trade_intensity_900s"] = rate
    out["intensity_ratio_1s"] = ticks / rate
    out["intensity_ratio_5s"] = ticks.ewm(halflife=5).mean() / rate
    out["intensity_ratio_60s"] = ticks.ewm(halflife=60).mean() / rate
    out["silence_ratio"] = steps["silence"] / SECOND * rate
    arrivals = ticks.rolling(60, least_seconds(60)).sum()
    delays = steps["delay"].rolling(60, least_seconds(60)).sum()
    squares = steps["delay_square"].rolling(60, least_seconds(60)).sum()
    out["interarrival_60s"] = delays / arrivals / 1e6
    out["interarrival_dispersion_60s"] = np.sqrt(arrivals * squares - delays * delays) / delays
    level = out["realised_volatility_15s"].rolling(300, least_seconds(300))
    out["volatility_of_volatility_300s"] = level.std(ddof=0) / level.mean()

    angle = 2.0 * np.pi * (steps.index.to_series() // 60 % 1440) / 1440.0
    out["time_of_day_sin"] = np.sin(angle)
    out["time_of_day_cos"] = np.cos(angle)
    return pd.DataFrame(out)[["time", *COMPUTED]]
