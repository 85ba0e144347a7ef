"""Compute the features with pandas: group the records by second, then roll over the seconds."""

from __future__ import annotations

from typing import Any

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
of: Any = np  # numpy functions return a Series for a Series, which numpy's types do not express
QUOTE = ["bid", "ask", "bid_size", "ask_size"]


def features(records: pd.DataFrame) -> pd.DataFrame:
    """Compute the feature rows of one symbol.

    Parameters
    ----------
    records : DataFrame
        ``time`` (datetime, ns, UTC) ascending, ``bid``, ``ask``, ``bid_size``, ``ask_size``; a
        heartbeat has no bid.

    Returns
    -------
    DataFrame
        The columns of ``COMPUTED``, indexed by the time of the step.
    """
    return _over_seconds(_by_second(records))


def _by_second(records: pd.DataFrame) -> pd.DataFrame:
    """Reduce the records to one row per second: the last quote and the activity."""
    ticked = records["bid"].notna()
    quotes = records[QUOTE].ffill()
    middle = 0.5 * (quotes["bid"] + quotes["ask"])
    start = records["time"].iloc[0]  # nanoseconds relative to this are exact as floats
    since = (records["time"] - start).astype(np.int64).astype(np.float64)
    tick = since.where(ticked).ffill()
    delay = np.floor(tick.diff() / 1000)
    happened = pd.DataFrame(
        {
            "high": middle,
            "low": middle,
            "ticks": ticked.astype(np.float64),
            "delay": delay,
            "delay_square": delay * delay,
        }
    ).set_index(pd.DatetimeIndex(records["time"]))
    seconds = happened.resample("1s", closed="right", label="right")
    steps = seconds[["ticks", "delay", "delay_square"]].sum()
    steps["high"], steps["low"] = seconds["high"].max(), seconds["low"].min()
    # Selecting the last record of each second by position is faster than `last`.
    last = seconds["ticks"].count().cumsum().to_numpy() - 1
    for name in QUOTE:
        steps[name] = quotes[name].to_numpy()[last]
    steps["middle"] = middle.to_numpy()[last]
    closed = (steps.index - start).to_numpy().astype(np.int64)
    steps["age"] = (closed - since.to_numpy()[last]) / SECOND
    steps["silence"] = (closed - tick.to_numpy()[last]) / SECOND
    return steps


def _over_seconds(steps: pd.DataFrame) -> pd.DataFrame:
    """Compute rolling windows over the seconds."""
    middle, before = steps["middle"], steps["middle"].shift()
    log_return = of.log(middle / before)
    square, size = log_return * log_return, log_return.abs()
    out = {
        "midprice": middle,
        "spread": steps["ask"] - steps["bid"],
        "trade_intensity": steps["ticks"],
        "volatility_30s": log_return.rolling(30, least_returns(30)).std(ddof=0),
        "log_return_1s": log_return,
        "seconds_since_record": steps["age"],
    }
    for window in WINDOWS_SECONDS:
        mean = square.rolling(window, least_returns(window)).mean()
        out[f"realised_volatility_{window}s"] = of.sqrt(mean)
    baseline = out["realised_volatility_900s"]
    for half_life in HALF_LIVES_SECONDS:
        warm = min(3 * half_life, least_returns(900))
        mean = square.ewm(halflife=half_life, min_periods=warm).mean()
        out[f"ewma_volatility_{half_life}s"] = of.sqrt(mean)
        out[f"ewma_ratio_{half_life}s"] = out[f"ewma_volatility_{half_life}s"] / baseline
    for window in (5, 15, 60, 300):
        out[f"volatility_ratio_{window}s"] = out[f"realised_volatility_{window}s"] / baseline
    out["volatility_ratio_30s"] = out["volatility_30s"] / baseline

    product = size * size.shift()
    high = of.fmax(steps["high"], before)
    low = of.fmin(steps["low"], before)
    for window in (60, 300):
        mean = product.rolling(window, least_returns(window) - 1).mean()
        out[f"bipower_ratio_{window}s"] = (
            of.sqrt(0.5 * np.pi * mean) / out[f"realised_volatility_{window}s"]
        )
        least = least_seconds(window)
        wide = of.log(high.rolling(window, least).max() / low.rolling(window, least).min())
        out[f"range_ratio_{window}s"] = wide / (baseline * np.sqrt(window))
    wide = of.log(high / low)
    mean = (wide * wide).rolling(60, least_seconds(60)).mean()
    out["parkinson_ratio_60s"] = of.sqrt(mean / (4.0 * np.log(2.0))) / baseline
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

    ticks = steps["ticks"]
    rate = ticks.rolling(900, least_returns(900) + 1).mean()
    out["mean_trade_intensity_900s"] = rate
    out["intensity_ratio_1s"] = ticks / rate
    out["intensity_ratio_5s"] = ticks.ewm(halflife=5).mean() / rate
    out["intensity_ratio_60s"] = ticks.ewm(halflife=60).mean() / rate
    out["silence_ratio"] = steps["silence"] * rate
    arrivals = ticks.rolling(60, least_seconds(60)).sum()
    delays = steps["delay"].rolling(60, least_seconds(60)).sum()
    squares = steps["delay_square"].rolling(60, least_seconds(60)).sum()
    out["interarrival_60s"] = delays / arrivals / 1e6
    out["interarrival_dispersion_60s"] = of.sqrt(arrivals * squares - delays * delays) / delays
    level = out["realised_volatility_15s"].rolling(300, least_seconds(300))
    out["volatility_of_volatility_300s"] = level.std(ddof=0) / level.mean()

    index = pd.DatetimeIndex(steps.index)
    angle = 2.0 * np.pi * (60 * index.hour + index.minute).to_numpy() / 1440.0
    out["time_of_day_sin"] = np.sin(angle)
    out["time_of_day_cos"] = np.cos(angle)
    return pd.DataFrame({name: out[name] for name in COMPUTED}, index=steps.index)
