"""Compute the features with Polars: one lazy query on all available cores."""

from __future__ import annotations

import math

import polars as pl

from benchmarks.peers import (
    COMPUTED,
    HALF_LIVES_SECONDS,
    WINDOWS_SECONDS,
    least_returns,
    least_seconds,
)

SECOND = 1_000_000_000
QUOTE = ("bid", "ask", "bid_size", "ask_size")


def features(records: pl.DataFrame) -> pl.DataFrame:
    """Compute the feature rows of one symbol.

    Parameters
    ----------
    records : DataFrame
        ``time`` (datetime, ns) ascending, ``bid``, ``ask``, ``bid_size``, ``ask_size``; a
        heartbeat has no bid.

    Returns
    -------
    DataFrame
        ``time`` of the step and the columns of ``COMPUTED``.
    """
    return _over_seconds(_by_second(records.lazy())).collect()


def _by_second(records: pl.LazyFrame) -> pl.LazyFrame:
    """Reduce the records to one row per second: the last quote and the activity."""
    ticked = pl.col("bid").is_not_null()
    filled = records.select(
        pl.col("time").set_sorted(),
        *(pl.col(name).forward_fill() for name in QUOTE),
        ticked=ticked,
        tick=pl.when(ticked).then(pl.col("time").to_physical()).forward_fill(),
    ).with_columns(
        middle=0.5 * (pl.col("bid") + pl.col("ask")),
        delay=(pl.col("tick").diff() // 1000),
    )
    return filled.group_by_dynamic("time", every="1s", closed="right", label="right").agg(
        pl.col(*QUOTE, "middle", "tick").last(),
        pl.col("time").last().alias("record"),
        pl.col("middle").max().alias("high"),
        pl.col("middle").min().alias("low"),
        pl.col("ticked").sum().cast(pl.Float64).alias("ticks"),
        pl.col("delay").sum().cast(pl.Float64),
        (pl.col("delay") * pl.col("delay")).sum().cast(pl.Float64).alias("delay_square"),
    )


def _over_seconds(steps: pl.LazyFrame) -> pl.LazyFrame:
    """Compute rolling windows in stages, each of which reads columns of the previous one."""
    middle, before = pl.col("middle"), pl.col("middle").shift()
    seconds = pl.col("time").to_physical() // SECOND
    moved = steps.with_columns(
        log_return=(middle / before).log(),
        high=pl.max_horizontal("high", before),
        low=pl.min_horizontal("low", before),
        spread=pl.col("ask") - pl.col("bid"),
        angle=2.0 * math.pi * (seconds // 60 % 1440) / 1440.0,
    ).with_columns(
        square=pl.col("log_return").pow(2),
        size=pl.col("log_return").abs(),
        width=(pl.col("high") / pl.col("low")).log(),
        spread_bps=1e4 * pl.col("spread") / middle,
        quote_imbalance=(pl.col("bid_size") - pl.col("ask_size"))
        / (pl.col("bid_size") + pl.col("ask_size")),
    )
    rolled = moved.with_columns(
        *(
            # Rolling sums by addition and subtraction can end slightly below zero.
            _mean("square", window, least_returns(window))
            .clip(lower_bound=0.0)
            .sqrt()
            .alias(f"realised_volatility_{window}s")
            for window in WINDOWS_SECONDS
        ),
        *(
            pl.col("square")
            .ewm_mean(half_life=half_life, min_samples=min(3 * half_life, least_returns(900)))
            .sqrt()
            .alias(f"ewma_volatility_{half_life}s")
            for half_life in HALF_LIVES_SECONDS
        ),
        pl.col("log_return")
        .rolling_std(30, min_samples=least_returns(30), ddof=0)
        .alias("volatility_30s"),
        mean_trade_intensity_900s=_mean("ticks", 900, least_returns(900) + 1),
        arrivals=_sum("ticks", 60),
        delays=_sum("delay", 60),
        delay_squares=_sum("delay_square", 60),
        product=pl.col("size") * pl.col("size").shift(),
    )
    return rolled.select("time", *_rows())


def _rows() -> list[pl.Expr]:
    """Return the features as functions of the stages' columns."""
    baseline = pl.col("realised_volatility_900s")
    rate = pl.col("mean_trade_intensity_900s")
    time = pl.col("time").to_physical()
    out = {
        "midprice": pl.col("middle"),
        "trade_intensity": pl.col("ticks"),
        "log_return_1s": pl.col("log_return"),
        "seconds_since_record": (time - pl.col("record").to_physical()) / SECOND,
        "interarrival_60s": pl.col("delays") / pl.col("arrivals") / 1e6,
        "interarrival_dispersion_60s": (
            pl.col("arrivals") * pl.col("delay_squares") - pl.col("delays").pow(2)
        ).sqrt()
        / pl.col("delays"),
        "time_of_day_sin": pl.col("angle").sin(),
        "time_of_day_cos": pl.col("angle").cos(),
        "spread_ratio_300s": pl.col("spread_bps") / _mean("spread_bps", 300, least_seconds(300)),
        "spread_deviation_60s": _deviation("spread_bps", 60),
        "volatility_ratio_30s": pl.col("volatility_30s") / baseline,
        "parkinson_ratio_60s": (
            _mean(pl.col("width").pow(2), 60, least_seconds(60)) / (4.0 * math.log(2.0))
        ).sqrt()
        / baseline,
        "microprice_distance_bps": 0.5 * pl.col("quote_imbalance") * pl.col("spread_bps"),
        "intensity_ratio_1s": pl.col("ticks") / rate,
        "intensity_ratio_5s": pl.col("ticks").ewm_mean(half_life=5) / rate,
        "intensity_ratio_60s": pl.col("ticks").ewm_mean(half_life=60) / rate,
        "silence_ratio": (time - pl.col("tick")) / SECOND * rate,
        "volatility_of_volatility_300s": _deviation("realised_volatility_15s", 300),
    }
    for window in (5, 15, 60, 300):
        out[f"volatility_ratio_{window}s"] = pl.col(f"realised_volatility_{window}s") / baseline
    for half_life in HALF_LIVES_SECONDS:
        out[f"ewma_ratio_{half_life}s"] = pl.col(f"ewma_volatility_{half_life}s") / baseline
    for window in (60, 300):
        mean = _mean("product", window, least_returns(window) - 1)
        realised = pl.col(f"realised_volatility_{window}s")
        out[f"bipower_ratio_{window}s"] = (0.5 * math.pi * mean).sqrt() / realised
        least = least_seconds(window)
        high = pl.col("high").rolling_max(window, min_samples=least)
        low = pl.col("low").rolling_min(window, min_samples=least)
        out[f"range_ratio_{window}s"] = (high / low).log() / (baseline * math.sqrt(window))
    for window in (15, 60, 300):
        move = _mean("log_return", window, least_returns(window)).abs()
        out[f"momentum_{window}s"] = move * math.sqrt(window) / baseline
    return [out.get(name, pl.col(name)).alias(name) for name in COMPUTED]


def _mean(values: str | pl.Expr, window: int, least: int) -> pl.Expr:
    column = pl.col(values) if isinstance(values, str) else values
    return column.rolling_mean(window, min_samples=least)


def _deviation(name: str, window: int) -> pl.Expr:
    """Return standard deviation over mean."""
    least = least_seconds(window)
    deviation = pl.col(name).rolling_std(window, min_samples=least, ddof=0)
    return deviation / _mean(name, window, least)


def _sum(name: str, window: int) -> pl.Expr:
    return pl.col(name).rolling_sum(window, min_samples=least_seconds(window))
